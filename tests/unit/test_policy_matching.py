"""Matching: which budgets count a request, and which counter of each.

Goal: scope, per, labels, globs, aliases and windows as the design says; the index changes nothing.
Method: rows of one budget and one request, and random policies against a loop over all budgets.
"""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

import pytest
from domain_builders import NOW, budget, ms, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.domain.budget import Counter
from bursar.domain.errors import FieldInvalid
from bursar.domain.policy import Policy
from bursar.domain.subject import OrgId, Subject, Target, attributes

LONG_S = 5
MODELS = [
    {"match": "house-*", "provider": "in-house"},
    {"match": "best", "alias_of": "gpt-5"},
    {"match": "old-name", "alias_of": "best"},
]


def counters(
    rules: Policy,
    model: str = "gpt-5",
    provider: str = "",
    now_ms: int = NOW,
    **levels: Any,  # noqa: ANN401
) -> list[Counter]:
    target = rules.price_book.resolve(Target(provider, model))
    return rules.counters(Subject(OrgId("acme"), **levels), target, now_ms)


def matches(scope: dict[str, Any], per: object = (), **asked: Any) -> bool:  # noqa: ANN401
    rules = policy(budget(scope=scope, per=list(per) if per else []), models=MODELS)
    return bool(counters(rules, **asked))


TIER = {"labels": {"tier": "free"}}
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "no scope": ({}, {}, True),
    "the same": ({"team": "a"}, {"team": "a"}, True),
    "another": ({"team": "a"}, {"team": "b"}, False),
    "absent": ({"team": "a"}, {}, False),
    "absent against everything": ({"team": "*"}, {}, False),
    "another level of that name": ({"team": "a"}, {"feature": "a"}, False),
    "all of": ({"team": "a", "feature": "f"}, {"team": "a", "feature": "f"}, True),
    "not only some of": ({"team": "a", "feature": "f"}, {"team": "a", "feature": "g"}, False),
    "one of a list": ({"team": ["a", "b"]}, {"team": "b"}, True),
    "none of a list": ({"team": ["a", "b"]}, {"team": "c"}, False),
    "a list with a glob": ({"team": ["a", "b*"]}, {"team": "beta"}, True),
    "its exact one": ({"team": ["a", "b*"]}, {"team": "a"}, True),
    "a label": (TIER, {"labels": {"tier": "free", "other": "x"}}, True),
    "another label's value": (TIER, {"labels": {"tier": "paid"}}, False),
    "no such label": (TIER, {"labels": {"level": "free"}}, False),
    "an empty label": ({"labels": {"tier": "*"}}, {"labels": {"tier": ""}}, False),
    "all labels": ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": "1"}}, False),
    "a label named like a level": ({"team": "a"}, {"labels": {"team": "a"}}, False),
    # Globs.
    "star": ({"user": "a*"}, {"user": "abc"}, True),
    "star of nothing": ({"user": "a*"}, {"user": "a"}, True),
    "star within": ({"user": "a*c"}, {"user": "abbc"}, True),
    "not a part": ({"user": "b*"}, {"user": "abc"}, False),
    "not the beginning": ({"user": "ab"}, {"user": "abc"}, False),
    "star takes slashes and dots": ({"user": "a*z"}, {"user": "a/b.c@z"}, True),
    "question mark": ({"user": "a?c"}, {"user": "abc"}, True),
    "question mark is one": ({"user": "a?c"}, {"user": "ac"}, False),
    "question mark is any character": ({"user": "?"}, {"user": "\U0001f600"}, True),
    "set": ({"user": "u[12]"}, {"user": "u2"}, True),
    "not in the set": ({"user": "u[12]"}, {"user": "u3"}, False),
    "negated set": ({"user": "u[!12]"}, {"user": "u3"}, True),
    "range": ({"user": "u[0-9]"}, {"user": "u7"}, True),
    "range the wrong way": ({"user": "u[9-0]"}, {"user": "u7"}, False),
    "open bracket is itself": ({"user": "a[b"}, {"user": "a[b"}, True),
    "open bracket is no set": ({"user": "a[b"}, {"user": "ab"}, False),
    "bracket in a set": ({"user": "a[[]b"}, {"user": "a[b"}, True),
    "closing bracket in a set": ({"user": "a[]]b"}, {"user": "a]b"}, True),
    "star in a set is itself": ({"user": "a[*]"}, {"user": "a*"}, True),
    "star in a set is no glob": ({"user": "a[*]"}, {"user": "ab"}, False),
    "regular expressions are no globs": ({"user": "a.c|x"}, {"user": "abc"}, False),
    "nor within globs": ({"user": "(a|b)*"}, {"user": "abc"}, False),
    "their signs are themselves": ({"user": "a+(b)*"}, {"user": "a+(b)$^"}, True),
    "case of subjects matters": ({"user": "Ann"}, {"user": "ann"}, False),
    "in globs too": ({"user": "A*"}, {"user": "ann"}, False),
    # Targets.
    "provider found by the model": ({"provider": "openai"}, {}, True),
    "provider found by a rule": ({"provider": "in-house"}, {"model": "house-1"}, True),
    "provider given": ({"provider": "azure"}, {"provider": "azure"}, True),
    "provider given is not another": ({"provider": "openai"}, {"provider": "azure"}, False),
    "provider unknown": ({"provider": "*"}, {"model": "who-knows"}, False),
    "model": ({"model": "gpt-5"}, {}, True),
    "model by glob": ({"model": "gpt-*"}, {}, True),
    "alias counts as its model": ({"model": "gpt-5"}, {"model": "best"}, True),
    "alias of an alias": ({"model": "gpt-5"}, {"model": "old-name"}, True),
    "alias is no name to match": ({"model": "best"}, {"model": "best"}, False),
    "case of models does not matter": ({"model": "GPT-*"}, {"model": "Gpt-5"}, True),
    "nor of exact ones": ({"model": "gpt-5"}, {"model": "GPT-5"}, True),
    "nor of providers": ({"provider": "OpenAI"}, {"provider": "openAI"}, True),
}


