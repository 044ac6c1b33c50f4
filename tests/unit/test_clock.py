"""The clock that decides: set by Redis's, steady against steps of any other.

Method: a machine whose clocks are moved by hand, and answers of a reference that are what the test
says, with delays as a network has them.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.authority.clock import STEP_MS_MAX, CorrectedClock

TRUE_MS = 1_773_144_000_000
HOUR = 3_600_000


class Machine:
    """A computer: a wall clock that may be wrong and step, and a steady one that only counts on."""

    def __init__(self, wall_ms: int = TRUE_MS, steady_ms: int = 5_000) -> None:
        self.wall_ms, self.steady_ms = wall_ms, steady_ms
        self.clock = CorrectedClock(lambda: self.wall_ms, lambda: self.steady_ms)

    def passes(self, ms: int) -> None:
        self.wall_ms += ms
        self.steady_ms += ms

    def correct(self, reference_ms: int, *, there_ms: int = 0, back_ms: int = 0) -> int:
        """Ask the reference, which says reference_ms when the question arrives."""
        asked_at_ms = self.steady_ms
        self.passes(there_ms)
        self.passes(back_ms)
        return self.clock.correct(reference_ms, asked_at_ms)


def test_it_begins_at_the_machines_own_time() -> None:
    """Goal: before the first answer there is a time. Method: no answer."""
    machine = Machine()
    assert machine.clock.now_ms() == TRUE_MS
    machine.passes(7)
    assert machine.clock.now_ms() == TRUE_MS + 7


@pytest.mark.parametrize("skew_ms", [-30_000, -1, 0, 1, 30_000, -10 * HOUR, 10 * HOUR])
def test_the_first_answer_sets_it_whole(skew_ms: int) -> None:
    """T29. Goal: a machine whose clock is wrong is right after one answer, and says how wrong.

    Method: wall clocks ahead and behind by up to hours.
    """
    machine = Machine(wall_ms=TRUE_MS + skew_ms)
    assert machine.correct(TRUE_MS) == -skew_ms
    assert machine.clock.now_ms() == TRUE_MS


@pytest.mark.parametrize("step_ms", [-HOUR, -1_000, 1_000, HOUR])
def test_steps_of_the_machines_wall_clock_are_not_followed(step_ms: int) -> None:
    """Goal: only the steady clock counts on. Method: the wall clock steps between two looks."""
    machine = Machine()
    machine.correct(TRUE_MS)
    machine.wall_ms += step_ms
    machine.passes(10)
    assert machine.clock.now_ms() == TRUE_MS + 10


@pytest.mark.parametrize(
    "behind_ms,step_ms",
    [
        pytest.param(0, 0, id="right"),
        pytest.param(1, 1, id="a-little-behind"),
        pytest.param(-1, -1, id="a-little-ahead"),
        pytest.param(STEP_MS_MAX, STEP_MS_MAX, id="at-the-bound"),
        pytest.param(STEP_MS_MAX + 1, STEP_MS_MAX, id="past-the-bound"),
        pytest.param(-STEP_MS_MAX - 1, -STEP_MS_MAX, id="past-the-bound-back"),
        pytest.param(HOUR, STEP_MS_MAX, id="an-hour"),
        pytest.param(-HOUR, -STEP_MS_MAX, id="an-hour-back"),
    ],
)
def test_later_answers_move_it_in_small_steps(behind_ms: int, step_ms: int) -> None:
    """T30. Goal: one correction moves a set clock by 500 ms at the most. Method: a table."""
    machine = Machine()
    machine.correct(TRUE_MS)
    machine.passes(1_000)
    assert machine.correct(TRUE_MS + 1_000 + behind_ms) == behind_ms
    assert machine.clock.now_ms() == TRUE_MS + 1_000 + step_ms


def test_t30_an_hour_back_and_forth() -> None:
    """T30. Goal: while Redis's clock is an hour off and after, the clock drifts slowly and returns.

    Method: corrections every 10 s; Redis steps an hour back, and forward again after five minutes.
    Time never runs backwards from one correction to the next, nor faster than by 5 %.
    """
    machine = Machine()
    machine.correct(TRUE_MS)
    before, true_ms, errors = machine.clock.now_ms(), TRUE_MS, []
    for number in range(90):
        machine.passes(10_000)
        true_ms += 10_000
        machine.correct(true_ms - (HOUR if 10 <= number < 40 else 0))
        now = machine.clock.now_ms()
        assert 10_000 - STEP_MS_MAX <= now - before <= 10_000 + STEP_MS_MAX
        errors.append(now - true_ms)
        before = now
    assert set(errors[:10]) == {0}
    assert min(errors) == errors[39] == -30 * STEP_MS_MAX
    assert errors[40:70] == [STEP_MS_MAX * each for each in range(-29, 1)]
    assert set(errors[69:]) == {0}


@given(
    skew_ms=st.integers(-10 * HOUR, 10 * HOUR),
    there_ms=st.integers(0, 2_000),
    back_ms=st.integers(0, 2_000),
)
def test_a_slow_answer_is_worth_half_its_way(skew_ms: int, there_ms: int, back_ms: int) -> None:
    """T29. Goal: the error after the first answer is at most half of what the answer took.

    Method: random skews, and random times for the way there and the way back.
    """
    machine = Machine(wall_ms=TRUE_MS + skew_ms)
    machine.correct(TRUE_MS + there_ms, there_ms=there_ms, back_ms=back_ms)
    error_ms = machine.clock.now_ms() - (TRUE_MS + there_ms + back_ms)
    assert abs(error_ms) <= (there_ms + back_ms + 1) // 2


def test_with_real_clocks() -> None:
    """Goal: it works on this machine's clocks. Method: correct by the wall clock itself."""
    clock = CorrectedClock(
        lambda: time.time_ns() // 1_000_000 - HOUR, lambda: time.monotonic_ns() // 1_000_000
    )
    behind_ms = clock.correct(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
    assert abs(behind_ms - HOUR) < 1_000
    assert abs(clock.now_ms() - time.time_ns() // 1_000_000) < 1_000
