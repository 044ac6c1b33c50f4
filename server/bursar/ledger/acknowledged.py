"""Whether what was acknowledged is in the record."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.engine.recent import RecentCall
from bursar.ledger.database import Database
from bursar.ledger.times import to_time

# A call that is made again after a rebuild keeps its time, and is in another epoch. An entry that
# could not be read is kept whole, and counts as recorded: nothing else can be done about it.
_RECORDED = """
SELECT call.number
FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY
    AS call (reservation_id, at, verb, epoch, stream_id, number)
WHERE EXISTS (
    SELECT 1 FROM ledger_entries AS entry WHERE entry.reservation_id = call.reservation_id
        AND entry.at = call.at AND entry.verb = call.verb
) OR EXISTS (
    SELECT 1 FROM journal_rejects AS reject WHERE reject.shard = $1
        AND reject.epoch = call.epoch AND reject.stream_id = call.stream_id
)
"""

_PAGE = 1_000


async def unrecorded(
    database: Database, shard: int, calls: Sequence[RecentCall]
) -> list[RecentCall]:
    """Return the calls that the record does not have, in their order.

    Args:
        database: The ledger.
        shard: Where they were made.
        calls: Acknowledged ones.

    Raises:
        LedgerUnavailable: PostgreSQL is away.
    """
    missing: list[RecentCall] = []
    for begin in range(0, len(calls), _PAGE):
        page = calls[begin : begin + _PAGE]
        async with database.connection() as connection:
            rows = await connection.fetch(
                _RECORDED,
                shard,
                [call.reservation_id for call in page],
                [to_time(call.now_ms) for call in page],
                [call.verb for call in page],
                [call.epoch for call in page],
                [call.stream_id for call in page],
            )
        found = {row["number"] for row in rows}
        missing += [call for number, call in enumerate(page, start=1) if number not in found]
    return missing
