"""What the reference model keeps: every booking and hold, added up whenever a number is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from model.offers import Use
from model.rules import Key, Rules


@dataclass
class Counter:
    """What was booked, by slot: the bucket of a rolling window, the beginning of a task."""

    booked: list[tuple[int, int]] = field(default_factory=list)
    oldest_bucket: int | None = None
    task_began_ms: int | None = None
    task_used_ms: int | None = None


@dataclass
class Entry:
    """What a hold holds on one counter."""

    use: Use
    slot: int
    held: int
    at_expiry: int = 0
    charged_at_expiry: int = 0
    added: bool = False
    """It came with another target than the granted one."""


@dataclass
class Hold:
    """A reservation or a record."""

    request: dict[str, Any]
    answer: dict[str, Any]
    model: str
    provider: str
    create_ms: int
    expire_ms: int
    ttl_ms: int
    output_tokens: int
    entries: list[Entry] = field(default_factory=list)
    state: str = "OPEN"
    parts: int = 0
    settled_by: Any = None
    settled_with: dict[str, Any] | None = None


class Books:
    """Counters and holds of one org."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counters: dict[Key, Counter] = {}
        self.holds: dict[str, Hold] = {}

    def committed(self, key: Key, now_ms: int) -> int:
        counter = self.counters.setdefault(key, Counter())
        kind = self.rules.window_kind(key.budget)
        if kind == "rolling":
            oldest = self.oldest_bucket(key, now_ms)
            return sum(amount for slot, amount in counter.booked if slot >= oldest)
        if kind == "task":
            began_ms = self.task_began_ms(key, now_ms)
            return sum(amount for slot, amount in counter.booked if slot == began_ms)
        return sum(amount for _, amount in counter.booked)

    def held(self, key: Key) -> int:
        return sum(
            entry.held
            for hold in self.holds.values()
            for entry in hold.entries
            if entry.use.key == key
        )

    def oldest_bucket(self, key: Key, now_ms: int) -> int:
        """Return the first bucket that counts; a window never gets back what it has left behind."""
        length_ms, bucket_ms = self.rules.length_ms(key.budget), self.rules.bucket_ms(key.budget)
        oldest = now_ms // bucket_ms - math.ceil(length_ms / bucket_ms)
        return max(oldest, self.counters.setdefault(key, Counter()).oldest_bucket or 0)

    def task_began_ms(self, key: Key, now_ms: int) -> int:
        """Return when the task began that counts now: an idle one without holds begins anew."""
        counter = self.counters.setdefault(key, Counter())
        if counter.task_used_ms is None or counter.task_began_ms is None:
            return now_ms
        idle = now_ms - counter.task_used_ms > self.rules.length_ms(key.budget)
        return now_ms if idle and self.held(key) == 0 else counter.task_began_ms

    def slot(self, key: Key, now_ms: int) -> int:
        kind = self.rules.window_kind(key.budget)
        if kind == "rolling":
            return max(now_ms // self.rules.bucket_ms(key.budget), self.oldest_bucket(key, now_ms))
        return self.task_began_ms(key, now_ms) if kind == "task" else 0

    def touch(self, key: Key, now_ms: int, *, begins: bool) -> None:
        """Note that a counter is used now; what only settles never begins a task anew."""
        counter = self.counters.setdefault(key, Counter())
        kind = self.rules.window_kind(key.budget)
        if kind == "rolling":
            counter.oldest_bucket = self.oldest_bucket(key, now_ms)
        if kind == "task":
            if begins or counter.task_began_ms is None:
                counter.task_began_ms = self.task_began_ms(key, now_ms)
            counter.task_used_ms = now_ms

    def status(self, use: Use, amount: int, now_ms: int) -> dict[str, Any]:
        committed = held = 0
        if use.key is not None:
            committed, held = self.committed(use.key, now_ms), self.held(use.key)
        limit = self.rules.limit(use.budget)
        left = None
        if limit is not None:
            left = limit + self.rules.overdraft(use.budget) - committed - held
        return {
            "committed": committed,
            "held": held,
            "limit": limit,
            "remaining": left,
            "amount": amount,
        }

    def statuses(self, hold: Hold, amounts: list[int], now_ms: int) -> dict[str, Any]:
        return {
            name(entry.use): self.status(entry.use, amount, now_ms)
            for entry, amount in zip(hold.entries, amounts, strict=True)
        }


def name(use: Use) -> str:
    """Return how an answer names a counter: its budget, and the values that it partitions by."""
    if use.key is None or not use.key.partition:
        return use.budget
    return use.budget + "[" + ",".join(value for _, value in sorted(use.key.partition)) + "]"
