"""Which offer must be granted, found by trying everything: integers and loops, no formula.

It takes small policies as mappings and shares no code with the server. Models are `m` and `s`, with
prices so that a token of `m` costs 3 nano-USD of input and 2 of output, one of `s` 1 of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

from hypothesis import strategies as st

NANO_PRICES = {"m": (3, 2), "s": (1, 1)}
MODELS = [
    {"match": "m", "price": {"input": "0.003", "output": "0.002"}, "max_output_tokens": 15},
    {"match": "s", "price": {"input": "0.001", "output": "0.001"}},
]
TERMINAL = ("serve_cached", "queue", "deny")
RESTRICTING = ("switch_model", "cap_output", "finish")


@dataclass(frozen=True)
class Ask:
    """A request for model m."""

    input_tokens: int
    max_output_tokens: int
    min_output_tokens: int | None
    accepts: tuple[str, ...]
    closing: bool
    priority: str


@dataclass(frozen=True)
class Way:
    """A way to grant it: what would be called, the cap on output, whether it is told to finish."""

    model: str
    cap: int | None
    finish: bool


State = dict[str, tuple[int, int, int]]
"""Committed, held and credit by budget."""


# Policies and requests.

_rungs = st.sampled_from(
    [
        *[{"switch_model": {"from": "m", "to": "s"}}] * 4,
        *[{"cap_output": 3}, {"cap_output": 8}] * 2,
        *[{"finish": True}] * 3,
        {"deny": True},
        {"queue": {"max_wait": "1m"}},
        {"notify": True, "message": "n"},
    ]
)
_rung = st.builds(lambda at, rung: {"at": at, **rung}, st.sampled_from([30, 50, 80, 100]), _rungs)


@st.composite
def budgets(draw: st.DrawFn, name: str, windows: tuple[Any, ...]) -> dict[str, Any]:
    unit = draw(st.sampled_from(["tokens", "output_tokens", "input_tokens", "requests", "usd"]))
    amount = draw(st.sampled_from([0, 30, 60, 90, 120, 150])) + draw(st.integers(0, 9))
    amount = amount // 30 if unit == "requests" else amount
    window = draw(st.sampled_from(windows))
    found: dict[str, Any] = {
        "name": name,
        "limit": {unit: f"{amount / 10**9:.9f}" if unit == "usd" else amount},
        "window": window,
        "mode": draw(st.sampled_from(["enforce"] * 6 + ["warn", "observe", "off"])),
        "priority_headroom": {"low": draw(st.sampled_from([50, 100]))},
        "overdraft": {"percent": draw(st.sampled_from([0, 0, 20]))},
    }
    if window != "request":
        found["ladder"] = [draw(_rung) for _ in range(draw(st.sampled_from([0, 1, 2, 3, 3])))]
    if draw(st.integers(0, 5)) == 0:
        found["scope"] = {"model": draw(st.sampled_from(["m", "s"]))}
    return found


_accepts = ["switch_model", "shorter_output", "truncate_input", "finish"]


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    most = draw(st.integers(1, 20))
    least = draw(st.none() | st.integers(1, min(most, 15)))
    some = st.lists(st.sampled_from(_accepts), unique=True)
    accepts = draw(st.just(_accepts) | st.just(_accepts[:2]) | some)
    closing, priority = draw(st.booleans()), draw(st.sampled_from(["LOW", "NORMAL"]))
    return Ask(draw(st.integers(0, 10)), most, least, tuple(accepts), closing, priority)


@st.composite
def states(draw: st.DrawFn, policy: list[dict[str, Any]]) -> State:
    """Return counters that are filled to little before a threshold, or nearly empty."""
    found = {}
    for budget in policy:
        percent, left = draw(st.sampled_from([0, 30, 50, 80, 100])), draw(st.integers(0, 30))
        filled = max(limit_of(budget) * percent // 100 - left, 0)
        held = min(filled, draw(st.sampled_from([0, 0, 5, 100])))
        committed = filled - held
        found[budget["name"]] = (committed, held, draw(st.sampled_from([0, 0, 0, 15])))
    return found


# The rules, one by one.


def limit_of(budget: dict[str, Any]) -> int:
    [(unit, amount)] = budget["limit"].items()
    return round(float(amount) * 10**9) if unit == "usd" else amount


def share(budget: dict[str, Any], percent: int) -> int:
    limit = limit_of(budget)
    if percent == 100:
        return limit + limit * budget["overdraft"]["percent"] // 100
    return limit * percent // 100


def amount(budget: dict[str, Any], ask: Ask, input_tokens: int, model: str, output: int) -> int:
    price_in, price_out = NANO_PRICES[model]
    [unit] = budget["limit"]
    return {
        "tokens": input_tokens + output,
        "output_tokens": output,
        "input_tokens": input_tokens,
        "requests": 1,
        "usd": input_tokens * price_in + output * price_out,
    }[unit]


def headroom(budget: dict[str, Any], ask: Ask) -> int:
    return budget["priority_headroom"]["low"] if ask.priority == "LOW" else 100


def ladder(budget: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(budget.get("ladder", []), key=lambda rung: rung["at"])


def does(rung: dict[str, Any], ask: Ask, way: Way, most: int) -> bool:
    """Whether a way with that output at the most does what a rung asks."""
    if any(name in rung for name in TERMINAL):
        return False
    if "switch_model" in rung:
        return way.model != "m"
    if "cap_output" in rung:
        return most <= rung["cap_output"]
    return "finish" not in rung or ask.closing or way.finish


def ceiling(budget: dict[str, Any], ask: Ask, way: Way, most: int) -> int | None:
    if budget["mode"] != "enforce":
        return None
    undone = [rung["at"] for rung in ladder(budget) if not does(rung, ask, way, most)]
    return share(budget, min([*undone, headroom(budget, ask)]))


def matching(policy: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    return [
        budget
        for budget in policy
        if budget["mode"] != "off" and budget.get("scope", {}).get("model", model) == model
    ]


def climbable(budget: dict[str, Any], ask: Ask, most: int) -> list[dict[str, Any]]:
    rungs = []
    for rung in ladder(budget):
        if any(name in rung for name in TERMINAL):
            break
        possible = {
            "switch_model": "switch_model" in ask.accepts,
            "cap_output": "shorter_output" in ask.accepts
            or ask.min_output_tokens is not None
            or most <= rung.get("cap_output", 0),
            "finish": "finish" in ask.accepts or ask.closing,
        }
        kinds = [name for name in RESTRICTING if name in rung]
        if kinds and not possible[kinds[0]]:
            break
        rungs += [rung] if kinds else []
    return rungs


def ways(policy: list[dict[str, Any]], ask: Ask, most: int) -> Iterator[list[Way]]:
    """Yield the ways in their order, those together whose order does not matter."""
    ladders = [
        climbable(budget, ask, most)
        for budget in matching(policy, "m")
        if budget["mode"] == "enforce"
    ]
    found: list[tuple[tuple[int, int], Way]] = []
    for levels in product(*(range(len(rungs) + 1) for rungs in ladders)):
        rungs = [
            rung for rungs, level in zip(ladders, levels, strict=True) for rung in rungs[:level]
        ]
        caps = [rung["cap_output"] for rung in rungs if "cap_output" in rung]
        way = Way(
            "s" if any("switch_model" in rung for rung in rungs) else "m",
            min(caps, default=None),
            any("finish" in rung for rung in rungs) and not ask.closing,
        )
        found.append(((max([rung["at"] for rung in rungs], default=0), len(rungs)), way))
    found.sort(key=lambda each: each[0])
    for _, group in groupby(found, key=lambda each: each[0]):
        yield [way for _, way in group]


# Trying everything.


def sizes(policy: list[dict[str, Any]], ask: Ask, way: Way) -> tuple[int, int, int]:
    """Return the input that is counted, the most output, and the least, of a way."""
    once = [b for b in matching(policy, way.model) if b["window"] == "request"]
    once = [budget for budget in once if budget["mode"] == "enforce"]
    input_tokens = ask.input_tokens
    for budget in once:
        if "input_tokens" in budget["limit"] and "truncate_input" in ask.accepts:
            input_tokens = min(input_tokens, share(budget, headroom(budget, ask)))
    most = min(ask.max_output_tokens, 15 if way.model == "m" else 20)
    if way.cap is not None:
        most = min(most, way.cap)
    least = ask.min_output_tokens or 1
    fitting = [
        output
        for output in range(least, most + 1)
        if all(
            amount(budget, ask, input_tokens, way.model, output)
            <= share(budget, headroom(budget, ask))
            for budget in once
            if amount(budget, ask, 0, way.model, 1) > amount(budget, ask, 0, way.model, 0)
        )
    ]
    most = max(fitting, default=most)  # A cap of each request cuts without being asked.
    return input_tokens, most, most if ask.min_output_tokens is None else least


def fits(
    policy: list[dict[str, Any]], ask: Ask, way: Way, state: State, most: int, output: int
) -> bool:
    input_tokens, _, _ = sizes(policy, ask, way)
    for budget in matching(policy, way.model):
        highest = ceiling(budget, ask, way, most)
        committed, held, credit = state.get(budget["name"], (0, 0, 0))
        if budget["window"] == "request":
            committed, held, credit = 0, 0, 0
        needed = amount(budget, ask, input_tokens, way.model, output)
        if highest is not None and committed + held + needed > highest + credit:
            return False
    return True


def granted(
    policy: list[dict[str, Any]], ask: Ask, state: State
) -> list[tuple[str, int, int, bool]]:
    """Return what may be granted: model, output, input and finish; empty where nothing."""
    first = Way("m", None, False)
    _, as_asked, _ = sizes(policy, ask, first)
    for group in ways(policy, ask, as_asked):
        found = []
        for way in group:
            input_tokens, most, least = sizes(policy, ask, way)
            for output in range(most, least - 1, -1):
                if fits(policy, ask, way, state, most, output):
                    found.append((way.model, output, input_tokens, way.finish))
                    break
        if found:
            return found
    return []
