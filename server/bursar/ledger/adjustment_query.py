"""What adjustments of one counter each are recorded, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bursar.ledger.database import Connection
from bursar.ledger.live_rows import STATEMENT_S
from bursar.ledger.times import to_time

_RECORDED = """
SELECT reservation_id, committed[1] AS committed, credit[1] AS credit
FROM ledger_entries
WHERE reservation_id = ANY($1::text[]) AND at >= $2 AND verb = $3
"""


class Adjusted(NamedTuple):
    """What an adjustment added to its counter."""

    committed: int
    credit: int


async def recorded_adjustments(
    connection: Connection, reservation_ids: Sequence[str], since_ms: int, verb: str = "adjust"
) -> dict[str, Adjusted]:
    """Return those adjustments that are recorded, by name.

    Args:
        connection: In whose transaction.
        reservation_ids: The names, `<org>.<hold id>`.
        since_ms: None of them is older.
        verb: `adjust` for what was booked, `expire` for credits that were taken back.
    """
    rows = await connection.fetch(
        _RECORDED, list(reservation_ids), to_time(since_ms), verb, timeout=STATEMENT_S
    )
    return {row["reservation_id"]: Adjusted(row["committed"], row["credit"]) for row in rows}
