"""The books: what the journal alone says that every counter and hold must be.

This is an independent account. It reads nothing but journal entries and adds up in Python integers.
An event is {verb, key, packed hold after it, deltas, note}. What it added to each counter is
computed here from the hold before it and the hold after it; the deltas, {held, committed, credit}
by entry or what of it the event can add, must say the same:

    reserve         it holds what each entry of the hold says
    commit, commit_partial, release
                    it books the hold's {amount, overage, committed, held, credit} by entry, instead
                    of what expiry booked; entries behind the known ones came with another target
    extend          it holds so much more
    expire          it ends what was held, and books what the hold says; or takes a credit back
    record          it books what the hold says
    adjust          it adds to the credit what the hold says; only the deltas say what it books
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import redis.asyncio as redis
from engine_state import (
    Entry,
    KeptEntry,
    KeptHold,
    counters,
    deltas_of,
    expiries,
    holds,
    journal,
    kept_hold,
    packed_holds,
)

from bursar.engine.keys import KIND_ROLLING, KIND_TASK, Keys
from bursar.engine.operations import HoldState

SETTLED_WIDTH = 5

Triple = tuple[int, int, int]
"""What an event adds to what a counter has held and committed, and to its credit."""


@dataclass
class BookEntry:
    """One counter of a hold."""

    counter: str
    kind: int
    slot: int
    held: int
    booked: int = 0


@dataclass
class BookHold:
    """A hold as the journal tells it."""

    state: str
    expire_ms: int
    ttl_ms: int
    output_tokens: int
    entries: list[BookEntry]
    fingerprint: bytes = b""
    parts: int = 0
    credits: list[int] = field(default_factory=list)
    packed: bytes = b""


@dataclass
class Books:
    """Sums over a journal.

    Attributes:
        held: By counter.
        credit: By counter.
        committed: By counter, then by the slot that it was reserved in.
        holds: By key.
        events: How often each kind of event came for each hold.
    """

    held: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    credit: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    committed: dict[str, dict[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    holds: dict[str, BookHold] = field(default_factory=dict)
    events: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, entry: Entry) -> None:
        """Take one entry of the journal."""
        for verb, key, packed, deltas, _ in entry.events:
            kind, name = verb.decode(), key.decode()
            self.events[kind, name] += 1
            after = kept_hold(packed)
            told = deltas_of(deltas, len(after.entries))
            match kind:
                case "reserve":
                    added = self._reserve(name, after)
                case "record":
                    added = self._record(name, after)
                case "extend":
                    added = self._extend(name, after)
                case "expire":
                    added = self._expire(name, after)
                case "adjust":
                    added = self._adjust(name, after, [committed for _, committed, _ in told])
                case "commit" | "commit_partial" | "release":
                    added = self._settle(kind, name, entry.time_ms, after)
                case _:
                    raise AssertionError(f"an unknown event {kind}")
            assert told == added, f"{kind} of {name} says it adds {told}"
            self.holds[name].packed = packed
            for each, (held, committed, credit) in zip(
                self.holds[name].entries, added, strict=True
            ):
                self.held[each.counter] += held
                self.committed[each.counter][each.slot] += committed
                self.credit[each.counter] += credit

    def _reserve(self, name: str, hold: KeptHold) -> list[Triple]:
        assert name not in self.holds, f"{name} is reserved twice"
        entries = [_book_entry(each) for each in hold.entries]
        self.holds[name] = BookHold("open", hold.expire_ms, hold.ttl_ms, hold.output_now, entries)
        return [(entry.held, 0, 0) for entry in entries]

    def _record(self, name: str, hold: KeptHold) -> list[Triple]:
        assert name not in self.holds, f"{name} is recorded over something"
        entries = [_book_entry(each) for each in hold.entries]
        self.holds[name] = BookHold("recorded", 0, 0, 0, entries)
        return [(0, amount, 0) for amount in hold.settled[::SETTLED_WIDTH]]

    def _adjust(self, name: str, hold: KeptHold, committed: list[int]) -> list[Triple]:
        assert name not in self.holds, f"{name} is adjusted twice"
        entries = [_book_entry(each) for each in hold.entries]
        credits = [each.reserved for each in hold.entries]
        state = "credit" if hold.expire_ms else "adjusted"
        self.holds[name] = BookHold(state, hold.expire_ms, 0, 0, entries, credits=credits)
        return [(0, *pair) for pair in zip(committed, credits, strict=True)]

    def _extend(self, name: str, after: KeptHold) -> list[Triple]:
        hold = self.holds[name]
        assert hold.state == "open", f"{name} is extended but {hold.state}"
        added = []
        for entry, changed in zip(hold.entries, map(_book_entry, after.entries), strict=True):
            assert (entry.counter, entry.slot) == (changed.counter, changed.slot)
            added.append((changed.held - entry.held, 0, 0))
            entry.held = changed.held
        hold.expire_ms, hold.ttl_ms = after.expire_ms, after.ttl_ms
        hold.output_tokens = after.output_now
        return added

    def _expire(self, name: str, after: KeptHold) -> list[Triple]:
        hold = self.holds[name]
        if hold.state == "credit":
            hold.state = "adjusted"
            return [(0, 0, -credit) for credit in hold.credits]
        assert hold.state == "open", f"{name} expires but is {hold.state}"
        hold.state = "expired"
        added = []
        for entry, changed in zip(hold.entries, after.entries, strict=True):
            added.append((-entry.held, changed.booked, 0))
            entry.held, entry.booked = 0, changed.booked
        return added

    def _settle(self, kind: str, name: str, time_ms: int, after: KeptHold) -> list[Triple]:
        hold, settled = self.holds[name], after.settled
        assert hold.state in ("open", "expired"), f"{name} is settled but {hold.state}"
        for each in after.entries[len(hold.entries) :]:
            entry = _book_entry(each)
            entry.held = 0
            hold.entries.append(entry)
        assert len(settled) == SETTLED_WIDTH * len(hold.entries)
        partial = kind == "commit_partial"
        added = []
        for position, entry in enumerate(hold.entries):
            amount = settled[SETTLED_WIDTH * position]
            returned = min(entry.held, amount) if partial else entry.held
            added.append((-returned, amount - entry.booked, 0))
            entry.held, entry.booked = entry.held - returned, 0
        hold.fingerprint = after.settle_fingerprint
        if partial:
            assert after.sequence == hold.parts + 1
            hold.parts, hold.expire_ms = after.sequence, time_ms + hold.ttl_ms
        else:
            unused = kind == "release" and hold.parts == 0
            hold.state = "released" if unused else "committed"
        return added


def _book_entry(entry: KeptEntry) -> BookEntry:
    return BookEntry(entry.counter, entry.kind, entry.slot, entry.held)


async def read_books(store: redis.Redis, keys: Keys) -> Books:
    """Add up the journals of all shards, and check that none has a hole."""
    books = Books()
    for shard in range(keys.shard_count):
        entries = await journal(store, keys, shard)
        meta = await store.hgetall(keys.meta(shard))
        last = 0
        for entry in entries:
            assert entry.epoch == meta[b"epoch"]
            assert entry.sequence > last
            assert entry.time_ms <= int(meta[b"now"])
            last = entry.sequence
            books.add(entry)
        assert last <= int(meta.get(b"seq", 0))
        assert not entries or last == int(meta[b"last"])
    return books


async def assert_books_balance(store: redis.Redis, keys: Keys) -> Books:
    """Check that counters, holds and expiries are what the journal comes to (I2, I6, I9)."""
    books = await read_books(store, keys)
    found = await counters(store, keys)
    for name in sorted({*books.held, *books.committed, *found}):
        told = books.committed.get(name, {})
        if name not in found:
            assert not books.held.get(name) and not sum(told.values()), f"{name} is missing"
            continue
        counter = found[name]
        assert counter["h"] == books.held.get(name, 0), f"held of {name}"
        assert counter["h"] >= 0, f"held of {name}"
        assert counter.get("k", 0) == books.credit.get(name, 0), f"credit of {name}"
        assert counter.get("c", 0) == _committed(counter, _kind(books, name), told), name
        buckets = {int(at[1:]): amount for at, amount in counter.items() if at[0] == "b" and amount}
        oldest = counter.get("o", 0)
        expected = {at: amount for at, amount in told.items() if amount and at >= oldest}
        assert not buckets or buckets == expected, f"buckets of {name}"
    await _assert_holds_balance(books, store, keys)
    return books


def _kind(books: Books, counter: str) -> int:
    kinds = {
        entry.kind
        for hold in books.holds.values()
        for entry in hold.entries
        if entry.counter == counter
    }
    assert len(kinds) == 1, f"{counter} is of kinds {kinds}"
    return kinds.pop()


def _committed(counter: dict[str, int], kind: int, told: dict[int, int]) -> int:
    """Return what a counter should have committed: of what it counts by now."""
    if kind == KIND_ROLLING:
        return sum(amount for slot, amount in told.items() if slot >= counter["o"])
    if kind == KIND_TASK:
        return told.get(counter["w"], 0)
    return sum(told.values())


async def _assert_holds_balance(books: Books, store: redis.Redis, keys: Keys) -> None:
    found, due = await holds(store, keys), await expiries(store, keys)
    packed = await packed_holds(store, keys)
    for name, told in books.holds.items():
        hold = found.get(name)
        if hold is None:
            assert told.state not in ("open", "credit"), f"{name} is missing"
            continue
        state = HoldState[told.state.upper()]
        assert packed[name] == told.packed, f"{name} is not what its last event says"
        assert hold.state is state, f"{name} is {hold.state!r}, not {state!r}"
        assert [entry.held for entry in hold.entries] == [entry.held for entry in told.entries]
        if state is HoldState.OPEN:
            assert (hold.expire_ms, hold.ttl_ms) == (told.expire_ms, told.ttl_ms), name
            assert hold.output_tokens_now == told.output_tokens, name
            assert due[name] == hold.expire_ms, name
        if state is HoldState.CREDIT:
            assert due[name] == hold.expire_ms == told.expire_ms, name
        if state in (HoldState.COMMITTED, HoldState.RELEASED, HoldState.EXPIRED, HoldState.OPEN):
            assert hold.settle_fingerprint == told.fingerprint, name
            assert hold.sequence == told.parts, name
    waiting = ("open", "credit")
    assert due.keys() == {name for name, hold in books.holds.items() if hold.state in waiting}
    assert found.keys() <= books.holds.keys()
