"""The one place that turns an exception into what a caller sees."""

from __future__ import annotations

import secrets
from typing import Any

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from bursar.domain.errors import (
    BursarError,
    Fault,
    FieldInvalid,
    InternalError,
    StoreUnavailable,
)
from bursar.pb import budget_authority_service_pb2 as authority_pb

DOMAIN = "bursar"

FAULTS_BYTES_MAX = 1_024
"""Most text of faults in one error; what does not fit is counted. An error travels in trailers,
which gRPC refuses above 8 KiB, and its text is in them three times, partly escaped."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailer that a caller's gRPC reads: where it retries RESOURCE_EXHAUSTED by itself, it waits that
long, instead of the few ms of its first pauses."""

_CODES = {
    "FIELD_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "LIMIT_EXCEEDED": grpc.StatusCode.INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": grpc.StatusCode.INVALID_ARGUMENT,
    "RESERVATION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "RESERVATION_COMMITTED": grpc.StatusCode.FAILED_PRECONDITION,
    "RESERVATION_RELEASED": grpc.StatusCode.FAILED_PRECONDITION,
    "RESERVATION_EXPIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "SEQUENCE_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "ORG_ACCESS_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "STORE_FULL": grpc.StatusCode.UNAVAILABLE,
    "SHARD_COLD": grpc.StatusCode.UNAVAILABLE,
    "CLOCK_BEHIND": grpc.StatusCode.UNAVAILABLE,
    "JOURNAL_FULL": grpc.StatusCode.UNAVAILABLE,
    "LEDGER_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "NOT_DURABLE": grpc.StatusCode.UNAVAILABLE,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "SERVER_OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CONCURRENT_CHANGE": grpc.StatusCode.ABORTED,
    "POLICY_CONFLICT": grpc.StatusCode.ABORTED,
    "POLICY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}

_log = structlog.get_logger(__name__)


class DeadlineExceeded(BursarError):
    """The call's deadline passed."""

    reason = "DEADLINE_EXCEEDED"


class Draining(BursarError):
    """The server is shutting down; another one takes the call at once."""

    reason = "DRAINING"
    retry_after_ms = 0


class ServerOverloaded(BursarError):
    """The server has as much in progress as it may have, in all or for one org.

    It was refused before anything was done. The time to retry differs from one to the next, from
    retry_after_ms up to twice as long.
    """

    reason = "SERVER_OVERLOADED"
    retry_after_ms = 100


def known_error(error: BaseException, method: str) -> BursarError:
    """Return an exception as one of ours.

    Args:
        error: Anything that a handler raised.
        method: Full name of the call, for the log.
    """
    if isinstance(error, TimeoutError):
        # All that a handler waits for is the store.
        return StoreUnavailable(
            "Redis did not answer before the deadline; the outcome is unknown, and the same "
            "request_id may be retried"
        )
    if isinstance(error, BursarError) and not isinstance(error, InternalError):
        return error
    # Nothing of what went wrong inside reaches a caller.
    call_id = secrets.token_hex(8)
    _log.error("call_failed", method=method, call_id=call_id, exc_info=error)
    return InternalError(
        f"the server failed; its log has the details under call id {call_id}", callId=call_id
    )


def to_status(error: BursarError) -> grpc.Status:
    """Return the status of an error with its details: ErrorInfo always, others where they help."""
    error = _cut(error)
    details: list[AnyMessage] = []
    _append(
        details,
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata),
    )
    if isinstance(error, FieldInvalid):
        _append(
            details,
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=fault.path, description=fault.description
                    )
                    for fault in error.faults
                ]
            ),
        )
    if error.retry_after_ms is not None:
        _append(details, error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_ms)))
    made: Any = rpc_status.to_status(
        status_pb2.Status(code=_code_number(error), message=error.message, details=details)
    )
    if isinstance(error, ServerOverloaded):
        # Only here. Elsewhere callers' own pauses are better: they are so short that a caller with
        # little time left still learns the reason, instead of waiting until it has none.
        pushback = (PUSHBACK_KEY, str(error.retry_after_ms))
        made = made._replace(trailing_metadata=(*made.trailing_metadata, pushback))
    status: grpc.Status = made
    return status


def to_operation_error(error: BursarError) -> authority_pb.OperationError:
    """Return an error as the result of one operation of a batch."""
    error = _cut(error)
    faults = error.faults if isinstance(error, FieldInvalid) else ()
    message = authority_pb.OperationError(
        code=_code_number(error),
        reason=f"ERROR_REASON_{error.reason}",
        message=error.message,
        metadata=error.metadata,
        field_violations=[
            authority_pb.FieldViolation(field=fault.path, description=fault.description)
            for fault in faults
        ],
    )
    if error.retry_after_ms is not None:
        message.retry_after.CopyFrom(_duration(error.retry_after_ms))
    return message


def _cut(error: BursarError) -> BursarError:
    """Return an error with as many of its faults as it can carry, at least one."""
    if not isinstance(error, FieldInvalid):
        return error
    shown: list[Fault] = []
    left_bytes = FAULTS_BYTES_MAX
    for fault in error.faults:
        left_bytes -= len(f"{fault.path}{fault.description}".encode())
        if shown and left_bytes < 0:
            break
        shown.append(fault)
    omitted = len(error.faults) - len(shown)
    if omitted == 0:
        return error
    cut = FieldInvalid(*shown)
    cut.message += f"; and {omitted} more"
    cut.metadata = {**error.metadata, "faultsOmitted": str(omitted)}
    return cut


def _code_number(error: BursarError) -> int:
    return int(code_pb2.Code.Value(_CODES[error.reason].name))


def _append(details: list[AnyMessage], detail: object) -> None:
    packed = AnyMessage()
    packed.Pack(detail)  # type: ignore[arg-type]
    details.append(packed)


def _duration(ms: int) -> Duration:
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)
