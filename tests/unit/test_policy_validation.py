"""Policy documents as a whole: what contradicts itself, and all faults at once.

Goal: no setting is accepted and then ignored. Method: rows of documents with the faults of each,
and rows of what looks alike and means something.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import budget, document, faults_of, policy, without

AMOUNT_MAX = 2**53 - 1


def faults(*budgets: Any, **settings: object) -> dict[str, str]:  # noqa: ANN401
    return faults_of({"org": "acme", "budgets": list(budgets)} | settings)


PLAIN = budget()
ROLLING = {"window": {"rolling": "1h"}}
CONCURRENCY = {"limit": {"concurrency": 5}, "window": None}
DENY = {"at": 90, "deny": True}
CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "concurrency with a window": (
        budget(limit={"concurrency": 5}),
        {"window": "leave the window out"},
    ),
    "no window": (without(PLAIN, "window"), {"window": "is required"}),
    "a task window for all tasks": (budget(window="task"), {"window": "per: [task]"}),
    "the same with idle time": (
        budget(window={"task": "1h"}, per="user"),
        {"window": "per: [task]"},
    ),
    "anchor of a day": (budget(anchor_day=3), {"anchor_day": "month, quarter and year"}),
    "anchor of a week": (budget(window="week", anchor_day=3), {"anchor_day": "only month"}),
    "start of a month": (budget(window="month", week_start="monday"), {"week_start": "only week"}),
    "zone of a rolling window": (budget(**ROLLING, timezone="UTC"), {"timezone": "only calendar"}),
    "per of a request": (budget(window="request", per="user"), {"per": "counts nothing over time"}),
    "ladder of a request": (budget(window="request", ladder=[DENY]), {"ladder": "over time"}),
    "alerts of a request": (budget(window="request", alerts=[50]), {"alerts": "over time"}),
    "expiry of a request": (
        budget(window="request", on_expiry="charge"),
        {"on_expiry": "nothing to charge"},
    ),
    "expiry of concurrency": (
        without(budget(**CONCURRENCY, on_expiry="charge"), "window"),
        {"on_expiry": "nothing to charge"},
    ),
    "alerts of concurrency": (
        without(budget(**CONCURRENCY, alerts=[50]), "window"),
        {"alerts": "commits nothing"},
    ),
    "percent of unlimited": (
        budget(
            limit={"tokens": "unlimited"},
            ladder=[DENY],
            alerts=[50],
            overdraft={"percent": 5},
            priority_headroom={"low": 50},
        ),
        dict.fromkeys(("ladder", "alerts", "overdraft", "priority_headroom"), "no percentages"),
    ),
    "carrying from a rolling window": (
        budget(**ROLLING, carry_over={"unused": True}),
        {"carry_over": "only calendar windows"},
    ),
    "carrying from a fixed window": (
        budget(
            window={"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"},
            carry_over={"debt": True},
        ),
        {"carry_over": "only calendar windows"},
    ),
    "carrying from a task": (
        budget(window="task", per="task", carry_over={"debt": True}),
        {"carry_over": "only calendar windows"},
    ),
    "carrying nothing": (
        budget(carry_over={"max": {"percent": 5}}),
        {"carry_over": "carries nothing; say unused: true"},
    ),
    "carrying in another unit": (
        budget(carry_over={"unused": True, "max": {"usd": 1}}),
        {"carry_over.max": "percent or tokens, is usd"},
    ),
    "carrying in two units": (
        budget(carry_over={"unused": True, "max": {"percent": 1, "tokens": 1}}),
        {"carry_over.max": "either percent or an amount"},
    ),
    "carrying more than can be counted": (
        budget(limit={"tokens": AMOUNT_MAX}, carry_over={"unused": True, "max": {"tokens": 1}}),
        {"carry_over.max": "limit and carry_over.max are 9007199254740992 together"},
    ),
    "carrying of unlimited": (
        budget(limit={"tokens": "unlimited"}, carry_over={"unused": True}),
        {"carry_over": "nothing unused and no debt"},
    ),
    "a cap that is open": (
        budget(window="request", on_unavailable="open"),
        {"on_unavailable": "always enforced"},
    ),
    "unlimited and open": (
        budget(limit={"tokens": "unlimited"}, on_unavailable="open"),
        {"on_unavailable": "refuses nothing"},
    ),
    "backfill of a request": (budget(window="request", backfill=True), {"backfill": "only cal"}),
    "backfill of a task": (
        budget(window="task", per="task", backfill=True),
        {"backfill": "only calendar, rolling and fixed"},
    ),
    "backfill of concurrency": (
        without(budget(**CONCURRENCY, backfill=True), "window"),
        {"backfill": "only calendar, rolling and fixed"},
    ),
    "unknown attribute": (budget(per=["user", "org"]), {"per[1]": "'org' is not one of team"}),
    "unknown attribute alone": (budget(per="labels"), {"per": "'labels' is not one of"}),
    "no label's key": (budget(per=["labels.Tier"]), {"per[0]": "'labels.Tier' is not one of"}),
    "an attribute twice": (
        budget(per=["user", "team", "user"]),
        {"per[2]": "'user' is given twice"},
    ),
    "two meters": (budget(limit={"usd": 1, "tokens": 1}), {"limit": "exactly one meter"}),
    "no meter": (budget(limit={}), {"limit": "exactly one meter"}),
    "unknown meter": (budget(limit={"token": 1}), {"limit.token": "is not a meter; known are usd"}),
    "overdraft in two units": (
        budget(overdraft={"percent": 1, "tokens": 1}),
        {"overdraft": "either"},
    ),
    "overdraft of nothing": (budget(overdraft={}), {"overdraft": "either percent or an amount"}),
    "overdraft in another unit": (
        budget(overdraft={"usd": 1}),
        {"overdraft": "percent or tokens, is usd"},
    ),
    "overdraft below 0": (budget(overdraft={"tokens": -1}), {"overdraft.tokens": "at least 0"}),
    "two actions": (
        budget(ladder=[{"at": 5, "deny": True, "finish": True}]),
        {"ladder[0]": "has several actions (finish, deny)"},
    ),
    "no action": (budget(ladder=[{"at": 5, "message": "m"}]), {"ladder[0]": "needs an action"}),
    "notify without words": (
        budget(ladder=[{"at": 5, "notify": True}]),
        {"ladder[0]": "a message to say"},
    ),
}


@pytest.mark.parametrize(("given_budget", "expected"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(given_budget: dict[str, Any], expected: dict[str, str]) -> None:
    """Goal: settings that contradict each other are refused at the one to change. Method: rows."""
    found = faults(given_budget)
    assert set(found) == {f"budgets[0].{path}" for path in expected}
    for path, text in expected.items():
        assert text in found[f"budgets[0].{path}"]


AGREEING = {
    "concurrency without a window": without(budget(**CONCURRENCY), "window"),
    "a ladder of concurrency": without(budget(**CONCURRENCY, ladder=[DENY]), "window"),
    "a task window": budget(window="task", per=["user", "task"]),
    "anchor of a quarter": budget(window="quarter", anchor_day=31),
    "anchor of a year": budget(window="year", anchor_day=1),
    "zone of an hour": budget(window="hour", timezone="Asia/Kolkata"),
    "labels in per": budget(per=["labels.tier", "labels.a.b-c_d"]),
    "overdraft of a request": budget(window="request", overdraft={"tokens": 5}),
    "overdraft of 0": budget(overdraft={"percent": 0}),
    "expiry said": budget(window="request", on_expiry="release"),
    "carrying from a minute": budget(window="minute", carry_over={"unused": True}),
    "carrying as much again": budget(carry_over={"debt": True, "max": {"percent": 100}}),
    "no backfill of a task": budget(window="task", per="task", backfill=False),
    "backfill said": budget(window={"rolling": "1h"}, backfill=True),
    "closed and unlimited": budget(limit={"tokens": "unlimited"}, on_unavailable="closed"),
    "concurrency that is open": without(budget(**CONCURRENCY, on_unavailable="open"), "window"),
    "two rungs at once": budget(ladder=[DENY, DENY]),
    "an action that notifies too": budget(ladder=[DENY | {"notify": True, "message": "m"}]),
}


@pytest.mark.parametrize("given_budget", AGREEING.values(), ids=AGREEING)
def test_what_does_not_contradict(given_budget: dict[str, Any]) -> None:
    """Goal: the checks above refuse nothing that means something. Method: rows."""
    assert document(given_budget).budgets


@pytest.mark.parametrize(
    ("limit", "overdraft", "fits"),
    [
        ({"tokens": AMOUNT_MAX}, {"tokens": 0}, True),
        ({"tokens": AMOUNT_MAX - 1}, {"tokens": 1}, True),
        ({"tokens": AMOUNT_MAX}, {"tokens": 1}, False),
        ({"tokens": AMOUNT_MAX - 1}, {"percent": 1}, False),
        ({"tokens": AMOUNT_MAX // 2}, {"percent": 100}, True),
        ({"tokens": AMOUNT_MAX // 2 + 1}, {"percent": 100}, False),
        ({"usd": "9007199.254740990"}, {"usd": "0.000000001"}, True),
        ({"usd": "9007199.254740991"}, {"usd": "0.000000001"}, False),
        ({"usd": "9007199"}, {"percent": 1}, False),
        ({"images": AMOUNT_MAX}, {"images": 1}, False),
        ({"tokens": 0}, {"percent": 1000}, True),
    ],
)
def test_overdraft_stays_countable(limit: Any, overdraft: Any, fits: bool) -> None:  # noqa: ANN401
    """Goal: limit and overdraft together are at most 2^53 - 1. Method: n-1, n, n+1 in each unit."""
    given_budget = budget(limit=limit, overdraft=overdraft)
    if fits:
        [compiled] = policy(given_budget, meters=["images"]).budgets
        assert compiled.budget.share(100) <= AMOUNT_MAX
    else:
        found = faults(given_budget, meters=["images"])
        assert "together, more than 9007199" in found["budgets[0].overdraft"]


def test_names_and_meters_across_the_document() -> None:
    """Goal: names are unique, meters are declared once and well. Method: all faults at once."""
    found = faults(
        budget("a"), budget("b"), budget("a"), meters=["ok", "No", "usd", "cost", "percent", "ok"]
    )
    assert found.pop("budgets[2].name") == "'a' is also budgets[0].name"
    assert found.pop("meters[5]") == "'ok' is given twice"
    assert set(found) == {"meters[1]", "meters[2]", "meters[3]", "meters[4]"}
    assert all("cannot name a meter" in text for text in found.values())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"match": "m"}, {"": "says nothing"}),
        ({"match": "my-*", "alias_of": "gpt-5"}, None),
        ({"match": "*", "alias_of": "gpt-5", "max_output_tokens": 5}, None),
        (
            {"match": "my-*", "alias_of": "gpt-5", "max_output_tokens": 5,
             "price": {"input": 1, "output": 1}},
            {".max_output_tokens": "would be ignored", ".price": "say it of gpt-5"},
        ),
    ],
)  # fmt: skip
def test_what_models_say(model: dict[str, Any], expected: dict[str, str] | None) -> None:
    """Goal: a price that an alias would hide is refused, not ignored. Method: rows."""
    if expected is None:
        assert document(models=[model]).models
        return
    found = faults(models=[{"match": "x", "provider": "p"}, model])
    assert set(found) == {f"models[1]{path}" for path in expected}
    for path, text in expected.items():
        assert text in found[f"models[1]{path}"]


def test_all_faults_at_once() -> None:
    """Goal: one look shows all that is wrong, of fields and between fields, also side by side.

    Method: a document with many faults, some in the same budget; nothing is said of what rests on
    a wrong setting.
    """
    found = faults(
        budget("A", anchor_day=3, limit={"usd": 1.5}, per=["org"]),
        5,
        budget("b", window="fortnight", week_start="monday", overdraft={"usd": 1}),
        budget("c", limit={"concurrency": 0}, alerts=[0], oops=1),
        budget("c", limit={"nope": 1}),
        org="",
        meters=[5],
    )
    assert set(found) == {
        "org", "meters[0]",
        "budgets[0].name", "budgets[0].anchor_day", "budgets[0].limit.usd", "budgets[0].per[0]",
        "budgets[1]",
        "budgets[2].window", "budgets[2].overdraft",
        "budgets[3].window", "budgets[3].alerts[0]", "budgets[3].oops",
        "budgets[4].name",
    }  # fmt: skip


def test_too_many_budgets() -> None:
    """Goal: 10,000 budgets are accepted, one more is one fault. Method: n and n+1."""
    many = [budget(f"b{at}") for at in range(10_001)]
    assert len(document(*many[:-1]).budgets) == 10_000
    assert faults(*many) == {"budgets": "must have at most 10000 entries"}
