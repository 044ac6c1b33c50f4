"""How long to wait between attempts to settle."""

from __future__ import annotations

from collections.abc import Callable

from bursar_client._errors import BursarError, DeadlineExceeded, Overloaded, Unavailable
from bursar_client._settings import Settings

INLINE_BACKOFF_S_MAX = 1.0
"""Longest pause while a caller waits."""

CLOSING_BACKOFF_S_MAX = 0.2
"""Longest pause while the client is being closed."""

SERVER_AWAY = (Unavailable, Overloaded, DeadlineExceeded)
"""What says more of the server than of the one settlement that met it."""

_BACKOFF_DOUBLINGS_MAX = 30


class Pacing:
    """Pauses that grow with each failure, and a rest for all while the server is away.

    Were each settlement to pause on its own, thousands that wait would make thousands of calls
    a second.

    Attributes:
        closing: Once true pauses are short: somebody waits for the backlog to empty.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self.closing = False
        self._settings = settings
        self._clock = clock
        self._random = random
        self._rest_until_s = 0.0
        self._failures = 0

    def pause_s(self, failures: int, error: BursarError | None, *, inline: bool = False) -> float:
        """Return how long to pause after so many failures of one settlement, error the last."""
        longest_s = INLINE_BACKOFF_S_MAX if inline else self._settings.settle_backoff_max_s
        if self.closing:
            longest_s = min(longest_s, CLOSING_BACKOFF_S_MAX)
        doublings = min(max(failures - 1, 0), _BACKOFF_DOUBLINGS_MAX)
        grown_s: float = self._settings.settle_backoff_initial_s * 2**doublings
        asked_s = 0.0
        if error is not None and error.retry_after is not None:
            asked_s = error.retry_after.total_seconds()
        # Half of the pause is random, so that clients that failed together come back apart.
        return min(max(grown_s, asked_s), longest_s) * (0.5 + self._random() / 2)

    def rest(self, error: BursarError) -> None:
        """Let all rest: the server is away."""
        self._failures += 1
        self._rest_until_s = self._clock() + self.pause_s(self._failures, error)

    def rest_s(self) -> float:
        """Return how much longer all have to rest."""
        return max(self._rest_until_s - self._clock(), 0.0)

    def end_rest(self) -> bool:
        """Let nobody rest any more, and say whether anybody had to."""
        had_to = self._failures > 0
        self._rest_until_s, self._failures = 0.0, 0
        return had_to
