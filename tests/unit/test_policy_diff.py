"""What changes between two versions of a policy, in words."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.domain.policy_diff import Change, ChangeKind, diff_policies
from bursar.domain.policy_document import BudgetDocument, PolicyDocument
from bursar.domain.policy_text import parse_policy
from bursar.domain.policy_validation import validate_policy
from bursar.domain.policy_writing import policy_content, write_policy

ADDED, REMOVED, CHANGED = ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.CHANGED
BUDGET: dict[str, Any] = {"name": "b", "limit": {"usd": 50_000}, "window": "month"}


def policy(*budgets: dict[str, Any], **settings: Any) -> PolicyDocument:  # noqa: ANN401 - a document
    return validate_policy({"org": "acme", "budgets": list(budgets), **settings}, "here")


def budget_changes(**changed: Any) -> list[Change]:  # noqa: ANN401 - a document
    """Return what changes where settings of a budget are others; None leaves one out."""
    after = {name: value for name, value in {**BUDGET, **changed}.items() if value is not None}
    return list(diff_policies(policy(BUDGET), policy(after)))


def test_nothing_changes() -> None:
    """Goal: what means the same is no change. Method: other spellings of one document."""
    before = policy({**BUDGET, "scope": {"team": "a"}, "per": "user"})
    after = policy(
        {**BUDGET, "limit": {"usd": "50000.00"}, "scope": {"team": ["a"]}, "per": ["user"]},
        unbudgeted="allow",
    )
    assert diff_policies(before, after) == ()


CHANGES = {
    "limit": ({"limit": {"usd": "12.5"}}, ("limit", "$50,000.00", "$12.50", False)),
    "unlimited": (
        {"limit": {"usd": "unlimited"}},
        ("limit", "$50,000.00", "unlimited usd", False),
    ),
    "meter": ({"limit": {"tokens": 5}}, ("limit", "$50,000.00", "5 tokens", True)),
    "window": ({"window": "day"}, ("window", "month", "day", True)),
    "rolling": ({"window": {"rolling": "24h"}}, ("window", "month", "rolling 24h", True)),
    "fixed": (
        {"window": {"from": "2026-01-01T00:00:00+01:00", "until": "2026-02-01T00:00:00Z"}},
        ("window", "month", "2025-12-31T23:00:00Z until 2026-02-01T00:00:00Z", True),
    ),
    "timezone": ({"timezone": "Asia/Kolkata"}, ("timezone", "not set", "Asia/Kolkata", True)),
    "anchor": ({"anchor_day": 15}, ("anchor_day", "not set", "15", True)),
    "anchor-as-before": ({"anchor_day": 1}, ("anchor_day", "not set", "1", False)),
    "per": ({"per": ["user", "team"]}, ("per", "none", "user; team", True)),
    "mode": ({"mode": "observe"}, ("mode", "enforce", "observe", False)),
    "overdraft": ({"overdraft": {"percent": 10}}, ("overdraft", "not set", "10 %", False)),
    "scope": (
        {"scope": {"team": ["a", "b"], "labels": {"tier": "free"}}},
        ("scope", "every request", "team=a|b labels.tier=free", False),
    ),
    "headroom": (
        {"priority_headroom": {"low": 70}},
        ("priority_headroom", "low 100 normal 100 high 100", "low 70 normal 100 high 100", False),
    ),
    "alerts": ({"alerts": [50, 80]}, ("alerts", "none", "50; 80", False)),
    "backfill": ({"backfill": False}, ("backfill", "yes", "no", False)),
    "carry_over": (
        {"carry_over": {"unused": True, "max": {"usd": 3}}},
        ("carry_over", "not set", "unused yes debt no max $3.00", False),
    ),
    "ladder": (
        {
            "ladder": [
                {"at": 60, "switch_model": {"from": "gpt-5*", "to": "gpt-5-mini"}},
                {"at": 80, "cap_output": 1_024},
                {"at": 90, "finish": True},
                {"at": 100, "queue": {"max_wait": "15m"}, "message": "busy"},
            ]
        },
        (
            "ladder",
            "none",
            "at 60 % switch gpt-5* to gpt-5-mini; at 80 % cap output at 1,024 tokens; "
            "at 90 % finish; at 100 % queue for at most 15m, saying 'busy'",
            False,
        ),
    ),
}


@pytest.mark.parametrize(("changed", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_setting_in_words(changed: dict[str, Any], expected: tuple[str, str, str, bool]) -> None:
    """Goal: people read what changes, and where counting begins anew. Method: one setting each."""
    [change] = budget_changes(**changed)
    assert (change.kind, change.budget) == (CHANGED, "b")
    assert (change.setting, change.before, change.after) == expected[:3]
    assert ("count anew" in change.warning) is expected[3]


def test_every_setting_of_a_budget_is_compared() -> None:
    """Goal: no setting changes unseen, one that is new neither. Method: go over the model."""
    seen = {changed_setting for _, (changed_setting, *_) in CHANGES.values()}
    others = {
        "description": {"description": "x"},
        "week_start": {"window": "week", "week_start": "sunday"},
        "on_expiry": {"on_expiry": "charge"},
        "on_unavailable": {"on_unavailable": "open"},
        "default_output_tokens": {"default_output_tokens": 5},
    }
    for setting, changed in others.items():
        assert setting in {each.setting for each in budget_changes(**changed)}
    assert seen | set(others) == set(BudgetDocument.model_fields) - {"name"}


def test_budgets_come_and_go() -> None:
    """Goal: added, removed and moved budgets are told apart. Method: each, and all of them."""
    other = {"name": "c", "limit": {"requests": 5}, "window": {"rolling": "1m"}, "per": "user"}
    [added] = diff_policies(policy(BUDGET), policy(BUDGET, other))
    assert (added.kind, added.budget, added.before) == (ADDED, "c", "")
    assert added.after == "5 requests, window rolling 1m, per user"
    [removed] = diff_policies(policy(BUDGET, other), policy(other))
    assert (removed.kind, removed.before, removed.after) == (
        REMOVED,
        "$50,000.00, window month",
        "",
    )
    assert "open holds on it still settle" in removed.warning
    [moved] = diff_policies(policy(BUDGET, other), policy(other, BUDGET))
    assert (moved.kind, moved.setting) == (CHANGED, "budgets order")
    assert (moved.before, moved.after) == ("c at 2", "c at 1")


def test_a_zone_of_the_policy() -> None:
    """Goal: budgets that follow the policy's zone say that they count anew. Method: two budgets."""
    fixed = {**BUDGET, "name": "own", "timezone": "UTC"}
    minute = {**BUDGET, "name": "minute", "window": "minute"}
    before = policy(BUDGET, fixed, minute)
    after = policy(BUDGET, fixed, minute, timezone="Asia/Kolkata")
    first, second = diff_policies(before, after)
    assert (first.budget, first.setting, first.after) == ("", "timezone", "Asia/Kolkata")
    assert (second.budget, second.setting, second.before) == ("b", "timezone", "UTC")
    assert "count anew" in second.warning


