"""How long a call may take, so that its answer still arrives in time."""

from __future__ import annotations

from dataclasses import dataclass

from bursar.service.errors import DeadlineExceeded

ANSWER_SHARE, ANSWER_S_MAX = 0.1, 0.05
"""What is kept of a deadline for the way back: a tenth, at most 50 ms."""

REMAINING_S_MIN = 0.001
"""With less than this left Redis would book what nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds of how long a call may take.

    Attributes:
        default_ms: For calls that do not say, 1 or more.
        max_ms: For any call, 1 or more.
    """

    default_ms: int
    max_ms: int

    def time_to_answer_s(self, remaining_s: float | None) -> float:
        """Return how long a call may be worked on.

        Args:
            remaining_s: What its caller still waits, or None where it does not say.

        Raises:
            DeadlineExceeded: There is no time left.
        """
        if remaining_s is None:
            return self.default_ms / 1_000
        if remaining_s < REMAINING_S_MIN:
            raise DeadlineExceeded("the deadline had passed before the call began")
        remaining_s = min(remaining_s, self.max_ms / 1_000)
        return remaining_s - min(remaining_s * ANSWER_SHARE, ANSWER_S_MAX)
