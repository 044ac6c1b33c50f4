"""How a commit, release or record reaches the server, whatever happens on the way.

It is sent, sent again where that can help, left to the background where it takes too long, and
given up loudly where nothing helps.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from bursar_client._answers import HoldState, Settlement
from bursar_client._backlog import Backlog, Pending
from bursar_client._decode import decode_commit, decode_record, decode_release
from bursar_client._directive import Directive
from bursar_client._encode import (
    encode_commit,
    encode_operation,
    encode_record,
    encode_release,
)
from bursar_client._errors import (
    AlreadySettled,
    BursarError,
    InternalError,
    InvalidRequest,
    ReservationExpired,
    ReservationNotFound,
    RetryableError,
    SettleBacklogFull,
    Unavailable,
    Unsettled,
    UnsettledError,
)
from bursar_client._operations import (
    CommitOperation,
    RecordOperation,
    ReleaseOperation,
    SettleOperation,
)
from bursar_client._pacing import SERVER_AWAY, Pacing
from bursar_client._settings import Settings
from bursar_client._status import error_of_operation
from bursar_client._steps import BATCH, COMMIT, RECORD, RELEASE, Pause, Steps, call
from bursar_client._values import Subject
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

BATCH_MAX = 100
"""Settlements of the backlog in one call: well below the contract's limit, because each may carry
ten kilobytes of labels."""

_log = logging.getLogger("bursar_client")


@dataclass(frozen=True, slots=True)
class SettleStats:
    """What has become of settlements.

    Attributes:
        backlog_count: Waiting in the background now.
        queued_count: Handed to the background since the start.
        failed_count: Given up since the start.
    """

    backlog_count: int
    queued_count: int
    failed_count: int


class Settler:
    """Carries settlements to the server; the same for both clients.

    Attributes:
        changed: Called, from any thread, when something was queued, settled or given up.
        when_forked: Called in a process that was forked, after everything was forgotten.
        closed: Once true nothing more is sent.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        random: Callable[[], float],
        on_settle_failed: Callable[[Unsettled], None] | None,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.when_forked: tuple[Callable[[], None], ...] = ()
        self.closed = False
        self.backlog = Backlog(settings.settle_backlog_max)
        self._settings = settings
        self._clock = clock
        self._pacing = Pacing(settings, clock, random)
        self._on_settle_failed = on_settle_failed
        self._under_way: set[Pending] = set()
        self._left: set[Pending] = set()
        self._queued_count = 0
        self._failed_count = 0
        self._lock = threading.Lock()

    def stats(self) -> SettleStats:
        """Return what has become of settlements."""
        return SettleStats(len(self.backlog), self._queued_count, self._failed_count)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not self._under_way and not len(self.backlog)

    def unsettled(self) -> list[Unsettled]:
        """Return everything that is not known to have reached the server."""
        with self._lock:
            under_way = list(self._under_way)
        return [pending.unsettled() for pending in [*self.backlog.all(), *under_way]]

    def wait_s(self) -> float | None:
        """Return how long the backlog may rest, or None where it is empty."""
        due_s = self.backlog.next_due_s()
        return None if due_s is None else max(due_s - self._clock(), self._pacing.rest_s())

    def close_soon(self) -> None:
        """Make everything that waits due now, with short pauses: somebody waits for the end."""
        self._pacing.closing = True
        self._pacing.end_rest()
        self.backlog.hurry(self._clock())

    def end(self) -> list[Unsettled]:
        """Send nothing more, and return what is left undone."""
        self.closed = True
        with self._lock:
            left_behind = [*self.backlog.all(), *self._under_way]
            self._failed_count += len(left_behind)
            self._left.update(left_behind)
        left = [pending.unsettled() for pending in left_behind]
        for each in left:
            log_unsettled("settle_abandoned", each)
        return left

    def start_anew(self) -> None:
        """Forget everything: in a process that was forked it is the parent's to settle."""
        self._lock = threading.Lock()
        self.backlog = Backlog(self._settings.settle_backlog_max)
        self._under_way = set()
        self._pacing.end_rest()
        for start_anew in self.when_forked:
            start_anew()

    def pending(
        self, operation: SettleOperation, subject: Subject, record_request_id: str = ""
    ) -> Pending:
        """Return a settlement to be sent."""
        if isinstance(operation, RecordOperation):
            lane = operation.request_id
        else:
            lane = operation.reservation_id
        return Pending(lane, operation, subject, record_request_id, self._clock())

    def settle(self, pending: Pending) -> Steps[Settlement]:
        """Send a settlement, or leave it to the background.

        Raises:
            InvalidRequest: It is faulty and nothing was booked; it is not counted as failed.
            SettleBacklogFull: It could not be sent and no more may wait.
            UnsettledError: The client is closed.
            BursarError: The server refuses it for good.
        """
        if self.closed or self.backlog.has(pending.lane):
            # It must not overtake what waits of the same reservation.
            return self._queue(pending)
        with self._lock:
            self._under_way.add(pending)
        try:
            if (settled := (yield from self._settle_inline(pending))) is not None:
                return settled
            return self._queue(pending)
        except BursarError:
            raise
        except BaseException:
            # Nobody waits for it any more, and it may or may not have arrived.
            with contextlib.suppress(BursarError):
                self._queue(pending)
            raise
        finally:
            with self._lock:
                self._under_way.discard(pending)
            self.changed()

    def drain(self) -> Steps[None]:
        """Send what is due of the backlog. At most one caller may do so at a time."""
        try:
            while not self.closed and not self._pacing.rest_s():
                batch = self.backlog.take(self._clock(), BATCH_MAX)
                if not batch:
                    return
                yield from self._send_batch(batch)
                self.changed()
        finally:
            # Of what was interrupted nothing may be lost.
            self.backlog.put_back(self._clock())
            self.changed()

    def fail(self, pending: Pending, error: BursarError) -> None:
        """Give a settlement up: say so in the log, count it and tell the callback."""
        pending.error = error
        unsettled = pending.unsettled()
        with self._lock:
            self._failed_count += 1
        log_unsettled("settle_failed", unsettled)
        if self._on_settle_failed is not None:
            try:
                self._on_settle_failed(unsettled)
            except Exception:
                _log.exception("on_settle_failed raised")

    def _settle_inline(self, pending: Pending) -> Steps[Settlement | None]:
        """Send until it is settled; None when the caller has waited long enough."""
        deadline_s = self._clock() + self._settings.settle_timeout_s
        while True:
            try:
                settled = yield from self._send(pending)
                self._server_is_back()
                return settled
            except BursarError as error:
                if not self._may_retry(pending, error):
                    if not isinstance(error, InvalidRequest):
                        self.fail(pending, error)
                    raise
            pause_s = self._pacing.pause_s(pending.attempt_count, pending.error, inline=True)
            # Where others rest already it is known that the server is away.
            hopeless = self._pacing.rest_s() > 0 or self._clock() + pause_s >= deadline_s
            if self.closed or hopeless:
                return None
            yield Pause(pause_s)

    def _send(self, pending: Pending) -> Steps[Settlement]:
        """Make one attempt, or two where the reservation turns out to be unknown."""
        while True:
            try:
                return (yield from self._call(pending))
            except BursarError as error:
                if is_nothing_to_release(pending, error):
                    return _settlement(pending, HoldState.RELEASED)
                if not turn_into_record(pending, error):
                    raise

    def _call(self, pending: Pending) -> Steps[Settlement]:
        timeout_s = self._settings.settle_attempt_timeout_s
        operation = pending.operation
        match operation:
            case CommitOperation():
                committed = yield from call(COMMIT, encode_commit(operation), timeout_s)
                return decode_commit(committed)
            case ReleaseOperation():
                released = yield from call(RELEASE, encode_release(operation), timeout_s)
                return decode_release(released)
            case RecordOperation():
                answer = yield from call(RECORD, encode_record(operation), timeout_s)
                return replace(decode_record(answer), recorded=pending.is_recorded)

    def _queue(self, pending: Pending) -> Settlement:
        if self.closed:
            # Of what was under way at the end `end` has told already.
            if pending not in self._left:
                self.fail(pending, Unavailable("the client is closed", reason="CLIENT_CLOSED"))
            raise UnsettledError([pending.unsettled()])
        if not self.backlog.put(pending, self._clock() + self._pause_s(pending)):
            error = SettleBacklogFull(pending.unsettled(), self._settings.settle_backlog_max)
            self.fail(pending, pending.error or error)
            raise error
        with self._lock:
            self._queued_count += 1
        _log.warning("settle_queued reservation_id=%s: %s", pending.lane, pending.error)
        self.changed()
        return _settlement(pending, HoldState.OPEN, queued=True)

    def _send_batch(self, batch: list[Pending]) -> Steps[None]:
        if len(batch) == 1:
            try:
                yield from self._send(batch[0])
            except BursarError as error:
                self._resolve_all(batch, [error])
            else:
                self._resolve_all(batch, [None])
            return
        request = authority_pb.BatchRequest(
            operations=[encode_operation(each.operation) for each in batch]
        )
        try:
            answer = yield from call(BATCH, request, self._settings.call_timeout_s)
        except RetryableError as error:
            self._resolve_all(batch, [error] * len(batch))
        except BursarError:
            # One of them may spoil the whole; alone it spoils only itself.
            for pending in batch:
                yield from self._send_batch([pending])
        else:
            errors = [_result_error(answer, position) for position in range(len(batch))]
            self._resolve_all(batch, errors)

    def _resolve_all(self, batch: list[Pending], errors: list[BursarError | None]) -> None:
        """Decide what becomes of each, and whether all that waits has to rest."""
        for pending, error in zip(batch, errors, strict=True):
            self._resolve(pending, error)
        away = [error for error in errors if isinstance(error, SERVER_AWAY)]
        if len(away) == len(errors):
            self._pacing.rest(away[0])
        else:
            self._server_is_back()

    def _server_is_back(self) -> None:
        if self._pacing.end_rest():
            self.backlog.hurry(self._clock())

    def _resolve(self, pending: Pending, error: BursarError | None) -> None:
        """Decide what becomes of a settlement of the backlog after an attempt."""
        now_s = self._clock()
        if error is None or is_nothing_to_release(pending, error):
            self.backlog.done(pending, now_s)
        elif turn_into_record(pending, error):
            self.backlog.again(pending, now_s)
        elif self._may_retry(pending, error) and (
            now_s - pending.first_try_s < self._settings.settle_deadline_s
        ):
            self.backlog.again(pending, now_s + self._pause_s(pending))
        else:
            self.backlog.done(pending, now_s)
            self.fail(pending, error)

    def _may_retry(self, pending: Pending, error: BursarError) -> bool:
        pending.error = error
        pending.attempt_count += 1
        return isinstance(error, RetryableError | InternalError)

    def _pause_s(self, pending: Pending) -> float:
        return self._pacing.pause_s(pending.attempt_count, pending.error)


