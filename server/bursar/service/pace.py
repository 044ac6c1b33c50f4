"""How fast work ends, so that no more is let in than can end in time."""

from __future__ import annotations

import math
from collections.abc import Callable

_MEMORY_S = 0.5
"""Busy time after which what was seen counts a third."""

_SEEN_S_MIN = 0.05
"""Busy time that has to be seen before it says anything."""


class Pace:
    """How many things end in a second while there are any, lately.

    Time in which there is nothing to do does not count: a server that is asked little is not slow.
    """

    __slots__ = ("_busy_s", "_ended", "_now_s", "_since_s")

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begins with nothing to do and nothing seen.

        Args:
            now_s: A clock that never goes back, in seconds.
        """
        self._now_s = now_s
        self._ended = self._busy_s = 0.0
        self._since_s: float | None = None

    def begin(self) -> None:
        """Note that there is something to do from now on."""
        self._since_s = self._now_s()

    def end(self, count: int, *, is_all: bool) -> None:
        """Note what has ended.

        Args:
            count: How many things, 1 or more.
            is_all: Whether there is nothing to do any more.
        """
        self._pass_time()
        self._ended += count
        if is_all:
            self._since_s = None

    def in_time(self, time_s: float) -> float:
        """Return how many can end within a time; without end where too little was seen.

        By Little's law so many in progress take that time each.
        """
        self._pass_time()
        return time_s * self._ended / self._busy_s if self._busy_s >= _SEEN_S_MIN else math.inf

    def _pass_time(self) -> None:
        """Count the time since the last look, and let what was before fade."""
        if self._since_s is None:
            return
        now_s = self._now_s()
        passed_s, self._since_s = now_s - self._since_s, now_s
        left = math.exp(-passed_s / _MEMORY_S)
        self._ended *= left
        self._busy_s = self._busy_s * left + _MEMORY_S * (1 - left)
