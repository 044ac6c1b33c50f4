"""Faults of policy documents: unknown and missing settings, nulls, unions, each at its exact path.

Goal: every fault is named where it stands in the document, in plain words. Method: rows of
documents with the exact faults of each; random damage must never crash the check.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from domain_builders import budget, faults_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from test_policy_document import full

from bursar.domain.errors import PolicyInvalid
from bursar.domain.policy_faults import find_faults, shown
from bursar.domain.policy_validation import validate_policy

UNKNOWN = "is not a known setting"
WINDOWS = (
    "must be minute, hour, day, week, month, quarter, year, request, task, {rolling: 24h}, "
    "{task: 1h} or {from: TIME, until: TIME}"
)
UNPRICED = "must be deny, allow or {fallback: {input: USD, output: USD}}"
FROM, UNTIL = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def faults(*budgets: Any, **settings: object) -> dict[str, str]:  # noqa: ANN401
    return faults_of({"org": "acme", "budgets": list(budgets)} | settings)


def every_mapping(content: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401
    """Return every mapping of a document with its path."""
    if isinstance(content, dict):
        inner = [each for key, value in content.items()
                 for each in every_mapping(value, f"{path}.{key}" if path else key)]  # fmt: skip
        return [(path, content), *inner]
    parts = enumerate(content) if isinstance(content, list) else ()
    return [each for at, value in parts for each in every_mapping(value, f"{path}[{at}]")]


def test_unknown_settings_everywhere() -> None:
    """Goal: a misspelt setting is named at every place. Method: one more key in each mapping."""
    places = [path for path, _ in every_mapping(full())]
    # Labels and custom meters are named by the policy itself.
    named = (".labels", ".limit", ".overdraft", ".carry_over.max")
    places = [path for path in places if not path.endswith(named)]
    assert len(places) > 20
    for place in places:
        changed = full()
        dict(every_mapping(changed))[place]["limt"] = 1
        path = f"{place}.limt" if place else "limt"
        assert faults_of(changed) == {path: UNKNOWN}


def test_missing_settings() -> None:
    """Goal: what is required is asked for by its path. Method: leave each out."""
    assert faults_of({}) == {"org": "is required"}
    assert faults({}) == {
        "budgets[0].name": "is required",
        "budgets[0].limit": "is required",
    }
    rungs = [{"deny": True}, {"at": 5, "queue": {}}, {"at": 5, "switch_model": {"from": "m"}}]
    assert set(faults(budget(ladder=rungs), models=[{"price": {"input": 1}}])) == {
        "budgets[0].ladder[0].at",
        "budgets[0].ladder[1].queue.max_wait",
        "budgets[0].ladder[2].switch_model.to",
        "models[0].match",
        "models[0].price.output",
    }


def test_settings_without_value_everywhere() -> None:
    """Goal: `team:` with nothing behind it does not widen a budget. Method: null at every key."""
    for place, mapping in every_mapping(full()):
        for key in mapping:
            changed = full()
            dict(every_mapping(changed))[place][key] = None
            path = f"{place}.{key}" if place else key
            found = faults_of(changed)
            assert found[path] == "has no value; give one or leave the setting out"
    assert faults(budget(alerts=[50, None])) == {
        "budgets[0].alerts[1]": "has no value; give one or leave the setting out"
    }


UNION_ROWS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a word": ({"window": "fortnight"}, {"window": WINDOWS}),
    "none is no word": ({"window": "none"}, {"window": WINDOWS}),
    "rolling alone": ({"window": "rolling"}, {"window": WINDOWS}),
    "a number": ({"window": 5}, {"window": WINDOWS}),
    "a list": ({"window": ["day"]}, {"window": WINDOWS}),
    "an empty mapping": ({"window": {}}, {"window": WINDOWS}),
    "a mapping of something else": ({"window": {"day": 1}}, {"window": WINDOWS}),
    "a broken duration": (
        {"window": {"rolling": "1x"}},
        {"window.rolling": "must be a duration such as 90s, 15m, 24h, 7d or 1h30m, is '1x'"},
    ),
    "a duration of nothing": (
        {"window": {"rolling": "0s"}},
        {"window.rolling": "must be between 1ms and 400d, is '0s'"},
    ),
    "a duration too long": (
        {"window": {"rolling": "401d"}},
        {"window.rolling": "must be between 1ms and 400d, is '401d'"},
    ),
    "a number for a duration": (
        {"window": {"rolling": 60}},
        {"window.rolling": "must be a text; put it in quotes, is 60"},
    ),
    "one setting too many": (
        {"window": {"rolling": "1h", "anchor": 1}},
        {"window.anchor": UNKNOWN},
    ),
    "a fixed window without its end": ({"window": {"from": FROM}}, {"window.until": "is required"}),
    "a date without offset": (
        {"window": {"from": "2026-01-01", "until": UNTIL}},
        {"window.from": "needs a UTC offset, such as 2026-01-01T00:00:00Z"},
    ),
    "a number for a time": (
        {"window": {"from": 1767225600, "until": "1767225600"}},
        {
            "window.from": "must be a time such as 2026-01-01T00:00:00Z",
            "window.until": "must be a time such as 2026-01-01T00:00:00Z",
        },
    ),
    "parts of a millisecond": (
        {"window": {"from": "2026-01-01T00:00:00.0001Z", "until": UNTIL}},
        {"window.from": "must be in whole milliseconds"},
    ),
    "an end at the beginning": (
        {"window": {"from": FROM, "until": "2026-01-01T01:00:00+01:00"}},
        {"window": "from must be before until"},
    ),
    "a limit that is no mapping": ({"limit": 5}, {"limit": "must be a mapping"}),
    "a mapping as an amount": (
        {"limit": {"tokens": {"a": 1}}},
        {"limit.tokens": "must be a whole number; or the word unlimited"},
    ),
    "a mode that YAML makes false": (
        {"mode": False},
        {"mode": "must be 'enforce', 'warn', 'observe' or 'off', is False"},
    ),
    "a single pattern of the wrong type": (
        {"scope": {"team": 5}},
        {"scope.team": "must be a text; put it in quotes, is 5"},
    ),
    "one of several patterns": (
        {"scope": {"team": ["a", 5]}},
        {"scope.team[1]": "must be a text; put it in quotes, is 5"},
    ),
    "a label of the wrong type": (
        {"scope": {"labels": {"tier": [True]}}},
        {"scope.labels.tier[0]": "must be a text; put it in quotes, is True"},
    ),
    "a zone that is none": (
        {"timezone": "Mars/Base"},
        {"timezone": "is not an IANA time zone such as America/New_York"},
    ),
    "a flag that is a number": (
        {"ladder": [{"at": 1, "deny": 1}]},
        {"ladder[0].deny": "must be true, or be left out"},
    ),
    "a flag that is false": (
        {"ladder": [{"at": 1, "finish": False}]},
        {"ladder[0].finish": "must be true, or be left out"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), UNION_ROWS.values(), ids=UNION_ROWS)
def test_exact_paths(changes: dict[str, Any], expected: dict[str, str]) -> None:
    """Goal: one fault, at the path of the document, also within alternatives. Method: rows."""
    good = budget("other")
    found = faults(good, good | {"name": "third"}, budget(**changes))
    assert found == {f"budgets[2].{path}": text for path, text in expected.items()}


@pytest.mark.parametrize(
    ("unpriced", "expected"),
    [
        ("charge", {"unpriced": UNPRICED}),
        ({}, {"unpriced": UNPRICED}),
        ({"price": 1}, {"unpriced": UNPRICED}),
        ({"fallback": 5}, {"unpriced.fallback": "must be a mapping"}),
        ({"fallback": {"input": 1}}, {"unpriced.fallback.output": "is required"}),
    ],
)
def test_paths_of_unpriced(unpriced: object, expected: dict[str, str]) -> None:
    """Goal: the same for the other union. Method: rows."""
    assert faults(unpriced=unpriced) == expected


def test_unforeseen_errors_of_pydantic_are_told() -> None:
    """Goal: a kind of error that has no words here is still told. Method: a model of its own."""

    class Other(BaseModel):
        flag: bool

    with pytest.raises(ValidationError) as caught:
        Other.model_validate({"flag": "maybe"})
    [finding] = find_faults(caught.value, {"flag": "maybe"})
    assert finding.location == ("flag",)
    assert finding.description.startswith("is wrong: Input should be a valid boolean")
    assert shown("x" * 60) == "'" + "x" * 59 + "..."


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 200), st.floats(), st.decimals(),
    st.text(max_size=5), st.just([]), st.just({}), st.just(["a", 1]), st.just({"at": 1}),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_documents_are_refused_or_accepted(data: st.DataObject) -> None:
    """Goal: no document crashes the check. Method: random damage at random places of a full one."""
    content = full()
    for _ in range(data.draw(st.integers(1, 4))):
        here: Any = content
        while isinstance(here, dict | list) and here:
            keys = sorted(here, key=str) if isinstance(here, dict) else range(len(here))
            key = data.draw(st.sampled_from(list(keys)))
            if not isinstance(here[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
                here[key] = copy.deepcopy(data.draw(scalars))
                break
            here = here[key]
    try:
        validate_policy(content, "damaged")
    except PolicyInvalid as error:
        assert error.source == "damaged"
        assert error.faults
        assert "refused" in str(error)
        assert all("Document" not in fault.path + fault.description for fault in error.faults)
        assert all("literal" not in fault.path for fault in error.faults)
