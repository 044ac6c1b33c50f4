"""The time that decisions are made at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

STEP_MS_MAX = 500
"""Most that one correction moves the clock once it is set: a step of Redis's clock is followed
slowly, so that it neither frees holds early nor opens the next window early."""


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Return ms since the epoch."""
        ...


class CorrectedClock:
    """This machine's steady clock, set by Redis's, so that all servers agree.

    It never follows a step of this machine's own wall clock, and a step of Redis's only slowly.
    """

    def __init__(self, wall_ms: Callable[[], int], steady_ms: Callable[[], int]) -> None:
        """Starts at this machine's wall clock.

        Args:
            wall_ms: Wall clock in ms since the epoch.
            steady_ms: A clock in ms that never steps.
        """
        self._steady_ms = steady_ms
        self._offset_ms = wall_ms() - steady_ms()
        self._set = False

    def now_ms(self) -> int:
        """Return ms since the epoch."""
        return self._steady_ms() + self._offset_ms

    def correct(self, reference_ms: int, asked_at_ms: int) -> int:
        """Set the clock by an answer of the reference, the first time whole, later in small steps.

        Args:
            reference_ms: What the reference said.
            asked_at_ms: `steady_ms` when it was asked.

        Returns:
            How far the clock was off, in ms; positive where it was behind.
        """
        arrived_ms = self._steady_ms()
        middle_ms = (asked_at_ms + arrived_ms) // 2 + self._offset_ms
        behind_ms = reference_ms - middle_ms
        step_ms = behind_ms
        if self._set:
            step_ms = max(-STEP_MS_MAX, min(STEP_MS_MAX, behind_ms))
        self._offset_ms += step_ms
        self._set = True
        return behind_ms

    def catch_up(self, reference_ms: int, asked_at_ms: int) -> None:
        """Go forward to the reference at once, and never back.

        For a server that a shard has refused because it is behind: others decide by the later time
        already, so going along with it frees nothing that they have not freed.

        Args:
            reference_ms: What the reference said.
            asked_at_ms: `steady_ms` when it was asked.
        """
        middle_ms = (asked_at_ms + self._steady_ms()) // 2 + self._offset_ms
        self._offset_ms += max(0, reference_ms - middle_ms)
