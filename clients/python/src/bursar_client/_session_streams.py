"""Which stream of a session takes what is asked, and what becomes of what one leaves unanswered.

Without input or output: it calls what it was given to open a stream, and to have one written.
"""

from __future__ import annotations

from collections.abc import Callable

from bursar_client._session import Asked, SessionQueue, Stream
from bursar_client._session_rules import (
    BROKEN,
    Road,
    StreamFailed,
    age_s,
    closed,
    ended,
    late,
    patience_s,
)
from bursar_client._settings import Settings
from bursar_client._status import FailedCall, error_of_call
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

_TIMER_EARLY_S = 0.001
"""How much too early a timer may wake somebody."""


class Streams:
    """The streams of one session, for both clients: the current one takes what is asked.

    What waits always has one that takes it, or ends. Who shares it between threads guards it with
    a lock; whatever it calls is called with that.

    Attributes:
        waiting: What no stream has taken.
        current: The stream that takes what waits; None where nothing does.
        open: All that have not ended: others have operations in flight, or are being closed.
        closed: Whether nothing more is asked.
    """

    def __init__(
        self,
        settings: Settings,
        road: Road,
        clock: Callable[[], float],
        random: Callable[[], float],
        open_stream: Callable[[float], Stream],
    ) -> None:
        """Begins with none.

        Args:
            settings: How old a stream may get.
            road: Told of every stream whether it was answered.
            clock: That of deadlines.
            random: Gives numbers from 0 to 1.
            open_stream: Opens one that ends at a time.
        """
        self.waiting = SessionQueue()
        self.current: Stream | None = None
        self.open: set[Stream] = set()
        self.closed = False
        self._settings = settings
        self._road = road
        self._clock = clock
        self._random = random
        self._open_stream = open_stream

    def put(self, asked: Asked) -> None:
        """Let an operation wait for the current stream, or for a new one.

        Raises:
            Unavailable: The session is closed.
        """
        if self.closed:
            raise closed()
        stream = self._taking()
        self.waiting.put(asked, stream)
        stream.wake()

    def patience_s(self, asked: Asked) -> float:
        """Return how long to wait for an outcome before `give_up`."""
        left_s = max(asked.deadline_s - self._clock(), 0.0)
        return patience_s(self._road, asked.timeout_s, left_s)

    def give_up(self, asked: Asked) -> bool:
        """End an operation whose time is over, or that goes as a unary call now.

        Returns:
            Whether it has an outcome; False: it waits on, until its deadline.
        """
        if asked.outcome is not None:
            return True
        over = self._clock() >= asked.deadline_s - _TIMER_EARLY_S
        if not over and self._road.is_passable:
            return False
        self.waiting.forget(asked)
        stream = asked.stream or self.current
        asked.end(late() if over else StreamFailed(late(), is_broken=True, was_answered=False))
        if stream is not None and stream.is_silent(asked):
            # Its server hangs, or something in between keeps what it should pass on.
            if not stream.answer_count and not stream.retired:
                self._road.stream_failed()
            self._replace(stream)
        return True

    def forget(self, asked: Asked) -> Stream | None:
        """Note that nobody waits for an operation any more.

        Returns:
            A stream to be cancelled: nobody waits for it, and its server may never end it.
        """
        if asked.is_answered:
            return None
        self.waiting.forget(asked)
        stream = asked.stream
        unwanted = stream is not None and stream.retired and not stream.in_flight
        return stream if unwanted else None

    def take_answers(self, stream: Stream, response: authority_pb.SessionResponse) -> None:
        """Hand answers to their callers, and leave a server that drains."""
        if not stream.answer_count:
            self._road.stream_answered()
        stream.take_answers(response)
        if response.draining:
            self._replace(stream)

    def retire(self, stream: Stream) -> None:
        """Let a stream take nothing more, and tell its server."""
        stream.retired = True
        if self.current is stream:
            self.current = None
        stream.wake()

    def end(self, stream: Stream, failed: FailedCall | None, *, with_waiting: bool = False) -> None:
        """Hand what a stream left unanswered back to its callers.

        Args:
            stream: It has ended.
            failed: What gRPC says of its end; None: nothing that means anything.
            with_waiting: Whether to hand back what waits for it, too.
        """
        if stream not in self.open:
            return
        self.open.discard(stream)
        unanswered = list(stream.in_flight.values())
        stream.in_flight.clear()
        was_answered = stream.answer_count > 0
        if self.current is stream:
            if not was_answered:
                self._road.stream_failed()
            if with_waiting or not was_answered:
                # The next one would fare as this one did.
                unanswered += self.waiting.take_all()
        for asked in unanswered:
            error = ended() if failed is None else error_of_call(failed)
            is_broken = failed is None or failed.code() in BROKEN
            asked.end(StreamFailed(error, is_broken=is_broken, was_answered=was_answered))
        self._replace(stream)

    def close(self) -> None:
        """Take nothing more; operations under way fail."""
        self.closed = True
        in_flight = [asked for stream in self.open for asked in stream.in_flight.values()]
        for asked in [*self.waiting.take_all(), *in_flight]:
            asked.end(closed())

    def abandon(self) -> list[Stream]:
        """Close, and return the streams that are to be cancelled: none is expected to end."""
        self.close()
        left = list(self.open)
        self.open.clear()
        self.current = None
        for stream in left:
            stream.retired = True
        return left

    def _taking(self) -> Stream:
        """Return the stream that takes what is asked now."""
        now_s = self._clock()
        if self.current is not None and now_s >= self.current.ends_s:
            self.retire(self.current)
        if self.current is None:
            self.current = self._open_stream(now_s + age_s(self._settings, self._random))
            self.open.add(self.current)
        return self.current

    def _replace(self, stream: Stream) -> None:
        """Retire a stream, and let another one take what waits."""
        self.retire(stream)
        if self.current is None and len(self.waiting) and not self.closed:
            try:
                self._taking().wake()
            except Exception:
                # Whoever waits asks again, and meets it then.
                for asked in self.waiting.take_all():
                    asked.end(StreamFailed(ended(), is_broken=True, was_answered=True))
