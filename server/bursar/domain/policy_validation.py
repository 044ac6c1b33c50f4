"""Checks a policy document as a whole: every fault at once, each with its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pydantic import ValidationError

from bursar.domain import meter
from bursar.domain.errors import PolicyInvalid
from bursar.domain.policy_document import (
    BudgetDocument,
    LimitDocument,
    ModelDocument,
    OverdraftDocument,
    PolicyDocument,
)
from bursar.domain.policy_faults import Finding, Location, as_faults, find_faults, shown
from bursar.domain.policy_values import MATCHABLE, USD_MAX, is_label
from bursar.domain.window import NEVER_BACKFILLED, WindowKind

_METER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MONTHLY = (WindowKind.MONTH, WindowKind.QUARTER, WindowKind.YEAR)
_CALENDAR = (WindowKind.MINUTE, WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, *_MONTHLY)
_LIMIT_UNITS = tuple(LimitDocument.model_fields)
_RESERVED_METERS = frozenset({*_LIMIT_UNITS, *meter.STANDARD_METERS, "percent"})


class _Contradiction(NamedTuple):
    """What is wrong between settings that are right by themselves."""

    location: Location
    description: str
    rests_on: tuple[Location, ...]


def validate_policy(content: Mapping[str, Any], source: str) -> PolicyDocument:
    """Check a parsed document.

    Args:
        content: The document as plain mappings, lists and scalars; decimals as Decimal.
        source: What to call it in an error, such as a file's name.

    Raises:
        PolicyInvalid: The document has faults; every one is listed with its path.
    """
    findings = list(_nulls(content))
    try:
        document = PolicyDocument.model_validate(content)
    except ValidationError as error:
        findings += find_faults(error, content)
        document = None
    wrong = {_setting(finding.location) for finding in findings}
    if () in wrong:
        # Not even the document's settings can be told apart.
        raise PolicyInvalid(source, as_faults(findings, content))
    if document is None:
        document = PolicyDocument.model_validate(_sound_part(content, wrong))
    findings += [
        Finding(location, description)
        for location, description, rests_on in _contradictions(document)
        if wrong.isdisjoint(rests_on) and (*location[:2],) not in wrong
    ]
    if findings:
        raise PolicyInvalid(source, as_faults(findings, content))
    return document


def _nulls(content: object) -> Iterator[Finding]:
    """Find settings without a value: nobody can tell whether none, 0 or everything is meant."""
    waiting: list[tuple[Location, object]] = [((), content)]
    while waiting:
        location, value = waiting.pop()
        if value is None:
            yield Finding(location, "has no value; give one or leave the setting out")
        parts: Iterable[tuple[int | str, object]] = ()
        if isinstance(value, Mapping):
            parts = value.items()
        elif isinstance(value, list):
            parts = enumerate(value)
        waiting += reversed([((*location, key), part) for key, part in parts])


def _setting(location: Location) -> Location:
    """Return the setting of the policy or of a budget that a place belongs to."""
    return location[:3] if location[:1] == ("budgets",) else location[:1]


def _sound_part(content: Mapping[str, Any], wrong: set[Location]) -> dict[str, Any]:
    """Return a document without what is wrong in it; something valid stands in where it must."""
    sound = {key: value for key, value in content.items() if (key,) not in wrong}
    sound.setdefault("org", "unknown")
    budgets: list[Any] = [] if ("budgets",) in wrong else content.get("budgets", [])
    sound["budgets"] = [
        _sound_budget(index, budget if isinstance(budget, Mapping) else {}, wrong)
        for index, budget in enumerate(budgets)
    ]
    return sound


def _sound_budget(index: int, budget: Mapping[str, Any], wrong: set[Location]) -> dict[str, Any]:
    sound = {key: value for key, value in budget.items() if ("budgets", index, key) not in wrong}
    sound.setdefault("name", f"number-{index}")
    sound.setdefault("limit", {"requests": 0})
    if ("budgets", index, "window") in wrong:
        sound["window"] = "day"
    return sound


def _contradictions(document: PolicyDocument) -> Iterator[_Contradiction]:
    yield from _meter_contradictions(document)
    for index, model in enumerate(document.models):
        for name, description in _model_contradictions(model):  # name is empty for all of it
            yield _Contradiction(("models", index, *name), description, (("models",),))
    names: dict[str, int] = {}
    for index, budget in enumerate(document.budgets):
        here: Location = ("budgets", index)
        first = names.setdefault(budget.name, index)
        if first != index:
            yield _Contradiction(
                (*here, "name"),
                f"{budget.name!r} is also budgets[{first}].name",
                ((*here, "name"), ("budgets", first, "name")),
            )
        unit, known = budget.limit.unit, (*_LIMIT_UNITS, *document.meters)
        if unit not in known:
            yield _Contradiction(
                (*here, "limit", unit),
                f"is not a meter; known are {', '.join(known)} (see meters)",
                ((*here, "limit"), ("meters",)),
            )
        for row in _rows(budget):
            if row.wrong:
                rests_on = tuple((*here, name) for name in row.rests_on)
                yield _Contradiction((*here, *row.place), row.description, rests_on)


def _meter_contradictions(document: PolicyDocument) -> Iterator[_Contradiction]:
    for index, name in enumerate(document.meters):
        if not _METER_NAME.fullmatch(name) or name in _RESERVED_METERS:
            description = f"{shown(name)} cannot name a meter: 1 to 63 of a-z, 0-9 and _, a letter"
            description += " first, and none that there is already"
        elif name in document.meters[:index]:
            description = f"{name!r} is given twice"
        else:
            continue
        yield _Contradiction(("meters", index), description, (("meters",),))


def _model_contradictions(model: ModelDocument) -> Iterator[tuple[tuple[str, ...], str]]:
    own = [
        name
        for name in ("max_output_tokens", "default_output_tokens", "price")
        if getattr(model, name) is not None
    ]
    alias = model.alias_of
    if alias is None and model.provider is None and not own:
        yield (), "says nothing of its models: give provider, alias_of, limits or a price"
    if alias is not None and not fnmatchcase(alias.lower(), model.match.lower()):
        for name in own:
            yield (name,), f"would be ignored: these models count as {alias}; say it of {alias}"


class _Row(NamedTuple):
    wrong: bool
    place: Location
    rests_on: tuple[str, ...]
    description: str


def _rows(budget: BudgetDocument) -> list[_Row]:
    """Return what may contradict itself in a budget: no setting is accepted and then ignored."""
    kind, unit = budget.window_kind, budget.limit.unit
    at_once, per_request = unit == "concurrency", kind is WindowKind.REQUEST
    unlimited = budget.limit.value == "unlimited"
    window, limit_too = ("window",), ("window", "limit")
    rows = [
        _Row(
            at_once and kind is not WindowKind.NONE,
            window,
            limit_too,
            "a concurrency limit counts what is open now; leave the window out",
        ),
        _Row(
            not at_once and kind is WindowKind.NONE,
            window,
            limit_too,
            "is required, such as month, day, {rolling: 24h}, task or request",
        ),
        _Row(
            kind is WindowKind.TASK and "task" not in budget.per,
            window,
            ("window", "per"),
            "a task window needs per: [task]",
        ),
        _Row(
            budget.anchor_day is not None and kind not in _MONTHLY,
            ("anchor_day",),
            window,
            "only month, quarter and year windows have one",
        ),
        _Row(
            budget.week_start is not None and kind is not WindowKind.WEEK,
            ("week_start",),
            window,
            "only week windows have one",
        ),
        _Row(
            budget.timezone is not None and kind not in _CALENDAR,
            ("timezone",),
            window,
            "only calendar windows have one",
        ),
        _Row(
            at_once and bool(budget.alerts),
            ("alerts",),
            limit_too,
            "a concurrency limit commits nothing that could reach a threshold",
        ),
        _Row(
            (at_once or per_request) and budget.on_expiry == "charge",
            ("on_expiry",),
            limit_too,
            "concurrency and request windows have nothing to charge",
        ),
    ]
    for name in ("per", "ladder", "alerts"):
        given = per_request and bool(getattr(budget, name))
        text = "a request window counts nothing over time; leave it out"
        rows.append(_Row(given, (name,), window, text))
    for name in ("ladder", "overdraft", "alerts", "priority_headroom"):
        given = unlimited and name in budget.model_fields_set and bool(getattr(budget, name))
        text = "an unlimited budget has no percentages; leave it out"
        rows.append(_Row(given, (name,), ("limit",), text))
    return [*rows, *_per_rows(budget), *_part_rows(budget), *_ledger_rows(budget)]


def _per_rows(budget: BudgetDocument) -> Iterator[_Row]:
    for index, name in enumerate(budget.per):
        known = name in MATCHABLE or is_label(name)
        text = f"{shown(name)} is not one of {', '.join(MATCHABLE)} or labels.KEY"
        yield _Row(not known, ("per", index), ("per",), text)
        twice = name in budget.per[:index]
        yield _Row(twice, ("per", index), ("per",), f"{shown(name)} is given twice")


def _part_rows(budget: BudgetDocument) -> Iterator[_Row]:
    """Find parts of a limit in another unit, and what passes what can be counted exactly."""
    limit = budget.limit
    if limit.value == "unlimited":
        return
    size = Decimal(limit.value)
    carried = budget.carry_over.max if budget.carry_over is not None else None
    parts: dict[str, tuple[Location, OverdraftDocument | None]] = {
        "overdraft": (("overdraft",), budget.overdraft),
        "carry_over.max": (("carry_over", "max"), carried),
    }
    for name, (place, part) in parts.items():
        if part is None:
            continue
        rests_on = (str(place[0]), "limit")
        [(unit, amount)] = part.model_dump(exclude_none=True).items()
        if unit not in ("percent", limit.unit):
            text = f"must be percent or {limit.unit}, is {unit}"
            yield _Row(True, place, rests_on, text)
            continue
        both = size + (size * amount / 100 if unit == "percent" else amount)
        most = USD_MAX if limit.unit == "usd" else Decimal(meter.AMOUNT_MAX)
        text = f"limit and {name} are {both:f} together, more than {most}"
        yield _Row(both > most, place, rests_on, text)


def _ledger_rows(budget: BudgetDocument) -> Iterator[_Row]:
    """Find what rests on other windows, on the record or on the store, and cannot."""
    kind, unlimited = budget.window_kind, budget.limit.value == "unlimited"
    window, limit = ("window",), ("limit",)
    carries, is_open = budget.carry_over is not None, budget.on_unavailable == "open"
    yield _Row(
        carries and kind not in _CALENDAR,
        ("carry_over",),
        window,
        "only calendar windows, such as day or month, have a next one to carry into",
    )
    yield _Row(
        carries and unlimited,
        ("carry_over",),
        limit,
        "an unlimited budget has nothing unused and no debt; leave it out",
    )
    yield _Row(
        is_open and kind is WindowKind.REQUEST,
        ("on_unavailable",),
        window,
        "a request window is always enforced, because it needs no counter; leave it out",
    )
    yield _Row(
        is_open and unlimited,
        ("on_unavailable",),
        limit,
        "an unlimited budget refuses nothing; leave it out",
    )
    yield _Row(
        budget.backfill and "backfill" in budget.model_fields_set and kind in NEVER_BACKFILLED,
        ("backfill",),
        window,
        "only calendar, rolling and fixed windows can begin with what was used before",
    )
