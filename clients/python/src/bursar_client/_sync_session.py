"""Sessions for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from bursar_client._session import Asked, Stream
from bursar_client._session_rules import Road, full
from bursar_client._session_streams import Streams
from bursar_client._settings import Settings
from bursar_client._status import FailedCall
from bursar_client._steps import Ask
from bursar_client.pb import budget_authority_service_pb2 as authority_pb


class _SyncStream(Stream, Iterator[authority_pb.SessionRequest]):
    """A stream; gRPC takes its messages from it in a thread of its own, one after another.

    What is asked while one is on its way goes together in the next.
    """

    def __init__(self, session: SyncSession, ends_s: float, wake: Callable[[], object]) -> None:
        super().__init__(ends_s, wake, self._cancel)
        self._session = session
        self.call: Any = None

    def __next__(self) -> authority_pb.SessionRequest:
        return self._session.next_message(self)

    def _cancel(self) -> None:
        self.call.cancel()


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
        # Guards the streams and the threads that read them.
        self._changed = threading.Condition()
        self._streams = Streams(settings, road, time.monotonic, random, self._open)
        self._threads: set[threading.Thread] = set()
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
                    self._streams.put(asked)
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
                message = self._streams.waiting.take(stream, time.monotonic())
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
            threads, streams = list(self._threads), self._streams.abandon()
            self._changed.notify_all()
        for stream in streams:
            stream.cancel()
        return threads

    def _wait(self, asked: Asked, outcome: threading.Event) -> None:
        """Wait for the outcome, or until the caller's time is over."""
        while asked.outcome is None:
            if not outcome.wait(self._streams.patience_s(asked)):
                with self._changed:
                    self._streams.give_up(asked)

    def _forget(self, asked: Asked) -> None:
        if asked.is_answered:
            return
        with self._changed:
            unwanted = self._streams.forget(asked)
        if unwanted is not None:
            unwanted.cancel()

    def _open(self, ends_s: float) -> Stream:
        stream = _SyncStream(self, ends_s, self._changed.notify_all)
        stream.call = self._open_stream(stream)
        thread = threading.Thread(
            target=self._read, args=(stream,), name="bursar-session", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No further thread can be had; nobody would hand its answers on.
            stream.cancel()
            raise
        self._threads.add(thread)
        return stream

    def _read(self, stream: _SyncStream) -> None:
        failed: FailedCall | None = None
        try:
            for response in stream.call:
                with self._changed:
                    self._streams.take_answers(stream, response)
        except grpc.RpcError as error:
            failed = error
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())
                self._streams.end(stream, failed)
