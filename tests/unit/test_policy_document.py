"""Policy documents: bounds of every field, wrong types, exact paths, all faults at once.

Goal: what a document may say, and that whatever else it says is refused where it stands. Method:
rows of one document each; a bound is tried one below, at it, and one above.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from domain_builders import budget, document, faults_of, policy, without

from bursar.domain.policy_document import BudgetDocument
from bursar.domain.policy_values import PLACEHOLDERS

AMOUNT_MAX = 2**53 - 1
USD_MAX = "9007199.254740991"
Path = tuple[str | int, ...]


def full() -> dict[str, Any]:
    """Return a document with every setting in it."""
    rung = {"at": 50, "notify": True, "message": "m"}
    return {
        "org": "acme",
        "description": "d",
        "timezone": "UTC",
        "unbudgeted": "deny",
        "unpriced": {"fallback": {"input": "1", "output": "2"}},
        "default_output_tokens": 100,
        "meters": ["images"],
        "models": [
            {
                "match": "m*",
                "provider": "p",
                "max_output_tokens": 10,
                "default_output_tokens": 5,
                "price": {
                    "input": "1",
                    "output": "1",
                    "cache_read": "1",
                    "cache_write": "1",
                    "input_audio": "1",
                    "output_audio": "1",
                    "request": "1",
                },
            }
        ],
        "budgets": [
            {
                "name": "a",
                "description": "d",
                "scope": {
                    "team": "t",
                    "feature": ["f"],
                    "agent": "a",
                    "user": "u",
                    "task": "t",
                    "provider": "p",
                    "model": "m",
                    "labels": {"tier": "free"},
                },
                "per": ["user"],
                "limit": {"usd": "10"},
                "window": "month",
                "timezone": "Europe/Paris",
                "anchor_day": 3,
                "mode": "warn",
                "overdraft": {"percent": 10},
                "priority_headroom": {"low": 70, "normal": 95, "high": 100},
                "on_expiry": "charge",
                "on_unavailable": "open",
                "carry_over": {"unused": True, "debt": True, "max": {"percent": 20}},
                "backfill": False,
                "alerts": [50],
                "default_output_tokens": 7,
                "ladder": [
                    rung,
                    {"at": 60, "switch_model": {"from": "m", "to": "s", "to_provider": "p"}},
                    {"at": 70, "cap_output": 5},
                    {"at": 80, "queue": {"max_wait": "1m"}},
                ],
            },
            {"name": "w", "limit": {"tokens": 1}, "window": "week", "week_start": "sunday"},
            {"name": "r", "limit": {"images": 1}, "window": {"rolling": "24h"}},
            {"name": "t", "limit": {"requests": 1}, "window": {"task": "1h"}, "per": "task"},
            {"name": "x", "limit": {"input_tokens": 1}, "window": "request"},
            {"name": "c", "limit": {"concurrency": 1}},
            {
                "name": "f",
                "limit": {"output_tokens": 1},
                "window": {"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00+01:00"},
            },
        ],
    }


def put(content: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    """Return a document with one value replaced."""
    changed = copy.deepcopy(content)
    here: Any = changed
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return changed


def text(path: Iterable[str | int]) -> str:
    parts = [f"[{each}]" if isinstance(each, int) else f".{each}" for each in path]
    return "".join(parts).removeprefix(".")


def accepted(content: dict[str, Any]) -> Any:  # noqa: ANN401 - a model whose fields are tried
    return document(*content["budgets"], **without(content, "org", "budgets"), org=content["org"])


def test_everything_at_once() -> None:
    """Goal: a document with every setting is accepted. Method: one with all of them."""
    accepted(full())
    assert set(full()["budgets"][0]) | {"week_start"} == set(BudgetDocument.model_fields)


B: Path = ("budgets", 0)
L: Path = (*B, "ladder")
# Whole numbers: the path, the least and the most.
NUMBERS: dict[str, tuple[Path, int, int]] = {
    text(path): (path, least, most)
    for path, least, most in (
        (("default_output_tokens",), 1, 10**9),
        (("models", 0, "max_output_tokens"), 1, 10**9),
        (("models", 0, "default_output_tokens"), 1, 10**9),
        ((*B, "anchor_day"), 1, 31),
        ((*B, "overdraft", "percent"), 0, 1_000),
        ((*B, "carry_over", "max", "percent"), 0, 1_000),
        ((*B, "priority_headroom", "low"), 0, 100),
        ((*B, "priority_headroom", "normal"), 0, 100),
        ((*B, "priority_headroom", "high"), 0, 100),
        ((*B, "alerts", 0), 1, 100),
        ((*B, "default_output_tokens"), 1, 10**9),
        ((*L, 0, "at"), 1, 100),
        ((*L, 2, "cap_output"), 1, 10**9),
        (("budgets", 1, "limit", "tokens"), 0, AMOUNT_MAX),
        (("budgets", 2, "limit", "images"), 0, AMOUNT_MAX),
        (("budgets", 3, "limit", "requests"), 0, AMOUNT_MAX),
        (("budgets", 4, "limit", "input_tokens"), 0, AMOUNT_MAX),
        (("budgets", 5, "limit", "concurrency"), 0, AMOUNT_MAX),
        (("budgets", 6, "limit", "output_tokens"), 0, AMOUNT_MAX),
    )
}


@pytest.mark.parametrize(("path", "least", "most"), NUMBERS.values(), ids=NUMBERS)
def test_bounds_of_whole_numbers(path: Path, least: int, most: int) -> None:
    """Goal: every whole number has its bounds, and no other type is one. Method: n-1, n, n+1."""
    for good in (least, least + 1, most - 1, most):
        accepted(put(full(), path, good))
    for bad, word in ((least - 1, "at least"), (most + 1, "at most"), (10**40, "at most")):
        assert word in faults_of(put(full(), path, bad))[text(path)]
    for bad in (True, "5", 5.0, Decimal(5), [5], {"a": 5}, None, "", "1e3", "010"):
        faults = faults_of(put(full(), path, bad))
        assert set(faults) - {text(path[:-1])} == {text(path)}, bad


MONEY: dict[str, tuple[Path, str, str, int]] = {
    text(path): (path, least_above, most, decimals)
    for path, least_above, most, decimals in (
        ((*B, "limit", "usd"), "0.000000001", USD_MAX, 9),
        (("models", 0, "price", "input"), "0.000000000001", "100000", 12),
        (("models", 0, "price", "request"), "0.000000000001", "100000", 12),
        (("unpriced", "fallback", "output"), "0.000000000001", "100000", 12),
    )
}


@pytest.mark.parametrize(("path", "step", "most", "decimals"), MONEY.values(), ids=MONEY)
def test_bounds_of_money(path: Path, step: str, most: str, decimals: int) -> None:
    """Goal: money is exact: in bounds, never a float, never less than its smallest unit.

    Method: n-1, n, n+1, and every other way to write a number.
    """
    content = put(full(), (*B, "overdraft", "percent"), 0)
    content = put(content, (*B, "carry_over", "max", "percent"), 0)
    for good in (
        0,
        "0",
        1,
        step,
        most,
        Decimal(most),
        Decimal(most) - Decimal(step),
        "1.50",
        "2.0",
    ):
        accepted(put(content, path, good))
    accepted(put(content, path, "1." + "0" * 30))
    above = Decimal(most) + Decimal(step)
    rows: list[tuple[object, str]] = [
        (above, "at most"),
        (str(above), "at most"),
        (-1, "at least 0"),
        (1.5, "binary float"),
        (0.0, "binary float"),
        (Decimal(step) / 10, f"more than {decimals} decimals"),
        ("1." + "0" * decimals + "1", f"more than {decimals} decimals"),
        (Decimal("1e-999999"), f"more than {decimals} decimals"),
        (Decimal("Infinity"), "finite"),
        (Decimal("NaN"), "finite"),
        (True, "must be a decimal"),
        (["1"], "must be a decimal"),
        (None, "has no value"),
    ]
    words = ("", "x", "1e3", "010", "-1", "+1", " 1", "1_0", "1,5", ".5", "5.", "0x1", "inf", "٣")
    rows += [(word, "must be a decimal") for word in words]
    for bad, expected in rows:
        faults = faults_of(put(content, path, bad))
        assert expected in faults[text(path)], bad


def test_most_money_and_one_nano_more() -> None:
    """Goal: $9,007,199.254740992 is refused with both amounts. Method: the figure of the design."""
    faults = faults_of(put(full(), (*B, "limit", "usd"), "9007199.254740992"))
    assert faults == {
        "budgets[0].limit.usd": "must be at most 9007199.254740991, is '9007199.254740992'; "
        "or the word unlimited"
    }


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"tokens": 0}, 0),
        ({"usd": 0}, 0),
        ({"usd": "0.000000001"}, 1),
        ({"usd": USD_MAX}, AMOUNT_MAX),
        ({"usd": Decimal("0.1")}, 100_000_000),
        ({"tokens": "unlimited"}, None),
        ({"usd": "unlimited"}, None),
        ({"images": "unlimited"}, None),
    ],
)
def test_zero_and_unlimited(given: dict[str, Any], limit: int | None) -> None:
    """Goal: 0 is nothing, unlimited is said in words, and money is exact. Method: compiled rows."""
    [compiled] = policy(budget(limit=given), meters=["images"]).budgets
    assert compiled.budget.limit == limit


@pytest.mark.parametrize("word", ["Unlimited", "none", "infinite", "", None, -1])
def test_no_other_word_is_unlimited(word: object) -> None:
    """Goal: nothing but the word lifts a limit. Method: its look-alikes."""
    assert "budgets[0].limit.tokens" in faults_of(put(full(), (*B, "limit"), {"tokens": word}))


def longest(length: int) -> str:
    return "a" + "b" * (length - 2) + "c"


TEXT_PATHS: dict[str, Path] = {
    text(path): path
    for path in (
        ("models", 0, "match"),
        ("models", 0, "provider"),
        (*B, "scope", "feature", 0),
        (*L, 1, "switch_model", "from"),
        (*L, 1, "switch_model", "to"),
        (*L, 1, "switch_model", "to_provider"),
    )
}


@pytest.mark.parametrize("path", TEXT_PATHS.values(), ids=TEXT_PATHS)
def test_bounds_of_texts(path: Path) -> None:
    """Goal: a text is 1 to 256 bytes that a request can have too. Method: bytes, not characters."""
    for good in ("a", "a" * 256, "é" * 128, "two words", "*", "日本"):
        accepted(put(full(), path, good))
    bad = ("", "a" * 257, "é" * 128 + "a", "a\n", "\0", "e\u0301", 5, True, None, ["a"], "\ud800")
    for value in bad:
        assert text(path) in faults_of(put(full(), path, value)), value


@pytest.mark.parametrize("path", [("org",), (*B, "name")], ids=text)
def test_bounds_of_identifiers(path: Path) -> None:
    """Goal: identifiers are 1 to 63 of few characters, as in requests. Method: n and n+1."""
    for good in ("a", "a1", "a-1", longest(63)):
        accepted(put(full(), path, good))
    for bad in ("", longest(64), "A", "1a", "-a", "a-", "a_b", "a.b", "a:b", "a\n", "é", 5, None):
        assert text(path) in faults_of(put(full(), path, bad)), bad


LISTS: dict[str, tuple[Path, Any, int, int]] = {
    text(path): (path, entry, least, most)
    for path, entry, least, most in (
        (("meters",), lambda at: f"m{at}", 1, 16),
        (("models",), lambda at: {"match": f"m{at}", "provider": "p"}, 0, 1_000),
        ((*B, "per"), lambda at: ("user", "team", "task", "agent", "model")[at], 0, 4),
        ((*B, "alerts"), lambda at: at + 1, 0, 10),
        ((*B, "scope", "team"), lambda at: f"t{at}", 1, 100),
        (L, lambda at: {"at": at + 1, "finish": True}, 0, 8),
    )
}


@pytest.mark.parametrize(("path", "entry", "least", "most"), LISTS.values(), ids=LISTS)
def test_bounds_of_lists(path: Path, entry: Any, least: int, most: int) -> None:  # noqa: ANN401
    """Goal: every list has its bounds and takes no other type. Method: n-1, n, n+1."""
    content = full()
    content["budgets"][2]["limit"] = {"requests": 1}
    for length in (least, most - 1, most):
        accepted(put(content, path, [entry(at) for at in range(length)]))
    assert (
        "at most"
        in faults_of(put(content, path, [entry(at) for at in range(most + 1)]))[text(path)]
    )
    for bad in (5, True, {"a": 1}, None):
        assert text(path) in faults_of(put(content, path, bad))
    if path[-1] == "team":
        assert "at least 1" in faults_of(put(content, path, []))[text(path)]


def test_bounds_of_labels_and_descriptions() -> None:
    """Goal: labels and descriptions have their bounds. Method: n and n+1, keys of every form."""
    labels = (*B, "scope", "labels")
    accepted(put(full(), labels, {f"k{at}": "v" for at in range(16)}))
    assert text(labels) in faults_of(put(full(), labels, {f"k{at}": "v" for at in range(17)}))
    for good in ("a", "a" * 63, "a.b-c_d9"):
        accepted(put(full(), labels, {good: ["v", "w*"]}))
    for bad in ("", "A", "9a", "a" * 64, "a b", "é"):
        [(path, fault)] = faults_of(put(full(), labels, {bad: "v"})).items()
        assert path == f"{text(labels)}.{bad}"
        assert "not a key" in fault
    for path in (("description",), (*B, "description")):
        accepted(put(full(), path, "d" * 1_000))
        assert text(path) in faults_of(put(full(), path, "d" * 1_001))
        assert "Unicode" in faults_of(put(full(), path, "\ud800"))[text(path)]


@pytest.mark.parametrize("name", ["backfill", "unused", "debt"])
def test_flags_are_true_or_false(name: str) -> None:
    """Goal: nothing that merely looks like true is. Method: what other systems take for it."""
    path = (*B, name) if name == "backfill" else (*B, "carry_over", name)
    for good in (True, False):
        accepted(put(full(), path, good))
    for bad in ("true", "yes", "on", 1, 0, "", []):
        assert "must be true or false" in faults_of(put(full(), path, bad))[text(path)], bad


MESSAGES = {
    "plain": ("All is well, 100 %.", None),
    "every placeholder": ("".join("{" + each + "}" for each in sorted(PLACEHOLDERS)), None),
    "doubled braces": ("{{budget}}", None),
    "two lines": ("a\nb", None),
    "500 characters": ("é" * 500, None),
    "501 characters": ("a" * 501, "at most 500"),
    "unknown": ("{team}", "{team} is not a placeholder"),
    "empty": ("{}", "{} is not a placeholder"),
    "by number": ("{0}", "not a placeholder"),
    "attribute": ("{budget.name}", "not a placeholder"),
    "item": ("{budget[0]}", "not a placeholder"),
    "conversion": ("{budget!r}", "not a placeholder"),
    "width": ("{budget:>99999999}", "not a placeholder"),
    "nested": ("{budget:{percent}}", "not a placeholder"),
    "open": ("{budget", "broken placeholders"),
    "close": ("budget}", "broken placeholders"),
    "conversion without name": ("{budget!}", "broken placeholders"),
}


@pytest.mark.parametrize(("message", "fault"), MESSAGES.values(), ids=MESSAGES)
def test_messages(message: str, fault: str | None) -> None:
    """Goal: a message that cannot be filled is refused, not sent broken. Method: rows."""
    content = put(full(), (*L, 0, "message"), message)
    if fault is None:
        accepted(content)
    else:
        assert fault in faults_of(content)["budgets[0].ladder[0].message"]
