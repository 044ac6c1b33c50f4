"""What a session knows, without input or output: what waits, what is in flight, on which stream.

An operation waits until a stream takes it, together with all that wait at that moment, in one
message; then it is in flight until its answer comes, its caller goes, or its stream ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from google.protobuf.message import Message

from bursar_client._errors import BursarError, InternalError
from bursar_client._status import error_of_operation
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

OPERATIONS_MAX = 1_000
"""Operations of one message, by the contract."""

MESSAGE_BYTES_MAX = 512 * 1024
"""Bytes of one message: half of what a server takes by default."""

OPERATION_BYTES_MAX = 64 * 1024
"""A larger operation goes as a unary call: there it can only spoil itself."""

_FRAME_BYTES = 40
"""More than what an operation's envelope adds to it."""

_OWN_TIMEOUT_SHARE = 0.9
"""With more than this left, an operation is sent with its whole timeout: a server carries out
together what has the same one."""

_NANOS = 1_000_000_000


class Asked:
    """One operation whose caller waits.

    Attributes:
        kind: Its field in Operation and OperationResult.
        request: Its content.
        timeout_s: How long its caller waits in all.
        deadline_s: Until when.
        wake: Lets the caller look at the outcome.
        number: Names it on every stream.
        stream: The stream that it is in flight on, or None.
        answers_before: Answers that its stream had given before.
        outcome: Its answer, or what it ended with; None while it waits.
    """

    __slots__ = (
        "answers_before",
        "deadline_s",
        "kind",
        "number",
        "outcome",
        "request",
        "size",
        "stream",
        "timeout_s",
        "wake",
    )

    def __init__(
        self,
        kind: str,
        request: Message,
        timeout_s: float,
        deadline_s: float,
        wake: Callable[[], object],
    ) -> None:
        self.kind = kind
        self.request = request
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.wake = wake
        self.size = request.ByteSize() + _FRAME_BYTES
        self.number = 0
        self.stream: Stream | None = None
        self.answers_before = 0
        self.outcome: authority_pb.OperationResult | BursarError | None = None

    def end(self, outcome: authority_pb.OperationResult | BursarError) -> None:
        """Hand an outcome to the caller; the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            self.wake()

    @property
    def is_answered(self) -> bool:
        """Whether a server has answered."""
        return isinstance(self.outcome, authority_pb.OperationResult)

    def answer(self) -> Message:
        """Return the answer, as the unary call would.

        Raises:
            BursarError: It failed.
        """
        outcome = self.outcome
        assert outcome is not None, "nobody looks before there is an outcome"
        if isinstance(outcome, BursarError):
            raise outcome
        match outcome.WhichOneof("result"):
            case self.kind:
                answer: Message = getattr(outcome, self.kind)
                return answer
            case "error":
                raise error_of_operation(outcome.error)
            case _:
                raise InternalError("the server answered nothing to it", reason="INTERNAL")


class Stream:
    """What is known of one stream.

    Attributes:
        ends_s: When it takes nothing more, so that load spreads to other servers.
        wake: Lets whoever writes it look: something waits for it, or it takes nothing more.
        cancel: Ends it, whatever is in flight; whoever reads it learns of that.
        in_flight: What it has taken and not answered, by number.
        answer_count: Messages that came.
        retired: Whether it takes nothing more; what is in flight may still be answered.
    """

    def __init__(
        self, ends_s: float, wake: Callable[[], object], cancel: Callable[[], object]
    ) -> None:
        self.ends_s = ends_s
        self.wake = wake
        self.cancel = cancel
        self.in_flight: dict[int, Asked] = {}
        self.answer_count = 0
        self.retired = False

    def take_answers(self, response: authority_pb.SessionResponse) -> None:
        """Hand answers to their callers; those of callers who have gone are dropped."""
        self.answer_count += 1
        in_flight = self.in_flight
        for result in response.results:
            asked = in_flight.pop(result.correlation_id, None)
            if asked is not None:
                asked.end(result.result)

    def is_silent(self, asked: Asked) -> bool:
        """Whether nothing at all has come since it took an operation, or was to take it."""
        return asked.answers_before == self.answer_count


class SessionQueue:
    """What waits for a stream, in order."""

    def __init__(self) -> None:
        self._waiting: dict[int, Asked] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, asked: Asked, stream: Stream) -> None:
        """Let an operation wait for a stream."""
        asked.number = next(self._numbers)
        asked.answers_before = stream.answer_count
        self._waiting[asked.number] = asked

    def take(self, stream: Stream, now_s: float) -> authority_pb.SessionRequest | None:
        """Put what waits in flight on a stream; returns its message, or None where nothing does."""
        if not self._waiting:
            return None
        message = authority_pb.SessionRequest()
        taken, room = 0, MESSAGE_BYTES_MAX
        for asked in self._waiting.values():
            room -= asked.size
            if taken and (room < 0 or taken == OPERATIONS_MAX):
                break
            taken += 1
            _write(message.operations.add(), asked, now_s)
            asked.stream, asked.answers_before = stream, stream.answer_count
            stream.in_flight[asked.number] = asked
        if taken == len(self._waiting):
            self._waiting.clear()
        else:
            # Made anew: a dict that loses its first items one by one gets slow to iterate.
            self._waiting = dict(itertools.islice(self._waiting.items(), taken, None))
        return message

    def take_all(self) -> list[Asked]:
        """Return all that waits, which waits no more."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting

    def forget(self, asked: Asked) -> None:
        """Let nobody wait for an operation: its answer, if it comes, is dropped."""
        self._waiting.pop(asked.number, None)
        if asked.stream is not None:
            asked.stream.in_flight.pop(asked.number, None)


def _write(operation: authority_pb.SessionOperation, asked: Asked, now_s: float) -> None:
    operation.correlation_id = asked.number
    getattr(operation.operation, asked.kind).CopyFrom(asked.request)
    left_s = asked.deadline_s - now_s
    if left_s > _OWN_TIMEOUT_SHARE * asked.timeout_s:
        left_s = asked.timeout_s
    nanos = max(round(left_s * _NANOS), 1)
    operation.timeout.seconds, operation.timeout.nanos = divmod(nanos, _NANOS)
