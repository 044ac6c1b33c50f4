"""From the wire to values. All validation of requests is done here, with the path of each fault."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from bursar.domain import meter
from bursar.domain.budget import Degradation, Priority
from bursar.domain.errors import Fault
from bursar.domain.meter import Estimate, Usage
from bursar.domain.request import (
    CommitRequest,
    ExtendRequest,
    Outcome,
    RecordRequest,
    ReleaseRequest,
    ReserveRequest,
)
from bursar.domain.subject import Subject, Target
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import types_pb2 as types_pb
from bursar.service.fields import (
    LABEL_KEY,
    check_count,
    check_range,
    check_text,
    decode_subject,
    unless_faulty,
)

ACCEPTS_MAX = 16
CUSTOM_METERS_MAX = 16
TOKENS_MAX = 1_000_000_000
REQUESTS_MAX = 1_000_000
SEQUENCE_MAX = 1_000_000
TTL_MS_MIN = 1_000
PAGE_TOKEN_BYTES_MAX = 512
NANOS_PER_SECOND = 1_000_000_000


_PRIORITIES = {
    types_pb.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    types_pb.PRIORITY_LOW: Priority.LOW,
    types_pb.PRIORITY_NORMAL: Priority.NORMAL,
    types_pb.PRIORITY_HIGH: Priority.HIGH,
}
_DEGRADATIONS = {
    types_pb.DEGRADATION_SWITCH_MODEL: Degradation.SWITCH_MODEL,
    types_pb.DEGRADATION_SHORTER_OUTPUT: Degradation.SHORTER_OUTPUT,
    types_pb.DEGRADATION_TRUNCATE_INPUT: Degradation.TRUNCATE_INPUT,
    types_pb.DEGRADATION_FINISH: Degradation.FINISH,
    types_pb.DEGRADATION_SERVE_CACHED: Degradation.SERVE_CACHED,
    types_pb.DEGRADATION_QUEUE: Degradation.QUEUE,
}
_OUTCOMES = {
    types_pb.OUTCOME_UNSPECIFIED: Outcome.SUCCEEDED,
    types_pb.OUTCOME_SUCCEEDED: Outcome.SUCCEEDED,
    types_pb.OUTCOME_FAILED: Outcome.FAILED,
    types_pb.OUTCOME_CANCELLED: Outcome.CANCELLED,
}


class Decoder:
    """Decodes requests within this server's bounds.

    Every method raises FieldInvalid with all faults of the request, or LimitExceeded for a list
    that is too long to be looked at.
    """

    def __init__(self, default_ttl_ms: int, ttl_ms_max: int) -> None:
        self._default_ttl_ms = default_ttl_ms
        self._ttl_ms_max = ttl_ms_max

    def reserve(self, message: authority_pb.ReserveRequest) -> ReserveRequest:
        """Decode a reserve."""
        faults: list[Fault] = []
        check_text(faults, "request_id", message.request_id, required=True)
        request = ReserveRequest(
            request_id=message.request_id,
            subject=decode_subject(faults, message.subject),
            target=_target(faults, message.target),
            estimate=_estimate(faults, message.estimate),
            ttl_ms=self._ttl(faults, message.ttl, given=message.HasField("ttl")),
            priority=_priority(faults, message.priority),
            accepts=_accepts(faults, message.accepts),
            validate_only=message.validate_only,
            closing=message.closing,
        )
        return unless_faulty(request, faults)

    def check(self, message: authority_pb.CheckRequest) -> ReserveRequest:
        """Decode a check: a reserve that holds nothing and needs no id."""
        faults: list[Fault] = []
        request = ReserveRequest(
            request_id="",
            subject=decode_subject(faults, message.subject),
            target=_target(faults, message.target),
            estimate=_estimate(faults, message.estimate),
            ttl_ms=self._default_ttl_ms,
            priority=_priority(faults, message.priority),
            accepts=_accepts(faults, message.accepts),
            validate_only=True,
            closing=message.closing,
        )
        return unless_faulty(request, faults)

    def commit(self, message: authority_pb.CommitRequest) -> CommitRequest:
        """Decode a commit."""
        faults: list[Fault] = []
        check_text(faults, "reservation_id", message.reservation_id, required=True)
        if message.partial:
            check_range(faults, "sequence", message.sequence, 1, SEQUENCE_MAX)
        elif message.sequence != 0:
            faults.append(Fault("sequence", "must be 0 in a final commit; set partial for others"))
        request = CommitRequest(
            reservation_id=message.reservation_id,
            usage=_usage(faults, message.usage, given=message.HasField("usage")),
            target=_target(faults, message.target),
            outcome=_outcome(faults, message.outcome),
            partial=message.partial,
            sequence=message.sequence,
            estimated=message.estimated,
        )
        return unless_faulty(request, faults)

    def release(self, message: authority_pb.ReleaseRequest) -> ReleaseRequest:
        """Decode a release."""
        faults: list[Fault] = []
        check_text(faults, "reservation_id", message.reservation_id, required=True)
        return unless_faulty(ReleaseRequest(message.reservation_id), faults)

    def extend(self, message: authority_pb.ExtendRequest) -> ExtendRequest:
        """Decode an extend."""
        faults: list[Fault] = []
        check_text(faults, "reservation_id", message.reservation_id, required=True)
        ttl_ms = self._ttl(faults, message.ttl, given=True) if message.HasField("ttl") else None
        output = None
        if message.HasField("max_output_tokens"):
            output = message.max_output_tokens
            check_range(faults, "max_output_tokens", output, 1, TOKENS_MAX)
        if ttl_ms is None and output is None:
            faults.append(Fault("ttl", "give ttl or max_output_tokens: there is nothing to change"))
        return unless_faulty(ExtendRequest(message.reservation_id, ttl_ms, output), faults)

    def record(self, message: authority_pb.RecordRequest) -> RecordRequest:
        """Decode a record."""
        faults: list[Fault] = []
        check_text(faults, "request_id", message.request_id, required=True)
        request = RecordRequest(
            request_id=message.request_id,
            subject=decode_subject(faults, message.subject),
            target=_target(faults, message.target),
            usage=_usage(faults, message.usage, given=message.HasField("usage")),
            outcome=_outcome(faults, message.outcome),
            estimated=message.estimated,
        )
        return unless_faulty(request, faults)

    def _ttl(self, faults: list[Fault], ttl: Duration, *, given: bool) -> int:
        if not given:
            return self._default_ttl_ms
        ttl_ms = ttl.seconds * 1_000 + ttl.nanos // 1_000_000
        if not TTL_MS_MIN <= ttl_ms <= self._ttl_ms_max:
            allowed = f"must be {TTL_MS_MIN} ms to {self._ttl_ms_max} ms"
            faults.append(Fault("ttl", f"{allowed}, is {ttl_ms} ms"))
        elif not 0 <= ttl.nanos < NANOS_PER_SECOND:
            faults.append(Fault("ttl", f"must have 0 to 999999999 nanos, has {ttl.nanos}"))
        return ttl_ms


def decode_query(subject: types_pb.Subject, page_size: int, page_token: str) -> Subject:
    """Decode what the listing calls share.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    decoded = decode_subject(faults, subject)
    if page_size < 0:
        faults.append(Fault("page_size", f"must be 0 or more, is {page_size}"))
    if page_token.isascii():
        check_text(faults, "page_token", page_token, bytes_max=PAGE_TOKEN_BYTES_MAX)
    else:  # Digits of other scripts look like numbers to Python.
        faults.append(Fault("page_token", "is not from a page before; start again without it"))
    return unless_faulty(decoded, faults)


