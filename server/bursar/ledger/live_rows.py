"""Counters and holds as the record has them, in the form that Redis keeps them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bursar.engine.keys import KIND_ROLLING, KIND_TASK
from bursar.engine.shard_data import CounterRow, HoldRow
from bursar.ledger.database import Connection

_TTL_MS_MIN = 1_000
STATEMENT_S = 120.0
"""A shard may have a million counters; to sort them takes longer than other statements may."""

_COUNTERS = """
SELECT counter_id, slot, kind, p1, p2, committed, held, credit, used_at_ms, expire_at_ms
FROM counter_balances WHERE shard = $1 AND counter_id IN (
    SELECT counter_id FROM counter_balances WHERE shard = $1 AND expire_at_ms > $2
)
ORDER BY counter_id, slot
"""

_HOLDS = """
SELECT org, hold_id, expire_at_ms, keep_until_ms, hold
FROM open_holds WHERE shard = $1 AND (keep_until_ms = 0 OR keep_until_ms > $2)
ORDER BY org, hold_id
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """One counter: what was added to it in each slot, and how it lives.

    Attributes:
        counter_id: Which.
        kind: How it lives, with its parameters (`engine/keys.py`).
        p1: See kind.
        p2: See kind.
        slots: Slot, committed, held, credit and when it was used last; by slot, oldest first.
        expire_at_ms: When Redis may forget it.
    """

    counter_id: str
    kind: int
    p1: int
    p2: int
    slots: tuple[tuple[int, int, int, int, int], ...]
    expire_at_ms: int

    @property
    def held(self) -> int:
        """What open holds hold on it."""
        return sum(slot[2] for slot in self.slots)

    @property
    def credit(self) -> int:
        """What is added to its limit for a time."""
        return sum(slot[3] for slot in self.slots)

    def committed(self, now_ms: int) -> int:
        """Return what counts as spent at a time."""
        if self.kind == KIND_ROLLING:
            oldest = self.oldest(now_ms)
            return sum(slot[1] for slot in self.slots if slot[0] >= oldest)
        if self.kind == KIND_TASK:
            return self.slots[-1][1]
        return sum(slot[1] for slot in self.slots)

    def oldest(self, now_ms: int) -> int:
        """Return the oldest bucket of a rolling window, at a time."""
        return now_ms // self.p1 - self.p2

    def fields(self, now_ms: int) -> dict[str, int]:
        """Return the fields of its hash in Redis (`lua/shared/counters.lua`)."""
        fields = {"c": self.committed(now_ms), "h": self.held}
        if self.credit:
            fields["k"] = self.credit
        if self.kind == KIND_ROLLING:
            oldest = self.oldest(now_ms)
            fields["o"] = oldest
            fields |= {f"b{slot}": amount for slot, amount, *_ in self.slots
                       if slot >= oldest and amount}  # fmt: skip
        elif self.kind == KIND_TASK:
            fields["w"] = self.slots[-1][0]
            fields["s"] = max(slot[4] for slot in self.slots)
        return fields

    def row(self, now_ms: int) -> CounterRow:
        """Return it as it is written to Redis."""
        texts = [part for name, amount in self.fields(now_ms).items()
                 for part in (name, str(amount))]  # fmt: skip
        return CounterRow(
            self.counter_id, max(self.expire_at_ms - now_ms, _TTL_MS_MIN), tuple(texts)
        )


def balances_of(rows: Iterable[Any]) -> list[Balance]:
    """Return the counters of rows of `counter_balances`, ordered by counter and slot."""
    found = []
    for counter_id, group in groupby(rows, key=lambda row: row["counter_id"]):
        of_one = list(group)
        first = of_one[0]
        slots = tuple(
            (row["slot"], row["committed"], row["held"], row["credit"], row["used_at_ms"])
            for row in of_one
        )
        expire_at_ms = max(row["expire_at_ms"] for row in of_one)
        found.append(
            Balance(counter_id, first["kind"], first["p1"], first["p2"], slots, expire_at_ms)
        )
    return found


async def live_balances(
    connection: Connection, shard: int, now_ms: int, page: int
) -> AsyncIterator[list[Balance]]:
    """Yield a shard's counters that Redis has to have, in pages; in a transaction."""
    waiting: list[Any] = []
    cursor = connection.cursor(_COUNTERS, shard, now_ms, prefetch=page, timeout=STATEMENT_S)
    async for row in cursor:
        if len(waiting) >= page and row["counter_id"] != waiting[-1]["counter_id"]:
            yield balances_of(waiting)
            waiting = []
        waiting.append(row)
    if waiting:
        yield balances_of(waiting)


async def live_holds(
    connection: Connection, shard: int, now_ms: int, page: int
) -> AsyncIterator[list[HoldRow]]:
    """Yield a shard's open holds and what still answers repeated calls, in pages."""
    waiting: list[HoldRow] = []
    async for row in connection.cursor(_HOLDS, shard, now_ms, prefetch=page, timeout=STATEMENT_S):
        keep_until_ms = row["keep_until_ms"]
        waiting.append(
            HoldRow(
                row["org"],
                row["hold_id"],
                max(keep_until_ms - now_ms, 1) if keep_until_ms else 0,
                row["hold"],
                0 if keep_until_ms else row["expire_at_ms"],
            )
        )
        if len(waiting) >= page:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
