"""Budgets between the wire and the policy document, whose models are the one judge of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bursar.domain import meter
from bursar.domain.errors import Fault
from bursar.domain.policy_document import (
    BudgetDocument,
    FixedDocument,
    OverdraftDocument,
    RollingDocument,
    RungDocument,
    ScopeDocument,
    TaskWindowDocument,
)
from bursar.domain.policy_writing import Content, budget_etag
from bursar.domain.window import parse_duration_ms
from bursar.pb import budget_pb2 as pb
from bursar.pb import types_pb2 as types_pb
from bursar.service.parts import encode_duration, encode_time

BUDGET_FIELDS = tuple(
    name for name in pb.Budget.DESCRIPTOR.fields_by_name if name not in ("name", "etag")
)
"""What of a budget can be changed; each is called as in the document."""

_UNITS: dict[types_pb.Meter, str] = {
    types_pb.METER_COST: "usd",
    types_pb.METER_TOTAL_TOKENS: "tokens",
    types_pb.METER_INPUT_TOKENS: meter.INPUT_TOKENS,
    types_pb.METER_OUTPUT_TOKENS: meter.OUTPUT_TOKENS,
    types_pb.METER_REQUESTS: meter.REQUESTS,
    types_pb.METER_CONCURRENCY: meter.CONCURRENCY,
}
_METERS = {unit: number for number, unit in _UNITS.items()}
_NO_UNIT = ""  # Stands for the unit of the limit, which a mask may leave out.
_FLAGS = ("finish", "serve_cached", "deny")
_MS_PER_UNIT = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
_MILLISECOND = timedelta(milliseconds=1)
_KIND = pb.BudgetWindow


def decode_budget(
    faults: list[Fault], message: pb.Budget, fields: Iterable[str] = BUDGET_FIELDS
) -> Content:
    """Return what a budget sets, as a document would, to be completed by `with_units`.

    Only what a document could not even say is a fault here.

    Args:
        faults: Grows by what is wrong.
        message: The budget.
        fields: Those that count; whatever is wrong with others is no fault.
    """
    found: list[Fault] = []
    content = _decode(found, message)
    named = {f"budget.{name}" for name in fields}
    faults += [fault for fault in found if ".".join(fault.path.split(".")[:2]) in named]
    return content


def _decode(faults: list[Fault], message: pb.Budget) -> Content:
    content: Content = {"name": message.name}
    for name in ("description", "timezone"):
        if getattr(message, name):
            content[name] = getattr(message, name)
    content.update(_words_of_enums(faults, message))
    if message.HasField("scope"):
        content["scope"] = _scope(message.scope)
    if message.per:
        content["per"] = list(message.per)
    content["limit"] = _limit(faults, message)
    if message.HasField("window"):
        content["window"] = _window(faults, message.window)
    if message.anchor_day:
        content["anchor_day"] = message.anchor_day
    if message.HasField("overdraft"):
        content["overdraft"] = _share(message.overdraft)
    if message.HasField("priority_headroom"):
        levels = message.priority_headroom
        given = [name for name in ("low", "normal", "high") if levels.HasField(name)]
        content["priority_headroom"] = {name: getattr(levels, name) for name in given}
    if message.alerts:
        content["alerts"] = list(message.alerts)
    for name in ("default_output_tokens", "backfill"):
        if message.HasField(name):
            content[name] = getattr(message, name)
    if message.ladder:
        content["ladder"] = [_rung(each) for each in message.ladder]
    if message.HasField("carry_over"):
        content["carry_over"] = _carry_over(message.carry_over)
    return content


def decode_mask(faults: list[Fault], paths: Iterable[str]) -> tuple[str, ...]:
    """Return the fields that a mask names; without any, and with `*`, all of them."""
    given = list(paths)
    if not given or "*" in given:
        return BUDGET_FIELDS
    for position, path in enumerate(given):
        if path not in BUDGET_FIELDS:
            known = ", ".join(BUDGET_FIELDS)
            faults.append(
                Fault(f"update_mask.paths[{position}]", f"{path[:64]!a} is not one of {known}, *")
            )
    return tuple(given)


def take_over(before: Content, after: Content, fields: Iterable[str]) -> Content:
    """Return a budget with some settings of another one; what that lacks is set no more."""
    named = set(fields)
    kept = {name: value for name, value in before.items() if name not in named}
    kept.update({name: value for name, value in after.items() if name in named})
    return with_units(kept)


def with_units(content: Content) -> Content:
    """Return a budget whose parts of the limit are in the unit that the limit has."""
    unit = next(iter(content.get("limit", {})), "")
    completed = dict(content)
    if _NO_UNIT in content.get("overdraft", {}):
        completed["overdraft"] = {unit: _amount(content["overdraft"][_NO_UNIT], unit)}
    carried = content.get("carry_over", {})
    if _NO_UNIT in carried.get("max", {}):
        most = {unit: _amount(carried["max"][_NO_UNIT], unit)}
        completed["carry_over"] = {**carried, "max": most}
    return completed


def encode_budget(budget: BudgetDocument) -> pb.Budget:
    """Encode a budget."""
    message = pb.Budget(
        name=budget.name,
        description=budget.description,
        per=budget.per,
        timezone=budget.timezone or "",
        anchor_day=budget.anchor_day or 0,
        alerts=budget.alerts,
        default_output_tokens=budget.default_output_tokens,
        backfill=budget.backfill,
        ladder=[_encode_rung(each) for each in budget.ladder],
        etag=budget_etag(budget),
    )
    for field in _ENUM_FIELDS:
        word = getattr(budget, field)
        if word is not None:
            setattr(message, field, _number(field, word))
    if budget.scope.conditions():
        message.scope.CopyFrom(_encode_scope(budget.scope))
    unit, value = budget.limit.unit, budget.limit.value
    message.limit.meter = _METERS.get(unit, types_pb.METER_CUSTOM)
    message.limit.custom_meter = "" if unit in _METERS else unit
    if value == "unlimited":
        message.limit.unlimited = True
    else:
        message.limit.amount = _units(value)
    if budget.window is not None:
        message.window.CopyFrom(_encode_window(budget))
    if budget.overdraft is not None:
        message.overdraft.CopyFrom(_encode_share(budget.overdraft))
    if "priority_headroom" in budget.model_fields_set:
        levels = budget.priority_headroom
        message.priority_headroom.CopyFrom(
            pb.PriorityHeadroom(low=levels.low, normal=levels.normal, high=levels.high)
        )
    if budget.carry_over is not None:
        carried = budget.carry_over
        message.carry_over.unused, message.carry_over.debt = carried.unused, carried.debt
        if carried.max is not None:
            message.carry_over.max.CopyFrom(_encode_share(carried.max))
    return message


_ENUM_FIELDS = ("week_start", "mode", "on_expiry", "on_unavailable")


def _prefix(field: str) -> tuple[Any, str]:
    """Return the enum of a field, and what its values' names begin with."""
    enum = pb.Budget.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None
    unspecified: str = enum.values_by_number[0].name
    return enum, unspecified.removesuffix("UNSPECIFIED")


