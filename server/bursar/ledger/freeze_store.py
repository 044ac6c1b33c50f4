"""Freezes in PostgreSQL: those in force, and those that were lifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bursar.domain.errors import LimitExceeded
from bursar.domain.freeze import FREEZES_MAX, Freeze
from bursar.domain.subject import LEVELS, OrgId, Subject
from bursar.ledger.database import Connection, Database
from bursar.ledger.policy_store import CHANNEL
from bursar.ledger.times import to_ms

_FIND = """
SELECT * FROM freezes WHERE lifted_at IS NULL
AND org = $1 AND team = $2 AND feature = $3 AND agent = $4 AND "user" = $5 AND task = $6
"""

_INSERT = """
INSERT INTO freezes (org, team, feature, agent, "user", task, reason, frozen_by, frozen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()) RETURNING *
"""

_LIFT = """
UPDATE freezes SET lifted_by = $7, lifted_at = clock_timestamp() WHERE lifted_at IS NULL
AND org = $1 AND team = $2 AND feature = $3 AND agent = $4 AND "user" = $5 AND task = $6
RETURNING *
"""


class FreezeStore:
    """Reads, sets and lifts freezes. Every method raises LedgerUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_force(self) -> dict[str, tuple[Freeze, ...]]:
        """Return the freezes in force of every org that has any."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM freezes WHERE lifted_at IS NULL ORDER BY freeze_id"
            )
        found: dict[str, tuple[Freeze, ...]] = {}
        for row in rows:
            found[row["org"]] = (*found.get(row["org"], ()), _freeze(row))
        return found

    async def freeze(self, subject: Subject, reason: str, frozen_by: str) -> Freeze:
        """Freeze a subtree, and tell every server; one that is frozen stays so.

        Args:
            subject: The subtree.
            reason: Why.
            frozen_by: Who.

        Returns:
            The freeze in force.

        Raises:
            LimitExceeded: The org has as many freezes in force as it may have.
        """
        key = _key(subject)
        async with self._database.transaction() as connection:
            # Two at once must not pass the bound, nor miss one another.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", _lock(subject))
            row = await connection.fetchrow(_FIND, *key)
            if row is not None:
                return _freeze(row)
            await _check_bound(connection, subject.org)
            row = await connection.fetchrow(_INSERT, *key, reason, frozen_by)
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, subject.org)
        assert row is not None
        return _freeze(row)

    async def lift(self, subject: Subject, lifted_by: str) -> Freeze | None:
        """Lift the freeze of a subtree, and tell every server.

        Returns:
            The freeze that ended, or None where none was in force.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LIFT, *_key(subject), lifted_by)
            if row is None:
                return None
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, subject.org)
        return _freeze(row)

    async def list(
        self, org: str, include_lifted: bool, before: int | None, limit: int
    ) -> list[Freeze]:
        """Return freezes of an org, newest first.

        Args:
            org: Whose.
            include_lifted: Those that ended, too.
            before: Only those with a lower id, or None.
            limit: At the most.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM freezes WHERE org = $1 AND ($2 OR lifted_at IS NULL) "
                "AND ($3::bigint IS NULL OR freeze_id < $3) ORDER BY freeze_id DESC LIMIT $4",
                org,
                include_lifted,
                before,
                limit,
            )
        return [_freeze(row) for row in rows]


def _key(subject: Subject) -> tuple[str, ...]:
    return (subject.org, *(getattr(subject, level) for level in LEVELS))


def _lock(subject: Subject) -> str:
    return f"bursar freezes {subject.org}"


async def _check_bound(connection: Connection, org: str) -> None:
    count = await connection.fetchval(
        "SELECT count(*) FROM freezes WHERE org = $1 AND lifted_at IS NULL", org
    )
    if count >= FREEZES_MAX:
        raise LimitExceeded("subject", "freezes in its org", count + 1, FREEZES_MAX)


def _freeze(row: Mapping[str, Any]) -> Freeze:
    levels = {level: row[level] for level in LEVELS}
    return Freeze(
        freeze_id=row["freeze_id"],
        subject=Subject(OrgId(row["org"]), **levels),
        reason=row["reason"],
        frozen_by=row["frozen_by"],
        frozen_at_ms=to_ms(row["frozen_at"]),
        lifted_by=row["lifted_by"] or "",
        lifted_at_ms=to_ms(row["lifted_at"]) if row["lifted_at"] else None,
    )
