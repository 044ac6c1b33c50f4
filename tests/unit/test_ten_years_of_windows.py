"""T28: every hour of ten years is in the hour, day and month that the wall clock says.

`test_window.py` has the table of lengths and random instants. Here no hour is left out: New York
moves by an hour, Lord Howe by half an hour, Kolkata never does; months begin on the 31st or on
their last day, so that each February of four years, one of them leap, ends one and begins another.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bursar.domain.window import Window, WindowKind

ZONES = ("America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
START, END = datetime(2019, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000


def ms(at: datetime) -> int:
    return int(at.timestamp()) * 1_000


def running(window: Window, at_ms: int) -> tuple[int, int]:
    instance = window.instance(at_ms)
    assert instance is not None
    assert instance.end_ms is not None
    return instance.start_ms, instance.end_ms


def anchored(day: date) -> date:
    """Return the date on which the month of a date begins that begins on the 31st, or the last."""
    if day.day == calendar.monthrange(day.year, day.month)[1]:
        return day
    return day.replace(day=1) - timedelta(days=1)


@pytest.mark.parametrize("zone", ZONES)
def test_t28_every_hour_is_in_an_hour(zone: str) -> None:
    """T28. Goal: hours follow each other without gap or overlap, each 60 minutes or 30.

    Method: from window to window over ten years; each begins on a full hour of the zone's wall
    clock, or where the clock is changed, and ends on one.
    """
    window, info = Window(WindowKind.HOUR, zone), ZoneInfo(zone)
    at_ms, lengths = running(window, ms(START))[0], {}
    while at_ms < ms(END):
        start_ms, end_ms = running(window, at_ms)
        assert start_ms == at_ms
        minute = datetime.fromtimestamp(end_ms // 1_000, info).minute
        if minute != 0:
            before = datetime.fromtimestamp(end_ms // 1_000 - 1, info)
            after = datetime.fromtimestamp(end_ms // 1_000, info)
            assert before.utcoffset() != after.utcoffset(), before
        lengths[end_ms - start_ms] = lengths.get(end_ms - start_ms, 0) + 1
        at_ms = end_ms
    halves = lengths.pop(HOUR_MS // 2, 0)
    assert set(lengths) == {HOUR_MS}
    assert halves == (20 if zone == "Australia/Lord_Howe" else 0)


@pytest.mark.parametrize("zone", ZONES)
def test_t28_every_hour_is_in_the_day_of_the_wall_clock(zone: str) -> None:
    """T28. Goal: a day holds exactly the hours that have its date. Method: all hours, by date."""
    window, info = Window(WindowKind.DAY, zone), ZoneInfo(zone)
    start_ms, end_ms = running(window, ms(START))
    lengths, at = set(), START
    while at < END:
        if ms(at) >= end_ms:
            start_ms, end_ms, last_ms = *running(window, ms(at)), end_ms
            assert start_ms == last_ms
            lengths.add((end_ms - start_ms) / HOUR_MS)
        first, last = (datetime.fromtimestamp(s, info) for s in (start_ms / 1e3, end_ms / 1e3 - 1))
        assert first.date() == at.astimezone(info).date() == last.date()
        at += HOUR
    expected = {"America/New_York": {23, 24, 25}, "Australia/Lord_Howe": {23.5, 24, 24.5}}
    assert lengths == expected.get(zone, {24})


@pytest.mark.parametrize("zone", ZONES)
def test_t28_every_hour_is_in_a_month_from_the_31st(zone: str) -> None:
    """T28. Goal: months from the 31st begin on the last day of shorter ones, 29 February too.

    Method: all hours, against dates that are counted back on the calendar.
    """
    window, info = Window(WindowKind.MONTH, zone, anchor_day=31), ZoneInfo(zone)
    start_ms, end_ms = running(window, ms(START))
    firsts, at = [], START
    while at < END:
        if ms(at) >= end_ms:
            start_ms, end_ms, last_ms = *running(window, ms(at)), end_ms
            assert start_ms == last_ms
            firsts.append(datetime.fromtimestamp(start_ms / 1e3, info))
        first = datetime.fromtimestamp(start_ms / 1e3, info)
        assert first.date() == anchored(at.astimezone(info).date())
        at += HOUR
    assert len(firsts) in (119, 120)
    assert {(each.hour, each.minute) for each in firsts} == {(0, 0)}
    leap = [each for each in firsts if (each.month, each.day) == (2, 29)]
    assert [each.year for each in leap] == [2020, 2024, 2028]
