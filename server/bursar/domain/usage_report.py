"""What can be asked about past usage, and how its time is cut."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.subject import Subject, Target
from bursar.domain.window import Window, WindowKind

HOUR_MS = 3_600_000
_DAY_MS = 24 * HOUR_MS


class Dimension(StrEnum):
    """What usage can be grouped by, but for the class of token."""

    TEAM = "team"
    FEATURE = "feature"
    AGENT = "agent"
    USER = "user"
    TASK = "task"
    PROVIDER = "provider"
    MODEL = "model"


class TokenClass(StrEnum):
    """A kind of token that is counted by itself; all but the first two are parts of those."""

    INPUT = "input_tokens"
    OUTPUT = "output_tokens"
    CACHE_READ = "cache_read_tokens"
    CACHE_WRITE = "cache_write_tokens"
    INPUT_AUDIO = "input_audio_tokens"
    REASONING = "reasoning_tokens"
    OUTPUT_AUDIO = "output_audio_tokens"


class Interval(StrEnum):
    """How time is cut."""

    NONE = "none"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


SPAN_MS_MAX = {
    Interval.NONE: 3_700 * _DAY_MS,
    Interval.HOUR: 32 * _DAY_MS,
    Interval.DAY: 400 * _DAY_MS,
    Interval.MONTH: 3_700 * _DAY_MS,
}
"""Longest time that one question may be about, by how it is cut."""

_KINDS = {
    Interval.HOUR: WindowKind.HOUR,
    Interval.DAY: WindowKind.DAY,
    Interval.MONTH: WindowKind.MONTH,
}


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Whose usage, of what time, grouped how.

    Attributes:
        subject: Every level given must match; labels are empty.
        target: Provider and model, where given, match without regard to case.
        start_ms: First instant.
        end_ms: First instant after it, or None for the end of the current hour.
        group_by: Each dimension at most once.
        by_token_class: Whether each class of token is a row of its own.
        interval: How time is cut.
        timezone: Whose hours, days and months are meant.
    """

    subject: Subject
    target: Target
    start_ms: int
    end_ms: int | None
    group_by: tuple[Dimension, ...] = ()
    by_token_class: bool = False
    interval: Interval = Interval.NONE
    timezone: str = "UTC"

    def bounds_ms(self, end_ms: int) -> list[int]:
        """Return where the intervals begin, and where the last one ends: two or more instants.

        The first and the last interval are cut to the time that is asked for.

        Args:
            end_ms: First instant after the last interval.

        Raises:
            FieldInvalid: That is not after the start, or too long after it.
        """
        span_ms = end_ms - self.start_ms
        if span_ms <= 0:
            raise FieldInvalid(Fault("end_time", "must be after start_time"))
        if span_ms > SPAN_MS_MAX[self.interval]:
            days = SPAN_MS_MAX[self.interval] // _DAY_MS
            fault = f"must be at most {days} days after start_time with interval {self.interval}"
            raise FieldInvalid(Fault("end_time", fault))
        bounds = [self.start_ms]
        if self.interval is not Interval.NONE:
            window = Window(_KINDS[self.interval], timezone=self.timezone)
            while (bound_ms := _window_end_ms(window, bounds[-1])) < end_ms:
                bounds.append(bound_ms)
        return [*bounds, end_ms]


def _window_end_ms(window: Window, at_ms: int) -> int:
    instance = window.instance(at_ms)
    assert instance is not None and instance.end_ms is not None, "calendar windows end"
    return instance.end_ms
