"""Windows: no gap and no overlap in any zone, lengths across changes of clock, codes, durations."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import combinations
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.domain.window import (
    DURATION_MS_MAX,
    ROLLING_BUCKETS,
    Window,
    WindowInstance,
    WindowKind,
    format_duration,
    is_timezone,
    parse_duration_ms,
)

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

ZONES = (
    "UTC",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
)
ODD_ZONES = ("America/St_Johns", "Pacific/Apia", "America/Havana", "Asia/Pyongyang")
CALENDAR = (
    WindowKind.MINUTE,
    WindowKind.HOUR,
    WindowKind.DAY,
    WindowKind.WEEK,
    WindowKind.MONTH,
    WindowKind.QUARTER,
    WindowKind.YEAR,
)
DATED = CALENDAR[2:]


def ms(text: str, zone: str = "UTC") -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def wall(at_ms: int, zone: str) -> datetime:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def running(window: Window, at_ms: int) -> tuple[int, int]:
    instance = window.instance(at_ms)
    assert instance is not None
    assert instance.end_ms is not None
    return instance.start_ms, instance.end_ms


def first_date(window: Window, day: date) -> date:
    """Return when the window of a date begins, by trying every day before it."""
    while not begins(window, day):
        day -= timedelta(days=1)
    return day


def begins(window: Window, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    on_anchor = day.day == min(window.anchor_day, last)
    match window.kind:
        case WindowKind.WEEK:
            return day.weekday() == window.week_start
        case WindowKind.MONTH:
            return on_anchor
        case WindowKind.QUARTER:
            return on_anchor and day.month in (1, 4, 7, 10)
        case WindowKind.YEAR:
            return on_anchor and day.month == 1
        case _:
            return True


@cache
def changes(zone: str, from_ms: int, until_ms: int) -> list[int]:
    """Return the instants at which a zone's clock is changed, to the minute."""
    found = []
    hours = range(from_ms, until_ms, HOUR)
    drift = [wall(at, zone) - wall(at, "UTC") for at in hours]
    for at, before, after in zip(hours, drift, drift[1:], strict=False):
        if before != after:
            minutes = range(at, at + HOUR + MINUTE, MINUTE)
            found.append(
                next(each for each in minutes if wall(each, zone) - wall(each, "UTC") != before)
            )
    return found


instants = st.integers(ms("2019-01-01"), ms("2029-01-01"))


@pytest.mark.parametrize("kind", CALENDAR)
@pytest.mark.parametrize("zone", ZONES + ODD_ZONES)
@settings(deadline=None, max_examples=60)
@given(at=instants, anchor=st.integers(1, 31), week_start=st.integers(0, 6))
def test_windows_neither_gap_nor_overlap(
    zone: str, kind: WindowKind, at: int, anchor: int, week_start: int
) -> None:
    """Goal: every instant is in exactly one window, in every zone.

    Method: random instants of ten years; the window holds the instant, is the same seen from its
    edges, and its neighbours begin where it ends and end where it begins.
    """
    # case 41, case 42, case 43, case 53
    window = Window(kind, zone, anchor, week_start)
    start, end = running(window, at)
    assert start <= at < end
    assert running(window, start) == running(window, end - 1) == (start, end)
    assert running(window, end)[0] == end
    assert running(window, start - 1)[1] == start


@pytest.mark.parametrize("kind", DATED)
@pytest.mark.parametrize("zone", ZONES + ODD_ZONES)
@settings(deadline=None, max_examples=40)
@given(at=instants, anchor=st.integers(1, 31), week_start=st.integers(0, 6))
def test_windows_begin_when_the_wall_clock_first_reaches_midnight(
    zone: str, kind: WindowKind, at: int, anchor: int, week_start: int
) -> None:
    """Goal: a window begins at the first instant on or after midnight of its date.

    Method: zoneinfo's wall clock at the start, just before it, and at every quarter of an hour of
    the 26 hours before; the date is found by trying every day.
    """
    # case 53, case 54, case 57
    window = Window(kind, zone, anchor, week_start)
    start, end = running(window, at)
    # Where a clock is set back over midnight, the highest date seen so far counts.
    day = max(wall(at, zone).date(), wall(start, zone).date())
    midnight = datetime.combine(first_date(window, day), datetime.min.time())
    assert wall(start, zone) >= midnight
    assert wall(start - 1, zone) < midnight
    assert all(wall(start - back, zone) < midnight for back in range(1, 26 * HOUR, 15 * MINUTE))
    assert begins(window, wall(end, zone).date())


