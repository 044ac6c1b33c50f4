"""What was denied, added up by hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bursar.ledger.database import Database
from bursar.ledger.times import to_time

_ROWS_A_STATEMENT = 5_000


class DenialKey(NamedTuple):
    """What is counted together; an empty level stands for none, or for many."""

    hour_ms: int
    org: str
    team: str
    feature: str
    agent: str
    user: str
    provider: str
    model: str
    budget: str
    kind: str


async def add_denials(database: Database, counts: Mapping[DenialKey, int]) -> None:
    """Add counts to those of the ledger, all or none.

    Raises:
        LedgerUnavailable: PostgreSQL is away; whether they were added is unknown only if it went
            away at that very moment.
    """
    # In one order on every server, so that two of them do not wait for each other in a circle.
    rows = sorted(counts.items())
    async with database.transaction() as connection:
        for begin in range(0, len(rows), _ROWS_A_STATEMENT):
            part = rows[begin : begin + _ROWS_A_STATEMENT]
            hours, *levels = zip(*(key for key, _ in part), strict=True)
            await connection.execute(
                "INSERT INTO denials_hourly AS kept SELECT * FROM unnest($1::timestamptz[], "
                "$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], "
                "$8::text[], $9::text[], $10::text[], $11::bigint[]) "
                'ON CONFLICT (org, hour, team, feature, agent, "user", provider, model, budget, '
                "kind) DO UPDATE SET denials = kept.denials + EXCLUDED.denials",
                [to_time(hour_ms) for hour_ms in hours],
                *map(list, levels),
                [count for _, count in part],
            )
