"""Names of counters: requests share a counter exactly where they should, and names are read back.

Goal: no two counters have one name, whatever a caller calls itself. Method: random partitions with
every separator in them, and rows of changes that begin a new counter or do not.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import NOW, budget, policy, status, without
from hypothesis import given
from hypothesis import strategies as st

from bursar.domain.budget import Counter, CounterStatus, CounterValues, parse_counter_id
from bursar.domain.subject import OrgId, Subject, Target

HOUR = 3_600_000
values = st.text(
    st.sampled_from([*":,@=%/.-_~ aA1é\U0001f600{}*"]) | st.characters(exclude_categories=("C",)),
    min_size=1,
    max_size=8,
)
PER = ["team", "user", "model", "labels.a-b.c_d"]


def counter(given_budget: dict[str, Any], now_ms: int = NOW, **who: Any) -> Counter:  # noqa: ANN401
    rules = policy(given_budget, meters=["gpu_seconds"])
    target = Target("", who.pop("model", "m"))
    [found] = rules.counters(Subject(OrgId("acme"), **who), target, now_ms)
    return found


@given(st.tuples(*[values] * 4), st.tuples(*[values] * 4))
def test_partitions_are_read_back(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """Goal: a name says its partition, and no two have one name. Method: random values."""
    ids = []
    for team, user, model, label in (first, second):
        found = counter(
            budget(per=PER, limit={"gpu_seconds": 5}),
            team=team,
            user=user,
            model=model,
            labels={"a-b.c_d": label},
        )
        name = parse_counter_id(found.id)
        assert (name.org, name.budget, name.meter) == ("acme", "b", "gpu_seconds")
        assert name.partition == tuple(zip(PER, found.partition, strict=True))
        assert name.per == tuple(PER)
        assert name.window_code == found.budget.window.code
        assert name.window_start_ms == found.instance.start_ms
        # It is part of a key of Redis, whose hash tag is in braces.
        assert found.id.isascii()
        assert not {"{", "}", " "} & set(found.id)
        ids.append(found.id)

    def key(partition: tuple[str, ...]) -> tuple[str, ...]:
        return (*partition[:2], partition[2].lower(), partition[3])

    assert (ids[0] == ids[1]) == (key(first) == key(second))


WINDOWS: dict[str, tuple[Any, int]] = {
    "hour": ("hour", 13),
    "day": ("day", 2),
    "rolling": ({"rolling": "1h"}, 1),
    "task": ("task", 1),
    "fixed": ({"from": "2026-06-01T00:00:00Z", "until": "2026-07-01T00:00:00Z"}, 1),
}


@pytest.mark.parametrize(("window", "count"), WINDOWS.values(), ids=WINDOWS)
def test_windows_in_names(window: object, count: int) -> None:
    """Goal: each window has its counter; a rolling one has one for all time. Method: 13 hours."""
    given_budget = budget(window=window, per=["task"])
    ids = {counter(given_budget, NOW + hours * HOUR, task="t").id for hours in range(13)}
    assert len(ids) == count


CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "a larger limit": ({"limit": {"tokens": 5}}, False),
    "no limit": ({"limit": {"tokens": "unlimited"}}, False),
    "another mode": ({"mode": "observe"}, False),
    "another scope": ({"scope": {"user": "*"}}, False),
    "a ladder": ({"ladder": [{"at": 5, "deny": True}]}, False),
    "another name": ({"name": "c"}, True),
    "another meter": ({"limit": {"requests": 5}}, True),
    "another window": ({"window": "hour"}, True),
    "another zone": ({"timezone": "Asia/Tokyo"}, True),
    "another partition": ({"per": ["team"]}, True),
    "a further one": ({"per": ["user", "team"]}, True),
    "none": ({"per": []}, True),
}


@pytest.mark.parametrize(("changes", "anew"), CHANGES.values(), ids=CHANGES)
def test_changes_of_a_budget(changes: dict[str, Any], anew: bool) -> None:
    """Goal: a change of limits keeps what was used, one of units counts anew. Method: rows."""
    before = counter(budget(per=["user"]), user="x", team="x").id
    assert (counter(budget(per=["user"]) | changes, user="x", team="x").id != before) is anew


def test_counters_of_other_orgs_and_without_window() -> None:
    """Goal: the shortest name is read back too. Method: concurrency for the whole org."""
    found = counter(without(budget(limit={"concurrency": 5}), "window"))
    assert found.id == "acme:b:concurrency::none@0"
    name = parse_counter_id(found.id)
    assert (name.partition, name.window_code, name.window_start_ms) == ((), "none", 0)


# Settings, (committed, held, credit), and: remaining, used percent.
STANDS: dict[str, tuple[dict[str, Any], tuple[int, int, int], tuple[int | None, int]]] = {
    "empty": ({}, (0, 0, 0), (1_000, 0)),
    "some": ({}, (300, 200, 0), (500, 50)),
    "almost": ({}, (999, 0, 0), (1, 99)),
    "one of many thousands left": ({"limit": {"tokens": 10**15}}, (10**15 - 1, 0, 0), (1, 99)),
    "full": ({}, (0, 1_000, 0), (0, 100)),
    "over": ({}, (1_500, 0, 0), (-500, 150)),
    "overdraft is left, and not counted in percent": (
        {"overdraft": {"tokens": 100}}, (1_000, 0, 0), (100, 100)),
    "credit counts in both": ({}, (1_000, 0, 1_000), (1_000, 50)),
    "a limit of nothing is full": ({"limit": {"tokens": 0}}, (0, 0, 0), (0, 100)),
    "credit on a limit of nothing": ({"limit": {"tokens": 0}}, (5, 0, 10), (5, 50)),
    "unlimited": ({"limit": {"tokens": "unlimited"}}, (5, 0, 0), (None, 100)),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "values", "expected"), STANDS.values(), ids=STANDS)
def test_how_a_counter_stands(
    settings: dict[str, Any], values: tuple[int, int, int], expected: tuple[int | None, int]
) -> None:
    """Goal: what is left and how much is used; nothing looks full that is not. Method: rows."""
    stands = status(budget(**settings), *values)
    assert (stands.remaining, stands.used_percent) == expected


def test_tightest_is_least_left_in_parts_of_the_limit() -> None:
    """Goal: the order of counters in answers. Method: from over to unlimited."""
    ordered = [
        status(budget(limit={"tokens": 10}), 100),
        status(budget(), 1_001),
        status(budget(limit={"tokens": 0}), 0),
        status(budget(limit={"tokens": 10**12}), 10**12 - 1),
        status(budget(), 999),
        status(budget(limit={"tokens": 10}), 5),
        status(budget(), 400),
        status(budget(limit={"tokens": "unlimited"}), 5_000),
    ]
    assert sorted(reversed(ordered), key=lambda each: each.tightness) == ordered
    counter_of = ordered[0].counter
    assert CounterStatus(counter_of, CounterValues(1, 2), None).values.buckets == ()
