"""Which policies changed lately, to find the counters that began with that."""

from __future__ import annotations

from typing import NamedTuple

from bursar.ledger.database import Database
from bursar.ledger.times import to_ms

# The first version of an org begins with it: nothing was used before.
_CHANGES = """
SELECT now.org, now.number, now.applied_at, before.document AS before, now.document AS after
FROM policies AS now
JOIN policies AS before ON before.org = now.org AND before.number = now.number - 1
WHERE now.applied_at > now() - $1::bigint * interval '1 millisecond' AND now.org = ANY($2::text[])
    AND NOT (now.org, now.number) IN (
        SELECT org, number FROM unnest($3::text[], $4::bigint[]) AS known (org, number)
    )
ORDER BY now.applied_at
LIMIT $5
"""

CHANGES_AT_ONCE = 50


class PolicyChange(NamedTuple):
    """A version and the one before it, as documents."""

    org: str
    number: int
    applied_ms: int
    before: str
    after: str


async def recent_changes(
    database: Database, orgs: list[str], known: list[tuple[str, int]], since_ms: int
) -> list[PolicyChange]:
    """Return versions that were applied lately and are not known yet, oldest first, a few at once.

    Args:
        database: The record.
        orgs: Whose.
        known: Org and number of those to leave out.
        since_ms: How long ago they may have been applied.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(
            _CHANGES,
            since_ms,
            orgs,
            [org for org, _ in known],
            [number for _, number in known],
            CHANGES_AT_ONCE,
        )
    return [
        PolicyChange(
            row["org"], row["number"], to_ms(row["applied_at"]), row["before"], row["after"]
        )
        for row in rows
    ]
