"""Balances, explanations and holds: the numbers that decide, for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bursar.authority.policies import Policies
from bursar.domain.answer import HeldAmount, OpenHold
from bursar.domain.budget import (
    CapOutput,
    Counter,
    CounterStatus,
    CounterValues,
    Finish,
    Mode,
    Queue,
    Rung,
    ServeCached,
    SwitchModel,
    parse_counter_id,
)
from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.policy import CompiledBudget, Policy
from bursar.domain.price import Rates
from bursar.domain.subject import LEVELS, Subject, Target, attributes, parse_target_key
from bursar.domain.window import WindowKind, format_duration
from bursar.engine.operations import Engine, Hold
from bursar.engine.payload import decode_payload

BALANCES_PAGE_DEFAULT = 100
HOLDS_PAGE_DEFAULT = 50
PAGE_MAX = 1_000

_NO_TARGET = Target("", "")
_HOLDS_TOKEN = re.compile(r"[0-9]{1,16} [0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Balances:
    """A page of counters, and where the next one begins ("" at the end)."""

    counters: tuple[CounterStatus, ...]
    next_page_token: str
    policy_version: str


@dataclass(frozen=True, slots=True)
class RungExplanation:
    """A rung: its threshold, what it does, and whether use has reached it."""

    at_percent: int
    action: str
    reached: bool


@dataclass(frozen=True, slots=True)
class BudgetExplanation:
    """One budget seen from one request."""

    budget: str
    applies: bool
    reason: str
    status: CounterStatus | None = None
    rungs: tuple[RungExplanation, ...] = ()
    resets_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every budget of an org seen from one request, and the price of its target."""

    budgets: tuple[BudgetExplanation, ...]
    target: Target
    rates: Rates | None
    policy_version: str


@dataclass(frozen=True, slots=True)
class Holds:
    """A page of open holds, and where the next one begins ("" at the end)."""

    holds: tuple[OpenHold, ...]
    next_page_token: str


async def balances(
    engine: Engine,
    policies: Policies,
    subject: Subject,
    page_size: int,
    page_token: str,
    now_ms: int,
) -> Balances:
    """Return the counters of every budget that could concern a subject.

    Args:
        engine: Where counters are.
        policies: Which budgets there are.
        subject: Whose; a level that it leaves out may be any.
        page_size: 0 for the default.
        page_token: From the page before, or "".
        now_ms: Since the epoch.

    Raises:
        OrgAccessDenied: The org is unknown.
        FieldInvalid: The page token is not one of this policy version.
    """
    policy = policies.of(subject.org)
    size = min(page_size or BALANCES_PAGE_DEFAULT, PAGE_MAX)
    start = _page_start(page_token, policy.version)
    given = attributes(subject, _NO_TARGET)
    counters: list[Counter] = []
    end = start
    for end, each in enumerate(policy.budgets[start:], start):  # noqa: B007 - used after the loop
        if len(counters) == size:
            break
        counter = _concerned(policy, each, given, now_ms)
        if counter is not None:
            counters.append(counter)
    else:
        end = len(policy.budgets)
    values = await engine.read(counters, now_ms)
    token = f"{policy.version}.{end}" if end < len(policy.budgets) else ""
    statuses = tuple(map(_status, counters, values))
    return Balances(statuses, token, policy.version)


def _page_start(page_token: str, version: str) -> int:
    if not page_token:
        return 0
    of_version, _, start = page_token.partition(".")
    if of_version != version or not start.isdigit():
        fault = "is not from a page of this policy version; start again without it"
        raise FieldInvalid(Fault("page_token", fault))
    return int(start)


def _concerned(
    policy: Policy, compiled: CompiledBudget, given: dict[str, str], now_ms: int
) -> Counter | None:
    """Return a budget's counter unless the subject contradicts it or does not say which one."""
    budget = compiled.budget
    known = dict(given)
    for condition in compiled.conditions:
        value = given.get(condition.attribute)
        if value is not None and not condition.holds(value):
            return None
        if value is None and condition.pattern is None and len(condition.exact) == 1:
            known[condition.attribute] = next(iter(condition.exact))
    if budget.window.kind is WindowKind.REQUEST or any(name not in known for name in budget.per):
        return None
    return policy.counter(budget, known, now_ms)


def _status(counter: Counter, values: CounterValues) -> CounterStatus:
    ceiling = counter.budget.share(100) if counter.budget.enforced else None
    return CounterStatus(counter, values, ceiling)


