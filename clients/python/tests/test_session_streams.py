"""Goal: what waits always has a stream that takes it, or ends.

Method: the rules on streams of the test's own; and the session for threads where none can be had.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flavours import WAIT_S

from bursar_client import BursarError, DeadlineExceeded, Settings
from bursar_client._session import Asked, Stream
from bursar_client._session_rules import Road, StreamFailed
from bursar_client._session_streams import Streams
from bursar_client._steps import Ask
from bursar_client._sync_session import SyncSession
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

TIMEOUT_S = 10.0
DRAINING = authority_pb.SessionResponse(draining=True)
NOTHING = authority_pb.SessionResponse()


class World:
    """Streams, the time, and which of them were woken and cancelled."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.woken: list[Stream] = []
        self.cannot_open = False
        settings = Settings()
        self.road = Road(settings, lambda: self.now_s)
        self.streams = Streams(settings, self.road, lambda: self.now_s, lambda: 0.0, self._open)

    def ask(self, timeout_s: float = TIMEOUT_S) -> Asked:
        """Put an operation."""
        request = authority_pb.ReleaseRequest(reservation_id="acme/1")
        asked = Asked("release", request, timeout_s, self.now_s + timeout_s, lambda: None)
        self.streams.put(asked)
        return asked

    def send(self) -> Stream:
        """Let the current stream take what waits."""
        stream = self.streams.current
        assert stream is not None
        while self.streams.waiting.take(stream, self.now_s) is not None:
            pass
        return stream

    def _open(self, ends_s: float) -> Stream:
        if self.cannot_open:
            raise RuntimeError("can't start new thread")
        stream = Stream(ends_s, lambda: self.woken.append(stream), lambda: None)
        return stream


@pytest.fixture
def world() -> World:
    return World()


def ended_with(asked: Asked) -> StreamFailed:
    with pytest.raises(StreamFailed) as raised:
        asked.answer()
    return raised.value


def test_what_is_asked_wakes_the_stream_that_takes_it(world: World) -> None:
    world.ask()
    assert world.woken == [world.streams.current]


def test_a_stream_that_drains_is_left_and_what_waits_goes_over_the_next(world: World) -> None:
    sent = world.ask()
    old = world.send()
    waits = world.ask()
    world.streams.take_answers(old, DRAINING)
    assert old.retired and world.streams.current not in (None, old)
    assert world.woken[-2:] == [old, world.streams.current]
    assert sent.outcome is None and waits.outcome is None
    assert list(world.send().in_flight.values()) == [waits]


def test_only_what_was_in_flight_ends_with_a_stream_that_was_answered(world: World) -> None:
    in_flight = world.ask()
    old = world.send()
    world.streams.take_answers(old, NOTHING)
    waits = world.ask()
    world.streams.end(old, None)
    failed = ended_with(in_flight)
    assert failed.is_broken and failed.was_answered
    assert waits.outcome is None
    assert list(world.send().in_flight.values()) == [waits]


def test_what_waits_ends_with_a_stream_that_never_answered(world: World) -> None:
    in_flight = world.ask()
    old = world.send()
    waits = world.ask()
    world.streams.end(old, None)
    assert not ended_with(in_flight).was_answered and not ended_with(waits).was_answered
    assert world.streams.current is None and not world.streams.open


def test_what_waits_for_a_stream_that_cannot_be_opened_is_handed_back(world: World) -> None:
    """Goal: nobody waits in vain. Method: the stream ends, and there is no thread for a next."""
    in_flight = world.ask()
    old = world.send()
    world.streams.take_answers(old, NOTHING)
    waits = world.ask()
    world.cannot_open = True
    world.streams.end(old, None)
    assert ended_with(in_flight).is_broken and ended_with(waits).is_broken
    assert world.streams.current is None and not len(world.streams.waiting)
    with pytest.raises(RuntimeError):
        world.ask()
    world.cannot_open = False
    world.ask()
    assert len(world.send().in_flight) == 1


def test_a_silent_stream_is_replaced_once_somebodys_time_is_over(world: World) -> None:
    world.road.stream_answered()
    hangs, waits_on = world.ask(), world.ask(2 * TIMEOUT_S)
    old = world.send()
    world.now_s = TIMEOUT_S / 2
    assert not world.streams.give_up(hangs), "its time is not over"
    world.now_s = TIMEOUT_S
    assert world.streams.give_up(hangs)
    with pytest.raises(DeadlineExceeded):
        hangs.answer()
    assert old.retired and waits_on.outcome is None
    assert world.streams.forget(hangs) is None, "another one is in flight on it"
    world.now_s = 2 * TIMEOUT_S
    assert world.streams.give_up(waits_on)
    assert world.streams.forget(waits_on) is old, "nobody waits for it any more"


def test_all_that_is_under_way_ends_with_the_session(world: World) -> None:
    in_flight = world.ask()
    old = world.send()
    waits = world.ask()
    assert world.streams.abandon() == [old]
    for asked in (in_flight, waits):
        with pytest.raises(BursarError, match="the client is closed"):
            asked.answer()
    with pytest.raises(BursarError, match="the client is closed"):
        world.ask()


class Silent:
    """A stream that nobody answers, until it is cancelled."""

    def __init__(self, requests: Iterator[authority_pb.SessionRequest]) -> None:
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[authority_pb.SessionResponse]:
        self.cancelled.wait(WAIT_S)
        return iter(())

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_stream_that_no_thread_can_read_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: whoever comes later does not wait for it. Method: no thread can be had once."""
    settings, opened = Settings(), list[Silent]()

    def open_stream(requests: Iterator[authority_pb.SessionRequest]) -> Silent:
        opened.append(Silent(requests))
        return opened[-1]

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = SyncSession(open_stream, settings, Road(settings, time.monotonic), random.random)
    ask: Callable[[], object] = lambda: session.ask(  # noqa: E731
        Ask("release", authority_pb.ReleaseRequest(), 0.05)
    )
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(threading.Thread, "start", no_thread)
        ask()
    assert opened[0].cancelled.is_set()
    with pytest.raises(BursarError):
        ask()
    assert len(opened) == 2, "the next one has a stream of its own"
    session.close()