def _words_of_enums(faults: list[Fault], message: pb.Budget) -> dict[str, str]:
    """Return the words that a document has for what enums say; unspecified ones are left out."""
    words = {}
    for field in _ENUM_FIELDS:
        enum, prefix = _prefix(field)
        number = getattr(message, field)
        if number not in enum.values_by_number:
            faults.append(Fault(f"budget.{field}", f"{number} is not one of {enum.name}"))
        elif number:
            words[field] = enum.values_by_number[number].name.removeprefix(prefix).lower()
    return words


def _number(field: str, word: str) -> int:
    enum, prefix = _prefix(field)
    number: int = enum.values_by_name[prefix + word.upper()].number
    return number


def _scope(message: pb.BudgetScope) -> Content:
    attributes = [name for name in message.DESCRIPTOR.fields_by_name if name != "labels"]
    scope: Content = {name: list(getattr(message, name)) for name in attributes}
    scope = {name: patterns for name, patterns in scope.items() if patterns}
    if message.labels:
        scope["labels"] = {key: list(each.patterns) for key, each in message.labels.items()}
    return scope


def _encode_scope(scope: ScopeDocument) -> pb.BudgetScope:
    attributes = {
        name: getattr(scope, name) or []
        for name in pb.BudgetScope.DESCRIPTOR.fields_by_name
        if name != "labels"
    }
    labels = {key: pb.BudgetPatterns(patterns=each) for key, each in scope.labels.items()}
    return pb.BudgetScope(**attributes, labels=labels)


def _limit(faults: list[Fault], message: pb.Budget) -> Content:
    limit = message.limit
    unit = _UNITS.get(limit.meter, "")
    if limit.meter == types_pb.METER_CUSTOM:
        unit = limit.custom_meter
    elif limit.custom_meter:
        faults.append(Fault("budget.limit.custom_meter", "is only for METER_CUSTOM"))
    if not unit:
        faults.append(Fault("budget.limit.meter", "is required"))
    size = limit.WhichOneof("size")
    if size is None or (size == "unlimited" and not limit.unlimited):
        faults.append(Fault("budget.limit", "needs an amount, or unlimited: true"))
        return {}
    return {unit: "unlimited" if size == "unlimited" else _amount(limit.amount, unit)}


def _amount(amount: int, unit: str) -> Decimal | int:
    """Return an amount in a meter's unit as a document has it: money in dollars."""
    return Decimal(amount).scaleb(-9) if unit == "usd" else amount