@pytest.mark.parametrize(("scope", "asked", "expected"), ROWS.values(), ids=ROWS)
def test_scope(scope: dict[str, Any], asked: dict[str, Any], expected: bool) -> None:
    """Goal: what a scope matches. Method: a row for each way."""
    assert matches(scope, **asked) is expected


@pytest.mark.parametrize(
    ("per", "asked", "partition"),
    [
        (["user"], {"user": "u"}, ("u",)),
        (["user"], {}, None),
        (["user"], {"user": ""}, None),
        (["user", "team"], {"user": "u", "team": "t"}, ("u", "t")),
        (["user", "team"], {"user": "u"}, None),
        (["labels.tier"], {"labels": {"tier": "x"}}, ("x",)),
        (["labels.tier"], {"labels": {"tear": "x"}}, None),
        (["model"], {"model": "GPT-5"}, ("gpt-5",)),
        (["provider", "model"], {"model": "best"}, ("openai", "gpt-5")),
        (["provider"], {"model": "who-knows"}, None),
    ],
)
def test_per(per: list[str], asked: dict[str, Any], partition: tuple[str, ...] | None) -> None:
    """Goal: one counter for each value; who lacks it does not match. Method: rows."""
    found = counters(policy(budget(per=per), models=MODELS), **asked)
    assert [each.partition for each in found] == ([] if partition is None else [partition])


def test_first_seen_value_has_its_full_budget() -> None:
    """Goal: there is nothing to create for a new user. Method: two users, two counters."""
    # case 3
    rules = policy(budget(per=["user"]))
    [first], [second] = counters(rules, user="a"), counters(rules, user="b")
    assert first.budget is second.budget
    assert first.id != second.id
    assert counters(rules, user="a")[0].id == first.id


