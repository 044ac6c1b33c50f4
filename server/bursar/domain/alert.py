"""Thresholds that a settlement crossed, which stakeholders want to hear of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bursar.domain.budget import CounterStatus


@dataclass(frozen=True, slots=True)
class Crossing:
    """A counter whose committed amount reached a threshold of its limit.

    Attributes:
        status: The counter after the settlement.
        percent: The threshold.
    """

    status: CounterStatus
    percent: int


def crossings(statuses: Iterable[CounterStatus]) -> list[Crossing]:
    """Return the thresholds that lie between the counters before and after a settlement.

    Every amount is booked in one atomic step, so of all settlements of a window exactly one
    crosses a threshold.

    Args:
        statuses: The counters after it, each with the amount that it booked.
    """
    found = []
    for status in statuses:
        budget = status.counter.budget
        if budget.limit is None or not budget.alerts_percent:
            continue
        after = status.values.committed
        before = after - status.amount
        found += [
            Crossing(status, percent)
            for percent in budget.alerts_percent
            if before * 100 < budget.limit * percent <= after * 100
        ]
    return found
