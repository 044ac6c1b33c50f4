"""When operations go over a session, when as unary calls, and when they are sent again.

Over a session as long as streams are answered. What a stream does not carry is asked by a unary
call; where that works and streams do not, all go as unary calls for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

import grpc
from google.protobuf.message import Message

from bursar_client._errors import (
    BursarError,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from bursar_client._session import OPERATION_BYTES_MAX
from bursar_client._settings import Settings
from bursar_client._steps import AUTHORITY, Ask, Call, Pause, Steps

SILENCE_S_MAX, SILENCE_SHARE_MAX = 1.0, 0.5
"""How long a stream that never answered may be silent before a unary call is tried, and which part
of the caller's time that may take."""

STREAM_FAILURES_MAX = 3
"""Streams in a row that end unanswered before it is no longer taken for granted that they pass."""

REFUSALS_MIN = 2
"""Streams in a row that fail as they do without a server, while unary calls work, before streams
are believed not to pass: a server may have started in between."""

KINDS = {
    "Reserve": "reserve",
    "Commit": "commit",
    "Release": "release",
    "Extend": "extend",
    "Record": "record",
}
"""Field in an Operation of each method that a session carries."""

BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK})
"""How a stream ends whose connection or server ends. Any other end says something of what was sent,
or of what stands between."""

_JITTER = 0.2
"""Pauses differ by up to this part, as those of gRPC do."""


class StreamFailed(BursarError):
    """A stream ended, or was silent, with the operation unanswered: nobody outside sees this.

    Attributes:
        error: What the caller is told if nothing helps.
        is_broken: Whether only the connection or the server has ended.
        was_answered: Whether the stream had answered anything.
    """

    def __init__(self, error: BursarError, *, is_broken: bool, was_answered: bool) -> None:
        super().__init__(error.message, reason=error.reason)
        self.error = error
        self.is_broken = is_broken
        self.was_answered = was_answered


class Throttle:
    """Stops retries while much fails, by the rule that gRPC has for unary calls.

    Threads share it without a lock: an update that is lost now and then changes nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._tokens_max = float(settings.retry_throttle_tokens)
        self._tokens = self._tokens_max
        self._ratio = settings.retry_throttle_ratio

    def succeeded(self) -> None:
        """Count a success."""
        if self._tokens < self._tokens_max:
            self._tokens = min(self._tokens + self._ratio, self._tokens_max)

    def failed(self) -> bool:
        """Count a failure, and say whether it may be retried."""
        self._tokens = max(self._tokens - 1, 0.0)
        return self._tokens > self._tokens_max / 2


class _State(Enum):
    UNTRIED = auto()
    PASSABLE = auto()
    AWAY = auto()
    REFUSED = auto()


class Road:
    """Whether streams reach the server.

    UNTRIED until one was answered: then what it fails is asked by a unary call. PASSABLE from then
    on. AWAY while unary calls fail too. REFUSED while only unary calls work.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._retry_interval_s = settings.session_retry_interval_s
        self._clock = clock
        self._state = _State.UNTRIED
        self._refused_until_s = 0.0
        self._failures = 0

    @property
    def is_passable(self) -> bool:
        """Whether a stream was answered, so that failures are the server's."""
        return self._state is _State.PASSABLE

    def is_open(self) -> bool:
        """Whether an operation may go over a stream now."""
        if self._state is _State.REFUSED and self._clock() >= self._refused_until_s:
            self._state = _State.UNTRIED
        return self._state in (_State.PASSABLE, _State.UNTRIED)

    def stream_answered(self) -> None:
        """Note that a stream was answered for the first time."""
        self._state, self._failures = _State.PASSABLE, 0

    def stream_failed(self) -> None:
        """Note that a stream ended, or was given up, unanswered."""
        self._failures += 1
        if self._state is _State.PASSABLE and self._failures >= STREAM_FAILURES_MAX:
            self._state, self._failures = _State.UNTRIED, 0

    def unary_answered(self) -> None:
        """Note that a unary call was answered."""
        if self._state is _State.AWAY:
            self._state, self._failures = _State.UNTRIED, 0

    def unary_instead(self, *, answered: bool, certain: bool) -> None:
        """Note how a unary call went that was made because a stream failed unanswered.

        Args:
            answered: Whether it was answered.
            certain: Whether the stream did not end as it would without a server.
        """
        if self._state is _State.PASSABLE and not certain:
            # Another stream was answered meanwhile.
            return
        if not answered:
            self._state = _State.AWAY
        elif certain or self._failures >= REFUSALS_MIN:
            self._state, self._failures = _State.REFUSED, 0
            self._refused_until_s = self._clock() + self._retry_interval_s
        else:
            self._state = _State.UNTRIED


