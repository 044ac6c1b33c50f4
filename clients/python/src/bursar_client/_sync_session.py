"""Sessions for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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


class _SyncStream(Stream, Iterator[authority_pb.SessionRequest]):
    """A stream; gRPC takes its messages from it in a thread of its own, one after another.

    What is asked while one is on its way goes together in the next.
    """

    def __init__(self, session: SyncSession, ends_s: float) -> None:
        super().__init__(ends_s)
        self._session = session
        self.call: Any = None

    def __next__(self) -> authority_pb.SessionRequest:
        return self._session.next_message(self)


class SyncSession:
    """Sends operations over one stream after another; safe to share between threads."""

    def __init__(
        self,
        open_stream: Callable[[Iterator[authority_pb.SessionRequest]], Any],
        settings: Settings,
        road: Road,
        random: Callable[[], float],
    ) -> None:
        self._open_stream = open_stream
        self._settings = settings
        self._road = road
        self._random = random
        # Guards all of the following.
        self._changed = threading.Condition()
        self._queue = SessionQueue()
        self._stream: _SyncStream | None = None
        self._threads: dict[_SyncStream, threading.Thread] = {}
        self._closed = False
        self._closing = threading.Event()
        self._room = threading.Semaphore(settings.session_in_flight_max)

    def ask(self, ask: Ask) -> Message:
        """Send an operation and return its answer.

        Raises:
            BursarError: It failed.
        """
        outcome = threading.Event()
        deadline_s = time.monotonic() + ask.timeout_s
        asked = Asked(ask.kind, ask.request, ask.timeout_s, deadline_s, outcome.set)
        if not self._room.acquire(timeout=ask.timeout_s):
            raise full(self._settings)
        try:
            try:
                with self._changed:
                    if self._closed:
                        raise closed()
                    self._queue.put(asked, self._current())
                    self._changed.notify_all()
                self._wait(asked, outcome)
            finally:
                self._forget(asked)
        finally:
            self._room.release()
        return asked.answer()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the session."""
        self._closing.wait(seconds)

    def next_message(self, stream: _SyncStream) -> authority_pb.SessionRequest:
        """Return what a stream sends next, as soon as there is anything.

        Raises:
            StopIteration: It sends nothing more.
        """
        with self._changed:
            while not stream.retired:
                message = self._queue.take(stream, time.monotonic())
                if message is not None:
                    return message
                self._changed.wait()
            raise StopIteration

    def close(self, timeout_s: float | None = None) -> None:
        """End every stream and wait for their threads; operations under way fail.

        Args:
            timeout_s: How long to wait for each at the most; None: as long as it takes.
        """
        for thread in self.abandon():
            if thread is not threading.current_thread():
                thread.join(timeout_s)

    def abandon(self) -> list[threading.Thread]:
        """End every stream without waiting for it, and return the threads that read them."""
        self._closing.set()
        with self._changed:
            self._closed = True
            left = self._queue.take_all()
            threads = list(self._threads.values())
            streams = list(self._threads)
        for asked in left:
            asked.end(closed())
        for stream in streams:
            self._end(stream, closed)
            stream.call.cancel()
        return threads

    def _wait(self, asked: Asked, outcome: threading.Event) -> None:
        """Wait for the outcome, or until the caller's time is over."""
        while asked.outcome is None:
            left_s = max(asked.deadline_s - time.monotonic(), 0.0)
            if not outcome.wait(patience_s(self._road, asked.timeout_s, left_s)):
                self._give_up(asked)

    def _give_up(self, asked: Asked) -> None:
        """End an operation whose time is over, or that goes as a unary call now."""
        with self._changed:
            over = time.monotonic() >= asked.deadline_s
            if asked.outcome is not None or (not over and self._road.is_passable):
                return
            self._queue.forget(asked)
            stream = asked.stream or self._stream
            if isinstance(stream, _SyncStream) and stream.is_silent(asked):
                # Its server hangs, or something in between keeps what it should pass on.
                if not stream.answer_count and not stream.retired:
                    self._road.stream_failed()
                self._replace(stream)
            asked.end(late() if over else StreamFailed(late(), is_broken=True, was_answered=False))

    def _forget(self, asked: Asked) -> None:
        if asked.outcome is not None and not isinstance(asked.outcome, BursarError):
            return
        with self._changed:
            self._queue.forget(asked)
            stream = asked.stream
            unwanted = stream is not None and stream.retired and not stream.in_flight
        if unwanted and isinstance(stream, _SyncStream):
            # Nobody waits for it, and its server may never end it.
            stream.call.cancel()

    def _current(self) -> _SyncStream:
        """Return the stream that takes what is asked now."""
        stream, now_s = self._stream, time.monotonic()
        if stream is not None:
            if now_s < stream.ends_s:
                return stream
            self._retire(stream)
        stream = _SyncStream(self, now_s + age_s(self._settings, self._random))
        stream.call = self._open_stream(stream)
        thread = threading.Thread(
            target=self._read, args=(stream,), name="bursar-session", daemon=True
        )
        self._threads[stream] = thread
        self._stream = stream
        thread.start()
        return stream

    def _retire(self, stream: _SyncStream) -> None:
        """Let a stream take nothing more, and tell its server."""
        stream.retired = True
        if self._stream is stream:
            self._stream = None
        self._changed.notify_all()

    def _replace(self, stream: _SyncStream) -> None:
        """Retire a stream, and let another one take what waits."""
        is_current = self._stream is stream
        self._retire(stream)
        if is_current and len(self._queue) and not self._closed:
            self._current()

    def _read(self, stream: _SyncStream) -> None:
        code = grpc.StatusCode.OK
        make_error: Callable[[], BursarError] = ended
        try:
            for response in stream.call:
                self._take_answers(stream, response)
        except grpc.RpcError as error:
            code, failed = error.code(), error
            make_error = lambda: error_of_call(failed)  # noqa: E731
        finally:
            is_broken, was_answered = code in BROKEN, stream.answer_count > 0
            self._end(
                stream,
                lambda: StreamFailed(make_error(), is_broken=is_broken, was_answered=was_answered),
            )

    def _take_answers(self, stream: _SyncStream, response: authority_pb.SessionResponse) -> None:
        with self._changed:
            if not stream.answer_count:
                self._road.stream_answered()
            stream.take_answers(response)
            if stream.retired:
                self._replace(stream)

    def _end(self, stream: _SyncStream, make_error: Callable[[], BursarError]) -> None:
        """Hand what a stream left unanswered back to its callers."""
        with self._changed:
            if self._threads.pop(stream, None) is None:
                return
            unanswered = list(stream.in_flight.values())
            stream.in_flight.clear()
            if self._stream is stream and not stream.answer_count:
                self._road.stream_failed()
                # The next one would fare as this one did.
                unanswered += self._queue.take_all()
            self._replace(stream)
        for asked in unanswered:
            asked.end(make_error())
