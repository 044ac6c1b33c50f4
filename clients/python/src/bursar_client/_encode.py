"""From values to the wire."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from bursar_client._operations import (
    CommitOperation,
    ExtendOperation,
    Operation,
    RecordOperation,
    ReleaseOperation,
    ReserveOperation,
)
from bursar_client._values import Degradation, Estimate, Outcome, Priority, Subject, Target, Usage
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import types_pb2 as types_pb

# By name, which is how the generated types take an enum that is not a literal.
_PRIORITIES = {each: f"PRIORITY_{each.name}" for each in Priority}
_DEGRADATIONS = {each: f"DEGRADATION_{each.name}" for each in Degradation}
_OUTCOMES = {each: f"OUTCOME_{each.name}" for each in Outcome}


# A map that is empty costs more than all the rest of its message, so None stands for it.


def encode_subject(subject: Subject) -> types_pb.Subject:
    """Return a subject's message."""
    return types_pb.Subject(
        org=subject.org,
        team=subject.team,
        feature=subject.feature,
        agent=subject.agent,
        user=subject.user,
        task=subject.task,
        labels=subject.labels or None,
    )


def encode_target(target: Target) -> types_pb.Target:
    """Return a target's message."""
    return types_pb.Target(provider=target.provider, model=target.model)


def encode_reserve(operation: ReserveOperation) -> authority_pb.ReserveRequest:
    """Return a reserve's message."""
    return authority_pb.ReserveRequest(
        request_id=operation.request_id,
        subject=encode_subject(operation.subject),
        target=encode_target(operation.target),
        estimate=_estimate(operation.estimate),
        ttl=_duration(operation.ttl),
        priority=_PRIORITIES[Priority(operation.priority)],
        accepts=[_DEGRADATIONS[Degradation(each)] for each in operation.accepts],
        closing=operation.closing,
    )


def encode_check(operation: ReserveOperation) -> authority_pb.CheckRequest:
    """Return the message that asks what a reserve would answer."""
    reserve = encode_reserve(operation)
    return authority_pb.CheckRequest(
        subject=reserve.subject,
        target=reserve.target,
        estimate=reserve.estimate,
        priority=reserve.priority,
        accepts=reserve.accepts,
        closing=reserve.closing,
    )


def encode_commit(operation: CommitOperation) -> authority_pb.CommitRequest:
    """Return a commit's message."""
    return authority_pb.CommitRequest(
        reservation_id=operation.reservation_id,
        usage=encode_usage(operation.usage),
        target=encode_target(operation.target),
        outcome=_OUTCOMES[Outcome(operation.outcome)],
        partial=operation.sequence > 0,
        sequence=operation.sequence,
        estimated=operation.estimated,
    )


def encode_release(operation: ReleaseOperation) -> authority_pb.ReleaseRequest:
    """Return a release's message."""
    return authority_pb.ReleaseRequest(reservation_id=operation.reservation_id)


def encode_extend(operation: ExtendOperation) -> authority_pb.ExtendRequest:
    """Return an extend's message."""
    return authority_pb.ExtendRequest(
        reservation_id=operation.reservation_id,
        ttl=_duration(operation.ttl),
        max_output_tokens=operation.max_output_tokens,
    )


def encode_record(operation: RecordOperation) -> authority_pb.RecordRequest:
    """Return a record's message."""
    return authority_pb.RecordRequest(
        request_id=operation.request_id,
        subject=encode_subject(operation.subject),
        target=encode_target(operation.target),
        usage=encode_usage(operation.usage),
        outcome=_OUTCOMES[Outcome(operation.outcome)],
        estimated=operation.estimated,
    )


def encode_operation(operation: Operation) -> authority_pb.Operation:
    """Return an operation as part of a batch."""
    match operation:
        case ReserveOperation():
            return authority_pb.Operation(reserve=encode_reserve(operation))
        case CommitOperation():
            return authority_pb.Operation(commit=encode_commit(operation))
        case ReleaseOperation():
            return authority_pb.Operation(release=encode_release(operation))
        case ExtendOperation():
            return authority_pb.Operation(extend=encode_extend(operation))
        case RecordOperation():
            return authority_pb.Operation(record=encode_record(operation))


def _estimate(estimate: Estimate) -> types_pb.Estimate:
    return types_pb.Estimate(
        input_tokens=estimate.input_tokens,
        max_output_tokens=estimate.max_output_tokens,
        min_output_tokens=estimate.min_output_tokens,
        requests=estimate.requests,
        custom_meters=estimate.custom_meters or None,
        cache_read_tokens=estimate.cache_read_tokens,
        cache_write_tokens=estimate.cache_write_tokens,
        input_audio_tokens=estimate.input_audio_tokens,
    )


def encode_usage(usage: Usage) -> types_pb.Usage:
    """Return a usage's message.

    Raises:
        TypeError, ValueError: An amount is not an integer, or not one of 64 bits.
    """
    return types_pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        requests=usage.requests,
        custom_meters=usage.custom_meters or None,
    )


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