class Courier:
    """Carries operations, for both clients: by which road, how often, with which pauses."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.road = Road(settings, clock)
        self._settings = settings
        self._clock = clock
        self._random = random
        self._throttle = Throttle(settings)

    def carries(self, call: Call) -> bool:
        """Whether a call may go over a session."""
        return (
            self._settings.session
            and call.service == AUTHORITY
            and call.name in KINDS
            and call.request.ByteSize() <= OPERATION_BYTES_MAX
        )

    def carry(self, call: Call) -> Steps[Message]:
        """Carry out a call within its timeout and return its answer."""
        deadline_s = self._clock() + call.timeout_s
        attempts, resent, left_s = 0, False, call.timeout_s
        while True:
            if not self.road.is_open():
                return (yield from self._unary(call, left_s))
            try:
                answer = yield Ask(KINDS[call.name], call.request, left_s)
            except StreamFailed as failed:
                left_s = deadline_s - self._clock()
                if not failed.is_broken or not (failed.was_answered or self.road.is_passable):
                    return (yield from self._unary_instead(call, left_s, failed))
                error, at_once = failed.error, failed.was_answered
            except Unavailable as unavailable:
                left_s = deadline_s - self._clock()
                error, at_once = unavailable, unavailable.reason == "DRAINING"
            except BursarError as refused:
                if not _is_of_the_message(refused):
                    raise
                return (yield from self._unary(call, deadline_s - self._clock()))
            else:
                self._throttle.succeeded()
                assert isinstance(answer, Message)
                return answer
            if at_once and not resent:
                # That a stream ended says nothing of the server that the next one reaches.
                resent = True
                continue
            attempts += 1
            pause_s = self._pause_s(attempts, error)
            if pause_s is None or pause_s >= left_s:
                raise error
            yield Pause(pause_s)
            left_s = deadline_s - self._clock()

    def _pause_s(self, attempts: int, error: BursarError) -> float | None:
        """Return how long to pause before the next attempt, or None where there is none."""
        settings = self._settings
        if error.reason == "CLIENT_CLOSED" or not self._throttle.failed():
            return None
        if attempts >= settings.retry_attempts_max:
            return None
        longest_s = settings.retry_backoff_max_s
        grown_s = min(
            settings.retry_backoff_initial_s * settings.retry_backoff_multiplier ** (attempts - 1),
            longest_s,
        )
        if error.retry_after is not None:
            # Not longer than pauses may be: a caller with little time left has to learn the reason.
            grown_s = max(grown_s, min(error.retry_after.total_seconds(), longest_s))
        return grown_s * (1 - _JITTER + 2 * _JITTER * self._random())

    def _unary(self, call: Call, left_s: float) -> Steps[Message]:
        if left_s <= 0:
            raise late()
        answer = yield replace(call, timeout_s=left_s)
        self.road.unary_answered()
        assert isinstance(answer, Message)
        return answer

    def _unary_instead(self, call: Call, left_s: float, failed: StreamFailed) -> Steps[Message]:
        """Make a unary call of what a stream did not carry, and learn from how it goes."""
        certain = not failed.is_broken
        try:
            answer = yield from self._unary(call, left_s)
        except BursarError as error:
            if not failed.was_answered:
                answered = not isinstance(error, Unavailable | DeadlineExceeded | Overloaded)
                self.road.unary_instead(answered=answered, certain=certain)
            raise
        if not failed.was_answered:
            self.road.unary_instead(answered=True, certain=certain)
        return answer


def age_s(settings: Settings, random: Callable[[], float]) -> float:
    """Return how long a new stream is used; not all that were opened together end together."""
    return settings.session_age_s_max * (1 - _JITTER * random())


def patience_s(road: Road, timeout_s: float, left_s: float) -> float:
    """Return how long to wait for an answer before something else is tried.

    Args:
        road: Of the stream that it was sent over.
        timeout_s: Of the caller in all.
        left_s: Of that.
    """
    if road.is_passable:
        return left_s
    return min(left_s, SILENCE_S_MAX, SILENCE_SHARE_MAX * timeout_s)


def closed() -> Unavailable:
    """Return what operations of a closed client end with."""
    return Unavailable("the client is closed", reason="CLIENT_CLOSED")


def ended() -> Unavailable:
    """Return what operations end with where a stream ends for no reason."""
    return Unavailable("the stream ended; the outcome is unknown", reason="UNAVAILABLE")


def late() -> DeadlineExceeded:
    """Return what operations end with that nobody answers."""
    return DeadlineExceeded("no answer came in time", reason="DEADLINE_EXCEEDED")


def full(settings: Settings) -> Overloaded:
    """Return what operations end with that found no room in time."""
    most = settings.session_in_flight_max
    return Overloaded(
        f"{most} operations of this client wait for their answers; this one was not sent",
        reason="SESSION_FULL",
        metadata={"sessionInFlightMax": str(most)},
    )


def _is_of_the_message(error: BursarError) -> bool:
    """Whether a server takes fewer operations or bytes in one message than were sent."""
    return isinstance(error, InvalidRequest) and any(
        each.field == "operations" for each in error.field_violations
    )
