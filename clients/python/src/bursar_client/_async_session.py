"""Sessions for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from bursar_client._session import Asked, Stream
from bursar_client._session_rules import Road, full
from bursar_client._session_streams import Streams
from bursar_client._settings import Settings
from bursar_client._steps import Ask

END_S_MAX = 0.2
"""How long a client that is closed waits for a stream to end."""

LAST_EVENTS_S = 0.01
"""How long gRPC takes at the most to tell what it has to of a call that was cancelled."""


class _AsyncStream(Stream):
    """A stream with its call and the task that writes it.

    What is asked while one message is written goes together in the next: gRPC takes one at a time.
    """

    def __init__(
        self,
        call: Any,  # noqa: ANN401
        ends_s: float,
        write_soon: Callable[[_AsyncStream], None],
    ) -> None:
        super().__init__(ends_s, partial(write_soon, self), call.cancel)
        self.call = call
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
        self._loop = asyncio.get_running_loop()
        self._streams = Streams(settings, road, self._loop.time, random, self._open)
        self._reading: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(settings.session_in_flight_max)

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
            self._streams.put(asked)
            timer = self._loop.call_later(self._streams.patience_s(asked), self._give_up, asked)
            try:
                await outcome
            finally:
                timer.cancel()
                if (unwanted := self._streams.forget(asked)) is not None:
                    unwanted.cancel()
        finally:
            self._room.release()
        return asked.answer()

    async def close(self) -> None:
        """End every stream; operations under way fail."""
        tasks = list(self._reading)
        self._streams.close()
        if tasks and not any(stream.in_flight for stream in self._streams.open):
            for stream in list(self._streams.open):
                self._streams.retire(stream)
            await asyncio.wait(tasks, timeout=END_S_MAX)
        self.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=END_S_MAX)

    def abandon(self) -> None:
        """End every stream without waiting for it."""
        for stream in self._streams.abandon():
            stream.cancel()

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

    def _give_up(self, asked: Asked) -> None:
        if not self._streams.give_up(asked):
            self._loop.call_at(asked.deadline_s, self._give_up, asked)

    def _open(self, ends_s: float) -> Stream:
        stream = _AsyncStream(self._open_stream(None), ends_s, self._write_soon)
        reading = self._loop.create_task(self._read(stream))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        reading.add_done_callback(partial(self._was_read, stream))
        return stream

    def _write_soon(self, stream: _AsyncStream) -> None:
        """Let a stream take what waits, after all that is ready to run now has put its own."""
        if stream not in self._streams.open:
            return
        if stream.writing is None or stream.writing.done():
            stream.writing = self._loop.create_task(self._write(stream))
            stream.writing.add_done_callback(partial(self._written, stream))

    async def _write(self, stream: _AsyncStream) -> None:
        while not stream.retired:
            message = self._streams.waiting.take(stream, self._loop.time())
            if message is None:
                return
            await stream.call.write(message)
        await stream.call.done_writing()

    def _written(self, stream: _AsyncStream, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            # It has ended, or does now: whoever reads it learns why.
            stream.cancel()
        elif len(self._streams.waiting) and self._streams.current is stream:
            self._write_soon(stream)

    async def _read(self, stream: _AsyncStream) -> None:
        call = stream.call
        try:
            while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                self._streams.take_answers(stream, response)
        except asyncio.CancelledError:
            # The event loop is about to end, with gRPC's last events of this call on their way: in
            # the next event loop they would be errors.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                await asyncio.sleep(LAST_EVENTS_S)
            raise

    def _was_read(self, stream: _AsyncStream, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        failed = error if isinstance(error, grpc.aio.AioRpcError) else None
        if failed is not None and _is_of_a_write(failed, stream.writing):
            failed = None
        stream.cancel()
        if stream.writing is not None:
            stream.writing.cancel()
        # Where it was cancelled, this client did that, or the event loop, which is about to end.
        self._streams.end(stream, failed, with_waiting=task.cancelled())


def _is_of_a_write(error: grpc.aio.AioRpcError, writing: asyncio.Task[None] | None) -> bool:
    """Whether a stream's end says nothing of why: it met a write.

    gRPC then tells INTERNAL of its own in place of what the server said, which is not to be known
    any more (grpc/grpc#36066).
    """
    if error.code() is not grpc.StatusCode.INTERNAL or writing is None or not writing.done():
        return False
    return not writing.cancelled() and isinstance(writing.exception(), grpc.aio.AioRpcError)


def _wake(outcome: asyncio.Future[None]) -> None:
    # Its caller may have been cancelled.
    if not outcome.done():
        outcome.set_result(None)
