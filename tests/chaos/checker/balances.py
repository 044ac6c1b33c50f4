"""I2, I7: the balances are the sums of the ledger, Redis is the balances, positions only grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from checker.evidence import Evidence, Violation
from checker.holds import OPEN

_ROLLING, _TASK = 1, 2

_Sums = dict[tuple[str, int], list[int]]


def check_balances(evidence: Evidence) -> Iterator[Violation]:
    """Compare ledger, balances, open holds and Redis, counter by counter and slot by slot."""
    sums: _Sums = defaultdict(lambda: [0, 0, 0])
    for event in evidence.events:
        for key, amounts in event.deltas.items():
            sums[key] = [a + b for a, b in zip(sums[key], amounts, strict=True)]
    balances = {
        (row["counter_id"], row["slot"]): row for row in evidence.tables.get("counter_balances", [])
    }
    yield from _balances_are_sums(sums, balances)
    yield from _held_is_open_holds(evidence, balances)
    yield from _redis_is_balances(evidence, balances)
    yield from _same_holds(evidence)
    yield from _positions(evidence)


def _balances_are_sums(
    sums: _Sums, balances: dict[tuple[str, int], dict[str, Any]]
) -> Iterator[Violation]:
    for key in sorted({*sums, *balances}):
        row = balances.get(key, {})
        found = [int(row.get(name, 0)) for name in ("held", "committed", "credit")]
        if found != sums[key]:
            yield Violation(
                "I2",
                "balance is not the sum",
                f"{key[0]} slot {key[1]}: held, committed, credit are {found}, the ledger comes "
                f"to {sums[key]}",
            )
        if min(found[:2]) < 0:
            yield Violation("I2", "negative", f"{key[0]} slot {key[1]}: {found}")


def _held_is_open_holds(
    evidence: Evidence, balances: dict[tuple[str, int], dict[str, Any]]
) -> Iterator[Violation]:
    for store, rows, held in (
        ("the ledger", evidence.tables.get("open_holds", []), _held_by_balances(balances)),
        ("Redis", evidence.redis.get("hold", []), _held_in_redis(evidence)),
    ):
        open_: dict[str, int] = defaultdict(int)
        for row in rows:
            if row["state"] == OPEN:
                for entry in row["entries"]:
                    open_[entry["counter_id"]] += entry["held"]
        for counter_id in sorted({*open_, *held}):
            if open_[counter_id] != held.get(counter_id, 0):
                yield Violation(
                    "I2",
                    "held is not the open holds",
                    f"{counter_id}: {store} says {held.get(counter_id, 0)}, its open holds come "
                    f"to {open_[counter_id]}",
                )


def _held_by_balances(balances: dict[tuple[str, int], dict[str, Any]]) -> dict[str, int]:
    held: dict[str, int] = defaultdict(int)
    for (counter_id, _), row in balances.items():
        held[counter_id] += int(row["held"])
    return held


def _held_in_redis(evidence: Evidence) -> dict[str, int]:
    return {
        row["counter_id"]: int(row["fields"].get("h", 0))
        for row in evidence.redis.get("counter", [])
    }


def _redis_is_balances(
    evidence: Evidence, balances: dict[tuple[str, int], dict[str, Any]]
) -> Iterator[Violation]:
    """What Redis counts is what was recorded; a counter that is not there counts nothing."""
    found = {row["counter_id"]: row["fields"] for row in evidence.redis.get("counter", [])}
    rows_of = defaultdict(list)
    for (counter_id, _), row in balances.items():
        rows_of[counter_id].append(row)
    for counter_id in sorted({*found, *rows_of}):
        rows, fields = rows_of.get(counter_id, []), found.get(counter_id, {})
        expected = {
            "c": sum(int(row["committed"]) for row in rows if _counts(row, fields)),
            "h": sum(int(row["held"]) for row in rows),
            "k": sum(int(row["credit"]) for row in rows),
        }
        is_ = {name: int(fields.get(name, 0)) for name in expected}
        if not fields and rows and rows[0]["kind"] in (_ROLLING, _TASK):
            expected["c"] = 0  # It has left its window, or nobody used it for long.
        if is_ != expected:
            yield Violation(
                "I2",
                "Redis is not the ledger",
                f"{counter_id}: Redis has {is_}, the balances come to {expected}",
            )


def _counts(row: dict[str, Any], fields: dict[str, str]) -> bool:
    """Say whether a balance's slot is in what the counter counts now."""
    if row["kind"] == _ROLLING:
        return int(row["slot"]) >= int(fields.get("o", 0))
    if row["kind"] == _TASK:
        return int(row["slot"]) == int(fields.get("w", -1))
    return True


def _same_holds(evidence: Evidence) -> Iterator[Violation]:
    """Both stores have the same open holds."""
    names = [
        {(row["org"], row["hold_id"]): row["expire_at_ms"] for row in rows if row["state"] == OPEN}
        for rows in (evidence.redis.get("hold", []), evidence.tables.get("open_holds", []))
    ]
    redis, ledger = names
    for org, hold_id in sorted({*redis, *ledger}):
        told = redis.get((org, hold_id)), ledger.get((org, hold_id))
        if told[0] != told[1]:
            yield Violation(
                "I2",
                "other open holds",
                f"{org}.{hold_id} ends at {told[0]} in Redis, at {told[1]} in the ledger",
            )


def _positions(evidence: Evidence) -> Iterator[Violation]:
    """Sequence numbers only grow, no event of an entry is left out, and none is beyond the end."""
    position = {row["shard"]: row for row in evidence.tables.get("journal_position", [])}
    entries = defaultdict(list)
    for event in evidence.events:
        entries[event.place[:4], event.epoch, event.sequence].append(event.place[4])
    last_at: dict[tuple[int, str], int] = {}
    for ((shard, *_), epoch, sequence), ordinals in entries.items():
        if sorted(ordinals) != list(range(min(ordinals), min(ordinals) + len(ordinals))) or (
            min(ordinals) > 1
        ):
            yield Violation(
                "I7",
                "gap",
                f"shard {shard} {epoch}/{sequence} has the events {sorted(ordinals)} only",
            )
        last_at[shard, epoch] = max(sequence, last_at.get((shard, epoch), 0))
    for (shard, epoch), sequence in last_at.items():
        row = position.get(shard)
        if row is None:
            yield Violation("I7", "no position", f"shard {shard} has events and no position")
        elif row["epoch"] == epoch and row["sequence"] < sequence:
            yield Violation(
                "I7",
                "beyond the position",
                f"shard {shard}: event {sequence} is recorded, the position is {row['sequence']}",
            )
    for row in evidence.redis.get("stream", []):
        at = position.get(row["shard"], {}).get("stream_id", "0-0")
        if row["length"] and _stream_id(row["last_id"]) > _stream_id(at):
            yield Violation(
                "I12",
                "not recorded",
                f"shard {row['shard']}: the journal goes on to {row['last_id']}, the position is "
                f"{at}",
            )


def _stream_id(text: str) -> tuple[int, int]:
    time_ms, _, number = text.partition("-")
    return int(time_ms), int(number)
