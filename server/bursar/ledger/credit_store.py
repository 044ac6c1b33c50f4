"""Credits in PostgreSQL: what was given to which counter, by whom and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bursar.ledger.database import Database
from bursar.ledger.times import to_ms, to_time


@dataclass(frozen=True, slots=True)
class Credit:
    """Room that was added to one counter for a time.

    Attributes:
        org: Whose.
        credit_id: The request that gave it; unique within the org.
        budget: The budget's name.
        counter_id: The counter (`Counter.id`).
        amount: In the meter's unit; negative where room was taken away.
        expire_ms: When it ends.
        reason: Why.
        granted_by: Who.
        granted_ms: When.
    """

    org: str
    credit_id: str
    budget: str
    counter_id: str
    amount: int
    expire_ms: int
    reason: str
    granted_by: str
    granted_ms: int


class CreditStore:
    """Reads and adds credits. Every method raises LedgerUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, org: str, credit_id: str) -> Credit | None:
        """Return a credit, or None where there is none."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM credits WHERE org = $1 AND credit_id = $2", org, credit_id
            )
        return _credit(row) if row else None

    async def add(self, credit: Credit) -> Credit:
        """Write a credit down, once.

        Returns:
            What is written down under its id: of two calls at once, what the first one wrote.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO credits (org, credit_id, budget, counter_id, amount, expire_at, "
                "reason, granted_by, granted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
                "ON CONFLICT (org, credit_id) DO NOTHING",
                credit.org,
                credit.credit_id,
                credit.budget,
                credit.counter_id,
                credit.amount,
                to_time(credit.expire_ms),
                credit.reason,
                credit.granted_by,
                to_time(credit.granted_ms),
            )
            row = await connection.fetchrow(
                "SELECT * FROM credits WHERE org = $1 AND credit_id = $2",
                credit.org,
                credit.credit_id,
            )
        assert row is not None
        return _credit(row)

    async def list(
        self,
        org: str,
        budget: str,
        ended_before_ms: int | None,
        after: tuple[int, str] | None,
        limit: int,
    ) -> list[Credit]:
        """Return credits of an org, newest first.

        Args:
            org: Whose.
            budget: Of this budget, or empty for all.
            ended_before_ms: Leave out those that had ended by then, or None.
            after: When the last one of the page before was granted, in ms, and its id; or None.
            limit: At the most.
        """
        at_ms, credit_id = after or (None, "")
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT * FROM credits WHERE org = $1 AND ($2 = '' OR budget = $2) "
                "AND ($3::timestamptz IS NULL OR expire_at > $3) "
                "AND ($4::timestamptz IS NULL OR (granted_at, credit_id) < ($4, $5)) "
                "ORDER BY granted_at DESC, credit_id DESC LIMIT $6",
                org,
                budget,
                None if ended_before_ms is None else to_time(ended_before_ms),
                None if at_ms is None else to_time(at_ms),
                credit_id,
                limit,
            )
        return [_credit(row) for row in rows]


def _credit(row: Mapping[str, Any]) -> Credit:
    return Credit(
        org=row["org"],
        credit_id=row["credit_id"],
        budget=row["budget"],
        counter_id=row["counter_id"],
        amount=row["amount"],
        expire_ms=to_ms(row["expire_at"]),
        reason=row["reason"],
        granted_by=row["granted_by"],
        granted_ms=to_ms(row["granted_at"]),
    )
