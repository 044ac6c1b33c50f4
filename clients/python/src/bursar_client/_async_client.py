"""The client for asyncio."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
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
from bursar_client._async_reservation import AsyncReservation
from bursar_client._async_transport import AsyncTransport
from bursar_client._async_worker import AsyncWorker
from bursar_client._calls import OperationResult
from bursar_client._encode import encode_operation
from bursar_client._errors import BudgetDenied, Unsettled, UnsettledError
from bursar_client._explanation import Explanation
from bursar_client._hold import HoldSteps
from bursar_client._lifecycle import Lifecycle
from bursar_client._operations import Operation, ReserveOperation, new_request_id
from bursar_client._settings import Settings
from bursar_client._settling import Settler, SettleStats
from bursar_client._steps import Steps
from bursar_client._usage_report import UsageReport, UsageRow


class AsyncClient:
    """Asks a budget authority before each call of a model and settles after it.

    One for each event loop is enough. Close it, or use it in an `async with` block, so that
    settlements which still wait are sent.
    """

    def __init__(
        self,
        address: str = "localhost:4500",
        *,
        tls: bool | grpc.ChannelCredentials = False,
        settings: Settings | None = None,
        on_settle_failed: Callable[[Unsettled], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
        new_id: Callable[[], str] = new_request_id,
    ) -> None:
        """Make a client; it connects with its first call and belongs to the event loop of that.

        Args:
            address: `host:port`, `dns:///host:port`, or several `ip:port` with commas.
            tls: True for the system's certificates, or credentials; False: not encrypted.
            settings: Times, bounds and retries.
            on_settle_failed: Called with each settlement that is given up; must not block.
            clock: Seconds that only grow.
            sleep: Waits for seconds, between attempts to settle.
            random: Gives numbers from 0 to 1, for jitter.
            new_id: Makes request ids.
        """
        self._settings = settings or Settings()
        self._new_id = new_id
        self._settler = Settler(self._settings, clock, random, on_settle_failed)
        self._transport = AsyncTransport(address, tls, self._settings, sleep, random)
        self._worker = AsyncWorker(self._settler, self._transport.perform)
        self._close_lock = asyncio.Lock()
        self._settler.changed = self._worker.wake
        self._settler.when_forked = (self._worker.start_anew, self._transport.start_anew)
        _leaks.watch(self._settler)

    def reserve(
        self, **request: Unpack[ReserveArguments]
    ) -> AbstractAsyncContextManager[AsyncReservation]:
        """Reserve at the start of an `async with` block and settle at its end.

        See `AsyncReservation` for what the end of the block does.

        Args:
            **request: See `Subject`, `Target`, `Estimate` and `ReserveOperation`.

        Raises:
            BudgetDenied: On entry, where a budget does not allow the call.
            BursarError: On entry, where the server refuses or cannot be reached.
        """
        operation = reserve_of(request, self._new_id)
        made_here = not request.get("request_id")
        return _Reserving(lambda: self._reserve(operation, made_here))

    async def try_reserve(self, **request: Unpack[ReserveArguments]) -> AsyncReservation | Denial:
        """Reserve, and return the reservation or why it was denied.

        The reservation has to be settled: by its methods, or by using it in an `async with`
        block.
        """
        operation = reserve_of(request, self._new_id)
        return await self._reserve(operation, not request.get("request_id"))

    async def check(self, **request: Unpack[CheckArguments]) -> Grant | Denial:
        """Ask what a reserve would answer; nothing is held."""
        operation = reserve_of(request, self._new_id)
        return await self._worker.run(_calls.check(operation, self._settings))

    async def record(self, **usage: Unpack[RecordArguments]) -> Settlement:
        """Book usage that had no reservation. It is retried and queued as a commit is."""
        operation = record_of(usage, self._new_id)
        encode_operation(operation)
        pending = self._settler.pending(operation, operation.subject)
        return await self._worker.run_shielded(self._settler.settle(pending), asyncio.Lock())

    async def settle(self, unsettled: Unsettled) -> Settlement:
        """Try again what could not be settled before, by this or another client."""
        encode_operation(unsettled.operation)
        pending = self._settler.pending(
            unsettled.operation, unsettled.subject, unsettled.record_request_id
        )
        return await self._worker.run_shielded(self._settler.settle(pending), asyncio.Lock())

    async def batch(self, operations: Sequence[Operation]) -> tuple[OperationResult, ...]:
        """Carry out 1 to 1,000 operations in order and return their results.

        It is not atomic: a failed operation is an error among the results, and is not raised.
        """
        return await self._worker.run(_calls.batch(operations, self._settings))

    async def explain(self, **question: Unpack[QuestionArguments]) -> Explanation:
        """Ask for every budget of the org whether it applies, why, and how it stands."""
        return await self._worker.run(_calls.explain(*question_of(question), self._settings))

    async def get_balances(
        self, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> AsyncIterator[CounterStatus]:
        """Read the counters of a subject, page by page as they are needed.

        Args:
            page_size: Counters for each call, 1 to 1,000; 0: 100.
            **subject: Whose; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            steps = _calls.balances_page(who, page_size, token, self._settings)
            page = await self._worker.run(steps)
            for counter in page.items:
                yield counter
            if not (token := page.next_page_token):
                return

    async def list_holds(
        self, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> AsyncIterator[Hold]:
        """Read who holds what, page by page as it is needed.

        Args:
            page_size: Holds for each call, 1 to 1,000; 0: 50.
            **subject: Whose; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            steps = _calls.holds_page(who, page_size, token, self._settings)
            page = await self._worker.run(steps)
            for hold in page.items:
                yield hold
            if not (token := page.next_page_token):
                return

    async def query_usage(
        self, report: UsageReport, *, page_size: int = 0, **subject: Unpack[SubjectArguments]
    ) -> AsyncIterator[UsageRow]:
        """Read what was used, added up by the ledger, page by page as it is needed.

        Args:
            report: Of what time and of what, and how it is grouped.
            page_size: Rows for each call, 1 to 1,000; 0: 100.
            **subject: Whose, without labels; see `Subject`.
        """
        who, token = subject_of(subject), ""
        while True:
            steps = _calls.usage_page(who, report, page_size, token, self._settings)
            page = await self._worker.run(steps)
            for row in page.items:
                yield row
            if not (token := page.next_page_token):
                return

    def settle_stats(self) -> SettleStats:
        """Return how many settlements wait and how many were given up."""
        return self._settler.stats()

    async def close(self, timeout_s: float = 10.0) -> None:
        """Send what still waits and close the connection.

        Args:
            timeout_s: How long to try, 0 or more.

        Raises:
            UnsettledError: Not all could be settled; it lists what is left.
        """
        async with self._close_lock:
            if self._settler.closed:
                return
            await self._worker.flush(timeout_s)
            left = self._settler.end()
            _leaks.forget(self._settler)
            await self._worker.stop()
            await self._transport.close()
        if left:
            raise UnsettledError(left)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except UnsettledError as unsettled:
            # What ended the block is what its caller has to see; each was logged.
            if error is None:
                raise
            error.add_note(str(unsettled))

    def __del__(self) -> None:
        settler = getattr(self, "_settler", None)
        if settler is not None and not settler.closed:
            _leaks.report(settler, "a bursar_client.AsyncClient")

    async def _reserve(
        self, operation: ReserveOperation, made_here: bool
    ) -> AsyncReservation | Denial:
        def give_back(decision: Grant | Denial) -> Steps[object] | None:
            if isinstance(decision, Denial):
                return None
            lifecycle = Lifecycle(operation, decision)
            return HoldSteps(lifecycle, self._settler, self._settings).release()

        asked = _calls.reserve(operation, self._settings)
        if made_here:
            # Whoever is cancelled here never learns of the hold, and nobody else knows its id.
            decision = await self._worker.run_or_undo(asked, give_back)
        else:
            # The caller may ask again with the same request_id, so the hold has to stay.
            decision = await self._worker.run(asked)
        if isinstance(decision, Denial):
            return decision
        lifecycle = Lifecycle(operation, decision)
        steps = HoldSteps(lifecycle, self._settler, self._settings)
        return AsyncReservation(lifecycle, steps, self._worker)


class _Reserving:
    """An `async with` block that reserves on entry."""

    def __init__(self, reserve: Callable[[], Awaitable[AsyncReservation | Denial]]) -> None:
        self._reserve = reserve
        self._reservation: AsyncReservation | None = None

    async def __aenter__(self) -> AsyncReservation:
        decision = await self._reserve()
        if isinstance(decision, Denial):
            raise BudgetDenied(decision)
        self._reservation = decision
        return decision

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reservation is not None:
            await self._reservation.__aexit__(kind, error, trace)