def _units(value: object) -> int:
    """Return an amount of a document in its meter's unit."""
    return int(value * meter.NANO_PER_USD) if isinstance(value, Decimal) else int(str(value))


def _share(message: pb.BudgetShare) -> Content:
    match message.WhichOneof("size"):
        case "percent":
            return {"percent": message.percent}
        case "amount":
            return {_NO_UNIT: message.amount}
        case _:
            return {}


def _encode_share(share: OverdraftDocument) -> pb.BudgetShare:
    [(unit, amount)] = share.model_dump(exclude_none=True).items()
    if unit == "percent":
        return pb.BudgetShare(percent=amount)
    return pb.BudgetShare(amount=_units(amount))


def _carry_over(message: pb.BudgetCarryOver) -> Content:
    content: Content = {"unused": message.unused, "debt": message.debt}
    if message.HasField("max"):
        content["max"] = _share(message.max)
    return content


def _window(faults: list[Fault], message: pb.BudgetWindow) -> object:
    kind, length = message.kind, message.HasField("length")
    if kind not in _KIND.Kind.values() or not kind:
        faults.append(Fault("budget.window.kind", "is required: one of BudgetWindow.Kind"))
        return None
    if length and kind not in (_KIND.KIND_ROLLING, _KIND.KIND_TASK):
        faults.append(Fault("budget.window.length", "is only for KIND_ROLLING and KIND_TASK"))
    times = message.HasField("start_time"), message.HasField("end_time")
    if any(times) and kind != _KIND.KIND_FIXED:
        faults.append(Fault("budget.window.start_time", "is only for KIND_FIXED"))
    if kind == _KIND.KIND_ROLLING:
        return {"rolling": _duration_text(message.length)}
    if kind == _KIND.KIND_TASK and length:
        return {"task": _duration_text(message.length)}
    if kind == _KIND.KIND_FIXED:
        if not all(times):
            faults.append(Fault("budget.window", "needs start_time and end_time"))
        return {"from": _time_text(message.start_time), "until": _time_text(message.end_time)}
    return _KIND.Kind.Name(kind).removeprefix("KIND_").lower()


def _encode_window(budget: BudgetDocument) -> pb.BudgetWindow:
    window = budget.window
    message = pb.BudgetWindow(kind=f"KIND_{budget.window_kind.value.upper()}")
    if isinstance(window, RollingDocument):
        message.length.CopyFrom(encode_duration(parse_duration_ms(window.rolling)))
    elif isinstance(window, TaskWindowDocument):
        message.length.CopyFrom(encode_duration(parse_duration_ms(window.task)))
    elif isinstance(window, FixedDocument):
        message.start_time.CopyFrom(encode_time((window.from_time - _EPOCH) // _MILLISECOND))
        message.end_time.CopyFrom(encode_time((window.until - _EPOCH) // _MILLISECOND))
    return message


def _rung(message: pb.BudgetRung) -> Content:
    rung: Content = {"at": message.at_percent}
    match message.WhichOneof("action"):
        case "switch_model":
            switch = message.switch_model
            rung["switch_model"] = {"from": switch.from_pattern, "to": switch.to_model}
            if switch.to_provider:
                rung["switch_model"]["to_provider"] = switch.to_provider
        case "queue_max_wait":
            rung["queue"] = {"max_wait": _duration_text(message.queue_max_wait)}
        case None:
            pass
        case action:
            rung[action] = getattr(message, action)
    if message.notify:
        rung["notify"] = True
    if message.message:
        rung["message"] = message.message
    return rung


def _encode_rung(rung: RungDocument) -> pb.BudgetRung:
    message = pb.BudgetRung(at_percent=rung.at, notify=bool(rung.notify), message=rung.message)
    if rung.switch_model is not None:
        switch = rung.switch_model
        message.switch_model.from_pattern = switch.from_model
        message.switch_model.to_model = switch.to
        message.switch_model.to_provider = switch.to_provider or ""
    elif rung.cap_output is not None:
        message.cap_output = rung.cap_output
    elif rung.queue is not None:
        message.queue_max_wait.CopyFrom(encode_duration(parse_duration_ms(rung.queue.max_wait)))
    else:
        for flag in _FLAGS:
            if getattr(rung, flag):
                setattr(message, flag, True)
    return message


def _duration_text(message: Duration) -> str:
    ms = message.seconds * 1_000 + message.nanos // 1_000_000
    unit, size = next(each for each in _MS_PER_UNIT if ms % each[1] == 0)
    return f"{ms // size}{unit}"


def _time_text(message: Timestamp) -> str:
    try:
        return (
            (_EPOCH + timedelta(seconds=message.seconds))
            .isoformat()
            .replace("+00:00", f".{message.nanos // 1_000_000:03d}Z")
        )
    except OverflowError:
        return str(message.seconds)
