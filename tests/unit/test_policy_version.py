"""A policy's version: it changes with every change that decides anything, and only then.

Goal: equal versions decide alike, on any server and however the document is written. Method: a
document with everything in it, and rows of changes that matter and that do not.
"""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from domain_builders import budget
from test_policy_document import full

from bursar.domain.policy import compile_policy
from bursar.domain.policy_validation import validate_policy


def version(content: dict[str, Any]) -> str:
    return compile_policy(validate_policy(content, "test")).version


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the full document with the value at `budgets.0.limit` replaced."""
    content = full()
    here: Any = content
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        here = here[part]
    here[last] = value
    return content


FULL = version(full())

MATTERS: dict[str, object] = {
    "org": "other",
    "timezone": "Asia/Tokyo",
    "unbudgeted": "allow",
    "unpriced": "deny",
    "unpriced.fallback.input": "1.000001",
    "default_output_tokens": 101,
    "meters": ["images", "seconds"],
    "models": [],
    "models.0.match": "n*",
    "models.0.provider": "q",
    "models.0.max_output_tokens": 11,
    "models.0.default_output_tokens": 6,
    "models.0.price.cache_read": "1.000001",
    "models.0.price.request": "1.000000001",
    "budgets.0.name": "z",
    "budgets.0.scope.team": "u",
    "budgets.0.scope.labels.tier": "paid",
    "budgets.0.per": ["user", "team"],
    "budgets.0.limit.usd": "10.000000001",
    "budgets.0.limit": {"usd": "unlimited"},
    "budgets.0.window": "year",
    "budgets.0.timezone": "Europe/Rome",
    "budgets.0.anchor_day": 4,
    "budgets.0.mode": "enforce",
    "budgets.0.overdraft.percent": 11,
    "budgets.0.priority_headroom.low": 71,
    "budgets.0.on_expiry": "release",
    "budgets.0.on_unavailable": "closed",
    "budgets.0.carry_over.unused": False,
    "budgets.0.carry_over.debt": False,
    "budgets.0.carry_over.max.percent": 21,
    "budgets.0.backfill": True,
    "budgets.0.alerts": [51],
    "budgets.0.default_output_tokens": 8,
    "budgets.0.ladder.0.at": 51,
    "budgets.0.ladder.0.message": "n",
    "budgets.0.ladder.1.switch_model.to": "t",
    "budgets.0.ladder.2.cap_output": 6,
    "budgets.0.ladder.3.queue.max_wait": "2m",
    "budgets.1.week_start": "friday",
    "budgets.2.window.rolling": "23h",
    "budgets.3.window.task": "2h",
    "budgets.6.window.until": "2026-02-02T00:00:00Z",
}


@pytest.mark.parametrize(("path", "value"), MATTERS.items(), ids=MATTERS)
def test_what_matters(path: str, value: object) -> None:
    """Goal: no change that decides goes unnoticed. Method: one change at a time."""
    content = changed(path, value)
    if path == "budgets.0.limit":
        for name in (
            "ladder", "overdraft", "alerts", "priority_headroom", "carry_over", "on_unavailable"
        ):  # fmt: skip
            del content["budgets"][0][name]
    assert version(content) != FULL


SAME: dict[str, object] = {
    "description": "other words",
    "budgets.0.description": "other words",
    "models.0.match": "M*",
    "budgets.0.limit.usd": Decimal("10.00"),
    "budgets.0.scope.team": ["t", "t"],
    "budgets.0.per": "user",
    "budgets.0.alerts": [50, 50],
    "budgets.0.overdraft.percent": 10,
    "budgets.0.carry_over.max": {"usd": "2"},
    "budgets.1.on_unavailable": "closed",
    "budgets.1.backfill": True,
    "budgets.1.timezone": "UTC",
    "budgets.2.window.rolling": "1d",
    "budgets.2.mode": "enforce",
    "budgets.2.alerts": [],
    "budgets.3.window.task": "60m",
    "budgets.6.window.until": "2026-01-31T23:00:00Z",
    "models.0.price.input": "1.0",
}


@pytest.mark.parametrize(("path", "value"), SAME.items(), ids=SAME)
def test_what_does_not_matter(path: str, value: object) -> None:
    """Goal: other words for the same policy are the same version. Method: one at a time."""
    assert version(changed(path, value)) == FULL


def test_order_of_keys_and_of_sets_does_not_matter() -> None:
    """Goal: the order in which a mapping or a set is written decides nothing. Method: backwards."""

    def backwards(content: Any) -> Any:  # noqa: ANN401
        if isinstance(content, dict):
            return {key: backwards(content[key]) for key in reversed(content)}
        return [backwards(each) for each in content] if isinstance(content, list) else content

    content = full()
    content["budgets"][0]["scope"]["labels"] = {"tier": ["b", "a"], "region": "eu"}
    assert version(backwards(content)) == version(content)
    content["budgets"][0]["scope"]["labels"] = {"region": "eu", "tier": ["a", "b"]}
    assert version(content) == version(backwards(content))


def test_order_of_budgets_rungs_and_rules_matters() -> None:
    """Goal: where order decides, it is part of the version. Method: two of each, swapped."""
    rungs = [{"at": 5, "cap_output": 1}, {"at": 5, "finish": True}]
    models = [
        {"match": "a*", "price": {"input": 1, "output": 1}},
        {"match": "*", "price": {"input": 2, "output": 2}},
    ]
    content: dict[str, Any] = {
        "org": "acme",
        "models": models,
        "budgets": [budget("a", ladder=rungs), budget("b")],
    }
    versions = {version(content)}
    for swapped in ("models", "budgets"):
        versions.add(version(content | {swapped: content[swapped][::-1]}))
    content = copy.deepcopy(content)
    content["budgets"][0]["ladder"].reverse()
    versions.add(version(content))
    assert len(versions) == 4


def test_rungs_are_sorted_by_their_threshold() -> None:
    """Goal: rungs may be written in any order. Method: two of different thresholds, swapped."""
    low, high = {"at": 5, "cap_output": 1}, {"at": 6, "finish": True}
    first, second = (
        version({"org": "acme", "budgets": [budget(ladder=ladder)]})
        for ladder in ([low, high], [high, low])
    )
    assert first == second
