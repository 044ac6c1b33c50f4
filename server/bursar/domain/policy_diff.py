"""What differs between two versions of a policy, in words that people read.

It goes over the fields of the document's models, so that a setting that is new in them is compared
without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel

from bursar.domain import meter
from bursar.domain.directive import format_amount
from bursar.domain.policy_budgets import window_of
from bursar.domain.policy_document import (
    BudgetDocument,
    FixedDocument,
    LimitDocument,
    ModelDocument,
    OverdraftDocument,
    PolicyDocument,
    RollingDocument,
    RungDocument,
    ScopeDocument,
    TaskWindowDocument,
)
from bursar.domain.window import NEVER_BACKFILLED

_REMOVED = "what it counted no longer limits anything; open holds on it still settle"
_COUNTS_ANEW = "begins to count anew: what is used so far is not in it"
_FILLED = "begins to count anew, from what the ledger has of its window"
_ORDER = "order"

_Part = TypeVar("_Part")


class ChangeKind(StrEnum):
    """What became of a budget or a setting."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        kind: What became of it.
        budget: Whose setting; empty for one of the policy itself.
        setting: Which; empty for a whole budget.
        before: What it was, in words; empty where it is new.
        after: What it is, in words; empty where it is gone.
        warning: What to bear in mind; may be empty.
    """

    kind: ChangeKind
    budget: str
    setting: str
    before: str
    after: str
    warning: str = ""


def diff_policies(before: PolicyDocument | None, after: PolicyDocument) -> tuple[Change, ...]:
    """Return what changes from one version of an org's policy to the next, in its order.

    Args:
        before: None where the org had no policy.
        after: What it has then.
    """
    if before is None:
        # What it does not set is as in a policy that sets nothing.
        before = PolicyDocument(org=after.org)
    return (
        *_settings("", before, after, skipped={"org", "models", "budgets"}),
        *_models(before.models, after.models),
        *_budgets(before, after),
    )


def _settings(
    budget: str, before: BaseModel, after: BaseModel, skipped: set[str], warnings: object = None
) -> Iterator[Change]:
    """Compare field by field."""
    warned: Mapping[str, str] = warnings if isinstance(warnings, Mapping) else {}
    for name, field in type(after).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if name in skipped or old == new:
            continue
        setting = field.alias or name
        warning = warned.get(name, "")
        yield Change(ChangeKind.CHANGED, budget, setting, words(old), words(new), warning)


def _models(before: Sequence[ModelDocument], after: Sequence[ModelDocument]) -> Iterator[Change]:
    old = _by_place([(f"models[{each.match}]", each) for each in before])
    new = _by_place([(f"models[{each.match}]", each) for each in after])
    for place, model in old.items():
        if place not in new:
            yield Change(ChangeKind.REMOVED, "", place, _model_words(model), "")
    for place, model in new.items():
        if place not in old:
            yield Change(ChangeKind.ADDED, "", place, "", _model_words(model))
        elif old[place] != model:
            then, now = _model_words(old[place]), _model_words(model)
            yield Change(ChangeKind.CHANGED, "", place, then, now)
    yield from _order("models", list(old), list(new))


def _by_place(pairs: Sequence[tuple[str, _Part]]) -> dict[str, _Part]:
    """Name what has the same name apart: `models[gpt-5]`, `models[gpt-5] (2)`."""
    found: dict[str, _Part] = {}
    times: dict[str, int] = {}
    for place, part in pairs:
        times[place] = times.get(place, 0) + 1
        found[place if times[place] == 1 else f"{place} ({times[place]})"] = part
    return found


def _order(setting: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Say where what both have comes in another order: the first of models wins."""
    left, right = set(old), set(new)
    then = [each for each in old if each in right]
    now = [each for each in new if each in left]
    if then != now:
        moved = [each for was, each in zip(then, now, strict=True) if was != each]
        first = moved[0]
        place = f"{first} at {then.index(first) + 1}", f"{first} at {now.index(first) + 1}"
        yield Change(ChangeKind.CHANGED, "", f"{setting} {_ORDER}", *place)


def _budgets(before: PolicyDocument, after: PolicyDocument) -> Iterator[Change]:
    old = {each.name: each for each in before.budgets}
    new = {each.name: each for each in after.budgets}
    for name, budget in old.items():
        if name not in new:
            yield Change(ChangeKind.REMOVED, name, "", summary(budget), "", _REMOVED)
    for name, budget in new.items():
        if name not in old:
            yield Change(ChangeKind.ADDED, name, "", "", summary(budget))
        else:
            yield from _budget(old[name], before, budget, after)
    yield from _order("budgets", list(old), list(new))