async def explain(
    engine: Engine, policies: Policies, subject: Subject, target: Target, now_ms: int
) -> Explanation:
    """Return for every budget whether it applies to a request, why, and how it stands.

    Args:
        engine: Where counters are.
        policies: Which budgets there are.
        subject: Who would spend.
        target: What would be called.
        now_ms: Since the epoch.

    Raises:
        OrgAccessDenied: The org is unknown.
    """
    policy = policies.of(subject.org)
    target = policy.price_book.resolve(target)
    given = attributes(subject, target)
    found = policy.counters(subject, target, now_ms)
    counters = {counter.budget.name: counter for counter in found}
    counted = [
        counter
        for counter in counters.values()
        if counter.budget.window.kind is not WindowKind.REQUEST
    ]
    values = await engine.read(counted, now_ms)
    statuses = {
        counter.budget.name: _status(counter, found)
        for counter, found in zip(counted, values, strict=True)
    }
    budgets = tuple(
        _explain_budget(each, given, each.budget.name in counters, statuses, now_ms)
        for each in policy.budgets
    )
    rates = policy.rates(target, 0, now_ms)
    return Explanation(budgets, target, rates, policy.version)


def _explain_budget(
    compiled: CompiledBudget,
    given: dict[str, str],
    applies: bool,
    statuses: dict[str, CounterStatus],
    now_ms: int,
) -> BudgetExplanation:
    budget = compiled.budget
    if not applies:
        return BudgetExplanation(budget.name, False, _why_not(compiled, given))
    status = statuses.get(budget.name)
    end_ms = status.counter.instance.end_ms if status else None
    used_percent = status.used_percent if status else 0
    return BudgetExplanation(
        budget.name,
        True,
        _why(compiled, given),
        status,
        tuple(
            RungExplanation(rung.at_percent, describe_rung(rung), used_percent >= rung.at_percent)
            for rung in budget.ladder
        ),
        end_ms - now_ms if end_ms is not None else None,
    )


def _why_not(compiled: CompiledBudget, given: dict[str, str]) -> str:
    budget = compiled.budget
    if budget.mode is Mode.OFF:
        return "it is switched off"
    unmet = compiled.unmet(given)
    if unmet is None:
        return "its fixed window does not run now"
    if unmet in given:
        return f"its scope does not match {unmet} {given[unmet]!r}"
    return f"the request has no {unmet}"


def _why(compiled: CompiledBudget, given: dict[str, str]) -> str:
    named = [each.attribute for each in compiled.conditions] + list(compiled.budget.per)
    if not named:
        return "it applies to every request of the org"
    return "it matches " + ", ".join(f"{name} {given[name]!r}" for name in dict.fromkeys(named))


def describe_rung(rung: Rung) -> str:
    """Return what a rung does, in words."""
    match rung.action:
        case SwitchModel(pattern, to):
            return f"switch_model from {pattern} to {to.model}"
        case CapOutput(tokens):
            return f"cap_output to {tokens} tokens"
        case Finish():
            return "finish"
        case ServeCached():
            return "serve_cached"
        case Queue(max_wait_ms):
            return f"queue for up to {format_duration(max_wait_ms)}"
        case None:
            return "notify"
        case _:
            return "deny"


async def list_holds(
    engine: Engine, policies: Policies, subject: Subject, page_size: int, page_token: str
) -> Holds:
    """Return who holds what, soonest to expire first.

    Args:
        engine: Where holds are.
        policies: Which orgs there are.
        subject: Holds of this subject; every level that is given must match.
        page_size: 0 for the default.
        page_token: From the page before, or "".

    Raises:
        OrgAccessDenied: The org is unknown.
        FieldInvalid: The page token is broken.
    """
    policy = policies.of(subject.org)
    size = min(page_size or HOLDS_PAGE_DEFAULT, PAGE_MAX)
    if page_token and not _HOLDS_TOKEN.fullmatch(page_token):
        raise FieldInvalid(Fault("page_token", "is not from a page before; start without it"))
    page = await engine.list_holds(subject.org, page_token, size)
    found = [_open_hold(policy, hold_id, hold) for hold_id, hold in page.holds]
    return Holds(tuple(each for each in found if _is_of(subject, each.subject)), page.cursor)


def _open_hold(policy: Policy, hold_id: str, hold: Hold) -> OpenHold:
    payload = decode_payload(policy.org, hold.payload)
    return OpenHold(
        reservation_id=f"{policy.org}.{hold_id}",
        request_id=payload.request.request_id,
        subject=payload.request.subject,
        target=parse_target_key(hold.target),
        create_ms=hold.create_ms,
        expire_ms=hold.expire_ms,
        amounts=tuple(_held_amount(entry.counter_id, entry.held) for entry in hold.entries),
    )


def _held_amount(counter_id: str, held: int) -> HeldAmount:
    name = parse_counter_id(counter_id)
    return HeldAmount(name.budget, name.partition, name.meter, held)


def _is_of(wanted: Subject, subject: Subject) -> bool:
    levels = all(getattr(wanted, level) in ("", getattr(subject, level)) for level in LEVELS)
    labels: Sequence[tuple[str, str]] = list(wanted.labels.items())
    return levels and all(subject.labels.get(key) == value for key, value in labels)
