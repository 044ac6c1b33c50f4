"""Removes what no call, window or rebuild can need any more. Ledger entries stay."""

from __future__ import annotations

from bursar.engine.keys import COUNTER_RETENTION_MS, KIND_ROLLING
from bursar.ledger.database import Database

BALANCE_RETENTION_MS = 400 * 86_400_000
"""How long the balance of a counter whose window is over can be read."""

_ROWS_MAX = 10_000


async def prune(database: Database, now_ms: int) -> int:
    """Remove ended holds that answer no one any more, and balances that count nowhere.

    Args:
        database: Of the ledger.
        now_ms: Since the epoch.

    Returns:
        How many rows went, at most some ten thousand of each kind.
    """
    async with database.connection() as connection:
        ended = await connection.execute(
            "DELETE FROM open_holds WHERE ctid = ANY(ARRAY(SELECT ctid FROM open_holds "
            "WHERE keep_until_ms > 0 AND keep_until_ms < $1 LIMIT $2))",
            now_ms,
            _ROWS_MAX,
        )
        # A late settlement still finds the bucket of its reservation: held amounts keep it.
        buckets = await connection.execute(
            "DELETE FROM counter_balances WHERE ctid = ANY(ARRAY(SELECT ctid FROM counter_balances "
            "WHERE kind = $1 AND held = 0 AND credit = 0 "
            "AND (slot + p2 + 1) * p1 < $2 LIMIT $3))",
            KIND_ROLLING,
            now_ms - COUNTER_RETENTION_MS,
            _ROWS_MAX,
        )
        old = await connection.execute(
            "DELETE FROM counter_balances WHERE ctid = ANY(ARRAY(SELECT ctid FROM counter_balances "
            "WHERE expire_at_ms < $1 AND held = 0 LIMIT $2))",
            now_ms - BALANCE_RETENTION_MS,
            _ROWS_MAX,
        )
    return sum(int(done.rpartition(" ")[2]) for done in (ended, buckets, old))
