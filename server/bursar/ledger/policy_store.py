"""Versions of policies in PostgreSQL: append-only, the one with the highest number decides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import asyncpg

from bursar.domain.errors import PolicyConflict
from bursar.domain.policy_diff import Change, ChangeKind
from bursar.ledger.database import Database

CHANNEL = "bursar_policies"
"""Where servers hear of a new version or a freeze; the payload is the org."""

_NEWEST = """
SELECT org, number, version, reason, applied_by, applied_at, document FROM policies
WHERE org = $1 AND ($2::bigint = 0 OR number = $2) ORDER BY number DESC LIMIT 1
"""

_APPEND = """
INSERT INTO policies (org, number, version, document, diff, reason, applied_by, applied_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, clock_timestamp())
RETURNING org, number, version, reason, applied_by, applied_at
"""

_HISTORY = """
SELECT org, number, version, reason, applied_by, applied_at, diff FROM policies
WHERE org = $1 AND ($2::bigint IS NULL OR number < $2) ORDER BY number DESC LIMIT $3
"""

# Reads one row of each org: however many versions there are, it costs what the orgs are.
_HEADS = """
WITH RECURSIVE newest AS (
    (SELECT org, number FROM policies ORDER BY org DESC, number DESC LIMIT 1)
    UNION ALL
    SELECT below.org, below.number FROM newest, LATERAL (
        SELECT org, number FROM policies WHERE org < newest.org
        ORDER BY org DESC, number DESC LIMIT 1
    ) AS below
)
SELECT org, number FROM newest
"""

# A version can have granted what is still answered for if it decided until not long ago.
_RECENT = """
SELECT org, number, version, document FROM (
    SELECT org, number, version, document,
        row_number() OVER newest_first AS place, lag(applied_at) OVER newest_first AS ended_at
    FROM policies WINDOW newest_first AS (PARTITION BY org ORDER BY number DESC)
) AS versions
WHERE place BETWEEN 2 AND $1 + 1 AND ended_at > now() - $2::bigint * interval '1 millisecond'
ORDER BY ended_at DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version, without its document.

    Attributes:
        org: Whose.
        number: 1 for the first, one more for each.
        version: Of what decides (`Policy.version`), without freezes.
        reason: Why it was made.
        applied_by: Who made it.
        applied_at: When.
    """

    org: str
    number: int
    version: str
    reason: str
    applied_by: str
    applied_at: datetime

    @property
    def etag(self) -> str:
        """What changes with every version of the org's policy."""
        return str(self.number)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A version with its document as text."""

    head: PolicyVersion
    document: str


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version in the history, with what it changed."""

    head: PolicyVersion
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What to append: the document, what it compiles to, and why."""

    org: str
    version: str
    document: str
    changes: Sequence[Change]
    reason: str
    applied_by: str


@dataclass(frozen=True, slots=True)
class PastVersion:
    """A version that decided before."""

    org: str
    number: int
    version: str
    document: str


class PolicyStore:
    """Reads and appends versions. Every method raises LedgerUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self) -> dict[str, int]:
        """Return the number of the newest version of every org."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HEADS)
        return {row["org"]: row["number"] for row in rows}

    async def load(self, org: str, number: int = 0) -> StoredPolicy | None:
        """Return a version of an org's policy, or None where there is none.

        Args:
            org: Whose.
            number: Which; 0 for the newest.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_NEWEST, org, number)
        return StoredPolicy(_head(row), row["document"]) if row else None

    async def append(self, new: NewVersion, expected_number: int) -> PolicyVersion:
        """Append a version, and tell every server.

        Args:
            new: The version.
            expected_number: Of the newest version that there must be; 0 for none.

        Raises:
            PolicyConflict: There is a newer one.
        """
        changes = json.dumps([asdict(change) for change in new.changes])
        try:
            async with self._database.transaction() as connection:
                row = await connection.fetchrow(
                    _APPEND,
                    new.org,
                    expected_number + 1,
                    new.version,
                    new.document,
                    changes,
                    new.reason,
                    new.applied_by,
                )
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, new.org)
        except asyncpg.UniqueViolationError:
            raise conflict(new.org) from None
        assert row is not None
        return _head(row)

    async def history(self, org: str, before: int | None, limit: int) -> list[ListedVersion]:
        """Return versions of an org's policy, newest first.

        Args:
            org: Whose.
            before: Only those with a lower number, or None.
            limit: At the most.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HISTORY, org, before, limit)
        return [ListedVersion(_head(row), _changes(row["diff"])) for row in rows]

    async def recent(self, per_org: int, since_ms: int, limit: int) -> list[PastVersion]:
        """Return versions that decided until lately and do no more, the latest first.

        Args:
            per_org: At the most.
            since_ms: How long ago they may have ended to decide.
            limit: Of all orgs together.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_RECENT, per_org, since_ms, limit)
        return [
            PastVersion(row["org"], row["number"], row["version"], row["document"]) for row in rows
        ]


def conflict(org: str, etag: str | None = None) -> PolicyConflict:
    """Return the error for a policy that was changed since it was read.

    Args:
        org: Whose.
        etag: What it has now, where that is known.
    """
    known = {} if etag is None else {"etag": etag}
    return PolicyConflict(
        f"the policy of {org} was changed meanwhile; read it again", org=org, **known
    )


def _head(row: Mapping[str, Any]) -> PolicyVersion:
    return PolicyVersion(
        row["org"],
        row["number"],
        row["version"],
        row["reason"],
        row["applied_by"],
        row["applied_at"],
    )


def _changes(diff: str) -> tuple[Change, ...]:
    return tuple(
        Change(
            ChangeKind(each["kind"]),
            each["budget"],
            each["setting"],
            each["before"],
            each["after"],
            each.get("warning", ""),
        )
        for each in json.loads(diff)
    )
