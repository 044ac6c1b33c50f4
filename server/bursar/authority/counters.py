"""Counters that are named in the store, seen through the policy that decides now."""

from __future__ import annotations

from bursar.domain.budget import CounterStatus, CounterValues
from bursar.domain.policy import Policy


def named_status(
    policy: Policy, counter_id: str, values: CounterValues, amount: int, now_ms: int
) -> CounterStatus:
    """Return how a counter stands, by the limit that its budget has now.

    Args:
        policy: What decides now.
        counter_id: From `Counter.id`.
        values: What the counter holds.
        amount: This call's amount on it.
        now_ms: Since the epoch.
    """
    counter = policy.named_counter(counter_id, now_ms)
    budget = counter.budget
    return CounterStatus(counter, values, budget.share(100) if budget.enforced else None, amount)
