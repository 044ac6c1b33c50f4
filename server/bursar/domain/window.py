from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo, available_timezones


class WindowKind(StrEnum):
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


@dataclass(frozen=True, slots=True)
class WindowInstance:
    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class Window:
    kind: WindowKind
    timezone: str = "UTC"
    anchor_day: int = 1
    week_start: int = 0
    length_ms: int = 0
    from_ms: int = 0
    until_ms: int = 0

    @property
    def code(self):
        return self.kind.value if self.kind != WindowKind.ROLLING else f"r{self.length_ms}"

    @property
    def bucket_ms(self):
        return -(-self.length_ms // 60)

    @property
    def bucket_count(self):
        return -(-self.length_ms // self.bucket_ms)

    def instance(self, now_ms):
        k = self.kind
        if k in ("request", "task", "none"):
            return WindowInstance(0, None)
        if k == "rolling":
            return WindowInstance(now_ms - self.length_ms, None)
        if k == "fixed":
            return (
                WindowInstance(self.from_ms, self.until_ms)
                if self.from_ms <= now_ms < self.until_ms
                else None
            )
        z = ZoneInfo(self.timezone)
        t = dt.datetime.fromtimestamp(now_ms / 1000, z)
        s = t.replace(second=0, microsecond=0)
        if k != "minute":
            s = s.replace(minute=0)
        if k not in ("minute", "hour"):
            s = s.replace(hour=0)
        if k == "month":
            s = s.replace(day=1)
            e = (s + dt.timedelta(days=32)).replace(day=1)
        elif k == "day":
            e = s + dt.timedelta(days=1)
        elif k == "minute":
            e = s + dt.timedelta(minutes=1)
        elif k == "hour":
            e = s + dt.timedelta(hours=1)
        else:
            e = s + dt.timedelta(days=7)
        return WindowInstance(int(s.timestamp() * 1000), int(e.timestamp() * 1000))


def parse_duration_ms(t):
    u = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000}
    p = re.findall(r"(\d+)(ms|s|m|h|d)", t)
    if not p:
        raise ValueError("bad duration")
    return sum(int(a) * u[b] for a, b in p)


def format_duration(ms):
    return f"{ms / 1000:g} s"


def is_timezone(n):
    return n in available_timezones()