def decode_question(subject: types_pb.Subject, target: types_pb.Target) -> tuple[Subject, Target]:
    """Decode who would call what.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    decoded = (decode_subject(faults, subject), _target(faults, target))
    return unless_faulty(decoded, faults)


def _target(faults: list[Fault], message: types_pb.Target) -> Target:
    check_text(faults, "target.provider", message.provider)
    check_text(faults, "target.model", message.model, required=True)
    return Target(message.provider, message.model)


def _estimate(faults: list[Fault], message: types_pb.Estimate) -> Estimate:
    path = "estimate"
    check_range(faults, f"{path}.input_tokens", message.input_tokens, 0, TOKENS_MAX)
    output = message.max_output_tokens if message.HasField("max_output_tokens") else None
    least = message.min_output_tokens if message.HasField("min_output_tokens") else None
    if output is not None:
        check_range(faults, f"{path}.max_output_tokens", output, 1, TOKENS_MAX)
    if least is not None:
        most = TOKENS_MAX if output is None else max(output, 1)
        check_range(faults, f"{path}.min_output_tokens", least, 1, most)
    requests = message.requests if message.HasField("requests") else 1
    check_range(faults, f"{path}.requests", requests, 1, REQUESTS_MAX)
    _input_parts(faults, path, message)
    return Estimate(
        input_tokens=message.input_tokens,
        max_output_tokens=output,
        min_output_tokens=least,
        requests=requests,
        custom_meters=_custom_meters(faults, path, message.custom_meters),
        cache_read_tokens=message.cache_read_tokens,
        cache_write_tokens=message.cache_write_tokens,
        input_audio_tokens=message.input_audio_tokens,
    )


def _usage(faults: list[Fault], message: types_pb.Usage, *, given: bool) -> Usage:
    path = "usage"
    if not given:
        # Missing usage is not zero usage.
        faults.append(Fault(path, "is required; release the reservation if nothing was used"))
        return Usage()
    check_range(faults, f"{path}.input_tokens", message.input_tokens, 0, TOKENS_MAX)
    check_range(faults, f"{path}.output_tokens", message.output_tokens, 0, TOKENS_MAX)
    _input_parts(faults, path, message)
    output = max(message.output_tokens, 0)
    check_range(faults, f"{path}.reasoning_tokens", message.reasoning_tokens, 0, output)
    check_range(faults, f"{path}.output_audio_tokens", message.output_audio_tokens, 0, output)
    requests = message.requests if message.HasField("requests") else None
    if requests is not None:
        check_range(faults, f"{path}.requests", requests, 0, REQUESTS_MAX)
    return Usage(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cache_read_tokens=message.cache_read_tokens,
        cache_write_tokens=message.cache_write_tokens,
        input_audio_tokens=message.input_audio_tokens,
        reasoning_tokens=message.reasoning_tokens,
        output_audio_tokens=message.output_audio_tokens,
        requests=requests,
        custom_meters=_custom_meters(faults, path, message.custom_meters),
    )


def _input_parts(
    faults: list[Fault], path: str, message: types_pb.Estimate | types_pb.Usage
) -> None:
    if not (message.cache_read_tokens or message.cache_write_tokens or message.input_audio_tokens):
        return
    whole = max(message.input_tokens, 0)
    check_range(faults, f"{path}.cache_read_tokens", message.cache_read_tokens, 0, whole)
    rest = max(whole - max(message.cache_read_tokens, 0), 0)
    check_range(faults, f"{path}.cache_write_tokens", message.cache_write_tokens, 0, rest)
    check_range(faults, f"{path}.input_audio_tokens", message.input_audio_tokens, 0, whole)


def _custom_meters(faults: list[Fault], path: str, amounts: Mapping[str, int]) -> dict[str, int]:
    if not amounts:
        return {}
    check_count(f"{path}.custom_meters", len(amounts), CUSTOM_METERS_MAX)
    for name, amount in amounts.items():
        if not LABEL_KEY.fullmatch(name):
            faults.append(Fault(f"{path}.custom_meters", f"{name[:64]!a} is not a meter"))
        else:
            check_range(faults, f'{path}.custom_meters["{name}"]', amount, 0, meter.AMOUNT_MAX)
    return dict(amounts)


def _priority(faults: list[Fault], value: int) -> Priority:
    found = _PRIORITIES.get(value)  # type: ignore[call-overload]
    if found is None:
        faults.append(Fault("priority", f"{value} is not a Priority"))
        return Priority.NORMAL
    return Priority(found)


def _accepts(faults: list[Fault], values: object) -> frozenset[Degradation]:
    if not values:
        return frozenset()
    listed = list(values)  # type: ignore[call-overload]
    check_count("accepts", len(listed), ACCEPTS_MAX)
    for position, value in enumerate(listed):
        if value not in _DEGRADATIONS:
            faults.append(Fault(f"accepts[{position}]", f"{value} is not a Degradation"))
    return frozenset(_DEGRADATIONS[value] for value in listed if value in _DEGRADATIONS)


def _outcome(faults: list[Fault], value: int) -> Outcome:
    found = _OUTCOMES.get(value)  # type: ignore[call-overload]
    if found is None:
        faults.append(Fault("outcome", f"{value} is not an Outcome"))
        return Outcome.SUCCEEDED
    return Outcome(found)
