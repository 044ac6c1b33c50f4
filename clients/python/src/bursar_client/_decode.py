"""From the wire to values. Enum values that this client does not know become UNKNOWN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bursar_client._answers import (
    BudgetMode,
    Charge,
    CounterOffer,
    CounterStatus,
    Decision,
    Denial,
    DenialKind,
    Extension,
    Grant,
    HoldState,
    Settlement,
)
from bursar_client._directive import (
    Deny,
    Directive,
    Finish,
    Notice,
    NoticeKind,
    Queue,
    ServeCached,
    ShortenOutput,
    SwitchModel,
    TruncateInput,
)
from bursar_client._values import Meter, Target
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import types_pb2 as types_pb

Member = TypeVar("Member", bound=StrEnum)

_EPOCH = datetime.fromtimestamp(0, UTC)
_NOTHING_TO_DO = Directive()


class _ProtoEnum(Protocol):
    def items(self) -> list[tuple[str, int]]: ...


def _table(enum: type[Member], proto_enum: _ProtoEnum, prefix: str) -> Mapping[int, Member]:
    names = {member.name: member for member in enum}
    return {
        number: names[name.removeprefix(prefix)]
        for name, number in proto_enum.items()
        if name.removeprefix(prefix) in names
    }


_METERS = _table(Meter, types_pb.Meter, "METER_")
_DECISIONS = _table(Decision, types_pb.Decision, "DECISION_")
_DENIAL_KINDS = _table(DenialKind, types_pb.DenialKind, "DENIAL_KIND_")
_MODES = _table(BudgetMode, types_pb.BudgetMode, "BUDGET_MODE_")
_NOTICE_KINDS = _table(NoticeKind, types_pb.NoticeKind, "NOTICE_KIND_")
_STATES = _table(HoldState, types_pb.HoldState, "HOLD_STATE_")


def decode_reserve(message: authority_pb.ReserveResponse) -> Grant | Denial:
    """Return the decision of a reserve or a check."""
    decision = _DECISIONS.get(message.decision, Decision.UNKNOWN)
    counters = decode_counters(message.counters)
    directive = decode_directive(message.directive)
    if decision not in (Decision.GRANTED, Decision.GRANTED_DEGRADED):
        return _denial(message.denial, directive, counters, message.policy_version)
    return Grant(
        reservation_id=message.reservation_id,
        decision=decision,
        target=decode_target(message.target),
        max_output_tokens=message.max_output_tokens,
        max_input_tokens=(
            message.max_input_tokens if message.HasField("max_input_tokens") else None
        ),
        directive=directive,
        expire_time=decode_time(message.expire_time) if message.HasField("expire_time") else None,
        ttl=decode_duration(message.ttl) if message.HasField("ttl") else None,
        counters=counters,
        unbudgeted=message.unbudgeted,
        unpriced=message.unpriced,
        policy_version=message.policy_version,
        not_enforced=message.not_enforced,
    )


def decode_commit(message: authority_pb.CommitResponse) -> Settlement:
    """Return what a commit did."""
    return Settlement(
        reservation_id=message.reservation_id,
        state=_STATES.get(message.state, HoldState.UNKNOWN),
        charges=_charges(message.charges),
        counters=decode_counters(message.counters),
        directive=decode_directive(message.directive),
        late=message.late,
        expire_time=decode_time(message.expire_time) if message.HasField("expire_time") else None,
        unpriced=message.unpriced,
    )


def decode_release(message: authority_pb.ReleaseResponse) -> Settlement:
    """Return what a release did."""
    return Settlement(
        reservation_id=message.reservation_id,
        state=_STATES.get(message.state, HoldState.UNKNOWN),
        charges=(),
        counters=decode_counters(message.counters),
        directive=Directive(),
    )


def decode_record(message: authority_pb.RecordResponse) -> Settlement:
    """Return what a record did."""
    return Settlement(
        reservation_id=message.reservation_id,
        state=HoldState.COMMITTED,
        charges=_charges(message.charges),
        counters=decode_counters(message.counters),
        directive=decode_directive(message.directive),
        unpriced=message.unpriced,
        unbudgeted=message.unbudgeted,
    )


def decode_extend(message: authority_pb.ExtendResponse) -> Extension | Denial:
    """Return what an extended hold is now, or why it could not grow."""
    counters = decode_counters(message.counters)
    if _DECISIONS.get(message.decision) not in (Decision.GRANTED, Decision.GRANTED_DEGRADED):
        return _denial(message.denial, Directive(), counters, "")
    return Extension(
        reservation_id=message.reservation_id,
        max_output_tokens=message.max_output_tokens,
        expire_time=decode_time(message.expire_time) if message.HasField("expire_time") else None,
        counters=counters,
    )


def decode_target(message: types_pb.Target) -> Target:
    """Return a target."""
    return Target(message.model, message.provider)


def decode_counters(messages: Iterable[types_pb.CounterStatus]) -> tuple[CounterStatus, ...]:
    """Return every counter of an answer, in its order."""
    return tuple(decode_counter(message) for message in messages)


def decode_counter(message: types_pb.CounterStatus) -> CounterStatus:
    """Return one counter."""
    partition = message.partition
    return CounterStatus(
        budget=message.budget,
        partition={level: partition[level] for level in partition},
        meter=decode_meter(message.meter),
        custom_meter=message.custom_meter,
        unlimited=message.unlimited,
        limit=message.limit,
        committed=message.committed,
        held=message.held,
        credit=message.credit,
        remaining=message.remaining,
        ceiling=message.ceiling,
        window_start_time=(
            decode_time(message.window_start_time)
            if message.HasField("window_start_time")
            else None
        ),
        window_end_time=(
            decode_time(message.window_end_time) if message.HasField("window_end_time") else None
        ),
        mode=_MODES.get(message.mode, BudgetMode.UNKNOWN),
        amount=message.amount,
    )


def decode_meter(value: int) -> Meter:
    """Return a meter."""
    return _METERS.get(value, Meter.UNKNOWN)


def decode_duration(message: Duration) -> timedelta:
    """Return a duration, to the microsecond."""
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)


def decode_time(message: Timestamp) -> datetime:
    """Return a time in UTC, to the microsecond."""
    return _time(message.seconds, message.nanos)


def decode_directive(message: types_pb.Directive) -> Directive:
    """Return a directive; fields that were not sent are None."""
    if not message.ByteSize():
        return _NOTHING_TO_DO

    def given(name: str) -> bool:
        return message.HasField(name)

    switch = message.switch_model
    return Directive(
        switch_model=(
            SwitchModel(
                # `from` is a keyword of the language.
                decode_target(getattr(switch, "from")),
                decode_target(switch.to),
                tuple(switch.budgets),
            )
            if given("switch_model")
            else None
        ),
        shorten_output=(
            ShortenOutput(
                message.shorten_output.max_output_tokens, tuple(message.shorten_output.budgets)
            )
            if given("shorten_output")
            else None
        ),
        truncate_input=(
            TruncateInput(
                message.truncate_input.max_input_tokens, tuple(message.truncate_input.budgets)
            )
            if given("truncate_input")
            else None
        ),
        finish=Finish(tuple(message.finish.budgets)) if given("finish") else None,
        serve_cached=(
            ServeCached(tuple(message.serve_cached.budgets)) if given("serve_cached") else None
        ),
        queue=(
            Queue(decode_duration(message.queue.max_wait), tuple(message.queue.budgets))
            if given("queue")
            else None
        ),
        deny=Deny(tuple(message.deny.budgets)) if given("deny") else None,
        message=message.message,
        notices=tuple(
            Notice(each.budget, _NOTICE_KINDS.get(each.kind, NoticeKind.UNKNOWN), each.message)
            for each in message.notices
        ),
    )


# The windows of many counters begin and end at the same few times.
@lru_cache(maxsize=1_024)
def _time(seconds: int, nanos: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1_000)


def _denial(
    message: types_pb.Denial,
    directive: Directive,
    counters: tuple[CounterStatus, ...],
    policy_version: str,
) -> Denial:
    return Denial(
        kind=_DENIAL_KINDS.get(message.kind, DenialKind.UNKNOWN),
        binding=decode_counter(message.binding) if message.HasField("binding") else None,
        affordable_output_tokens=message.affordable_output_tokens,
        affordable_input_tokens=(
            message.affordable_input_tokens if message.HasField("affordable_input_tokens") else None
        ),
        retry_after=(
            decode_duration(message.retry_after) if message.HasField("retry_after") else None
        ),
        counter_offers=tuple(_counter_offer(each) for each in message.counter_offers),
        explanation=message.explanation,
        directive=directive,
        counters=counters,
        policy_version=policy_version,
    )


def _counter_offer(message: types_pb.CounterOffer) -> CounterOffer:
    return CounterOffer(
        target=decode_target(message.target),
        affordable_output_tokens=message.affordable_output_tokens,
        binding_budget=message.binding_budget,
        kind=_DENIAL_KINDS.get(message.kind, DenialKind.UNKNOWN),
        retry_after=(
            decode_duration(message.retry_after) if message.HasField("retry_after") else None
        ),
    )


def _charges(messages: Iterable[types_pb.Charge]) -> tuple[Charge, ...]:
    return tuple(
        Charge(
            meter=decode_meter(each.meter),
            custom_meter=each.custom_meter,
            amount=each.amount,
            overage=each.overage,
            estimated=each.estimated,
        )
        for each in messages
    )
