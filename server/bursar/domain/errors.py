"""The errors that any part of Bursar can end a call with.

    BursarError
    ├── FieldInvalid            a field of a request is wrong
    │   └── LimitExceeded       a list or message is too large
    ├── RequestIdReused         same request_id, other content
    ├── ReservationNotFound
    ├── ReservationCommitted
    ├── ReservationReleased
    ├── ReservationExpired
    ├── SequenceMismatch        a partial commit out of order
    ├── OrgAccessDenied
    ├── StoreUnavailable        Redis does not answer
    ├── StoreFull               Redis refuses writes
    ├── ShardCold               Redis has lost or older data
    ├── ClockBehind             this server's clock is behind the shard's
    ├── JournalFull             more waits to be recorded than may
    ├── LedgerUnavailable       PostgreSQL does not answer
    ├── NotDurable              carried out, but not as durable as asked for
    ├── SchemaUnknown           the database is of another release
    ├── MigrationFailed         the database could not be brought up to date
    ├── ConcurrentChange        a hold changed under the call each time
    ├── PolicyConflict          a policy or budget changed since its etag was read
    ├── PolicyNotFound          no such budget, version of a policy or freeze
    ├── PolicyInvalid           a policy document has faults
    └── InternalError           a fault of ours

A denial is not an error: it is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass


class BursarError(Exception):
    """Base of every error that Bursar raises on purpose.

    Attributes:
        reason: Name of the reason in the contract's ErrorReason enum, without prefix.
        metadata: Every varying part of the message, by lowerCamelCase key.
        retry_after_ms: How long to wait before a retry, or None where none helps.
    """

    reason = "INTERNAL"
    retry_after_ms: int | None = None

    def __init__(self, message: str, **metadata: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items()}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: the path of the field and what is wrong with it."""

    path: str
    description: str


class FieldInvalid(BursarError):
    """Fields of a request are missing, malformed or out of range."""

    reason = "FIELD_INVALID"

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{fault.path}: {fault.description}" for fault in faults))
        self.faults = faults


class LimitExceeded(FieldInvalid):
    """A list or a message is larger than its limit."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, path: str, unit: str, given: int, limit: int) -> None:
        super().__init__(Fault(path, f"has {given} {unit}, more than {limit}"))
        self.metadata = {"given": str(given), "limit": str(limit)}


class RequestIdReused(BursarError):
    """The request_id was used before with other content."""

    reason = "REQUEST_ID_REUSED"


class ReservationNotFound(BursarError):
    """There is no such reservation, or its answer is no longer kept."""

    reason = "RESERVATION_NOT_FOUND"


class ReservationCommitted(BursarError):
    """The reservation was committed before."""

    reason = "RESERVATION_COMMITTED"


class ReservationReleased(BursarError):
    """The reservation was released before."""

    reason = "RESERVATION_RELEASED"


class ReservationExpired(BursarError):
    """The hold has expired; only a final commit or a release is still accepted."""

    reason = "RESERVATION_EXPIRED"


class SequenceMismatch(BursarError):
    """A partial commit came out of order."""

    reason = "SEQUENCE_MISMATCH"


class OrgAccessDenied(BursarError):
    """The org is unknown, or the caller may not act for it."""

    reason = "ORG_ACCESS_DENIED"


class StoreUnavailable(BursarError):
    """Redis cannot be reached or does not answer; the outcome of a write is unknown."""

    reason = "STORE_UNAVAILABLE"
    retry_after_ms = 200


class StoreFull(BursarError):
    """Redis is out of memory and refuses writes."""

    reason = "STORE_FULL"
    retry_after_ms = 1_000


class ShardCold(BursarError):
    """The shard's data is missing, of another epoch, or older than what was seen or may be."""

    reason = "SHARD_COLD"
    retry_after_ms = 1_000


class ClockBehind(BursarError):
    """This server's clock is behind what the shard has seen by more than the bound."""

    reason = "CLOCK_BEHIND"
    retry_after_ms = 1_000


class JournalFull(BursarError):
    """The shard's journal is as long as it may be: nothing new is granted until it is recorded."""

    reason = "JOURNAL_FULL"
    retry_after_ms = 1_000


class LedgerUnavailable(BursarError):
    """PostgreSQL cannot be reached or does not answer; the outcome of a write is unknown."""

    reason = "LEDGER_UNAVAILABLE"
    retry_after_ms = 500


class NotDurable(BursarError):
    """The call was carried out, but is not yet as durable as acknowledgements have to be."""

    reason = "NOT_DURABLE"
    retry_after_ms = 200


class SchemaUnknown(BursarError):
    """The database has not the schema that this release needs."""


class MigrationFailed(BursarError):
    """The database could not be brought up to the schema of this release."""


class ConcurrentChange(BursarError):
    """The hold was changed by other calls each time this call tried."""

    reason = "CONCURRENT_CHANGE"


class PolicyConflict(BursarError):
    """A policy or a budget was changed since its etag was read."""

    reason = "POLICY_CONFLICT"


class PolicyNotFound(BursarError):
    """There is no such budget, version of a policy, or freeze in force."""

    reason = "POLICY_NOT_FOUND"


class InternalError(BursarError):
    """A fault of the server itself."""


class PolicyInvalid(BursarError):
    """A policy document is refused whole; every fault is listed with its path."""

    reason = "FIELD_INVALID"

    def __init__(self, source: str, faults: tuple[Fault, ...]) -> None:
        lines = "\n".join(f"  {fault.path}: {fault.description}" for fault in faults)
        super().__init__(f"the policy in {source} is refused:\n{lines}")
        self.source = source
        self.faults = faults
