"""What the counters of a window came to, as recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from bursar.domain.budget import Budget, CounterValues
from bursar.domain.subject import OrgId
from bursar.domain.window import WindowInstance
from bursar.ledger.database import Connection
from bursar.ledger.live_rows import STATEMENT_S
from bursar.ledger.times import to_time

# A counter outlives its window, so the index by expiry leaves out what is long over.
_BALANCES = """
SELECT counter_id, committed, held, credit
FROM counter_balances
WHERE shard = $1 AND expire_at_ms > $2 AND starts_with(counter_id, $3)
    AND split_part(counter_id, ':', 5) = $4
"""

_ENDED_CREDITS = """
SELECT credit_id, counter_id FROM credits
WHERE org = $1 AND budget = $2 AND counter_id = ANY($3::text[]) AND expire_at >= $4
"""


async def window_balances(
    connection: Connection,
    shard: int,
    org: OrgId,
    budget: Budget,
    instance: WindowInstance,
    page: int,
) -> AsyncIterator[list[tuple[str, CounterValues]]]:
    """Yield what each counter of a budget came to in a window, in pages; in a transaction.

    Args:
        connection: In whose transaction.
        shard: That the org lives on.
        org: Whose.
        budget: Which; of calendar windows.
        instance: The window.
        page: Counters at once.
    """
    assert instance.end_ms is not None, instance
    waiting: list[tuple[str, CounterValues]] = []
    cursor = connection.cursor(
        _BALANCES,
        shard,
        instance.end_ms,
        f"{org}:{budget.name}:{budget.meter}:",
        f"{budget.window.code}@{instance.start_ms}",
        prefetch=page,
        timeout=STATEMENT_S,
    )
    async for row in cursor:
        values = CounterValues(row["committed"], row["held"], row["credit"])
        waiting.append((row["counter_id"], values))
        if len(waiting) >= page:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


async def ended_credits(
    connection: Connection, org: OrgId, budget: str, counter_ids: Sequence[str], end_ms: int
) -> list[tuple[str, str]]:
    """Return the credits that counters had until the end of their window or longer.

    Args:
        connection: In whose transaction.
        org: Whose.
        budget: Of the counters.
        counter_ids: Which counters.
        end_ms: When their window ended.

    Returns:
        The id of each credit, and its counter's.
    """
    rows = await connection.fetch(
        _ENDED_CREDITS, org, budget, list(counter_ids), to_time(end_ms), timeout=STATEMENT_S
    )
    return [(row["credit_id"], row["counter_id"]) for row in rows]
