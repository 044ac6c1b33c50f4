"""Carries what was left of a window, or used past it, into the next one."""

from __future__ import annotations

from bursar.authority.adjusting import COUNTERS_AT_ONCE, Adjusted, Wanted, adjust_to
from bursar.authority.credits import CREDIT_ID_PREFIX
from bursar.authority.identity import hold_name
from bursar.domain.budget import Budget, Counter, CounterValues, Mode, parse_counter_id
from bursar.domain.carry_over import carried, window_before
from bursar.domain.policy import Policy
from bursar.domain.window import WindowInstance
from bursar.engine.operations import Engine
from bursar.ledger.adjustment_query import recorded_adjustments
from bursar.ledger.carry_over_query import ended_credits, window_balances
from bursar.ledger.database import Connection, Database

PURPOSE = "carry-over"


async def carry_over(
    engine: Engine, database: Database, policy: Policy, budget: Budget, shard: int, now_ms: int
) -> Adjusted:
    """Book what each counter of the window before carries into the one that runs now.

    It is repeated while holds of the window before may still be settled: each time the
    difference is booked. Counters that were not used in the window before carry nothing.

    Args:
        engine: Where the counters are.
        database: The record.
        policy: What decides now.
        budget: Of the policy.
        shard: That the org lives on.
        now_ms: Since the epoch.

    Raises:
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
        LedgerUnavailable: PostgreSQL is away.
    """
    running = budget.window.instance(now_ms)
    before = window_before(budget, running) if running is not None else None
    if budget.carry_over is None or budget.mode is Mode.OFF or running is None or before is None:
        return Adjusted()
    result = Adjusted()
    async with database.transaction(snapshot=True) as connection:
        pages = window_balances(connection, shard, policy.org, budget, before, COUNTERS_AT_ONCE)
        async for page in pages:
            balances = await _at_its_end(connection, policy, budget, before, dict(page))
            wanted = []
            for counter_id, values in balances.items():
                name = parse_counter_id(counter_id)
                if name.per == budget.per:
                    partition = tuple(value for _, value in name.partition)
                    counter = Counter(policy.org, budget, partition, running)
                    wanted.append(
                        Wanted(counter, credit=carried(budget, values), since_ms=running.start_ms)
                    )
            result += await adjust_to(engine, connection, PURPOSE, policy.version, wanted, now_ms)
    return result


async def _at_its_end(
    connection: Connection,
    policy: Policy,
    budget: Budget,
    window: WindowInstance,
    balances: dict[str, CounterValues],
) -> dict[str, CounterValues]:
    """Return counters with the credits that they had when their window ended.

    A credit for a window is taken back when it ends. What was spent of it was not spent past the
    limit, so it makes no debt.
    """
    assert window.end_ms is not None, window
    credits = await ended_credits(
        connection, policy.org, budget.name, list(balances), window.end_ms
    )
    names = {
        hold_name(policy.org, CREDIT_ID_PREFIX + credit_id).reservation_id: counter_id
        for credit_id, counter_id in credits
    }
    if not names:
        return balances
    taken = await recorded_adjustments(connection, list(names), window.end_ms, verb="expire")
    found = dict(balances)
    for reservation_id, adjusted in taken.items():
        values = found[names[reservation_id]]
        found[names[reservation_id]] = CounterValues(
            values.committed, values.held, values.credit - adjusted.credit
        )
    return found