FIXED = {"from": "2026-06-10T00:00:00Z", "until": "2026-06-11T00:00:00Z"}


@pytest.mark.parametrize(
    ("settings", "at", "expected"),
    [
        ({"mode": "off"}, "2026-06-10T12:00:00Z", False),
        ({"mode": "observe"}, "2026-06-10T12:00:00Z", True),
        ({"window": FIXED}, "2026-06-09T23:59:59.999Z", False),
        ({"window": FIXED}, "2026-06-10T00:00:00Z", True),
        ({"window": FIXED}, "2026-06-10T23:59:59.999Z", True),
        ({"window": FIXED}, "2026-06-11T00:00:00Z", False),
    ],
)
def test_when_a_budget_applies(settings: dict[str, Any], at: str, expected: bool) -> None:
    """Goal: off never applies, a fixed window only while it runs. Method: its two ends."""
    assert bool(counters(policy(budget(**settings)), now_ms=ms(at))) is expected


def test_fixed_window_is_exact_to_the_millisecond() -> None:
    """Goal: times are never rounded through floats. Method: many milliseconds of a far year."""
    for part in range(0, 1000, 7):
        start = f"2261-11-03T05:06:07.{part:03d}+00:00"
        rules = policy(budget(window={"from": start, "until": "2262-01-01T00:00:00Z"}))
        assert rules.budgets[0].budget.window.from_ms == ms(start)


def test_windows_move_on() -> None:
    """Goal: a window that was found before is not taken for the next one. Method: day by day."""
    rules = policy(budget(), budget("hour", window="hour"))
    seen = set()
    for hours in (0, 1, 23, 24, 25, 0, 48):
        now_ms = NOW + hours * 3_600_000
        for counter in counters(rules, now_ms=now_ms):
            assert counter.instance == counter.budget.window.instance(now_ms)
            seen.add(counter.id)
    assert len(seen) == 3 + 6


def test_order_is_the_policys() -> None:
    """Goal: counters come in the document's order, however they are filed. Method: mixed scopes."""
    rules = policy(
        budget("e", scope={"team": "t*"}),
        budget("d", scope={"user": "u"}),
        budget("c"),
        budget("b", scope={"team": ["t", "x"]}),
        budget("a", per="user"),
    )
    assert [each.budget.name for each in counters(rules, team="t", user="u")] == list("edcba")
    assert rules.budget("c") is rules.budgets[2].budget
    assert rules.budget("z") is None


@pytest.mark.parametrize(
    ("scope", "per", "expected"),
    [
        ({"team": "a"}, [], False),
        ({"model": "m*"}, [], True),
        ({"provider": "p"}, [], True),
        ({}, ["model"], True),
        ({}, ["labels.model"], False),
    ],
)
def test_whether_targets_matter(scope: dict[str, Any], per: list[str], expected: bool) -> None:
    """Goal: only then need a commit look at the granted target again. Method: rows."""
    assert policy(budget(), budget("b2", scope=scope, per=per)).by_target is expected


def test_custom_meters_are_declared() -> None:
    """Goal: a meter that counts nowhere is refused with its path. Method: one of three unknown."""
    rules = policy(meters=["images", "seconds"])
    rules.check_meters("usage.custom_meters", ["images"])
    with pytest.raises(FieldInvalid) as caught:
        rules.check_meters("usage.custom_meters", ["images", "cats", "usd"])
    assert [fault.path for fault in caught.value.faults] == [
        'usage.custom_meters["cats"]',
        'usage.custom_meters["usd"]',
    ]
    assert "declared are: images, seconds" in str(caught.value)
    with pytest.raises(FieldInvalid, match="declared are: none"):
        policy().check_meters("usage.custom_meters", ["cats"])


