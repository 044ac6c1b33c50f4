"""The books: what the journal alone says that every counter and hold must be.

This is an independent account. It reads nothing but journal entries, adds up in Python integers,
and knows the scripts only by what their events promise:

    reserve         key, hold
    commit, commit_partial, release
                    key, late, {amount, overage, committed, held, credit} by entry, note,
                    fingerprint, number of the partial commit, entries that came with another target
    extend          key, expiry, entries, TTL, output
    expire          key, amounts that expiry charged by entry
    record          key, hold, note
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio as redis
from engine_state import Entry, counters, expiries, holds, journal

from bursar.engine.keys import KIND_ROLLING, KIND_TASK, Keys
from bursar.engine.operations import HoldState

SETTLED_WIDTH = 5


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


@dataclass
class Books:
    """Sums over a journal.

    Attributes:
        held: By counter.
        committed: By counter, then by the slot that it was reserved in.
        holds: By key.
        events: How often each kind of event came for each hold.
    """

    held: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    committed: dict[str, dict[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    holds: dict[str, BookHold] = field(default_factory=dict)
    events: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, entry: Entry) -> None:
        """Take one entry of the journal."""
        for verb, key, *rest in entry.events:
            kind, name = verb.decode(), key.decode()
            self.events[kind, name] += 1
            match kind:
                case "reserve":
                    self._reserve(name, rest[0])
                case "record":
                    self._record(name, rest[0])
                case "extend":
                    self._extend(name, *rest)
                case "expire":
                    self._expire(name, list(rest[0]))
                case _:
                    self._settle(kind, name, entry.time_ms, *rest)

    def _reserve(self, name: str, hold: list[Any]) -> None:
        assert name not in self.holds, f"{name} is reserved twice"
        entries = [_book_entry(each) for each in hold[9]]
        for entry in entries:
            self.held[entry.counter] += entry.held
        self.holds[name] = BookHold("open", hold[2], hold[3], hold[18], entries)

    def _record(self, name: str, hold: list[Any]) -> None:
        assert name not in self.holds, f"{name} is recorded over something"
        entries, settled = [_book_entry(each) for each in hold[9]], hold[13]
        for position, entry in enumerate(entries):
            self.committed[entry.counter][entry.slot] += settled[SETTLED_WIDTH * position]
        self.holds[name] = BookHold("recorded", 0, 0, 0, entries)

    def _extend(
        self, name: str, expire_ms: int, entries: list[Any], ttl_ms: int, output_tokens: int
    ) -> None:
        hold = self.holds[name]
        assert hold.state == "open", f"{name} is extended but {hold.state}"
        for entry, changed in zip(hold.entries, map(_book_entry, entries), strict=True):
            assert (entry.counter, entry.slot) == (changed.counter, changed.slot)
            self.held[entry.counter] += changed.held - entry.held
            entry.held = changed.held
        hold.expire_ms, hold.ttl_ms, hold.output_tokens = expire_ms, ttl_ms, output_tokens

    def _expire(self, name: str, charged: list[int]) -> None:
        hold = self.holds[name]
        assert hold.state == "open", f"{name} expires but is {hold.state}"
        hold.state = "expired"
        for entry, amount in zip(hold.entries, charged, strict=True):
            self.held[entry.counter] -= entry.held
            self.committed[entry.counter][entry.slot] += amount
            entry.held, entry.booked = 0, amount

    def _settle(self, kind: str, name: str, time_ms: int, *rest: object) -> None:
        _, settled, _, fingerprint, sequence, added = rest
        hold = self.holds[name]
        assert hold.state in ("open", "expired"), f"{name} is settled but {hold.state}"
        hold.entries += [_book_entry(each) for each in added]
        assert len(settled) == SETTLED_WIDTH * len(hold.entries)
        partial = kind == "commit_partial"
        for position, entry in enumerate(hold.entries):
            amount = settled[SETTLED_WIDTH * position]
            returned = min(entry.held, amount) if partial else entry.held
            self.held[entry.counter] -= returned
            self.committed[entry.counter][entry.slot] += amount - entry.booked
            entry.held, entry.booked = entry.held - returned, 0
        hold.fingerprint = fingerprint
        if partial:
            assert sequence == hold.parts + 1
            hold.parts, hold.expire_ms = sequence, time_ms + hold.ttl_ms
        else:
            unused = kind == "release" and hold.parts == 0
            hold.state = "released" if unused else "committed"


def _book_entry(fields: list[Any]) -> BookEntry:
    return BookEntry(fields[0].decode(), fields[1], fields[5], fields[8])


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
    for name, told in books.holds.items():
        hold = found.get(name)
        if hold is None:
            assert told.state != "open", f"{name} is missing"
            continue
        state = HoldState[told.state.upper()]
        assert hold.state is state, f"{name} is {hold.state!r}, not {state!r}"
        assert [entry.held for entry in hold.entries] == [entry.held for entry in told.entries]
        if state is HoldState.OPEN:
            assert (hold.expire_ms, hold.ttl_ms) == (told.expire_ms, told.ttl_ms), name
            assert hold.output_tokens_now == told.output_tokens, name
            assert due[name] == hold.expire_ms, name
        if state is not HoldState.RECORDED:
            assert hold.settle_fingerprint == told.fingerprint, name
            assert hold.sequence == told.parts, name
    assert due.keys() == {name for name, hold in books.holds.items() if hold.state == "open"}
    assert found.keys() <= books.holds.keys()
