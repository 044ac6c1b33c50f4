"""Sessions for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from bursar_client._errors import BursarError
from bursar_client._session import Asked, SessionQueue, Stream
from bursar_client._session_rules import (
    BROKEN,
    Road,
    StreamFailed,
    age_s,
    closed,
    ended,
    full,
    late,
    patience_s,
)
from bursar_client._settings import Settings
from bursar_client._status import error_of_call
from bursar_client._steps import Ask
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

END_S_MAX = 0.2
"""How long a client that is closed waits for a stream to end."""

LAST_EVENTS_S = 0.01
"""How long gRPC takes at the most to tell what it has to of a call that was cancelled."""


class _AsyncStream(Stream):
    """A stream with the tasks that read and write it.

    What is written meanwhile goes together in the next message: gRPC takes one at a time.
    """

    def __init__(self, call: Any, ends_s: float) -> None:  # noqa: ANN401
        super().__init__(ends_s)
        self.call = call
        self.reading: asyncio.Task[None] | None = None
        self.writing: asyncio.Task[None] | None = None


class AsyncSession:
    """Sends operations over one stream after another, for one event loop."""

    def __init__(
        self,
        open_stream: Callable[[None], Any],
        settings: Settings,
        road: Road,
        random: Callable[[], float],
    ) -> None:
        self._open_stream = open_stream
        self._settings = settings
        self._road = road
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._queue = SessionQueue()
        self._room = asyncio.Semaphore(settings.session_in_flight_max)
        self._stream: _AsyncStream | None = None
        self._streams: set[_AsyncStream] = set()
        self._closed = False

    async def ask(self, ask: Ask) -> Message:
        """Send an operation and return its answer.

        Raises:
            BursarError: It failed.
        """
        outcome: asyncio.Future[None] = self._loop.create_future()
        deadline_s = self._loop.time() + ask.timeout_s
        asked = Asked(ask.kind, ask.request, ask.timeout_s, deadline_s, partial(_wake, outcome))
        await self._enter(ask.timeout_s)
        try:
            if self._closed:
                raise closed()
            self._put(asked)
            wait_s = patience_s(self._road, asked.timeout_s, asked.deadline_s - self._loop.time())
            timer = self._loop.call_later(wait_s, self._give_up, asked)
            try:
                await outcome
            finally:
                timer.cancel()
                self._forget(asked)
        finally:
            self._room.release()
        return asked.answer()

    async def close(self) -> None:
        """End every stream; operations under way fail."""
        streams = list(self._streams)
        tasks = [stream.reading for stream in streams if stream.reading is not None]
        self._fail_all()
        if tasks and not any(stream.in_flight for stream in streams):
            for stream in streams:
                self._retire(stream)
            await asyncio.wait(tasks, timeout=END_S_MAX)
        self.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=END_S_MAX)

    def abandon(self) -> None:
        """End every stream without waiting for it."""
        self._fail_all()
        for stream in list(self._streams):
            self._streams.discard(stream)
            stream.call.cancel()

    def _fail_all(self) -> None:
        self._closed = True
        in_flight = [asked for stream in self._streams for asked in stream.in_flight.values()]
        for asked in [*self._queue.take_all(), *in_flight]:
            asked.end(closed())

    async def _enter(self, timeout_s: float) -> None:
        """Wait for room."""
        if not self._room.locked():
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.acquire()
        except TimeoutError:
            raise full(self._settings) from None

    def _put(self, asked: Asked) -> None:
        stream = self._current()
        self._queue.put(asked, stream)
        self._write_soon(stream)

    def _give_up(self, asked: Asked) -> None:
        """End an operation whose time is over, or that goes as a unary call now."""
        if asked.outcome is not None:
            return
        over = self._loop.time() >= asked.deadline_s - 0.001
        if not over and self._road.is_passable:
            self._loop.call_at(asked.deadline_s, self._give_up, asked)
            return
        self._queue.forget(asked)
        stream = asked.stream or self._stream
        if isinstance(stream, _AsyncStream) and stream.is_silent(asked):
            # Its server hangs, or something in between keeps what it should pass on.
            if not stream.answer_count and not stream.retired:
                self._road.stream_failed()
            self._replace(stream)
        asked.end(late() if over else StreamFailed(late(), is_broken=True, was_answered=False))

    def _forget(self, asked: Asked) -> None:
        stream = asked.stream
        if asked.outcome is None or isinstance(asked.outcome, BursarError):
            self._queue.forget(asked)
            if isinstance(stream, _AsyncStream) and stream.retired and not stream.in_flight:
                # Nobody waits for it, and its server may never end it.
                stream.call.cancel()

    def _write_soon(self, stream: _AsyncStream) -> None:
        """Let a stream take what waits, after all that is ready to run now has put its own."""
        if stream.writing is None or stream.writing.done():
            stream.writing = self._loop.create_task(self._write(stream))
            stream.writing.add_done_callback(partial(self._written, stream))

    def _current(self) -> _AsyncStream:
        """Return the stream that takes what is asked now."""
        stream, now_s = self._stream, self._loop.time()
        if stream is not None:
            if now_s < stream.ends_s:
                return stream
            self._retire(stream)
        ends_s = now_s + age_s(self._settings, self._random)
        stream = _AsyncStream(self._open_stream(None), ends_s)
        stream.reading = self._loop.create_task(self._read(stream))
        stream.reading.add_done_callback(partial(self._was_read, stream))
        self._streams.add(stream)
        self._stream = stream
        return stream

    def _retire(self, stream: _AsyncStream) -> None:
        """Let a stream take nothing more, and tell its server."""
        stream.retired = True
        if self._stream is stream:
            self._stream = None
        if stream in self._streams:
            self._write_soon(stream)

    def _replace(self, stream: _AsyncStream) -> None:
        """Retire a stream, and let another one take what waits."""
        is_current = self._stream is stream
        self._retire(stream)
        if is_current and len(self._queue) and not self._closed:
            self._write_soon(self._current())

    async def _write(self, stream: _AsyncStream) -> None:
        while not stream.retired:
            message = self._queue.take(stream, self._loop.time())
            if message is None:
                return
            await stream.call.write(message)
        await stream.call.done_writing()

    def _written(self, stream: _AsyncStream, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            # It has ended, or does now: whoever reads it learns why.
            stream.call.cancel()
        elif len(self._queue) and self._stream is stream:
            self._write_soon(stream)

    async def _read(self, stream: _AsyncStream) -> None:
        call = stream.call
        try:
            while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                self._take_answers(stream, response)
        except asyncio.CancelledError:
            # The event loop is about to end, with gRPC's last events of this call on their way: in
            # the next event loop they would be errors.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                await asyncio.sleep(LAST_EVENTS_S)
            raise

    def _was_read(self, stream: _AsyncStream, task: asyncio.Task[None]) -> None:
        code = grpc.StatusCode.OK
        make_error: Callable[[], BursarError] = ended
        error = None if task.cancelled() else task.exception()
        if isinstance(error, grpc.aio.AioRpcError) and not _is_of_a_write(error, stream):
            failed = error
            code = error.code()
            make_error = lambda: error_of_call(failed)  # noqa: E731
        stream.call.cancel()
        if stream.writing is not None:
            stream.writing.cancel()
        is_broken, was_answered = code in BROKEN, stream.answer_count > 0
        self._end(
            stream,
            lambda: StreamFailed(make_error(), is_broken=is_broken, was_answered=was_answered),
            # As gRPC ends it where this client did; or the event loop, which is about to end.
            with_queue=task.cancelled(),
        )

    def _take_answers(self, stream: _AsyncStream, response: authority_pb.SessionResponse) -> None:
        if not stream.answer_count:
            self._road.stream_answered()
        stream.take_answers(response)
        if stream.retired:
            self._replace(stream)

    def _end(
        self,
        stream: _AsyncStream,
        make_error: Callable[[], BursarError],
        *,
        with_queue: bool = False,
    ) -> None:
        """Hand what a stream left unanswered back to its callers.

        Args:
            stream: It has ended.
            make_error: Makes what each of them is told.
            with_queue: Whether to hand back what waits for it, too.
        """
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        unanswered = list(stream.in_flight.values())
        stream.in_flight.clear()
        if self._stream is stream:
            self._stream = None
            if not stream.answer_count:
                self._road.stream_failed()
            if with_queue or not stream.answer_count:
                # The next one would fare as this one did.
                unanswered += self._queue.take_all()
        stream.retired = True
        for asked in unanswered:
            asked.end(make_error())
        if len(self._queue) and self._stream is None and not self._closed:
            self._write_soon(self._current())


def _is_of_a_write(error: grpc.aio.AioRpcError, stream: _AsyncStream) -> bool:
    """Whether a stream's end says nothing of why: it met a write.

    gRPC then tells INTERNAL of its own in place of what the server said, which is not to be known
    any more (grpc/grpc#36066).
    """
    writing = stream.writing
    if error.code() is not grpc.StatusCode.INTERNAL or writing is None or not writing.done():
        return False
    return not writing.cancelled() and isinstance(writing.exception(), grpc.aio.AioRpcError)


def _wake(outcome: asyncio.Future[None]) -> None:
    # Its caller may have been cancelled.
    if not outcome.done():
        outcome.set_result(None)