def _budget(
    old: BudgetDocument, before: PolicyDocument, new: BudgetDocument, after: PolicyDocument
) -> Iterator[Change]:
    """Compare one budget, and warn where its counters become others."""
    warnings: dict[str, str] = {}
    anew = _FILLED if new.backfill and new.window_kind not in NEVER_BACKFILLED else _COUNTS_ANEW
    if old.limit.unit != new.limit.unit:
        warnings["limit"] = anew
    if old.per != new.per:
        warnings["per"] = anew
    then, now = window_of(old, before).code, window_of(new, after).code
    if then != now:
        changed = [
            name
            for name in ("window", "timezone", "anchor_day", "week_start")
            if getattr(old, name) != getattr(new, name)
        ]
        warnings.update(dict.fromkeys(changed, anew))
        if not changed:
            # Its window follows the zone of the policy.
            zones = before.timezone, after.timezone
            yield Change(ChangeKind.CHANGED, new.name, "timezone", *zones, anew)
    yield from _settings(new.name, old, new, skipped={"name"}, warnings=warnings)


def summary(budget: BudgetDocument) -> str:
    """Return a budget in one line: limit, window, scope, and every other setting that it gives."""
    said = {"name", "limit", "window", "scope", "per"}
    parts = [words(budget.limit)]
    if budget.window is not None:
        parts.append(f"window {words(budget.window)}")
    if budget.scope.conditions():
        parts.append(f"for {words(budget.scope)}")
    if budget.per:
        parts.append(f"per {words(budget.per)}")
    for name, field in BudgetDocument.model_fields.items():
        if name in budget.model_fields_set - said:
            parts.append(f"{field.alias or name} {words(getattr(budget, name))}")
    return ", ".join(parts)


def _model_words(model: ModelDocument) -> str:
    given = ((name, getattr(model, name)) for name in ModelDocument.model_fields if name != "match")
    return ", ".join(f"{name} {words(value)}" for name, value in given if value is not None)


def words(value: object) -> str:  # noqa: PLR0911 - one line for each kind of value
    """Return a value of a document as people say it."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case LimitDocument():
            return _amount_words(value.unit, value.value)
        case OverdraftDocument():
            [(unit, amount)] = value.model_dump(exclude_none=True).items()
            return f"{amount} %" if unit == "percent" else _amount_words(unit, amount)
        case RollingDocument() | TaskWindowDocument() | FixedDocument():
            return _window_words(value)
        case ScopeDocument():
            pairs = value.conditions().items()
            return " ".join(f"{name}={'|'.join(each)}" for name, each in pairs) or "every request"
        case RungDocument():
            return f"at {value.at} % {_rung_words(value)}"
        case BaseModel():
            return _model_fields_words(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Decimal() | int():
            return f"{value:,}"
        case list() | tuple():
            return "; ".join(map(words, value)) if value else "none"
        case str():
            return value or "empty"
        case _:
            return str(value)


def _window_words(window: RollingDocument | TaskWindowDocument | FixedDocument) -> str:
    if isinstance(window, RollingDocument):
        return f"rolling {window.rolling}"
    if isinstance(window, TaskWindowDocument):
        return f"task, idle for {window.task}"
    return f"{words(window.from_time)} until {words(window.until)}"


def _amount_words(unit: str, amount: object) -> str:
    if amount == "unlimited":
        return f"unlimited {unit.replace('_', ' ')}"
    assert isinstance(amount, int | Decimal)
    if unit == "usd":
        return format_amount(int(amount * meter.NANO_PER_USD), meter.COST)
    return f"{amount:,} at once" if unit == "concurrency" else format_amount(int(amount), unit)


def _rung_words(rung: RungDocument) -> str:
    parts = []
    if rung.switch_model is not None:
        switch = rung.switch_model
        to = f"{switch.to_provider}/{switch.to}" if switch.to_provider else switch.to
        parts.append(f"switch {switch.from_model} to {to}")
    if rung.cap_output is not None:
        parts.append(f"cap output at {rung.cap_output:,} tokens")
    if rung.queue is not None:
        parts.append(f"queue for at most {rung.queue.max_wait}")
    flags = ("finish", "serve_cached", "deny", "notify")
    parts += [name.replace("_", " ") for name in flags if getattr(rung, name)]
    if rung.message:
        parts.append(f"saying {rung.message!r}")
    return ", ".join(parts)


def _model_fields_words(model: BaseModel) -> str:
    pairs = (
        (field.alias or name, getattr(model, name))
        for name, field in type(model).model_fields.items()
    )
    parts = [f"{name} {words(value)}" for name, value in pairs if value is not None]
    return " ".join(parts) or "none"
