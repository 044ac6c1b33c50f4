"""Goal: what waits goes together, within bounds, and answers find their callers and nobody else's.

Method: the queue itself; and the session for threads on a stream whose messages the test takes.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator

import pytest
from flavours import POLL_S, WAIT_S

from bursar_client import DeadlineExceeded, InternalError, Settings
from bursar_client._session import (
    MESSAGE_BYTES_MAX,
    OPERATIONS_MAX,
    Asked,
    SessionQueue,
    Stream,
)
from bursar_client._session_rules import Road
from bursar_client._steps import Ask
from bursar_client._sync_session import SyncSession
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

TIMEOUT_S = 10.0


def operation(reservation_id: str = "acme/1", deadline_s: float = TIMEOUT_S) -> Asked:
    """Return an operation that nobody is woken for."""
    request = authority_pb.ReleaseRequest(reservation_id=reservation_id)
    return Asked("release", request, TIMEOUT_S, deadline_s, lambda: None)


def a_stream() -> Stream:
    """Return a stream that nobody writes."""
    return Stream(ends_s=60, wake=lambda: None, cancel=lambda: None)


def put(waiting: SessionQueue, stream: Stream, *operations: Asked) -> None:
    for each in operations:
        waiting.put(each, stream)


def numbers(message: authority_pb.SessionRequest | None) -> list[int]:
    assert message is not None
    return [each.correlation_id for each in message.operations]


def answers(*results: authority_pb.SessionResult) -> authority_pb.SessionResponse:
    return authority_pb.SessionResponse(results=results)


def released(number: int) -> authority_pb.SessionResult:
    answer = authority_pb.ReleaseResponse(reservation_id=f"acme/{number}")
    return authority_pb.SessionResult(
        correlation_id=number, result=authority_pb.OperationResult(release=answer)
    )


def test_all_that_waits_goes_together_in_order() -> None:
    waiting, stream = SessionQueue(), a_stream()
    put(waiting, stream, operation("acme/a"), operation("acme/b"), operation("acme/c"))
    message = waiting.take(stream, 0)
    assert message is not None
    assert [each.operation.release.reservation_id for each in message.operations] == [
        "acme/a",
        "acme/b",
        "acme/c",
    ]
    assert waiting.take(stream, 0) is None and not len(waiting)
    assert len(stream.in_flight) == 3


@pytest.mark.parametrize("count", [OPERATIONS_MAX - 1, OPERATIONS_MAX, OPERATIONS_MAX + 1])
def test_operations_of_a_message_are_bounded(count: int) -> None:
    waiting, stream = SessionQueue(), a_stream()
    put(waiting, stream, *(operation() for _ in range(count)))
    sizes = []
    while (message := waiting.take(stream, 0)) is not None:
        sizes.append(len(message.operations))
    assert sizes == [min(count, OPERATIONS_MAX)] + [1] * (count > OPERATIONS_MAX)


def test_bytes_of_a_message_are_bounded() -> None:
    waiting, stream = SessionQueue(), a_stream()
    put(waiting, stream, *(operation("x" * 50_000) for _ in range(40)))
    put(waiting, stream, operation("y" * 2 * MESSAGE_BYTES_MAX))
    put(waiting, stream, operation("z"))
    taken: list[int] = []
    while (message := waiting.take(stream, 0)) is not None:
        assert message.ByteSize() <= MESSAGE_BYTES_MAX or len(message.operations) == 1
        taken += numbers(message)
    assert taken == list(range(1, 43)), "one that is too large goes alone, and in its turn"


def test_an_answer_finds_its_caller_and_is_dropped_where_the_caller_has_gone() -> None:
    waiting, stream = SessionQueue(), a_stream()
    gone, kept, unsent = operation(), operation(), operation()
    put(waiting, stream, gone, kept)
    waiting.take(stream, 0)
    put(waiting, stream, unsent)
    waiting.forget(gone)
    waiting.forget(unsent)
    stream.take_answers(answers(released(1), released(2), released(2), released(99)))
    assert gone.outcome is None
    assert kept.answer() == authority_pb.ReleaseResponse(reservation_id="acme/2")
    assert not stream.in_flight and waiting.take(stream, 0) is None


@pytest.mark.parametrize(
    "result",
    [
        authority_pb.OperationResult(),
        authority_pb.OperationResult(commit=authority_pb.CommitResponse()),
    ],
    ids=["nothing", "another kind"],
)
def test_an_answer_that_is_none(result: authority_pb.OperationResult) -> None:
    asked = operation()
    asked.end(result)
    with pytest.raises(InternalError):
        asked.answer()


@pytest.mark.parametrize(
    ("now_s", "timeout_s"),
    [(0, TIMEOUT_S), (0.9, TIMEOUT_S), (4, TIMEOUT_S - 4), (TIMEOUT_S + 1, 1e-9)],
)
def test_the_timeout_that_is_sent(now_s: float, timeout_s: float) -> None:
    """A server carries out together what has one timeout, so short waits do not change it."""
    waiting, stream = SessionQueue(), a_stream()
    put(waiting, stream, operation())
    message = waiting.take(stream, now_s)
    assert message is not None
    sent = message.operations[0].timeout
    assert sent.seconds + sent.nanos / 1e9 == pytest.approx(timeout_s)


class HeldStream:
    """A stream whose messages wait until the test takes them, as they do for a slow network."""

    def __init__(self) -> None:
        self.requests: Iterator[authority_pb.SessionRequest] = iter(())
        self.responses: queue.SimpleQueue[authority_pb.SessionResponse | None] = queue.SimpleQueue()

    def open(self, requests: Iterator[authority_pb.SessionRequest]) -> HeldStream:
        self.requests = requests
        return self

    def __iter__(self) -> Iterator[authority_pb.SessionResponse]:
        return iter(self.responses.get, None)

    def cancel(self) -> None:
        self.responses.put(None)


def waits(session: SyncSession, count: int) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while len(session._streams.waiting) < count:
        assert time.monotonic() < deadline_s, "not asked in time"
        time.sleep(POLL_S)


def test_threads_that_ask_while_a_message_is_on_its_way_go_together() -> None:
    """Goal: one message for all of them.

    Method: the first message is taken, then 20 threads ask; the second is taken once all wait.
    """
    held, settings = HeldStream(), Settings()
    session = SyncSession(held.open, settings, Road(settings, time.monotonic), random.random)
    answered: list[str] = []

    def ask(name: str) -> None:
        request = authority_pb.ReleaseRequest(reservation_id=name)
        answer = session.ask(Ask("release", request, TIMEOUT_S))
        assert isinstance(answer, authority_pb.ReleaseResponse)
        answered.append(answer.reservation_id)

    threads = [threading.Thread(target=ask, args=(f"acme/{number}",)) for number in range(21)]
    threads[0].start()
    waits(session, 1)
    assert numbers(next(held.requests)) == [1]
    for thread in threads[1:]:
        thread.start()
    waits(session, 20)
    assert numbers(next(held.requests)) == list(range(2, 22))
    held.responses.put(answers(*(released(number) for number in range(21, 0, -1))))
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(answered) == sorted(f"acme/{number}" for number in range(1, 22))
    session.close()
    with pytest.raises(StopIteration):
        next(held.requests)


def test_what_waits_for_a_stream_that_hangs_goes_over_the_next() -> None:
    """Goal: nothing is stuck behind a stream that nobody reads.

    Method: one operation is taken and never answered; a second one waits behind it. Once the
    first one's time is over, the second is on another stream.
    """
    held, settings = [HeldStream(), HeldStream()], Settings()
    opening = iter(held)
    road = Road(settings, time.monotonic)
    road.stream_answered()
    session = SyncSession(
        lambda requests: next(opening).open(requests), settings, road, random.random
    )
    ended: list[object] = []

    def ask(timeout_s: float) -> None:
        try:
            ended.append(session.ask(Ask("release", authority_pb.ReleaseRequest(), timeout_s)))
        except DeadlineExceeded as error:
            ended.append(error.reason)

    threads = [threading.Thread(target=ask, args=(timeout_s,)) for timeout_s in (0.2, TIMEOUT_S)]
    threads[0].start()
    waits(session, 1)
    assert numbers(next(held[0].requests)) == [1]
    threads[1].start()
    waits(session, 1)
    threads[0].join(WAIT_S)
    assert ended == ["DEADLINE_EXCEEDED"]
    assert numbers(next(held[1].requests)) == [2]
    held[1].responses.put(answers(released(2)))
    threads[1].join(WAIT_S)
    assert ended[1:] == [authority_pb.ReleaseResponse(reservation_id="acme/2")]
    with pytest.raises(StopIteration):
        next(held[0].requests)
    session.close()