@pytest.mark.parametrize("zone", ZONES + ODD_ZONES)
def test_ten_years_of_days(zone: str) -> None:
    """Goal: ten years fall into whole days of 23 to 25 hours. Method: walk from end to end."""
    # case 54
    window = Window(WindowKind.DAY, zone)
    at, lengths, days = running(window, ms("2016-06-15"))[0], set(), 0
    while at < ms("2026-06-15"):
        start, at_next = running(window, at)
        assert start == at
        lengths.add(at_next - start)
        days, at = days + 1, at_next
    assert days in (3_652, 3_653)
    assert lengths <= {23 * HOUR, 23.5 * HOUR, 24 * HOUR, 24.5 * HOUR, 25 * HOUR}


@pytest.mark.parametrize("kind", [WindowKind.MINUTE, WindowKind.HOUR, WindowKind.DAY])
@pytest.mark.parametrize("zone", ZONES + ODD_ZONES)
def test_around_every_change_of_clock(zone: str, kind: WindowKind) -> None:
    """Goal: no gap or overlap near a change of clock. Method: each of ten years, 2 h around it."""
    # case 54
    window = Window(kind, zone)
    for change in changes(zone, ms("2016-01-01"), ms("2026-01-01")):
        at = running(window, change - 2 * HOUR)[0]
        while at < change + 2 * HOUR:
            start, end = running(window, at)
            assert start == at < end
            assert running(window, (start + end) // 2) == (start, end)
            assert running(window, end - 1) == (start, end)
            at = end


@pytest.mark.parametrize(
    "zone,day,hours",
    [
        pytest.param("UTC", "2026-03-08", 24, id="utc"),
        pytest.param("America/New_York", "2026-03-08", 23, id="new york forward"),
        pytest.param("America/New_York", "2026-11-01", 25, id="new york back"),
        pytest.param("America/New_York", "2026-07-01", 24, id="new york between"),
        pytest.param("Australia/Lord_Howe", "2026-10-04", 23.5, id="lord howe forward"),
        pytest.param("Australia/Lord_Howe", "2026-04-05", 24.5, id="lord howe back"),
        pytest.param("Asia/Kolkata", "2026-03-08", 24, id="kolkata never"),
        pytest.param("America/Santiago", "2025-09-07", 23, id="santiago skips midnight"),
        pytest.param("America/Santiago", "2025-04-05", 25, id="santiago shows 23:00 twice"),
        pytest.param("Africa/Cairo", "2025-04-25", 23, id="cairo skips midnight"),
        pytest.param("Africa/Cairo", "2025-10-30", 25, id="cairo shows 23:00 twice"),
        pytest.param("Asia/Beirut", "2025-03-30", 23, id="beirut skips midnight"),
        pytest.param("Asia/Beirut", "2025-10-25", 25, id="beirut shows 23:00 twice"),
        pytest.param("America/Havana", "2025-11-02", 25, id="havana shows midnight twice"),
        pytest.param("America/Havana", "2025-03-09", 23, id="havana skips midnight"),
        pytest.param("America/St_Johns", "2010-11-06", 24, id="st johns before"),
        pytest.param("America/St_Johns", "2010-11-07", 25, id="st johns back over midnight"),
        pytest.param("Pacific/Apia", "2011-12-29", 24, id="apia before a date that never was"),
        pytest.param("Pacific/Apia", "2011-12-31", 24, id="apia after a date that never was"),
    ],
)
def test_length_of_a_day(zone: str, day: str, hours: float) -> None:
    """Goal: days are as long as the zone makes them. Method: a table, seen from noon."""
    # case 53, case 54
    start, end = running(Window(WindowKind.DAY, zone), ms(day + "T12:00", zone))
    assert (end - start) / HOUR == hours


def test_a_clock_set_back_over_midnight_does_not_reopen_yesterday() -> None:
    """Goal: once begun, a day stays. Method: St. John's, back from 00:01 to 23:01, in 2010."""
    # case 53
    window, midnight = Window(WindowKind.DAY, "America/St_Johns"), ms("2010-11-07T02:30")
    assert wall(midnight, window.timezone) == datetime(2010, 11, 7)
    assert wall(midnight + 30 * MINUTE, window.timezone) == datetime(2010, 11, 6, 23, 30)
    assert running(window, midnight - 1)[1] == midnight
    assert running(window, midnight + 30 * MINUTE)[0] == midnight


@pytest.mark.parametrize(
    "zone,until,minutes",
    [
        pytest.param("UTC", "2026-03-08T12:00", [60, 60, 60, 60], id="utc"),
        pytest.param("Asia/Kolkata", "2026-03-08T12:30", [60, 60, 60, 60], id="kolkata"),
        pytest.param("America/New_York", "2026-03-08T08:00", [60] * 4, id="new york forward"),
        pytest.param("America/New_York", "2026-11-01T08:00", [60] * 4, id="new york back"),
        pytest.param("America/St_Johns", "2010-11-07T04:30", [60] * 4, id="st johns back"),
        pytest.param(
            "Australia/Lord_Howe", "2026-10-03T17:00", [60, 60, 30, 60], id="lord howe forward"
        ),
        pytest.param(
            "Australia/Lord_Howe", "2026-04-04T16:30", [60, 60, 30, 60], id="lord howe back"
        ),
        pytest.param(
            "Asia/Pyongyang", "2018-05-04T17:00", [60, 30, 60, 60], id="pyongyang within an hour"
        ),
    ],
)
def test_length_of_hours(zone: str, until: str, minutes: list[int]) -> None:
    """Goal: hours last 60 minutes, but where a clock moves by part of an hour.

    Method: a table of the last four windows before an instant in UTC, each on the full hour there.
    """
    # case 54
    window, end, lengths = Window(WindowKind.HOUR, zone), ms(until), []
    for _ in minutes:
        start, end_seen = running(window, end - 1)
        assert end_seen == end
        assert wall(end - 1, zone).minute in (59, 29)
        lengths.append((end - start) // MINUTE)
        end = start
    assert lengths[::-1] == minutes


@pytest.mark.parametrize(
    "window,at,start,end",
    [
        pytest.param(
            Window(WindowKind.MONTH), "2024-02-29T23:59", "2024-02-01", "2024-03-01", id="leap day"
        ),
        pytest.param(
            Window(WindowKind.DAY), "2024-02-29T12:00", "2024-02-29", "2024-03-01", id="29 Feb"
        ),
        pytest.param(
            Window(WindowKind.MONTH, anchor_day=31),
            "2023-02-28",
            "2023-02-28",
            "2023-03-31",
            id="anchor 31 begins on 28 Feb",
        ),
        pytest.param(
            Window(WindowKind.MONTH, anchor_day=31),
            "2024-02-28T23:00",
            "2024-01-31",
            "2024-02-29",
            id="anchor 31 ends on 29 Feb",
        ),
        pytest.param(
            Window(WindowKind.MONTH, anchor_day=30),
            "2023-03-29",
            "2023-02-28",
            "2023-03-30",
            id="anchor 30 after February",
        ),
        pytest.param(
            Window(WindowKind.MONTH, anchor_day=15),
            "2026-01-14T23:59",
            "2025-12-15",
            "2026-01-15",
            id="anchor 15 over new year",
        ),
        pytest.param(
            Window(WindowKind.MONTH, "America/New_York", 15),
            "2026-03-15T03:59",
            "2026-02-15T05:00",
            "2026-03-15T04:00",
            id="anchor 15 in new york",
        ),
        pytest.param(
            Window(WindowKind.QUARTER), "2026-06-30T23:59", "2026-04-01", "2026-07-01", id="quarter"
        ),
        pytest.param(
            Window(WindowKind.QUARTER, anchor_day=31),
            "2026-04-29",
            "2026-01-31",
            "2026-04-30",
            id="quarter with anchor 31",
        ),
        pytest.param(
            Window(WindowKind.YEAR, anchor_day=15),
            "2026-01-14",
            "2025-01-15",
            "2026-01-15",
            id="year with anchor 15",
        ),
        pytest.param(
            Window(WindowKind.YEAR), "2024-12-31T23:59", "2024-01-01", "2025-01-01", id="year"
        ),
        pytest.param(
            Window(WindowKind.WEEK), "2026-03-01", "2026-02-23", "2026-03-02", id="week from Monday"
        ),
        pytest.param(
            Window(WindowKind.WEEK, week_start=6),
            "2026-03-01",
            "2026-03-01",
            "2026-03-08",
            id="week from Sunday",
        ),
        pytest.param(
            Window(WindowKind.MINUTE, "Asia/Kolkata"),
            "2026-03-01T10:20:30",
            "2026-03-01T10:20",
            "2026-03-01T10:21",
            id="minute",
        ),
        pytest.param(
            Window(WindowKind.HOUR, "Asia/Kolkata"),
            "2026-03-01T10:20",
            "2026-03-01T09:30",
            "2026-03-01T10:30",
            id="hour of Kolkata",
        ),
        pytest.param(
            Window(WindowKind.DAY), "1969-12-31T23:59", "1969-12-31", "1970-01-01", id="before 1970"
        ),
    ],
)
def test_calendar_windows(window: Window, at: str, start: str, end: str) -> None:
    """Goal: months, quarters, years and weeks are real ones. Method: a table in UTC."""
    # case 57
    assert running(window, ms(at)) == (ms(start), ms(end))


@pytest.mark.parametrize(
    "window,expected",
    [
        pytest.param(Window(WindowKind.REQUEST), WindowInstance(0, None), id="request"),
        pytest.param(Window(WindowKind.TASK, length_ms=5), WindowInstance(0, None), id="task"),
        pytest.param(Window(WindowKind.NONE), WindowInstance(0, None), id="none"),
        pytest.param(
            Window(WindowKind.ROLLING, length_ms=400), WindowInstance(600, None), id="rolling"
        ),
        pytest.param(
            Window(WindowKind.FIXED, from_ms=1_000, until_ms=1_001),
            WindowInstance(1_000, 1_001),
            id="fixed, first and last instant",
        ),
        pytest.param(Window(WindowKind.FIXED, from_ms=1_001, until_ms=9_999), None, id="not yet"),
        pytest.param(Window(WindowKind.FIXED, from_ms=1, until_ms=1_000), None, id="no longer"),
    ],
)
def test_other_windows(window: Window, expected: WindowInstance | None) -> None:
    """Goal: windows that no calendar makes. Method: a table at the instant 1000."""
    assert window.instance(1_000) == expected


@pytest.mark.parametrize(
    "length,bucket,count",
    [
        pytest.param(1, 1, 1, id="shortest"),
        pytest.param(60, 1, 60, id="one each"),
        pytest.param(61, 2, 31, id="not whole"),
        pytest.param(MINUTE, SECOND, 60, id="minute"),
        pytest.param(DAY, 24 * MINUTE, 60, id="day"),
    ],
)
def test_buckets(length: int, bucket: int, count: int) -> None:
    """Goal: buckets cover a rolling window. Method: a table."""
    window = Window(WindowKind.ROLLING, length_ms=length)
    assert (window.bucket_ms, window.bucket_count) == (bucket, count)


@given(st.integers(1, DURATION_MS_MAX))
def test_buckets_cover_the_length_with_none_too_many(length: int) -> None:
    """Goal: as many buckets as needed and no more. Method: random lengths."""
    window = Window(WindowKind.ROLLING, length_ms=length)
    assert 1 <= window.bucket_count <= ROLLING_BUCKETS
    assert (window.bucket_count - 1) * window.bucket_ms < length
    assert window.bucket_count * window.bucket_ms >= length


NEW_YORK = "America/New_York"
DIFFERENT = [
    *(Window(kind, length_ms=1, until_ms=1) for kind in WindowKind),
    *(Window(kind, NEW_YORK) for kind in CALENDAR[1:]),
    *(Window(kind, NEW_YORK, 15) for kind in DATED[2:]),
    *(Window(WindowKind.MONTH, anchor_day=day) for day in range(2, 32)),
    *(Window(WindowKind.WEEK, week_start=day) for day in range(1, 7)),
    *(Window(WindowKind.DAY, zone) for zone in sorted(available_timezones() - {"UTC", NEW_YORK})),
    Window(WindowKind.ROLLING, length_ms=2),
    Window(WindowKind.FIXED, from_ms=1, until_ms=2),
    Window(WindowKind.FIXED, from_ms=1, until_ms=3),
]


def test_codes_differ_where_windows_do() -> None:
    """Goal: no two sequences share a counter, in any zone. Method: many windows, all pairs."""
    codes = [window.code for window in DIFFERENT]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", code) for code in codes)
    longest = Window(WindowKind.QUARTER, max(available_timezones(), key=len), 31)
    assert len(longest.code) <= 64


@pytest.mark.parametrize(
    "one,other,code",
    [
        pytest.param(Window(WindowKind.MONTH), Window(WindowKind.MONTH), "month", id="default"),
        pytest.param(
            Window(WindowKind.MONTH, NEW_YORK, 15),
            Window(WindowKind.MONTH, NEW_YORK, 15, week_start=3, length_ms=4),
            "month-a15-America.New_York",
            id="unused fields",
        ),
        pytest.param(
            Window(WindowKind.DAY, "Etc/GMT+5", 15),
            Window(WindowKind.DAY, "Etc/GMT+5"),
            "day-Etc.GMT.plus5",
            id="plus",
        ),
        pytest.param(
            Window(WindowKind.WEEK, week_start=6),
            Window(WindowKind.WEEK, anchor_day=2, week_start=6),
            "week-w6",
            id="week",
        ),
        pytest.param(
            Window(WindowKind.MINUTE, NEW_YORK), Window(WindowKind.MINUTE), "minute", id="minute"
        ),
        pytest.param(
            Window(WindowKind.TASK, length_ms=1), Window(WindowKind.TASK), "task", id="idle time"
        ),
        pytest.param(
            Window(WindowKind.ROLLING, NEW_YORK, length_ms=60_000),
            Window(WindowKind.ROLLING, length_ms=60_000),
            "rolling-60000",
            id="rolling",
        ),
        pytest.param(
            Window(WindowKind.FIXED, from_ms=1, until_ms=2),
            Window(WindowKind.FIXED, NEW_YORK, from_ms=1, until_ms=2),
            "fixed-1-2",
            id="fixed",
        ),
    ],
)
def test_codes_are_equal_where_windows_are(one: Window, other: Window, code: str) -> None:
    """Goal: what a kind does not use does not change its counters. Method: a table of pairs."""
    assert one.code == other.code == code
    assert one.instance(ms("2026-01-01")) == other.instance(ms("2026-01-01"))


@pytest.mark.parametrize(
    "kind,fields",
    [
        pytest.param(WindowKind.MONTH, {"anchor_day": 0}, id="anchor below"),
        pytest.param(WindowKind.MONTH, {"anchor_day": 32}, id="anchor above"),
        pytest.param(WindowKind.WEEK, {"week_start": -1}, id="weekday below"),
        pytest.param(WindowKind.WEEK, {"week_start": 7}, id="weekday above"),
        pytest.param(WindowKind.ROLLING, {}, id="no length"),
        pytest.param(WindowKind.TASK, {"length_ms": -1}, id="negative length"),
        pytest.param(WindowKind.FIXED, {"from_ms": 5, "until_ms": 5}, id="empty"),
    ],
)
def test_impossible_windows(kind: WindowKind, fields: dict[str, int]) -> None:
    """Goal: a window that cannot be is a fault of the program. Method: a table."""
    with pytest.raises(AssertionError):
        Window(kind, "UTC", **fields)


@pytest.mark.parametrize(
    "name,known",
    [
        pytest.param("UTC", True, id="utc"),
        pytest.param("America/Argentina/ComodRivadavia", True, id="longest"),
        pytest.param("Etc/GMT+5", True, id="offset"),
        pytest.param("america/new_york", False, id="case"),
        pytest.param("America", False, id="folder"),
        pytest.param("localtime", False, id="differs by machine"),
        pytest.param("../etc/passwd", False, id="path"),
        pytest.param("/etc/localtime", False, id="absolute path"),
        pytest.param("right/UTC", False, id="leap seconds"),
        pytest.param("", False, id="empty"),
        pytest.param("UTC\0", False, id="null"),
        pytest.param("+05:00", False, id="bare offset"),
    ],
)
def test_timezones(name: str, known: bool) -> None:
    """Goal: IANA names and nothing else. Method: a table."""
    # case 54
    assert is_timezone(name) is known


@pytest.mark.parametrize(
    "text,expected",
    [
        pytest.param("90s", 90 * SECOND, id="seconds"),
        pytest.param("15m", 15 * MINUTE, id="minutes"),
        pytest.param("24h", DAY, id="hours"),
        pytest.param("7d", 7 * DAY, id="days"),
        pytest.param("1h30m", 90 * MINUTE, id="two units"),
        pytest.param("1d2h3m4s5ms", DAY + 2 * HOUR + 3 * MINUTE + 4 * SECOND + 5, id="all units"),
        pytest.param("250ms", 250, id="milliseconds"),
        pytest.param("1m5ms", MINUTE + 5, id="m is not ms"),
        pytest.param("1ms", 1, id="shortest"),
        pytest.param("400d", DURATION_MS_MAX, id="longest"),
    ],
)
def test_parse_duration(text: str, expected: int) -> None:
    """Goal: durations of a policy in milliseconds. Method: a table."""
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize(
    "text,complaint",
    [
        pytest.param("", "must be a duration such as", id="empty"),
        pytest.param("5", "must be a duration such as", id="no unit"),
        pytest.param("s", "must be a duration such as", id="no number"),
        pytest.param("1.5h", "must be a duration such as", id="fraction"),
        pytest.param("-1h", "must be a duration such as", id="negative"),
        pytest.param("1h 30m", "must be a duration such as", id="space"),
        pytest.param("30m1h", "must be a duration such as", id="order"),
        pytest.param("1h1h", "must be a duration such as", id="twice"),
        pytest.param("1w", "must be a duration such as", id="unknown unit"),
        pytest.param("1H", "must be a duration such as", id="case"),
        pytest.param("\u0661s", "must be a duration such as", id="other digits"),
        pytest.param("9" * 5_000 + "s", "must be a duration such as", id="endless"),
        pytest.param("0s", "must be between 1ms and 400d", id="zero"),
        pytest.param("400d1ms", "must be between 1ms and 400d", id="too long"),
    ],
)
def test_refused_durations(text: str, complaint: str) -> None:
    """Goal: what is no duration is refused with words that help. Method: a table."""
    with pytest.raises(ValueError, match=complaint):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    "duration,expected",
    [
        pytest.param(-5, "0 s", id="past"),
        pytest.param(0, "0 s", id="now"),
        pytest.param(1, "1 ms", id="shortest"),
        pytest.param(999, "999 ms", id="below a second"),
        pytest.param(45 * SECOND, "45 s", id="seconds"),
        pytest.param(1_001, "2 s", id="rounded up"),
        pytest.param(90 * SECOND, "1 min 30 s", id="minutes"),
        pytest.param(HOUR - 1, "1 h", id="carried"),
        pytest.param(3 * HOUR + 20 * MINUTE, "3 h 20 min", id="hours"),
        pytest.param(3 * HOUR + 19 * MINUTE + 1, "3 h 20 min", id="hours rounded up"),
        pytest.param(DAY - 1, "1 d", id="carried into days"),
        pytest.param(12 * DAY, "12 d", id="days"),
        pytest.param(12 * DAY + 1, "12 d 1 h", id="days and hours"),
    ],
)
def test_format_duration(duration: int, expected: str) -> None:
    """Goal: durations that people read at a glance, never too short. Method: a table."""
    assert format_duration(duration) == expected


@given(st.integers(0, DURATION_MS_MAX))
def test_a_formatted_duration_is_never_too_short(duration: int) -> None:
    """Goal: who waits as told is not early. Method: read back what random durations print as."""
    text = format_duration(duration).replace("min", "m").replace(" ", "")
    shown = 0 if duration == 0 else parse_duration_ms(text.replace("401d", "400d"))
    assert duration <= shown <= max(duration + HOUR, duration)


def test_different_windows_differ() -> None:
    """Goal: the windows that codes are compared on are different. Method: all pairs."""
    assert all(one != other for one, other in combinations(DIFFERENT[:60], 2))
