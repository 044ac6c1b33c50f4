"""The errors that a client raises.

BursarError
├── BudgetDenied             a budget does not allow the call
├── InvalidRequest           a field is wrong, or a list is too long
│   └── RequestIdReused      same request_id, other content
├── ReservationNotFound      never made, or ended long ago
├── ReservationExpired       too late to extend it
├── AlreadySettled           committed or released before
├── SequenceMismatch         a partial commit out of order
├── PermissionDenied         unknown org, or not allowed to act for it
├── RetryableError           the same call may succeed later
│   ├── Unavailable          no server, or it cannot decide right now
│   ├── Overloaded           the server has too much work
│   ├── DeadlineExceeded     no answer in time; the outcome is unknown
│   └── ConcurrentChange     the hold was changed by others each time
├── InternalError            a fault of the server
├── SettleBacklogFull        a settlement found no room to wait in
└── UnsettledError           the client was closed with settlements undone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bursar_client._answers import Denial
from bursar_client._directive import Directive
from bursar_client._operations import RecordOperation, ReleaseOperation, SettleOperation
from bursar_client._values import Subject, Usage


class BursarError(Exception):
    """Base of every error that a client raises.

    Attributes:
        reason: Name of the reason in the contract's ErrorReason, or the gRPC code's name where
            the answer did not come from Bursar.
        message: What happened and what to do.
        metadata: Every varying part of the message, by lowerCamelCase key.
        retry_after: How long to wait before a retry, or None where that is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.retry_after = retry_after


class BudgetDenied(BursarError):
    """A budget does not allow the call; the message is fit for an end user.

    Attributes:
        denial: Why, with the counter that binds and what would pass.
    """

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.message, reason="BUDGET_DENIED", retry_after=denial.retry_after)
        self.denial = denial
        if denial.explanation:
            self.add_note(denial.explanation)

    @property
    def affordable_output_tokens(self) -> int:
        """Output tokens that would fit right now; 0 where none would."""
        return self.denial.affordable_output_tokens

    @property
    def directive(self) -> Directive:
        """What to do instead."""
        return self.denial.directive


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One fault of a request: the path of the field and what is wrong with it."""

    field: str
    description: str


class InvalidRequest(BursarError):
    """A field is missing, malformed or out of range, or a list is too long.

    Attributes:
        field_violations: Every fault, with the path of its field.
    """

    field_violations: tuple[FieldViolation, ...] = ()


class RequestIdReused(InvalidRequest):
    """The request_id was used before with other content."""


class ReservationNotFound(BursarError):
    """There is no such reservation, or it ended longer ago than its answer is kept."""


class ReservationExpired(BursarError):
    """The hold has expired, so it cannot be extended."""


class AlreadySettled(BursarError):
    """The reservation was committed or released before."""


class SequenceMismatch(BursarError):
    """A partial commit came out of order."""


class PermissionDenied(BursarError):
    """The org is unknown, or the caller may not act for it."""


class RetryableError(BursarError):
    """The same call with the same content may succeed later."""


class Unavailable(RetryableError):
    """No server could be reached, or it cannot decide right now."""


class Overloaded(RetryableError):
    """The server has more work than it may queue."""


class DeadlineExceeded(RetryableError):
    """No answer came in time; the outcome is unknown."""


class ConcurrentChange(RetryableError):
    """The hold was changed by other calls each time the call tried."""


class InternalError(BursarError):
    """The server failed, or answered something that is not in the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A settlement that is not known to have reached the server.

    Give it to `settle` of any client to try again: that never books twice while the server
    remembers the reservation.

    Attributes:
        operation: What was to be done.
        subject: Who spent.
        record_request_id: The request_id under which the usage is booked if the reservation is
            no longer known.
        error: Why it failed last, or None where it was not tried.
    """

    operation: SettleOperation
    subject: Subject
    record_request_id: str
    error: BursarError | None

    @property
    def reservation_id(self) -> str:
        """The reservation; empty for a record."""
        if isinstance(self.operation, RecordOperation):
            return ""
        return self.operation.reservation_id

    @property
    def usage(self) -> Usage | None:
        """What was used, or None for a release."""
        return None if isinstance(self.operation, ReleaseOperation) else self.operation.usage

    def as_record(self) -> RecordOperation | None:
        """Return the operation that books the usage without its reservation.

        None for a release: it has no usage.
        """
        operation = self.operation
        if isinstance(operation, ReleaseOperation):
            return None
        if isinstance(operation, RecordOperation):
            return operation
        return RecordOperation(
            request_id=self.record_request_id,
            subject=self.subject,
            target=operation.target,
            usage=record_usage(operation.usage, partial=operation.sequence > 0),
            outcome=operation.outcome,
            estimated=operation.estimated,
        )


def record_usage(usage: Usage, *, partial: bool) -> Usage:
    """Return a commit's usage so that a record books the same number of requests."""
    if not partial or usage.requests is not None:
        return usage
    # A partial commit counts no request unless told so; a record would count one.
    fields = {name: getattr(usage, name) for name in usage.__slots__}
    return Usage(**{**fields, "requests": 0})


class SettleBacklogFull(BursarError):
    """A settlement failed and as many as allowed wait already; nobody will try it again.

    Attributes:
        unsettled: The settlement.
    """

    def __init__(self, unsettled: Unsettled, backlog_max: int) -> None:
        super().__init__(
            f"{backlog_max} settlements wait already; settle this one later with client.settle",
            reason="SETTLE_BACKLOG_FULL",
            metadata={
                "reservationId": unsettled.reservation_id,
                "backlogMax": str(backlog_max),
            },
        )
        self.unsettled = unsettled


class UnsettledError(BursarError):
    """The client was closed and settlements are undone.

    Attributes:
        unsettled: Every one, with what is needed to settle or record it later.
    """

    def __init__(self, unsettled: Sequence[Unsettled]) -> None:
        super().__init__(
            f"{len(unsettled)} settlements did not reach the server before the client was closed; "
            "settle them later with client.settle",
            reason="UNSETTLED",
            metadata={"count": str(len(unsettled))},
        )
        self.unsettled = tuple(unsettled)
