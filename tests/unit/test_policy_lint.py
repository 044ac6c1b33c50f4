"""Lint: what is valid and probably not meant, and silence where it is.

Goal: each warning of the design, at its path, and none for policies that mean what they say.
Method: rows of budgets with the exact paths that are warned of.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from domain_builders import budget, document, without

from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy

LONG_S = 5
EXAMPLE = Path(__file__).parents[2] / "examples" / "acme.yaml"

MINI = {"switch_model": {"from": "gpt-5", "to": "gpt-5-mini"}}
DENY = {"deny": True}
QUEUE = {"queue": {"max_wait": "1m"}}
NOTIFY = {"notify": True, "message": "m"}


def warnings(*budgets: dict[str, Any], **settings: object) -> dict[str, str]:
    return {fault.path: fault.description for fault in lint(document(*budgets, **settings))}


def at(percent: int, rung: dict[str, Any]) -> dict[str, Any]:
    return {"at": percent, **rung}


def month(name: str, usd: object, **settings: object) -> dict[str, Any]:
    return budget(name, limit={"usd": usd}, window="month", **settings)


LADDERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a whole ladder": ({"ladder": [at(80, MINI), at(90, {"finish": True}), at(100, QUEUE)]}, {}),
    "past the end": (
        {"ladder": [at(90, MINI), at(80, DENY)]},
        {"ladder[0]": "nothing is granted past the rung at 80 %"},
    ),
    "a notice past the end": (
        {"ladder": [at(80, QUEUE), at(81, NOTIFY)]},
        {"ladder[1]": "nothing is granted past the rung at 80 %"},
    ),
    "at the end, after it": (
        {"ladder": [at(80, QUEUE), at(80, MINI)]},
        {"ladder[1]": "nothing is granted past the rung at 80 %"},
    ),
    "at the end, before it": ({"ladder": [at(80, MINI), at(80, QUEUE)]}, {}),
    "a stricter end": ({"ladder": [at(80, {"serve_cached": True}), at(100, DENY)]}, {}),
    "past every headroom": (
        {"priority_headroom": {"low": 0, "normal": 50, "high": 70}, "ladder": [at(71, MINI)]},
        {"ladder[0]": "no priority may fill the budget so far"},
    ),
    "past one headroom": (
        {"priority_headroom": {"low": 0, "normal": 50, "high": 70}, "ladder": [at(70, MINI)]},
        {},
    ),
    "warn restricts nothing": (
        {"mode": "warn", "ladder": [at(50, NOTIFY), at(80, MINI), at(90, DENY)]},
        {"ladder[1]": "only notify rungs speak", "ladder[2]": "only notify rungs speak"},
    ),
    "observe is a trial": ({"mode": "observe", "ladder": [at(80, MINI)]}, {}),
    "off": ({"mode": "off"}, {"mode": "neither counts nor refuses"}),
}


@pytest.mark.parametrize(("settings", "expected"), LADDERS.values(), ids=LADDERS)
def test_rungs(settings: dict[str, Any], expected: dict[str, str]) -> None:
    """Goal: rungs that nothing reaches are told. Method: rows."""
    found = warnings(budget(**settings))
    assert set(found) == {f"budgets[0].{path}" for path in expected}
    for path, text in expected.items():
        assert text in found[f"budgets[0].{path}"]


OWN = [
    {"match": "house-*", "provider": "In-House", "max_output_tokens": 5},
    {"match": "best", "alias_of": "gpt-5"},
]
SCOPES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a known provider": ({"provider": "openai"}, None),
    "in any case": ({"provider": "OpenAI"}, None),
    "by glob": ({"provider": "open*"}, None),
    "an own provider": ({"provider": "in-house"}, None),
    "an unknown provider": ({"provider": "opanai"}, "scope.provider"),
    "one of two known": ({"provider": ["opanai", "openai"]}, None),
    "a longer name is no provider": ({"provider": "openai-two"}, "scope.provider"),
    "a model's rule is no provider": ({"provider": "house-1"}, "scope.provider"),
    "a known model": ({"model": "gpt-5"}, None),
    "a dated model": ({"model": "gpt-5-2025-08-07"}, None),
    "a glob of models": ({"model": "GPT-*"}, None),
    "an own model": ({"model": "house-7b"}, None),
    "its glob": ({"model": "house-*"}, None),
    "an unknown model": ({"model": "gtp-5"}, "scope.model"),
    "an unknown glob": ({"model": "gtp*"}, "scope.model"),
    "an alias": ({"model": "best"}, "scope.model"),
    "an alias in a list": ({"model": ["gpt-5", "best"]}, "scope.model"),
    "anybody": ({"team": "whatever"}, None),
}


@pytest.mark.parametrize(("scope", "path"), SCOPES.values(), ids=SCOPES)
def test_scopes(scope: dict[str, Any], path: str | None) -> None:
    """Goal: a budget that no provider or model could match is told. Method: rows."""
    found = warnings(budget(scope=scope), models=OWN)
    assert set(found) == ({f"budgets[0].{path}"} if path else set())


def test_alias_is_told_by_its_model() -> None:
    """Goal: who names an alias in a scope learns what to name. Method: the words."""
    [text] = warnings(budget(scope={"model": "best"}), models=OWN).values()
    assert text == "best counts as gpt-5, so it never matches; name gpt-5 instead"


ORG = month("org", 100)
A = month("a", 60, scope={"team": "a"})
B = month("b", "50.5", scope={"team": "b"})
FAMILIES: dict[str, tuple[list[dict[str, Any]], str | None]] = {
    "children above": ([ORG, A, B], "budgets[0].limit"),
    "the parent comes last": ([A, B, ORG], "budgets[2].limit"),
    "children within": ([month("org", "110.5"), A, B], None),
    "one child above": ([month("org", 59), A], "budgets[0].limit"),
    "grandchildren": (
        [
            A,
            month("a1", 31, scope={"team": "a", "feature": "x"}),
            month("a2", 30, scope={"feature": "y", "team": "a"}),
        ],
        "budgets[0].limit",
    ),
    "grandchildren are not children": (
        [ORG, month("a1", 200, scope={"team": "a", "feature": "x"})],
        None,
    ),
    "one scope twice counts once": ([ORG, A, A | {"name": "a2", "mode": "warn"}], None),
    "the tighter of two parents": ([ORG, month("org2", 59), A], "budgets[1].limit"),
    "another meter": ([ORG, A, B | {"limit": {"tokens": 90}}], None),
    "another window": ([ORG, A, B | {"window": "day"}], None),
    "another day of the month": ([ORG, A, B | {"anchor_day": 15}], None),
    "another zone": ([ORG, A, B | {"timezone": "Asia/Tokyo"}], None),
    "the same zone, said": ([ORG, A, B | {"timezone": "UTC"}], "budgets[0].limit"),
    "the same length, said otherwise": (
        [
            budget("org", window={"rolling": "24h"}),
            budget("a", window={"rolling": "1d"}, limit={"tokens": 1001}, scope={"team": "a"}),
        ],
        "budgets[0].limit",
    ),
    "each of many": ([ORG, A, B | {"per": ["user"]}], None),
    "of an unlimited parent": ([ORG | {"limit": {"usd": "unlimited"}}, A, B], None),
    "unlimited children": ([ORG, A, B | {"limit": {"usd": "unlimited"}}], None),
    "switched off": ([ORG, A, B | {"mode": "off"}], "budgets[2].mode"),
    "requests do not add up": (
        [
            budget("all", window="request"),
            budget("a", window="request", limit={"tokens": 2000}, scope={"team": "a"}),
        ],
        None,
    ),
    "concurrency does": (
        [
            without(budget("all", limit={"concurrency": 5}), "window"),
            without(budget("a", limit={"concurrency": 6}, scope={"team": "a"}), "window"),
        ],
        "budgets[0].limit",
    ),
    "two ways to divide": (
        [
            ORG,
            A,
            month("f", 60, scope={"feature": "x"}),
        ],
        None,
    ),
}


@pytest.mark.parametrize(("budgets", "path"), FAMILIES.values(), ids=FAMILIES)
def test_families(budgets: list[dict[str, Any]], path: str | None) -> None:
    """Goal: children that sum above their parent are told, where the sum means something.

    Method: rows.
    """
    assert set(warnings(*budgets)) == ({path} if path else set())


def test_family_is_named() -> None:
    """Goal: the warning shows both amounts and the first children. Method: seven of them."""
    children = [month(f"t{number}", 20, scope={"team": f"t{number}"}) for number in range(7)]
    assert warnings(ORG, *children) == {
        "budgets[0].limit": "is 100 usd, less than its team budgets together (140: t0, t1, t2, "
        "t3, t4); the parent may refuse first"
    }


def test_example_is_clean() -> None:
    """Goal: what users copy from gives no warning. Method: the example of the repository."""
    assert lint(parse_policy(EXAMPLE.read_text(encoding="utf-8"), "acme.yaml")) == []


def test_ten_thousand_budgets() -> None:
    """Goal: a large policy is linted in seconds, not by comparing all pairs. Method: one parent."""
    children = [
        month(f"b{number}", 1, scope={"team": f"t{number}", "model": f"gtp-{number % 50}*"})
        for number in range(9_000)
    ]
    parents = [month(f"p{number}", 100, scope={"model": f"gtp-{number}*"}) for number in range(50)]
    large = document(*children, *parents)
    started_s = time.perf_counter()
    found = lint(large)
    assert time.perf_counter() - started_s < LONG_S
    assert [each.path for each in found if each.path.endswith("limit")] == [
        f"budgets[{index}].limit" for index in range(9_000, 9_050)
    ]
    assert len(found) == 9_050 + 50


OPEN = {"on_unavailable": "open"}
UNAVAILABLE: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {
    "open": ([budget(**OPEN)], {}),
    "closed for all": ([budget("org"), budget(**OPEN)], {"budgets[1]": "org applies to every"}),
    "closed for some": ([budget("org", scope={"team": "a"}), budget(**OPEN)], {}),
    "closed for each": ([budget("org", per="user"), budget(**OPEN)], {}),
    "a cap for all": ([budget("cap", window="request"), budget(**OPEN)], {}),
    "silent for all": ([budget("org", mode="observe"), budget(**OPEN)], {}),
    "silent and open": ([budget(mode="warn", **OPEN)], {"budgets[0]": "only a budget in mode"}),
}


@pytest.mark.parametrize(("budgets", "expected"), UNAVAILABLE.values(), ids=UNAVAILABLE)
def test_open_budgets_that_change_nothing(
    budgets: list[dict[str, Any]], expected: dict[str, str]
) -> None:
    """Goal: who opens a budget learns of another one that never is. Method: rows."""
    found = warnings(*budgets)
    assert set(found) == {f"{path}.on_unavailable" for path in expected}
    for path, text in expected.items():
        assert text in found[f"{path}.on_unavailable"]


def test_carrying_into_a_minute() -> None:
    """Goal: what comes too late to be of use is told. Method: a minute, and an hour."""
    carry = {"unused": True}
    assert set(warnings(budget(window="minute", carry_over=carry))) == {"budgets[0].carry_over"}
    assert warnings(budget(window="hour", carry_over=carry)) == {}