values = st.sampled_from(["a", "b", "ab", "B", "[a]", "a*"])
patterns = st.sampled_from(["a", "b", "ab", "a*", "?", "[ab]", "[!a]*", "*b", "[a", "a[*]"])
names = ("team", "user", "model")


@st.composite
def scoped(draw: st.DrawFn, name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    for attribute in draw(st.lists(st.sampled_from(names), unique=True)):
        scope[attribute] = draw(st.lists(patterns, min_size=1, max_size=3))
    if draw(st.booleans()):
        scope["labels"] = {draw(st.sampled_from("xy")): draw(patterns)}
    per = draw(st.lists(st.sampled_from([*names, "labels.x"]), unique=True, max_size=2))
    return budget(name, scope=scope, per=per, mode=draw(st.sampled_from(["enforce", "off"])))


def matches_by_loop(given_budget: dict[str, Any], who: dict[str, str]) -> bool:
    scope = dict(given_budget["scope"])
    scope |= {f"labels.{key}": [each] for key, each in scope.pop("labels", {}).items()}

    def like(name: str, pattern: str) -> bool:
        any_case = name == "model"
        return fnmatchcase(who[name].lower() if any_case else who[name], pattern)

    return (
        given_budget["mode"] != "off"
        and all(
            name in who and any(like(name, pattern) for pattern in listed)
            for name, listed in scope.items()
        )
        and all(name in who for name in given_budget["per"])
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(1, 12))
def test_index_changes_nothing(data: st.DataObject, count: int) -> None:
    """Goal: the index finds exactly what a loop over all budgets finds. Method: random policies."""
    listed = [data.draw(scoped(f"b{number}")) for number in range(count)]
    rules = policy(*listed)
    for _ in range(4):
        who = {name: data.draw(values) for name in names if data.draw(st.booleans())}
        labels = {key: data.draw(values) for key in "xy" if data.draw(st.booleans())}
        model = who.pop("model", "b")
        found = counters(rules, model=model, labels=labels, **who)
        known = who | {"model": model} | {f"labels.{key}": each for key, each in labels.items()}
        expected = [each["name"] for each in listed if matches_by_loop(each, known)]
        assert [each.budget.name for each in found] == expected
        for counter in found:
            partition = tuple(known[name] for name in counter.budget.per)
            assert [each.lower() for each in counter.partition] == [
                each.lower() for each in partition
            ]


def test_ten_thousand_budgets() -> None:
    """Goal: matching looks at few of many. Method: 1,000 requests; a loop would take a minute."""
    listed = [
        budget(f"b{number}", scope={"team": f"t{number % 2_000}", "feature": f"f{number % 7}"})
        for number in range(10_000)
    ]
    rules = policy(*listed)
    who = attributes(Subject(OrgId("acme"), team="t77", feature="f0"), Target("", "m"))
    expected = [f"b{number}" for number in range(77, 10_000, 2_000) if number % 7 == 0]
    started_s = time.perf_counter()
    for _ in range(1_000):
        found = rules.matching(who)
    assert time.perf_counter() - started_s < LONG_S
    assert [each.budget.name for each in found] == expected


@pytest.mark.parametrize("attribute", ["user", "model"])
def test_hostile_patterns_and_values(attribute: str) -> None:
    """Goal: no pattern and value together take long. Method: the worst of 256 bytes each."""
    hostile = ["*a" * 127 + "*b", "*" * 255 + "b", "?*" * 127 + "b", "*[a-z]" * 42 + "b"]
    hostile += [f"{number}" + "*a" * 100 + "*b" for number in range(90)]
    rules = policy(budget(scope={attribute: hostile}))
    started_s = time.perf_counter()
    for value in ("a" * 256, "ab" * 127 + "aa", "\U0001f600" * 64):
        asked = {"model": "m", "user": "u"} | {attribute: value}
        assert counters(rules, **asked) == []
    assert time.perf_counter() - started_s < LONG_S
