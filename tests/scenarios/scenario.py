"""The scenario format: a policy, a starting time, and steps with what to expect of each.

    goal: what the scenario shows, in a sentence
    cases: [14, 35]            # field cases that it covers, if any
    policy: {...}              # one org's policy document
    start: 2026-03-08T01:30:00-05:00
    steps:
      - {reserve: {id: a, user: u1, input_tokens: 100, max_output_tokens: 500}, expect: {...}}
      - {at: +5s, commit: {id: a, output_tokens: 40}, expect: {balance: {day: {committed: 140}}}}

A step has one call and may have:

    at        when: +DURATION after the step before, or a time; else the clock stands still. Holds
              that are over by then are ended first, as the sweeper would
    unswept   true: the sweeper has not come by yet
    server    which of the servers is asked, by any name; the first is "a"
    parallel  how many of this call are made at once; ids get a number, unless `same_id: true`
    expect    parts of the answer. Under `balance` and `holds` what the counters and the open holds
              of the step's subject are afterwards; under `error` the reason. Mappings are compared
              by the keys given, `directive` by all of its keys

Calls are those of the service, with plain arguments: who and what side by side, usage in tokens.
Two more act on the whole: `policy` puts another version in force, `restart` starts every server
anew. A model that is not named is "m".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from model.rules import duration_ms

CASES = Path(__file__).parent / "cases"
MODEL = "m"

_WHO = {"team", "feature", "agent", "user", "task", "labels"}
_WHAT = {"model", "provider"}
_TOKENS = {"input_tokens", "cache_read_tokens", "cache_write_tokens", "requests", "meters"}
_ASK = {"max_output_tokens", "min_output_tokens", "priority", "accepts", "closing"}
_USED = {"output_tokens", "reasoning_tokens", "outcome", "estimated"}
ARGUMENTS = {
    "reserve": {"id", "ttl", "validate_only"} | _WHO | _WHAT | _TOKENS | _ASK,
    "check": _WHO | _WHAT | _TOKENS | _ASK,
    "commit": {"id", "part"} | _WHAT | _TOKENS | _USED,
    "release": {"id"},
    "extend": {"id", "ttl", "max_output_tokens"},
    "record": {"id"} | _WHO | _WHAT | _TOKENS | _USED,
    "balance": _WHO,
    "explain": _WHO | _WHAT,
    "policy": None,
    "restart": set(),
}
_STEP = {"at", "unswept", "server", "parallel", "same_id", "expect"}


@dataclass(frozen=True)
class Step:
    """One call, when, on which server, and what to expect."""

    verb: str
    arguments: dict[str, Any]
    now_ms: int
    expect: dict[str, Any]
    swept: bool = True
    server: str = "a"
    parallel: int = 0
    same_id: bool = False


@dataclass(frozen=True)
class Scenario:
    """A file of the format."""

    name: str
    goal: str
    cases: tuple[int, ...]
    policy: dict[str, Any]
    steps: tuple[Step, ...]


def load(file: Path) -> Scenario:
    """Read a scenario; what it does not know is an error."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(content) <= {"goal", "cases", "policy", "start", "steps"}, set(content)
    now_ms, steps = time_ms(content["start"]), []
    for given in content["steps"]:
        if "at" in given:
            now_ms = next_time_ms(given["at"], now_ms)
        steps.append(_step(file.stem, given, now_ms))
    cases = tuple(content.get("cases", ()))
    return Scenario(file.stem, content["goal"], cases, content["policy"], tuple(steps))


def _step(name: str, given: dict[str, Any], now_ms: int) -> Step:
    [verb] = set(given) - _STEP
    arguments, allowed = given[verb], ARGUMENTS[verb]
    if allowed is not None:
        arguments = arguments or {}
        assert set(arguments) <= allowed, f"{name}: {verb} knows no {set(arguments) - allowed}"
    if verb in ("reserve", "check", "record", "explain"):
        arguments = {"model": MODEL} | arguments
    assert "expect" in given or verb in ("policy", "restart"), f"{name}: {given} expects nothing"
    return Step(
        verb,
        arguments,
        now_ms,
        given.get("expect", {}),
        swept=not given.get("unswept", False),
        server=str(given.get("server", "a")),
        parallel=given.get("parallel", 0),
        same_id=given.get("same_id", False),
    )


def next_time_ms(at: Any, now_ms: int) -> int:
    """Return the time of `+5s` after now, or of a time."""
    if isinstance(at, str) and at[0] in "+-":
        return now_ms + duration_ms(at[1:]) * (-1 if at[0] == "-" else 1)
    return time_ms(at)


def time_ms(value: Any) -> int:
    """Return a time of YAML, with its UTC offset, in ms since the epoch."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    assert moment.tzinfo is not None, f"{value} needs a UTC offset"
    return round(moment.timestamp() * 1_000)


def load_all() -> list[Scenario]:
    """Read every scenario."""
    return [load(file) for file in sorted(CASES.glob("*.yaml"))]
