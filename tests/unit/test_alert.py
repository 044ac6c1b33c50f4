"""Alerts: a threshold is crossed once, by the settlement that crosses it.

Goal: of all settlements of a window exactly one crosses each threshold. Method: rows of one
settlement, and random series of them.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import budget, status
from hypothesis import given
from hypothesis import strategies as st

from bursar.domain.alert import crossings

# Settings, committed after the settlement, its amount, and the thresholds that it crossed.
ROWS: dict[str, tuple[dict[str, Any], int, int, list[int]]] = {
    "none wanted": ({}, 1_000, 1_000, []),
    "below": ({"alerts": [50]}, 499, 499, []),
    "exactly there": ({"alerts": [50]}, 500, 1, [50]),
    "past it": ({"alerts": [50]}, 501, 2, [50]),
    "it was there before": ({"alerts": [50]}, 501, 1, []),
    "long past it": ({"alerts": [50]}, 900, 100, []),
    "several at once": ({"alerts": [100, 50, 80]}, 1_200, 1_200, [50, 80, 100]),
    "given twice": ({"alerts": [50, 50]}, 500, 500, [50]),
    "the last": ({"alerts": [100]}, 1_000, 1, [100]),
    "one before the last": ({"alerts": [100]}, 999, 999, []),
    "nothing booked": ({"alerts": [50]}, 500, 0, []),
    "taken back": ({"alerts": [50]}, 400, -200, []),
    "rounding crosses nothing early": ({"limit": {"tokens": 3}, "alerts": [50]}, 1, 1, []),
    "nor late": ({"limit": {"tokens": 3}, "alerts": [50]}, 2, 1, [50]),
    "a limit of nothing": ({"limit": {"tokens": 0}, "alerts": [50]}, 5, 5, []),
    "unlimited": ({"limit": {"tokens": "unlimited"}}, 5, 5, []),
    "of fifteen dollars": ({"limit": {"usd": 15}, "alerts": [99]}, 400_000_000, 400_000_000, []),
}


@pytest.mark.parametrize(("settings", "committed", "amount", "expected"), ROWS.values(), ids=ROWS)
def test_one_settlement(
    settings: dict[str, Any], committed: int, amount: int, expected: list[int]
) -> None:
    """Goal: which thresholds lie between before and after. Method: rows. Cases 73 and 121."""
    stands = status(budget(**settings), committed, amount=amount)
    found = crossings([stands])
    assert [each.percent for each in found] == expected
    assert all(each.status is stands for each in found)


@given(
    limit=st.integers(1, 50),
    thresholds=st.sets(st.integers(1, 100), max_size=5),
    amounts=st.lists(st.integers(0, 20), max_size=20),
)
def test_each_threshold_is_crossed_once(
    limit: int, thresholds: set[int], amounts: list[int]
) -> None:
    """Goal: once per budget, threshold and window. Method: random settlements. Case 117."""
    given_budget = budget(limit={"tokens": limit}, alerts=sorted(thresholds))
    committed, crossed = 0, []
    for amount in amounts:
        committed += amount
        found = crossings([status(given_budget, committed, held=7, amount=amount)])
        crossed += [each.percent for each in found]
    reached = [percent for percent in thresholds if sum(amounts) * 100 >= limit * percent]
    assert sorted(crossed) == sorted(reached)


def test_each_counter_has_its_own() -> None:
    """Goal: one settlement may cross thresholds of several budgets. Method: three counters."""
    given = [status(budget(name, alerts=[50]), committed, amount=10)
             for name, committed in (("a", 505), ("b", 520), ("c", 500))]  # fmt: skip
    assert [each.status.counter.budget.name for each in crossings(given)] == ["a", "c"]
