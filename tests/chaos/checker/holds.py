"""I6, I10, I11: a hold ends once, where it was made, and nothing is held for the dead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from checker.evidence import SETTLING, Event, Evidence, Violation

OPEN = 1
"""State of an open hold in both stores."""


def check_holds(evidence: Evidence) -> Iterator[Violation]:
    """Follow each hold through the ledger, and look at those that are left."""
    by_hold = defaultdict(list)
    for event in evidence.events:
        if event.verb != "adjust":
            by_hold[event.reservation_id].append(event)
    for events in by_hold.values():
        yield from _life(events)
    yield from _left(evidence)


def _life(events: list[Event]) -> Iterator[Violation]:
    """One beginning, one end, and once more after an expiry."""
    first = events[0]
    if first.verb == "record":
        if len(events) > 1:
            yield Violation("I6", "more than one end", f"{events[1]}: it was recorded before")
        return
    if first.verb != "reserve":
        yield Violation("I6", "no beginning", f"{first}: nothing was reserved before it")
        return
    expired = ended = False
    for event in events[1:]:
        if ended:
            yield Violation("I6", "more than one end", f"{event}: it had ended before")
        elif event.verb == "expire":
            if expired:
                yield Violation("I6", "more than one end", f"{event}: it had expired before")
            expired = True
        elif event.verb in SETTLING:
            ended = True
            # A release gives back nothing any more, so there is nothing to flag.
            if expired and event.verb == "commit" and not event.late:
                yield Violation("I6", "late and not flagged", f"{event}: it had expired before")
        elif event.verb == "reserve":
            yield Violation("I6", "more than one beginning", f"{event}: it was reserved before")
        elif expired:
            yield Violation("I6", "changed after its end", f"{event}: it had expired before")
    yield from _amounts(events, ended or expired)


def _amounts(events: list[Event], over: bool) -> Iterator[Violation]:
    """Held never falls below nothing, comes to nothing at the end, and stays in its window."""
    held: dict[tuple[str, int], int] = defaultdict(int)
    own = set(events[0].deltas)
    for event in events:
        for key, (amount, _, _) in event.deltas.items():
            held[key] += amount
            if held[key] < 0:
                yield Violation("I2", "negative", f"{event}: holds {held[key]} on {key[0]}")
            if key not in own:
                yield Violation("I10", "other window", f"{event}: {key} is not where it reserved")
    for key, amount in held.items():
        if over and amount:
            yield Violation("I6", "not given back", f"{events[-1]}: {amount} left on {key[0]}")


def _left(evidence: Evidence) -> Iterator[Violation]:
    """I11: what is still held when all is over belongs to holds that still run."""
    grace_ms = 2 * int(evidence.run.get("sweep_ms", 0)) + int(evidence.run.get("slack_ms", 0))
    oldest_ms = evidence.collected_ms - grace_ms
    stores = (
        ("Redis", evidence.redis.get("hold", [])),
        ("the ledger", evidence.tables.get("open_holds", [])),
    )
    for store, rows in stores:
        for row in rows:
            if row["state"] == OPEN and row["expire_at_ms"] < oldest_ms:
                over_ms = evidence.collected_ms - row["expire_at_ms"]
                yield Violation(
                    "I11",
                    "held for the dead",
                    f"{row['org']}.{row['hold_id']} is open in {store} {over_ms} ms after its time",
                )
    due = {(row["org"], row["hold_id"]) for row in evidence.redis.get("expiry", [])}
    for row in evidence.redis.get("hold", []):
        if row["state"] == OPEN and (row["org"], row["hold_id"]) not in due:
            yield Violation(
                "I11", "without an end", f"{row['org']}.{row['hold_id']} is open and never expires"
            )
