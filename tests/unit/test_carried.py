"""What a counter carries into the next window.

Goal: exactly what is left or was used past it, within the most. Method: rows worked out by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import NOW, budget, ms, policy

from bursar.domain.budget import CarryOver, CounterValues
from bursar.domain.carry_over import carried, window_before

BOTH = {"unused": True, "debt": True}
# carry_over, what the counter holds, what is carried; the limit is 1,000.
ROWS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "nothing used": (BOTH, (0, 0), 1_000),
    "half used": (BOTH, (500, 0), 500),
    "all used": (BOTH, (1_000, 0), 0),
    "past it": (BOTH, (1_300, 0), -300),
    "held is not left": (BOTH, (500, 200), 300),
    "held is no debt": (BOTH, (900, 300), 0),
    "held beside a debt": (BOTH, (1_100, 300), -100),
    "a credit is left too": (BOTH, (0, 0, 200), 1_000),
    "a credit within the most": (BOTH | {"max": {"percent": 200}}, (0, 0, 200), 1_200),
    "a credit used up": (BOTH, (1_200, 0, 200), 0),
    "a debt from before": (BOTH, (0, 0, -300), 700),
    "a debt of both": (BOTH, (900, 0, -300), -200),
    "capped": (BOTH | {"max": {"tokens": 100}}, (0, 0), 100),
    "capped debt": (BOTH | {"max": {"tokens": 100}}, (1_300, 0), -100),
    "capped at a percentage": (BOTH | {"max": {"percent": 15}}, (0, 0), 150),
    "capped at nothing": (BOTH | {"max": {"percent": 0}}, (0, 0), 0),
    "only unused": ({"unused": True}, (1_300, 0), 0),
    "only debt": ({"debt": True}, (300, 0), 0),
    "debt has its most, too": ({"debt": True}, (9_000, 0), -1_000),
}


@pytest.mark.parametrize(("carry", "holds", "expected"), ROWS.values(), ids=ROWS)
def test_what_is_carried(carry: dict[str, Any], holds: tuple[int, ...], expected: int) -> None:
    [compiled] = policy(budget(carry_over=carry)).budgets
    assert carried(compiled.budget, CounterValues(*holds)) == expected


def test_without_a_rule_nothing_is_carried() -> None:
    """Goal: the default carries nothing. Method: a plain budget, and the rule of a full one."""
    [compiled] = policy(budget()).budgets
    assert compiled.budget.carry_over is None
    assert carried(compiled.budget, CounterValues(5, 0)) == 0
    [compiled] = policy(
        budget(limit={"usd": "10"}, carry_over=BOTH | {"max": {"usd": "2.5"}})
    ).budgets
    assert compiled.budget.carry_over == CarryOver(True, True, 2_500_000_000)


@pytest.mark.parametrize(
    ("settings", "start", "end"),
    [
        ({"window": "day"}, "2026-06-09T00:00:00Z", "2026-06-10T00:00:00Z"),
        ({"window": "month"}, "2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z"),
        ({"window": "month", "anchor_day": 15}, "2026-04-15T00:00:00Z", "2026-05-15T00:00:00Z"),
        (
            {"window": "week", "timezone": "America/New_York"},
            "2026-06-01T00:00:00-04:00",
            "2026-06-08T00:00:00-04:00",
        ),
    ],
)
def test_the_window_before(settings: dict[str, Any], start: str, end: str) -> None:
    """Goal: it is the one that ended when this one began. Method: rows, on 10 June 2026."""
    [compiled] = policy(budget(carry_over=BOTH, **settings)).budgets
    running = compiled.budget.window.instance(NOW)
    assert running is not None
    before = window_before(compiled.budget, running)
    assert before is not None
    assert (before.start_ms, before.end_ms) == (ms(start), ms(end))
    assert before.end_ms == running.start_ms