def turn_into_record(pending: Pending, error: BursarError) -> bool:
    """Whether a commit that its reservation cannot take any more became a record.

    The usage is real, so it is booked all the same: where the reservation is not known any more,
    was released by somebody else, or has expired before a partial commit.
    """
    usable = (
        isinstance(error, ReservationNotFound)
        or (isinstance(error, ReservationExpired) and pending.is_partial)
        or (isinstance(error, AlreadySettled) and error.reason == "RESERVATION_RELEASED")
    )
    if not usable or not isinstance(pending.operation, CommitOperation):
        return False
    record = pending.unsettled().as_record()
    if record is None:
        return False
    _log.warning("commit_recorded reservation_id=%s: %s", pending.lane, error.message)
    pending.operation = record
    return True


def is_nothing_to_release(pending: Pending, error: BursarError) -> bool:
    """Whether a release found that nothing is held any more."""
    return isinstance(pending.operation, ReleaseOperation) and isinstance(
        error, ReservationNotFound
    )


def log_unsettled(event: str, unsettled: Unsettled) -> None:
    """Write a settlement that is lost, or may be, with what is needed to book it by hand."""
    _log.error(
        "%s reservation_id=%s usage=%s subject=%s operation=%s record_request_id=%s error=%s",
        event,
        unsettled.reservation_id,
        unsettled.usage,
        unsettled.subject,
        type(unsettled.operation).__name__,
        unsettled.record_request_id,
        unsettled.error,
    )


def _settlement(pending: Pending, state: HoldState, *, queued: bool = False) -> Settlement:
    return Settlement(
        reservation_id=pending.lane,
        state=state,
        charges=(),
        counters=(),
        directive=Directive(),
        queued=queued,
    )


def _result_error(answer: authority_pb.BatchResponse, position: int) -> BursarError | None:
    if position >= len(answer.results):
        return InternalError("the server answered a part of the batch only", reason="INTERNAL")
    result = answer.results[position]
    return error_of_operation(result.error) if result.HasField("error") else None
