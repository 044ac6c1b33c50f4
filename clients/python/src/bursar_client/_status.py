"""The one place that turns a failed call into an error of this client."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from bursar_client._decode import decode_duration
from bursar_client._errors import (
    AlreadySettled,
    BursarError,
    ConcurrentChange,
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    RequestIdReused,
    ReservationExpired,
    ReservationNotFound,
    SequenceMismatch,
    Unavailable,
)
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import error_reason_pb2

DOMAIN = "bursar"
DETAILS_KEY = "grpc-status-details-bin"
_PREFIX = "ERROR_REASON_"

_CODE_NAMES = {number: name for name, number in code_pb2.Code.items()}

_REASON_NAMES = {
    number: name.removeprefix(_PREFIX)
    for name, number in error_reason_pb2.ErrorReason.items()
    if number
}

BY_REASON: dict[str, type[BursarError]] = {
    "FIELD_INVALID": InvalidRequest,
    "LIMIT_EXCEEDED": InvalidRequest,
    "REQUEST_ID_REUSED": RequestIdReused,
    "RESERVATION_NOT_FOUND": ReservationNotFound,
    "RESERVATION_COMMITTED": AlreadySettled,
    "RESERVATION_RELEASED": AlreadySettled,
    "RESERVATION_EXPIRED": ReservationExpired,
    "SEQUENCE_MISMATCH": SequenceMismatch,
    "ORG_ACCESS_DENIED": PermissionDenied,
    "STORE_UNAVAILABLE": Unavailable,
    "STORE_FULL": Unavailable,
    "SHARD_COLD": Unavailable,
    "CLOCK_BEHIND": Unavailable,
    "DRAINING": Unavailable,
    "SERVER_OVERLOADED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CONCURRENT_CHANGE": ConcurrentChange,
    "INTERNAL": InternalError,
    "JOURNAL_FULL": Unavailable,
    "LEDGER_UNAVAILABLE": Unavailable,
    "NOT_DURABLE": Unavailable,
    "POLICY_CONFLICT": ConcurrentChange,
    "POLICY_NOT_FOUND": BursarError,
}
"""The class of every reason in the contract."""

# For answers without details: from proxies, from gRPC itself, or with a reason that is new.
_BY_CODE: dict[str, type[BursarError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": PermissionDenied,
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Unavailable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "ABORTED": ConcurrentChange,
    "UNKNOWN": InternalError,
    "INTERNAL": InternalError,
    "DATA_LOSS": InternalError,
}


class FailedCall(Protocol):
    """What the errors of both flavours of gRPC have in common."""

    def code(self) -> grpc.StatusCode:
        """Return the status code."""

    def details(self) -> str | None:
        """Return the status message."""

    def trailing_metadata(self) -> object:
        """Return pairs of key and value, or None."""


def error_of_call(call: FailedCall) -> BursarError:
    """Return the error that a failed call stands for."""
    code = call.code().name
    info = error_details_pb2.ErrorInfo()
    retry_after: timedelta | None = None
    violations: tuple[FieldViolation, ...] = ()
    for detail in _status_of_call(call).details:
        bad_request = error_details_pb2.BadRequest()
        retry_info = error_details_pb2.RetryInfo()
        found = error_details_pb2.ErrorInfo()
        if detail.Unpack(found) and found.domain == DOMAIN:
            info = found
        elif detail.Unpack(retry_info):
            retry_after = decode_duration(retry_info.retry_delay)
        elif detail.Unpack(bad_request):
            violations = tuple(
                FieldViolation(each.field, each.description)
                for each in bad_request.field_violations
            )
    message = call.details() or code.lower()
    return _error(code, info.reason, message, dict(info.metadata), retry_after, violations)


def error_of_operation(message: authority_pb.OperationError) -> BursarError:
    """Return the error that one failed operation of a batch or session stands for."""
    return _error(
        _CODE_NAMES.get(message.code, "UNKNOWN"),
        _REASON_NAMES.get(message.reason, ""),
        message.message,
        dict(message.metadata),
        decode_duration(message.retry_after) if message.HasField("retry_after") else None,
        tuple(FieldViolation(each.field, each.description) for each in message.field_violations),
    )


def _error(
    code: str,
    reason: str,
    message: str,
    metadata: dict[str, str],
    retry_after: timedelta | None,
    violations: tuple[FieldViolation, ...],
) -> BursarError:
    kind = BY_REASON.get(reason) or _BY_CODE.get(code, BursarError)
    error = kind(message, reason=reason or code, metadata=metadata, retry_after=retry_after)
    if isinstance(error, InvalidRequest):
        error.field_violations = violations
    return error


def _status_of_call(call: FailedCall) -> status_pb2.Status:
    status = status_pb2.Status()
    for key, value in call.trailing_metadata() or ():  # type: ignore[attr-defined]
        if key == DETAILS_KEY:
            try:
                status.MergeFromString(value)
            except DecodeError:
                # The code still says what kind of failure it was.
                return status_pb2.Status()
    return status
