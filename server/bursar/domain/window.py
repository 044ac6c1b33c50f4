"""Over what time a budget counts: windows, where they begin and end, and durations as text.

Every instant is in milliseconds since the epoch, UTC. An end is exclusive.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

ROLLING_BUCKETS = 60
"""Into how many parts a rolling window is cut at the most."""

DURATION_MS_MAX = 400 * 86_400_000

_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MONTHS_PER_YEAR = 12


class WindowKind(StrEnum):
    """What makes a window begin and end."""

    REQUEST = "request"
    TASK = "task"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    ROLLING = "rolling"
    FIXED = "fixed"
    NONE = "none"


NEVER_BACKFILLED = frozenset({WindowKind.REQUEST, WindowKind.TASK, WindowKind.NONE})
"""Kinds whose counters cannot begin with what the ledger knows: it does not say when a task
began, and the others count nothing over time."""

_DAYS = {WindowKind.DAY: 1, WindowKind.WEEK: 7}
_MONTHS = {WindowKind.MONTH: 1, WindowKind.QUARTER: 3, WindowKind.YEAR: 12}
_ZONED = frozenset({WindowKind.HOUR, *_DAYS, *_MONTHS})


@dataclass(frozen=True, slots=True)
class WindowInstance:
    """One window of a sequence.

    Attributes:
        start_ms: First instant in it.
        end_ms: First instant after it, or None where that is not known beforehand.
    """

    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """A sequence of windows; every calendar kind follows without gap or overlap.

    Days and everything longer begin at midnight of the zone's wall clock, so a day has 23, 24 or
    25 hours. Where the clock skips that midnight or shows it twice, the window begins at the first
    instant whose wall clock is on or after it; a clock set back over midnight does not reopen the
    window before. A date that a zone skips has no window.

    Hours begin on the full hour of the zone's wall clock and last 60 minutes: the hour that a
    clock shows twice is two windows, the one that it skips is none. Only where a clock is changed
    by a part of an hour (Australia/Lord_Howe), and full hours move against UTC, does the change
    itself begin a window; it ends on the next full hour. Minutes are the same in every zone.

    Attributes:
        kind: What makes a window begin and end.
        timezone: IANA name; of hours and longer calendar kinds.
        anchor_day: 1 to 31: on which day of their first month months, quarters and years begin, or
            on that month's last day if it is shorter. Quarters begin in January, April, July and
            October, years in January.
        week_start: 0 for Monday to 6 for Sunday.
        length_ms: Of a rolling window, at least 1; of a task, how long it may be idle.
        from_ms: First instant of a fixed window.
        until_ms: First instant after a fixed window.
        code: Short name that is part of a counter's name: 1 to 64 of A-Z, a-z, 0-9, `_`, `.`, `-`.
            Windows with the same code are the same, and counters of the one go on as those of the
            other. Fields that the kind does not use are not in it. A task's idle time is not in it
            either: what a task has spent stays spent when only its idle time changes. Two names of
            one zone count as two zones.
        bucket_ms: Length of a rolling window's buckets.
        bucket_count: How many whole buckets cover a rolling window's length, 1 to ROLLING_BUCKETS.
            A counter adds up one more: the oldest, which the window covers in part, counts whole.
    """

    kind: WindowKind
    timezone: str = "UTC"
    anchor_day: int = 1
    week_start: int = 0
    length_ms: int = 0
    from_ms: int = 0
    until_ms: int = 0
    code: str = field(init=False, repr=False, compare=False)
    bucket_ms: int = field(init=False, repr=False, compare=False)
    bucket_count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert 1 <= self.anchor_day <= 31, self.anchor_day  # noqa: PLR2004 - days of a month
        assert 0 <= self.week_start <= 6, self.week_start  # noqa: PLR2004 - days of a week
        assert self.length_ms >= (1 if self.kind is WindowKind.ROLLING else 0), self.length_ms
        assert self.kind is not WindowKind.FIXED or self.from_ms < self.until_ms, self
        object.__setattr__(self, "code", self._code())
        bucket_ms = -(-self.length_ms // ROLLING_BUCKETS)
        object.__setattr__(self, "bucket_ms", bucket_ms)
        object.__setattr__(self, "bucket_count", -(-self.length_ms // (bucket_ms or 1)))

    def _code(self) -> str:
        parts = [self.kind.value]
        if self.kind is WindowKind.ROLLING:
            parts.append(str(self.length_ms))
        if self.kind is WindowKind.FIXED:
            parts.append(f"{self.from_ms}-{self.until_ms}")
        if self.kind in _MONTHS and self.anchor_day != 1:
            parts.append(f"a{self.anchor_day}")
        if self.kind is WindowKind.WEEK and self.week_start != 0:
            parts.append(f"w{self.week_start}")
        if self.kind in _ZONED and self.timezone != "UTC":
            parts.append(self.timezone.replace("/", ".").replace("+", ".plus"))
        return "-".join(parts)

    def instance(self, now_ms: int) -> WindowInstance | None:
        """Return the window that runs at an instant, or None where a fixed one does not.

        Args:
            now_ms: Since the epoch, in the years 2 to 9997.
        """
        match self.kind:
            case WindowKind.REQUEST | WindowKind.TASK | WindowKind.NONE:
                return WindowInstance(0, None)
            case WindowKind.ROLLING:
                return WindowInstance(now_ms - self.length_ms, None)
            case WindowKind.FIXED:
                runs = self.from_ms <= now_ms < self.until_ms
                return WindowInstance(self.from_ms, self.until_ms) if runs else None
            case WindowKind.MINUTE:
                start_ms = now_ms - now_ms % _MINUTE_MS
                return WindowInstance(start_ms, start_ms + _MINUTE_MS)
            case WindowKind.HOUR:
                return _hour(now_ms, _zone(self.timezone))
            case _:
                return self._days(now_ms, _zone(self.timezone))

    def _days(self, now_ms: int, zone: ZoneInfo) -> WindowInstance:
        following = self._following(self._first_day(_wall_clock(now_ms, zone).date()))
        # Where the clock was set back over midnight, the date is yesterday's, the window is not.
        while (end_ms := _day_start_ms(following, zone)) <= now_ms:
            following = self._following(following)
        start_ms = _day_start_ms(self._first_day(following - timedelta(days=1)), zone)
        return WindowInstance(start_ms, end_ms)

    def _first_day(self, day: date) -> date:
        """Return the date on which the window of a date begins."""
        if self.kind in _DAYS:
            return day - timedelta(days=(day.weekday() - self.week_start) % _DAYS[self.kind])
        step = _MONTHS[self.kind]
        month = day.year * _MONTHS_PER_YEAR + day.month - 1
        month -= month % step
        first = self._anchor(month)
        return first if first <= day else self._anchor(month - step)

    def _following(self, first_day: date) -> date:
        """Return the date on which the next window begins."""
        if self.kind in _DAYS:
            return first_day + timedelta(days=_DAYS[self.kind])
        month = first_day.year * _MONTHS_PER_YEAR + first_day.month - 1
        return self._anchor(month + _MONTHS[self.kind])

    def _anchor(self, month: int) -> date:
        """Return the anchor day of a month, counted from year 0."""
        year, index = divmod(month, _MONTHS_PER_YEAR)
        _, days = calendar.monthrange(year, index + 1)
        return date(year, index + 1, min(self.anchor_day, days))


def _hour(now_ms: int, zone: ZoneInfo) -> WindowInstance:
    phase_ms = _hour_phase_ms(now_ms, zone)
    start_ms = now_ms - (now_ms + phase_ms) % _HOUR_MS
    end_ms = start_ms + _HOUR_MS
    if _hour_phase_ms(start_ms, zone) != phase_ms:
        start_ms = _first(start_ms, now_ms, lambda at: _hour_phase_ms(at, zone) == phase_ms)
    if _hour_phase_ms(end_ms - 1, zone) != phase_ms:
        end_ms = _first(now_ms, end_ms - 1, lambda at: _hour_phase_ms(at, zone) != phase_ms)
    return WindowInstance(start_ms, end_ms)


def _hour_phase_ms(at_ms: int, zone: ZoneInfo) -> int:
    """Return how far a zone's full hours are from those of UTC."""
    return _whole_ms(_wall_clock(at_ms, zone).utcoffset()) % _HOUR_MS


