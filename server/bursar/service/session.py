"""Sessions: streams of operations, any number at once, answered as they are done.

A session stops reading while too many of its operations are in flight, so that HTTP/2 holds back
whoever sends more. What comes in one message is carried out together.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import grpc.aio

from bursar.authority.authority import Answer, Authority
from bursar.domain.errors import BursarError, LimitExceeded
from bursar.domain.request import Operation
from bursar.failpoints import failpoint
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.service.admission import Admission
from bursar.service.deadlines import Deadlines
from bursar.service.errors import Draining
from bursar.service.operation import Operations
from bursar.service.work import org_of_operation

Context: TypeAlias = "grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse]"

_DRAINING = Draining("the server is shutting down; call another one")


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of a session.

    Attributes:
        message_operations_max: Operations in one message.
        message_bytes_max: Size of one message.
        in_flight_max: Operations that may wait for their answers before it stops reading.
        deadlines: How long an operation may take.
    """

    message_operations_max: int
    message_bytes_max: int
    in_flight_max: int
    deadlines: Deadlines


class Sessions:
    """The sessions of one server."""

    def __init__(
        self,
        authority: Authority,
        operations: Operations,
        admission: Admission,
        limits: SessionLimits,
    ) -> None:
        """Begins with none.

        Args:
            authority: Carries them out.
            operations: Reads and answers them.
            admission: Admits operations of all sessions and batches.
            limits: Bounds of each session.
        """
        self._parts = (authority, operations, admission, limits)
        self._open: set[_Session] = set()
        self._grace_s: float | None = None

    async def serve(self, context: Context) -> None:
        """Answer what comes over a stream until its client or this server ends it."""
        session = _Session(context, *self._parts)
        if self._grace_s is not None:
            session.drain(self._grace_s)
        self._open.add(session)
        try:
            await session.run()
        finally:
            self._open.discard(session)

    def drain(self, grace_ms: int) -> None:
        """Ask every client to go elsewhere; a stream that is not closed by then is ended.

        Args:
            grace_ms: How long they have.
        """
        self._grace_s = grace_ms / 1_000
        for session in self._open:
            session.drain(self._grace_s)


class _Asked(NamedTuple):
    """An operation that was admitted, and whose it is."""

    message: pb.SessionOperation
    org: str


class _Session:
    """One stream."""

    def __init__(
        self,
        context: Context,
        authority: Authority,
        operations: Operations,
        admission: Admission,
        limits: SessionLimits,
    ) -> None:
        self._context = context
        self._authority = authority
        self._operations = operations
        self._admission = admission
        self._limits = limits
        self._in_flight = 0
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answered = pb.SessionResponse()
        self._draining = self._is_writing = False
        self._reading: asyncio.Task[None] | None = None
        self._grace_s = 0.0

    async def run(self) -> None:
        """Serve to the end: until the client has no more and everything is answered."""
        reading = self._reading = asyncio.create_task(self._read())
        if self._draining:
            self._end_later()
        try:
            await asyncio.wait((reading,))
            if not reading.cancelled():
                reading.result()
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._write()
        finally:
            # The stream is gone; what is in flight is carried out all the same.
            reading.cancel()

    def drain(self, grace_s: float) -> None:
        """Tell the client to go, answer what is in flight, and stop reading after a time."""
        self._draining = self._answered.draining = True
        self._grace_s = grace_s
        self._start(self._write())
        if self._reading is not None:
            self._end_later()

    def _end_later(self) -> None:
        assert self._reading is not None
        asyncio.get_running_loop().call_later(self._grace_s, self._reading.cancel)

    async def _read(self) -> None:
        while True:
            await self._room.wait()
            message = await self._context.read()
            if message is grpc.aio.EOF:  # type: ignore[attr-defined]
                return
            self._begin(message)

    def _begin(self, message: pb.SessionRequest) -> None:
        failpoint("after_decode")
        refusal = self._refusal(message)
        by_org: dict[str, list[pb.SessionOperation]] = defaultdict(list)
        for each in message.operations:
            by_org[org_of_operation(each.operation)].append(each)
        # Nearly always all of a message have the same timeout.
        groups: dict[float | None, list[_Asked]] = defaultdict(list)
        for org, asked in by_org.items():
            let_in, error = (
                self._admission.enter_some(org, len(asked)) if refusal is None else (0, refusal)
            )
            for each in asked[:let_in]:
                groups[_timeout_s(each)].append(_Asked(each, org))
            if error is not None:
                self._operations.refuse(self._answered, asked[let_in:], error)
        for timeout_s, group in groups.items():
            self._in_flight += len(group)
            self._start(self._carry_out(group, timeout_s))
        if self._in_flight >= self._limits.in_flight_max:
            self._room.clear()
        if self._answered.results:
            self._start(self._write())

    def _refusal(self, message: pb.SessionRequest) -> BursarError | None:
        """Return why nothing of a message is carried out, or None."""
        if self._draining:
            return _DRAINING
        limits, count = self._limits, len(message.operations)
        if count > limits.message_operations_max:
            return LimitExceeded("operations", "entries", count, limits.message_operations_max)
        size = message.ByteSize()
        if size > limits.message_bytes_max:
            return LimitExceeded(
                "operations", "bytes in its message", size, limits.message_bytes_max
            )
        return None

    async def _carry_out(self, group: Sequence[_Asked], timeout_s: float | None) -> None:
        try:
            decoded = [self._operations.decode(each.message.operation) for each in group]
            answers = await self._answers(decoded, timeout_s)
            failpoint("before_reply")
            for each, answer in zip(group, answers, strict=True):
                self._answer(each.message, answer)
        finally:
            for org, count in Counter(each.org for each in group).items():
                self._admission.leave(org, count)
            self._in_flight -= len(group)
            if self._in_flight < self._limits.in_flight_max:
                self._room.set()
        await self._write()

    async def _answers(
        self, decoded: Sequence[Operation | BursarError], timeout_s: float | None
    ) -> list[Answer | BaseException]:
        valid = [each for each in decoded if not isinstance(each, BursarError)]
        answers: Sequence[Answer | BaseException]
        try:
            async with asyncio.timeout(self._limits.deadlines.time_to_answer_s(timeout_s)):
                answers = await self._authority.concurrent(valid)
        except Exception as error:
            answers = [error] * len(valid)
        following = iter(answers)
        return [each if isinstance(each, BursarError) else next(following) for each in decoded]

    def _answer(self, asked: pb.SessionOperation, answer: Answer | BaseException) -> None:
        result = self._answered.results.add(correlation_id=asked.correlation_id)
        self._operations.put(result.result, answer, asked.operation)
        result.replayed = getattr(answer, "replayed", False)

    async def _write(self) -> None:
        """Send what is answered. While one sends, what others have answered goes next."""
        if self._is_writing:
            return
        self._is_writing = True
        try:
            while self._answered.results or self._answered.draining:
                response, self._answered = self._answered, pb.SessionResponse()
                await self._context.write(response)
        except grpc.aio.BaseError:
            # The client is gone; it asks again elsewhere.
            self._answered = pb.SessionResponse()
        finally:
            self._is_writing = False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _timeout_s(operation: pb.SessionOperation) -> float | None:
    if not operation.HasField("timeout"):
        return None
    seconds: float = operation.timeout.seconds + operation.timeout.nanos / 1e9
    return seconds
