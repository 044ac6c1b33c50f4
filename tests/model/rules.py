"""What a policy says, read as plainly as possible: the reference model's own rules.

It takes the policy as the mapping that YAML gives and shares no code with the server. Whatever can
be a loop over everything is one. It knows the prices that a policy itself gives, and no others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

UNIT_METERS = {"usd": "cost", "tokens": "total_tokens"}
LEVELS = ("team", "feature", "agent", "user", "task")
TERMINAL = ("serve_cached", "queue", "deny")
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
CALENDAR = ("minute", "hour", "day", "week", "month", "quarter", "year")


def duration_ms(text: str) -> int:
    """Return the milliseconds of `90s`, `15m`, `24h`: one number and one unit."""
    number = text.rstrip("dhms")
    return int(number) * UNIT_MS[text[len(number) :]]


@dataclass(frozen=True)
class Key:
    """Which counter: a budget, for one value of each attribute that it partitions by, in a window.

    A task's and a rolling window's counter is one for all time.
    """

    budget: str
    partition: tuple[tuple[str, str], ...]
    start_ms: int
    end_ms: int | None


@dataclass
class Rules:
    """One version of a policy."""

    document: dict[str, Any]
    budgets: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.budgets = {each["name"]: each for each in self.document["budgets"]}

    # Models.

    def of_model(self, model: str, attribute: str) -> Any:
        for rule in self.document.get("models", []):
            if fnmatchcase(model.lower(), rule["match"].lower()) and attribute in rule:
                return rule[attribute]
        return None

    def resolved(self, provider: str, model: str) -> tuple[str, str]:
        alias = self.of_model(model, "alias_of")
        if alias is not None:
            model = alias
        return provider or self.of_model(model, "provider") or "", model

    def price(self, model: str) -> dict[str, Any] | None:
        price = self.of_model(model, "price")
        unpriced = self.document.get("unpriced", "deny")
        if price is None and isinstance(unpriced, dict):
            price = unpriced["fallback"]
        return price

    # Budgets.

    def meter(self, budget: str) -> str:
        [unit] = self.budgets[budget]["limit"]
        return UNIT_METERS.get(unit, unit)

    def limit(self, budget: str) -> int | None:
        [amount] = self.budgets[budget]["limit"].values()
        return None if amount == "unlimited" else self.amount(budget, amount)

    def amount(self, budget: str, value: Any) -> int:
        if self.meter(budget) == "cost":
            return math.floor(Fraction(str(value)) * 1_000_000_000)
        return int(value)

    def overdraft(self, budget: str) -> int:
        given = self.budgets[budget].get("overdraft", {})
        if "percent" in given:
            return self.limit(budget) * given["percent"] // 100
        return sum(self.amount(budget, value) for value in given.values())

    def mode(self, budget: str) -> str:
        return self.budgets[budget].get("mode", "enforce")

    def enforced(self, budget: str) -> bool:
        return self.mode(budget) == "enforce" and self.limit(budget) is not None

    def share(self, budget: str, percent: int) -> int:
        limit = self.limit(budget)
        return limit + self.overdraft(budget) if percent >= 100 else limit * percent // 100

    def ladder(self, budget: str) -> list[dict[str, Any]]:
        return sorted(self.budgets[budget].get("ladder", []), key=lambda rung: rung["at"])

    def window_kind(self, budget: str) -> str:
        window = self.budgets[budget].get("window")
        if window is None:
            return "none"
        if isinstance(window, str):
            return window
        if "from" in window:
            return "fixed"
        return next(iter(window))

    def length_ms(self, budget: str) -> int:
        """Return how long a rolling window is, or how long a task may be idle."""
        window = self.budgets[budget]["window"]
        return duration_ms("24h" if isinstance(window, str) else next(iter(window.values())))

    def bucket_ms(self, budget: str) -> int:
        return math.ceil(self.length_ms(budget) / 60)

    def window(self, budget: str, now_ms: int) -> tuple[int, int | None] | None:
        """Return the window that runs now, or None where a fixed one does not."""
        kind = self.window_kind(budget)
        if kind == "fixed":
            window = self.budgets[budget]["window"]
            start_ms, end_ms = (
                round(datetime.fromisoformat(window[name]).timestamp() * 1000)
                for name in ("from", "until")
            )
            return (start_ms, end_ms) if start_ms <= now_ms < end_ms else None
        if kind not in CALENDAR:
            return (0, None)
        given = self.budgets[budget]
        zone = ZoneInfo(given.get("timezone", self.document.get("timezone", "UTC")))
        return calendar_window(
            kind, zone, given.get("anchor_day", 1), given.get("week_start", "monday"), now_ms
        )

    def key(self, budget: str, who: dict[str, str], now_ms: int) -> Key | None:
        window = self.window(budget, now_ms)
        if window is None or self.budgets[budget].get("mode") == "off":
            return None
        per = as_list(self.budgets[budget].get("per", []))
        return Key(budget, tuple((name, who[name]) for name in per), *window)

    def matches(self, budget: str, who: dict[str, str]) -> bool:
        given = dict(self.budgets[budget].get("scope", {}))
        labels = given.pop("labels", {})
        given |= {f"labels.{name}": patterns for name, patterns in labels.items()}
        return all(
            name in who and any(fnmatchcase(who[name], pattern) for pattern in as_list(patterns))
            for name, patterns in given.items()
        ) and all(name in who for name in as_list(self.budgets[budget].get("per", [])))

    def matching(self, who: dict[str, str], now_ms: int) -> list[str]:
        return [
            budget
            for budget in self.budgets
            if self.matches(budget, who) and self.key(budget, who, now_ms) is not None
        ]

    # Usage.

    def amounts(self, usage: dict[str, Any], model: str, requests: int) -> dict[str, int | None]:
        """Return what a usage comes to on every meter; None where its price is not known."""
        tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        price, money = self.price(model), None
        if price is not None:
            money = cost(price, usage, requests)
        elif self.document.get("unpriced", "deny") == "allow":
            money = 0
        return {
            "total_tokens": tokens_in + tokens_out,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "requests": requests,
            "cost": money,
            "concurrency": 0,
            **usage.get("meters", {}),
        }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def attributes(request: dict[str, Any], provider: str, model: str) -> dict[str, str]:
    """Return what a budget can match, by name; what is absent is left out."""
    who = {level: request[level] for level in LEVELS if request.get(level)}
    who |= {f"labels.{name}": value for name, value in request.get("labels", {}).items()}
    return who | ({"provider": provider} if provider else {}) | ({"model": model} if model else {})


def nano(usd_per_million: Any) -> int:
    """Return what a token costs, rounded up to whole nano-USD."""
    return math.ceil(Fraction(str(usd_per_million)) * 1_000)


def cost(price: dict[str, Any], usage: dict[str, Any], requests: int) -> int:
    """Return what tokens and calls cost in nano-USD, rounded up once."""
    read, write = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    fresh = usage.get("input_tokens", 0) - read - write
    parts = [
        (fresh, price["input"]),
        (read, price.get("cache_read", price["input"])),
        (write, price.get("cache_write", price["input"])),
        (usage.get("output_tokens", 0), price["output"]),
    ]
    tokens = math.ceil(sum(count * Fraction(str(each)) * 1_000 for count, each in parts))
    return tokens + requests * math.ceil(Fraction(str(price.get("request", 0))) * 1_000_000_000)


def calendar_window(
    kind: str, zone: ZoneInfo, anchor_day: int, week_start: str, now_ms: int
) -> tuple[int, int]:
    """Return the calendar window that runs now, found by looking at every boundary near it.

    Zones that skip or repeat midnight, and hours of zones that change by part of an hour, are
    beyond this model; `tests/unit/test_window.py` has them.
    """
    if kind in ("minute", "hour"):
        length_ms = UNIT_MS["m" if kind == "minute" else "h"]
        return now_ms - now_ms % length_ms, now_ms - now_ms % length_ms + length_ms
    today = datetime.fromtimestamp(now_ms / 1000, zone).date()
    starts = boundaries(kind, zone, anchor_day, week_start, today)
    start_ms = max(start for start in starts if start <= now_ms)
    return start_ms, min(start for start in starts if start > now_ms)


@cache
def boundaries(
    kind: str, zone: ZoneInfo, anchor_day: int, week_start: str, today: date
) -> list[int]:
    """Return where windows begin within two years of a day, in ms since the epoch."""
    days = [today + timedelta(days=offset) for offset in range(-800, 800)]
    return [
        round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
        for day in days
        if begins(kind, day, anchor_day, week_start)
    ]


def begins(kind: str, day: date, anchor_day: int, week_start: str) -> bool:
    """Return whether a calendar window of days or longer begins on a day."""
    if kind == "day":
        return True
    if kind == "week":
        return day.strftime("%A").lower() == week_start
    last_of_month = (day + timedelta(days=1)).month != day.month
    anchored = day.day == anchor_day or (last_of_month and day.day < anchor_day)
    first_months = {"month": range(1, 13), "quarter": (1, 4, 7, 10), "year": (1,)}[kind]
    return anchored and day.month in first_months
