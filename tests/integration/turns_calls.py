"""Turns made up at random: what callers ask for within the same moment, in order.

Limits are tight, request ids come again, and what a turn settles it may have reserved itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine_calls import MODELS, ask, commit, extend, record, release
from engine_world import DAY, HOUR, MINUTE, SECOND

from bursar.authority.identity import hold_name
from bursar.domain.budget import Degradation, Priority
from bursar.domain.request import Operation, ReserveRequest
from bursar.domain.subject import OrgId

ORGS = ("acme", "umbrella", "initech")

_POLICY = """
org: ORG
timezone: America/New_York
unpriced: allow
meters: [pages]
budgets:
  - name: day
    limit: {tokens: 9000}
    window: day
    on_expiry: charge
    alerts: [50]
    priority_headroom: {low: 60, normal: 90, high: 100}
    ladder:
      - {at: 40, cap_output: 60}
      - {at: 60, switch_model: {from: m, to: other}}
      - {at: 95, queue: {max_wait: 5m}}
  - {name: hour, per: [team], limit: {usd: 0.02}, window: hour, overdraft: {percent: 10}}
  - {name: rolling, per: [user], limit: {tokens: 1200}, window: {rolling: 10m}}
  - {name: task, per: [task], limit: {tokens: 900}, window: {task: 10m}, on_expiry: charge}
  - {name: at-once, per: [user], limit: {concurrency: 4}}
  - {name: once-in, limit: {input_tokens: 400}, window: request}
  - name: fixed
    limit: {pages: 40}
    window: {from: 2026-03-01T00:00:00Z, until: 2026-03-12T00:00:00Z}
  - {name: watched, limit: {requests: 3}, window: minute, mode: observe}
"""
_BY_TARGET = """
  - {name: q-rolling, scope: {provider: q}, limit: {tokens: 700}, window: {rolling: 1h}}
  - {name: q-task, scope: {provider: q}, per: [task], limit: {tokens: 600}, window: {task: 10m}}
  - {name: p-month, scope: {provider: p}, limit: {tokens: 30000}, window: month}
"""
DOCUMENTS = tuple(_POLICY.replace("ORG", org) + _BY_TARGET + MODELS for org in ORGS)
DOCUMENTS_OF_ONE_CALL = tuple(_POLICY.replace("ORG", org) + MODELS for org in ORGS)
"""Where no budget depends on the model, so that a commit of another one is one call."""

SUBJECTS: tuple[dict[str, Any], ...] = (
    {"team": "red", "user": "u1", "task": "t1"},
    {"team": "red", "user": "u2", "task": "t1"},
    {"team": "blue", "user": "u1", "task": "t2"},
    {"user": "u2"},
)
STEPS_MS = (0, 1, SECOND, 61 * SECOND, 5 * MINUTE, 11 * MINUTE, HOUR, DAY)
MODELS_USED = ("m", "m", "m", "other", "other", "unknown")
TURN_MAX = 14
IDS = 40
"""So few that ids of earlier turns come again."""


@dataclass(frozen=True)
class Adjust:
    """A correction and a credit of a subject, which are no calls of the contract."""

    org: str
    name: str
    subject: dict[str, Any]
    committed: int
    credit: int


@dataclass(frozen=True)
class Turn:
    """What happens at one moment.

    Attributes:
        step_ms: Time since the turn before.
        sweeps: Whether what is over ends first.
        steps: In order.
    """

    step_ms: int
    sweeps: bool
    steps: list[Operation | Adjust] = field(default_factory=list)


def turns(dice: random.Random, count: int, *, only_one_call: bool) -> Iterator[Turn]:
    """Yield turns.

    Args:
        dice: Decide.
        count: How many.
        only_one_call: Leave out what takes more than one call of the engine, which are other
            amounts for a hold, and what is no call of the contract.
    """
    before: list[Operation | Adjust] = []
    for _ in range(count):
        turn = Turn(dice.choice(STEPS_MS), dice.random() < 0.5)
        for _ in range(dice.randint(1, TURN_MAX)):
            is_repeated = before and dice.random() < 0.2
            step = dice.choice(before[-20:]) if is_repeated else _step(dice, before, only_one_call)
            turn.steps.append(step)
            before.append(step)
        yield turn


def _step(
    dice: random.Random, before: list[Operation | Adjust], only_one_call: bool
) -> Operation | Adjust:
    org, name, who = dice.choice(ORGS), f"r{dice.randrange(IDS)}", dice.choice(SUBJECTS)
    reserved = [each for each in before[-25:] if isinstance(each, ReserveRequest)]
    hold = hold_name(OrgId(org), name).reservation_id
    if reserved and dice.random() < 0.9:
        request = dice.choice(reserved)
        hold = hold_name(request.subject.org, request.request_id).reservation_id
    kinds = ["reserve", "reserve", "reserve", "commit", "commit", "part", "release", "record"]
    match dice.choice([*kinds, "extend", *([] if only_one_call else ["adjust"])]):
        case "reserve":
            return _reserve(dice, org, name, who)
        case "commit":
            return commit(hold, model=dice.choice(MODELS_USED), **_usage(dice))
        case "part":
            part = dice.choice((1, 1, 2, 3))
            return commit(hold, model=dice.choice(MODELS_USED), part=part, **_usage(dice))
        case "release":
            return release(hold)
        case "record":
            return record(name, org=org, model=dice.choice(MODELS_USED), **who, **_usage(dice))
        case "adjust":
            return Adjust(org, name, who, *dice.choice(((50, 0), (-30, 0), (0, 200), (5, 20))))
    changes = {"ttl_ms": dice.choice((SECOND, MINUTE, HOUR))}
    if not only_one_call:
        changes["max_output_tokens"] = dice.choice((1, 50, 200, 1_000))
    return extend(hold, **dict(dice.sample(sorted(changes.items()), dice.randint(1, len(changes)))))


def _reserve(dice: random.Random, org: str, name: str, who: dict[str, Any]) -> Operation:
    given: dict[str, Any] = {"input_tokens": dice.choice((0, 1, 50, 99, 100, 300, 500))}
    if dice.random() < 0.7:
        given["max_output_tokens"] = dice.choice((1, 20, 100, 400))
    if dice.random() < 0.2:
        given["meters"] = {"pages": dice.choice((1, 9))}
    if dice.random() < 0.5:
        given["accepts"] = frozenset(dice.sample(sorted(Degradation), 4))
    if dice.random() < 0.3:
        given["priority"] = dice.choice(list(Priority))
    return ask(
        name,
        org=org,
        model=dice.choice(MODELS_USED),
        ttl_ms=dice.choice((SECOND, MINUTE, 20 * MINUTE)),
        validate_only=dice.random() < 0.1,
        **who,
        **given,
    )


def _usage(dice: random.Random) -> dict[str, Any]:
    given: dict[str, Any] = {"input_tokens": dice.choice((0, 10, 99, 500))}
    if dice.random() < 0.7:
        given["output_tokens"] = dice.choice((0, 10, 300))
    if dice.random() < 0.1:
        given["meters"] = {"pages": 3}
    return given