def _day_start_ms(day: date, zone: ZoneInfo) -> int:
    """Return the first instant whose wall clock is on or after midnight of a date."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    before, after = midnight.utcoffset(), midnight.replace(fold=1).utcoffset()
    at_ms = _whole_ms(midnight - _EPOCH)
    if _whole_ms(before) >= _whole_ms(after):
        return at_ms
    # There is no such midnight: the clock jumps over it, at this instant or before.
    skipped_ms = _whole_ms(after) - _whole_ms(before)
    return _first(at_ms - skipped_ms, at_ms, lambda at: _wall_clock(at, zone).date() >= day)


def _first(low: int, high: int, reached: Callable[[int], bool]) -> int:
    """Return the first of (low, high] that is reached; low is not, high is, and it never ends."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _wall_clock(at_ms: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)


def _whole_ms(duration: timedelta | None) -> int:
    assert duration is not None  # A ZoneInfo always knows its offset.
    return duration // _MILLISECOND


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@cache
def _timezones() -> frozenset[str]:
    # What these two mean differs from machine to machine.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def is_timezone(name: str) -> bool:
    """Tell whether there is an IANA time zone of that name, in its exact spelling."""
    return name in _timezones()


_UNITS = {"d": _DAY_MS, "h": _HOUR_MS, "m": _MINUTE_MS, "s": _SECOND_MS, "ms": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,15}}){unit}(?![a-z]))?" for unit in _UNITS))


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds, 1 to DURATION_MS_MAX, of a duration such as 250ms, 7d or 1h30m.

    Args:
        text: Whole numbers with units, each at most once, largest first.

    Raises:
        ValueError: The text is no duration or out of range.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"must be a duration such as 90s, 15m, 24h, 7d or 1h30m, is {text!r}")
    pairs = zip(match.groups(default="0"), _UNITS.values(), strict=True)
    duration_ms = sum(int(count) * unit_ms for count, unit_ms in pairs)
    if not 1 <= duration_ms <= DURATION_MS_MAX:
        raise ValueError(f"must be between 1ms and {DURATION_MS_MAX // _DAY_MS}d, is {text!r}")
    return duration_ms


def format_duration(duration_ms: int) -> str:
    """Return a duration for people, in at most two units: "3 h 20 min", "45 s", "12 d".

    It is rounded up, so that who waits for it does not come too early.

    Args:
        duration_ms: Any; below 0 counts as 0.
    """
    if 0 < duration_ms < _SECOND_MS:
        return f"{duration_ms} ms"
    step = _SECOND_MS
    if duration_ms >= _HOUR_MS:
        step = _MINUTE_MS if duration_ms < _DAY_MS else _HOUR_MS
    rest = -(-max(duration_ms, 0) // step) * step
    parts = []
    for unit, unit_ms in (("d", _DAY_MS), ("h", _HOUR_MS), ("min", _MINUTE_MS), ("s", _SECOND_MS)):
        count, rest = divmod(rest, unit_ms)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"
