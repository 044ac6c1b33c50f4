"""The client for threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, Unpack

import grpc

from bursar_client import _calls, _leaks
from bursar_client._answers import CounterStatus, Denial, Grant, Hold, Settlement
from bursar_client._arguments import (
    CheckArguments,
    QuestionArguments,
    RecordArguments,
    ReserveArguments,
    SubjectArguments,
    question_of,
    record_of,
    reserve_of,
    subject_of,
)
from bursar_client._calls import OperationResult
from bursar_client._encode import encode_operation
from bursar_client._errors import BudgetDenied, Unsettled, UnsettledError
from bursar_client._explanation import Explanation
from bursar_client._hold import HoldSteps
from bursar_client._lifecycle import Lifecycle
from bursar_client._operations import Operation, ReserveOperation, new_request_id
from bursar_client._settings import Settings
from bursar_client._settling import Settler, SettleStats
from bursar_client._steps import Result, Steps, run_sync
from bursar_client._sync_reservation import Reservation
from bursar_client._sync_transport import SyncTransport
from bursar_client._sync_worker import SyncWorker
from bursar_client._usage_report import UsageReport, UsageRow


class Client:
    """Asks a budget authority before each call of a model and settles after it.

    Safe to share between threads; one for each process is enough. Close it, or use it in a
    `with` block, so that settlements which still wait are sent.
    """

    def __init__(
        self,
        address: str = "localhost:4500",
        *,
        tls: bool | grpc.ChannelCredentials = False,
        settings: Settings | None = None,
        on_settle_failed: Callable[[Unsettled], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random.random,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        """Make a client; it connects with its first call.

        Args:
            address: `host:port`, `dns:///host:port`, or several `ip:port` with commas.
            tls: True for the system's certificates, or credentials; False: not encrypted.
            settings: Times, bounds and retries.
            on_settle_failed: Called with each settlement that is given up; from any thread.
            clock: Seconds that only grow.
            sleep: Waits for seconds, between attempts to settle.
            random: Gives numbers from 0 to 1, for jitter.
            new_id: Makes request ids.
        """
        self._settings = settings or Settings()
        self._new_id = new_id
        self._settler = Settler(self._settings, clock, random, on_settle_failed)
        self._transport = SyncTransport(address, tls, self._settings, sleep, random)
        self._worker = SyncWorker(self._settler, self._transport.perform)
        self._close_lock = threading.Lock()
        self._settler.changed = self._worker.wake
        self._settler.when_forked = (self._worker.start_anew, self._transport.start_anew)
        _leaks.watch(self._settler, self._transport.leave)

    def reserve(self, **request: Unpack[ReserveArguments]) -> AbstractContextManager[Reservation]:
        """Reserve at the start of a `with` block and settle at its end; see `Reservation`.

        Args:
            **request: See `Subject`, `Target`, `Estimate` and `ReserveOperation`.

        Raises:
            BudgetDenied: On entry, where a budget does not allow the call.
            BursarError: On entry, where the server refuses or cannot be reached.
        """
        operation = reserve_of(request, self._new_id)
        return _Reserving(lambda: self._reserve(operation))

    def try_reserve(self, **request: Unpack[ReserveArguments]) -> Reservation | Denial:
        """Reserve, and return the reservation or why it was denied.

        The reservation has to be settled: by its methods, or by using it in a `with` block.
        """
        return self._reserve(reserve_of(request, self._new_id))

    def check(self, **request: Unpack[CheckArguments]) -> Grant | Denial:
        """Ask what a reserve would answer; nothing is held."""
        return self._run(_calls.check(reserve_of(request, self._new_id), self._settings))

    def record(self, **usage: Unpack[RecordArguments]) -> Settlement:
        """Book usage that had no reservation. It is retried and queued as a commit is."""
        operation = record_of(usage, self._new_id)
        encode_operation(operation)
        return self._run(self._settler.settle(self._settler.pending(operation, operation.subject)))

    def settle(self, unsettled: Unsettled) -> Settlement:
        """Try again what could not be settled before, by this or another client."""
        encode_operation(unsettled.operation)
        pending = self._settler.pending(
            unsettled.operation, unsettled.subject, unsettled.record_request_id
        )
        return self._run(self._settler.settle(pending))

    def batch(self, operations: Sequence[Operation]) -> tuple[OperationResult, ...]:
        """Carry out 1 to 1,000 operations in order and return their results.

        It is not atomic: a failed operation is an error among the results, and is not raised.
        """
        return self._run(_calls.batch(operations, self._settings))

    def explain(self, **question: Unpack[QuestionArguments]) -> Explanation:
        """Ask for every budget of the org whether it applies, why, and how it stands."""
        return self._run(_calls.explain(*question_of(question), self._settings))

    def get_balances(
        self, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> Iterator[CounterStatus]:
        """Read the counters of a subject, page by page as they are needed.

        Args:
            page_size: Counters for each call, 1 to 1,000; 0: 100.
            **subject: Whose; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            page = self._run(_calls.balances_page(who, page_size, token, self._settings))
            yield from page.items
            if not (token := page.next_page_token):
                return

    def list_holds(
        self, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> Iterator[Hold]:
        """Read who holds what, page by page as it is needed.

        Args:
            page_size: Holds for each call, 1 to 1,000; 0: 50.
            **subject: Whose; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            page = self._run(_calls.holds_page(who, page_size, token, self._settings))
            yield from page.items
            if not (token := page.next_page_token):
                return

    def query_usage(
        self, report: UsageReport, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> Iterator[UsageRow]:
        """Read what was used, added up by the ledger, page by page as it is needed.

        Args:
            report: Of what time and of what, and how it is grouped.
            page_size: Rows for each call, 1 to 1,000; 0: 100.
            **subject: Whose, without labels; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            page = self._run(_calls.usage_page(who, report, page_size, token, self._settings))
            yield from page.items
            if not (token := page.next_page_token):
                return

    def settle_stats(self) -> SettleStats:
        """Return how many settlements wait and how many were given up."""
        return self._settler.stats()

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what still waits and close the connection.

        Args:
            timeout_s: How long to try, 0 or more.

        Raises:
            UnsettledError: Not all could be settled; it lists what is left.
        """
        with self._close_lock:
            if self._settler.closed:
                return
            self._worker.flush(timeout_s)
            left = self._settler.end()
            _leaks.forget(self._settler)
            self._transport.close()
            self._worker.join()
        if left:
            raise UnsettledError(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except UnsettledError as unsettled:
            # What ended the block is what its caller has to see; each was logged.
            if error is None:
                raise
            error.add_note(str(unsettled))

    def __del__(self) -> None:
        settler = getattr(self, "_settler", None)
        if settler is not None and not settler.closed:
            _leaks.report(settler, "a bursar_client.Client")

    def _reserve(self, operation: ReserveOperation) -> Reservation | Denial:
        decision = self._run(_calls.reserve(operation, self._settings))
        if isinstance(decision, Denial):
            return decision
        lifecycle = Lifecycle(operation, decision)
        steps = HoldSteps(lifecycle, self._settler, self._settings)
        return Reservation(lifecycle, steps, self._transport.perform)

    def _run(self, steps: Steps[Result]) -> Result:
        return run_sync(steps, self._transport.perform)


class _Reserving:
    """A `with` block that reserves on entry."""

    def __init__(self, reserve: Callable[[], Reservation | Denial]) -> None:
        self._reserve = reserve
        self._reservation: Reservation | None = None

    def __enter__(self) -> Reservation:
        decision = self._reserve()
        if isinstance(decision, Denial):
            raise BudgetDenied(decision)
        self._reservation = decision
        return decision

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reservation is not None:
            self._reservation.__exit__(kind, error, trace)
