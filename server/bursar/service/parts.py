"""Parts that many answers have: subjects, targets, meters, instants and time spans."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bursar.domain import meter
from bursar.domain.subject import Subject, Target
from bursar.pb import types_pb2 as types_pb

_METERS: dict[str, types_pb.Meter] = {
    meter.TOTAL_TOKENS: types_pb.METER_TOTAL_TOKENS,
    meter.INPUT_TOKENS: types_pb.METER_INPUT_TOKENS,
    meter.OUTPUT_TOKENS: types_pb.METER_OUTPUT_TOKENS,
    meter.COST: types_pb.METER_COST,
    meter.REQUESTS: types_pb.METER_REQUESTS,
    meter.CONCURRENCY: types_pb.METER_CONCURRENCY,
}


def encode_subject(subject: Subject) -> types_pb.Subject:
    """Encode who spends."""
    return types_pb.Subject(
        org=subject.org,
        team=subject.team,
        feature=subject.feature,
        agent=subject.agent,
        user=subject.user,
        task=subject.task,
        labels=dict(subject.labels),
    )


def encode_target(target: Target) -> types_pb.Target:
    """Encode what is called."""
    return types_pb.Target(provider=target.provider, model=target.model)


def put_target(message: types_pb.Target, target: Target) -> None:
    """Put what is called into a message."""
    message.SetInParent()
    message.provider = target.provider
    message.model = target.model


def encode_time(ms: int) -> Timestamp:
    """Encode an instant."""
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


def set_time(field: Timestamp, ms: int) -> None:
    """Set a field to an instant."""
    field.SetInParent()
    field.seconds, field.nanos = ms // 1_000, ms % 1_000 * 1_000_000


def encode_duration(ms: int) -> Duration:
    """Encode a time span; one below 0 counts as 0."""
    ms = max(ms, 0)
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


def set_duration(field: Duration, ms: int) -> None:
    """Set a field to a time span; one below 0 counts as 0."""
    ms = max(ms, 0)
    field.SetInParent()
    field.seconds, field.nanos = ms // 1_000, ms % 1_000 * 1_000_000


def encode_meter(name: str) -> types_pb.Meter:
    """Encode what is counted."""
    return _METERS.get(name, types_pb.METER_CUSTOM)


def custom_meter(name: str) -> str:
    """Return a custom meter's name, and "" for every other."""
    return "" if name in _METERS else name
