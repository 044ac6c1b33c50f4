"""Goal: how often an operation is sent, by which road and after which pauses, to the attempt.

Method: the steps are driven by hand, with a time and a chance of the test.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from bursar_client import DeadlineExceeded, Settings, Unavailable
from bursar_client._errors import BursarError
from bursar_client._session_rules import REFUSALS_MIN, Courier, StreamFailed, patience_s
from bursar_client._steps import RESERVE, Ask, Call, Effect, Pause, run_sync
from bursar_client.pb import budget_authority_service_pb2 as authority_pb

REQUEST = authority_pb.ReserveRequest(request_id="r1")
ANSWER = authority_pb.ReserveResponse(reservation_id="acme/r1")
CALL = Call(RESERVE.service, RESERVE.name, REQUEST, 2.0)
SETTINGS = Settings(session_retry_interval_s=60)


class World:
    """Meets effects as scripted, at a time of its own."""

    def __init__(self, settings: Settings = SETTINGS, chance: float = 0.5) -> None:
        self.now_s = 1_000.0
        self.courier = Courier(settings, lambda: self.now_s, lambda: chance)
        self.over_stream: Callable[[], object] = lambda: ANSWER
        self.by_unary: Callable[[], object] = lambda: ANSWER
        self.made: list[str] = []
        self.pauses_s: list[float] = []

    def carry(self, call: Call = CALL) -> object:
        self.made, self.pauses_s = [], []
        return run_sync(self.courier.carry(call), self._perform)

    def _perform(self, effect: Effect) -> object:
        self.made.append(type(effect).__name__)
        match effect:
            case Pause():
                self.pauses_s.append(effect.seconds)
                self.now_s += effect.seconds
                return None
            case Ask():
                assert effect.kind == "reserve" and effect.request is REQUEST
                answer = self.over_stream()
            case Call():
                answer = self.by_unary()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def pass_once(self) -> None:
        """Let a stream be answered."""
        self.courier.road.stream_answered()

    def fail_stream(self, *, is_broken: bool = True, was_answered: bool = False) -> StreamFailed:
        if not was_answered:
            self.courier.road.stream_failed()
        error = Unavailable("gone", reason="UNAVAILABLE")
        return StreamFailed(error, is_broken=is_broken, was_answered=was_answered)


def unavailable(reason: str = "SHARD_COLD", retry_after_ms: int | None = None) -> Unavailable:
    after = None if retry_after_ms is None else timedelta(milliseconds=retry_after_ms)
    return Unavailable("no", reason=reason, retry_after=after)


@pytest.fixture
def world() -> World:
    world = World()
    world.pass_once()
    return world


def fails(world: World, kind: type[BursarError] = Unavailable) -> None:
    with pytest.raises(kind):
        world.carry()


def test_an_answer(world: World) -> None:
    assert world.carry() is ANSWER
    assert world.made == ["Ask"]


def test_unavailable_is_tried_as_often_as_by_unary_calls(world: World) -> None:
    world.over_stream = unavailable
    fails(world)
    assert world.made == ["Ask", "Pause", "Ask", "Pause", "Ask", "Pause", "Ask"]
    assert world.pauses_s == pytest.approx([0.02, 0.04, 0.08])


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 0.016), (1.0, 0.024)])
def test_pauses_are_spread(chance: float, pause_s: float) -> None:
    world = World(chance=chance)
    world.pass_once()
    world.over_stream = unavailable
    fails(world)
    assert world.pauses_s[0] == pytest.approx(pause_s)


def test_a_time_to_retry_is_kept_up_to_the_longest_pause(world: World) -> None:
    pauses_s = iter([100, 5_000, 5_000, 5_000])
    world.over_stream = lambda: unavailable(retry_after_ms=next(pauses_s))
    fails(world)
    assert world.pauses_s == pytest.approx([0.1, 0.2, 0.2])


def test_no_pause_beyond_the_timeout() -> None:
    world = World(Settings(retry_backoff_initial_s=3, retry_backoff_max_s=3))
    world.pass_once()
    world.over_stream = unavailable
    fails(world)
    assert world.made == ["Ask"], "the caller learns the reason instead of waiting in vain"


def test_draining_is_sent_again_at_once_and_then_as_any_other(world: World) -> None:
    world.over_stream = lambda: unavailable("DRAINING", 0)
    fails(world)
    assert world.made[:3] == ["Ask", "Ask", "Pause"]
    assert world.made.count("Ask") == SETTINGS.retry_attempts_max + 1


def test_a_stream_that_breaks_is_replaced_at_once(world: World) -> None:
    outcomes = iter([world.fail_stream(was_answered=True), ANSWER])
    world.over_stream = lambda: next(outcomes)
    assert world.carry() is ANSWER
    assert world.made == ["Ask", "Ask"]


def test_other_errors_are_not_retried(world: World) -> None:
    world.over_stream = lambda: DeadlineExceeded("late", reason="DEADLINE_EXCEEDED")
    fails(world, DeadlineExceeded)
    world.over_stream = lambda: Unavailable("closed", reason="CLIENT_CLOSED")
    fails(world)
    assert world.made == ["Ask"]


def test_retries_are_throttled(world: World) -> None:  # T62
    """Goal: steady failure makes a tenth more calls at the most. Method: 1,000 calls that fail."""
    world.over_stream = unavailable
    asks = 0
    for _ in range(1_000):
        fails(world)
        asks += world.made.count("Ask")
    assert asks <= 1_100
    world.over_stream = lambda: ANSWER
    for _ in range(100):
        world.carry()
    world.over_stream = unavailable
    fails(world)
    assert world.made.count("Ask") == SETTINGS.retry_attempts_max, "successes make up for it"


def test_without_the_throttle_they_multiply() -> None:
    """Shows that the test above can see it."""
    world = World(Settings(retry_throttle_tokens=1_000_000))
    world.pass_once()
    world.over_stream = unavailable
    asks = 0
    for _ in range(1_000):
        fails(world)
        asks += world.made.count("Ask")
    assert asks == 4_000


def test_a_refusal_that_is_certain_is_remembered() -> None:
    world = World()
    world.over_stream = lambda: world.fail_stream(is_broken=False)
    assert world.carry() is ANSWER
    assert world.made == ["Ask", "Call"]
    world.carry()
    assert world.made == ["Call"]
    world.now_s += 59
    world.carry()
    assert world.made == ["Call"]
    world.now_s += 1
    world.over_stream = lambda: ANSWER
    world.carry()
    assert world.made == ["Ask"]


def test_a_refusal_that_may_be_an_outage_has_to_come_again() -> None:
    world = World()
    world.over_stream = world.fail_stream
    for _ in range(REFUSALS_MIN):
        assert world.carry() is ANSWER
        assert world.made == ["Ask", "Call"]
    world.carry()
    assert world.made == ["Call"]


def test_many_callers_of_one_refused_stream_count_once() -> None:
    """A server that starts while 100 callers wait has refused nobody."""
    world = World()
    failed = world.fail_stream()
    world.over_stream = lambda: failed
    running = [world.courier.carry(CALL) for _ in range(100)]
    for steps in running:
        next(steps)
    for steps in running:
        assert isinstance(steps.throw(failed), Call)
    for steps in running:
        with pytest.raises(StopIteration):
            steps.send(ANSWER)
    world.over_stream = lambda: ANSWER
    world.carry()
    assert world.made == ["Ask"]


def test_an_outage_is_not_a_refusal() -> None:
    world = World()
    world.over_stream, world.by_unary = world.fail_stream, unavailable
    fails(world)
    assert world.made == ["Ask", "Call"]
    for _ in range(3):
        fails(world)
        assert world.made == ["Call"], "no stream is tried while unary calls fail, too"
    world.over_stream = world.by_unary = lambda: ANSWER
    world.carry()
    assert world.made == ["Call"]
    world.carry()
    assert world.made == ["Ask"]


def test_a_road_that_was_good_is_doubted_after_some_failures(world: World) -> None:
    world.over_stream = world.fail_stream
    assert world.carry() is ANSWER
    assert world.made == ["Ask", "Pause", "Ask", "Pause", "Ask", "Call"]
    for _ in range(REFUSALS_MIN):
        assert world.carry() is ANSWER
    assert world.made == ["Ask", "Call"]
    world.carry()
    assert world.made == ["Call"]


def test_what_ends_a_good_stream_is_asked_alone(world: World) -> None:
    """An operation that no stream survives fails alone, with its own error."""
    world.over_stream = lambda: world.fail_stream(is_broken=False, was_answered=True)
    world.by_unary = lambda: BursarError("poison", reason="UNKNOWN")
    fails(world, BursarError)
    assert world.made == ["Ask", "Call"]
    world.over_stream = lambda: ANSWER
    world.carry()
    assert world.made == ["Ask"], "the road is as good as it was"


@pytest.mark.parametrize(
    ("timeout_s", "left_s", "wait_s"), [(10, 10, 1), (0.3, 0.3, 0.15), (2, 0.1, 0.1)]
)
def test_how_long_a_stream_that_never_answered_may_be_silent(
    timeout_s: float, left_s: float, wait_s: float
) -> None:
    road = World().courier.road
    assert patience_s(road, timeout_s, left_s) == wait_s
    road.stream_answered()
    assert patience_s(road, timeout_s, left_s) == left_s


def test_large_operations_go_alone(world: World) -> None:
    large = authority_pb.ReserveRequest(request_id="x" * 100_000)
    assert not world.courier.carries(Call(RESERVE.service, RESERVE.name, large, 1))
    assert world.courier.carries(CALL)
    assert not World(Settings(session=False)).courier.carries(CALL)
