"""What of a window goes into the next one."""

from __future__ import annotations

from bursar.domain.budget import Budget, CounterValues
from bursar.domain.window import WindowInstance


def carried(budget: Budget, values: CounterValues) -> int:
    """Return what a counter of the window before adds to that of the next one, as a credit.

    What is held counts as used as long as it is held, but makes no debt: it may come back.

    Args:
        budget: Of both counters.
        values: What the counter of the window before holds now.
    """
    rule = budget.carry_over
    if rule is None or budget.limit is None:
        return 0
    left = budget.limit + values.credit - values.committed
    if left < 0:
        return max(left, -rule.most) if rule.debt else 0
    return min(max(left - values.held, 0), rule.most) if rule.unused else 0


def window_before(budget: Budget, instance: WindowInstance) -> WindowInstance | None:
    """Return the window that ended when another one of the same budget began."""
    return budget.window.instance(instance.start_ms - 1)
