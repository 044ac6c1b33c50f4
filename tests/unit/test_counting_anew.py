"""Which budgets count anew with another version of a policy, and what usage comes to on a meter.

Goal: a budget whose counters go on is never filled a second time. Method: rows of changes.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import budget, policy

from bursar.domain.backfill import UsedBefore, counting_anew
from bursar.domain.subject import OrgId, Subject, Target

ANEW: dict[str, tuple[dict[str, Any] | None, dict[str, Any], bool]] = {
    "new": (None, budget(), True),
    "new, and not wanted": (None, budget(backfill=False), False),
    "new and off": (None, budget(mode="off"), False),
    "a new cap": (None, budget(window="request"), False),
    "a new task window": (None, budget(window="task", per="task"), False),
    "new concurrency": (None, {"name": "b", "limit": {"concurrency": 1}}, False),
    "new and rolling": (None, budget(window={"rolling": "1h"}), True),
    "new and silent": (None, budget(mode="observe"), True),
    "the same": (budget(), budget(), False),
    "another limit": (budget(), budget(limit={"tokens": 5}), False),
    "another scope": (budget(), budget(scope={"team": "a"}), False),
    "another mode": (budget(), budget(mode="warn"), False),
    "another meter": (budget(), budget(limit={"requests": 5}), True),
    "another window": (budget(), budget(window="month"), True),
    "another zone": (budget(), budget(timezone="Asia/Tokyo"), True),
    "the same zone, said": (budget(), budget(timezone="UTC"), False),
    "another length": (budget(window={"rolling": "1h"}), budget(window={"rolling": "2h"}), True),
    "the same length": (budget(window={"rolling": "24h"}), budget(window={"rolling": "1d"}), False),
    "another partition": (budget(), budget(per="user"), True),
    "switched on": (budget(mode="off"), budget(), True),
    "switched off": (budget(), budget(mode="off"), False),
}


@pytest.mark.parametrize(("before", "after", "anew"), ANEW.values(), ids=ANEW)
def test_what_counts_anew(before: dict[str, Any] | None, after: dict[str, Any], anew: bool) -> None:
    old = policy(*([before] if before else []))
    assert counting_anew(old, policy(after)) == (("b",) if anew else ())


def test_a_zone_of_the_policy_counts() -> None:
    """Goal: windows that follow the policy's zone begin anew with it. Method: two zones."""
    old, new = policy(budget()), policy(budget(), timezone="Europe/Paris")
    assert counting_anew(old, new) == ("b",)


def test_amounts_by_meter() -> None:
    """Goal: each meter has its own amount. Method: all of them, each with a number of its own."""
    used = UsedBefore(
        Subject(OrgId("acme")), Target("", "m"), frozenset(), 0, 3, 100, 20, 7_000, {"images": 4}
    )
    meters = (
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "cost",
        "requests",
        "images",
        "pages",
    )
    assert [used.amount(name) for name in meters] == [120, 100, 20, 7_000, 3, 4, 0]