def test_models() -> None:
    """Goal: models are compared one by one, and their order counts. Method: each kind of change."""
    mini = {"match": "m-mini", "price": {"input": "0.25", "output": 2}}
    large = {"match": "m*", "max_output_tokens": 8_000}
    [added] = diff_policies(policy(models=[mini]), policy(models=[mini, large]))
    assert (added.kind, added.setting, added.after) == (
        ADDED,
        "models[m*]",
        "max_output_tokens 8,000",
    )
    dearer = {**mini, "price": {"input": "0.5", "output": 2}}
    [changed] = diff_policies(policy(models=[mini]), policy(models=[dearer]))
    assert (changed.before, changed.after) == (
        "price input 0.25 output 2",
        "price input 0.5 output 2",
    )
    [moved] = diff_policies(policy(models=[mini, large]), policy(models=[large, mini]))
    assert (moved.setting, moved.before) == ("models order", "models[m*] at 2")
    twice = policy(models=[large, large])
    assert [each.setting for each in diff_policies(policy(), twice)] == [
        "models[m*]",
        "models[m*] (2)",
    ]


def test_a_first_policy() -> None:
    """Goal: the first version is told from nothing. Method: one budget and a setting."""
    changes = diff_policies(None, policy(BUDGET, unbudgeted="deny"))
    assert [(each.kind, each.budget, each.setting) for each in changes] == [
        (CHANGED, "", "unbudgeted"),
        (ADDED, "b", ""),
    ]


def test_what_is_written_reads_the_same() -> None:
    """Goal: a change of one budget leaves all others as they are. Method: write and read again."""
    document = policy(
        {**BUDGET, "limit": {"usd": "0.10"}, "description": "on: 'x' #\n  two\tlines"},
        {
            "name": "null",
            "limit": {"requests": 1},
            "window": {"from": "2026-01-01T00:00:00.250Z", "until": "2026-02-01T00:00:00+05:30"},
            "scope": {"team": ["*", "007", "1e3", "true", "ü"], "labels": {"on": "&x"}},
            "mode": "off",
        },
        models=[{"match": "m", "price": {"input": "0.000000000001", "output": 100_000}}],
        description="\U0001f642",
    )
    text = write_policy(policy_content(document))
    assert parse_policy(text, "written") == document
    assert "unbudgeted" not in text
