"""Counters that are named in the store, seen through the policy that decides now."""

from __future__ import annotations

from bursar.domain.budget import (
    Budget,
    Counter,
    CounterStatus,
    CounterValues,
    Mode,
    parse_counter_id,
)
from bursar.domain.policy import Policy
from bursar.domain.subject import OrgId
from bursar.domain.window import Window, WindowInstance, WindowKind


def named_status(
    policy: Policy, counter_id: str, values: CounterValues, amount: int, now_ms: int
) -> CounterStatus:
    """Return how a counter stands, by the limit that its budget has now.

    A budget that the policy no longer has, or has with another meter, window or partition, is
    shown without a limit and as switched off.

    Args:
        policy: What decides now.
        counter_id: From `Counter.id`.
        values: What the counter holds.
        amount: This call's amount on it.
        now_ms: Since the epoch.
    """
    name = parse_counter_id(counter_id)
    partition = tuple(value for _, value in name.partition)
    budget = policy.budget(name.budget)
    if (
        budget is None
        or budget.meter != name.meter
        or budget.window.code != name.window_code
        or budget.per != name.per
    ):
        gone = Budget(
            name.budget, name.meter, None, Window(WindowKind.NONE), per=name.per, mode=Mode.OFF
        )
        counter = Counter(OrgId(name.org), gone, partition, WindowInstance(0, None))
        return CounterStatus(counter, values, None, amount)
    at_ms = name.window_start_ms or now_ms
    instance = budget.window.instance(at_ms) or WindowInstance(at_ms, None)
    counter = Counter(OrgId(name.org), budget, partition, instance)
    ceiling = budget.share(100) if budget.enforced else None
    return CounterStatus(counter, values, ceiling, amount)
