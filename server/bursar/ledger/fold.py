"""What journal entries come to: rows of the ledger, and what they add to every sum. Pure.

An event says by itself what it did (`engine/lua/shared/shard.lua`), so the fold needs nothing of
what is recorded already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bursar.domain import meter
from bursar.domain.meter import Usage
from bursar.domain.subject import OrgId, Subject, Target, parse_target_key
from bursar.domain.usage_report import HOUR_MS
from bursar.engine.journal import JournalEntry, decode_events
from bursar.engine.keys import KIND_PLAIN, Tombstones, hold_name, lives_from_ms
from bursar.engine.operations import EntryFlags, Hold, HoldEntry, HoldState
from bursar.engine.payload import UsageNote, decode_payload, decode_usage_note
from bursar.engine.wire import decode_hold, unpack_longs

_DELTAS = 3
_BEGINNING_VERBS = ("reserve", "record", "adjust")
_NO_USAGE = UsageNote(Target("", ""), "", False, Usage())


@dataclass(slots=True)
class LedgerRow:
    """One event, as a row of `ledger_entries`. Usage and cost are what it added."""

    at_ms: int
    shard: int
    epoch: str
    stream_id: str
    sequence: int
    ordinal: int
    verb: str
    reservation_id: str
    request_id: str
    subject: Subject
    target: Target
    outcome: str
    late: bool
    estimated: bool
    requests: int
    input_tokens: int
    output_tokens: int
    usage: Usage
    cost_nano_usd: int | None
    policy_version: str
    detail: str
    entries: tuple[HoldEntry, ...]
    deltas: list[int]


@dataclass(slots=True)
class BalanceDelta:
    """What a batch adds to one counter in one slot."""

    shard: int
    entry: HoldEntry
    committed: int = 0
    held: int = 0
    credit: int = 0
    used_at_ms: int = 0
    expire_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class HoldAfter:
    """A hold after a batch."""

    shard: int
    state: HoldState
    expire_at_ms: int
    keep_until_ms: int
    packed: bytes


@dataclass(slots=True)
class UsageDelta:
    """What a batch adds to one hour of one subject and target."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """How far a shard's journal is recorded: generation, entry, and the entry's number."""

    epoch: str
    stream_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry that cannot be read."""

    shard: int
    epoch: str
    stream_id: str
    entry: bytes
    fault: str


UsageKey = tuple[int, str, str, str, str, str, str, str, str]
"""Hour in ms, org, team, feature, agent, user, task, provider, model."""


@dataclass(slots=True)
class Batch:
    """Everything that one transaction writes."""

    rows: list[LedgerRow] = field(default_factory=list)
    balances: dict[tuple[str, int], BalanceDelta] = field(default_factory=dict)
    holds: dict[tuple[str, str], HoldAfter] = field(default_factory=dict)
    usage: dict[UsageKey, UsageDelta] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    moves: dict[int, tuple[Position, Position]] = field(default_factory=dict)


def fold(
    journals: Mapping[int, list[JournalEntry]],
    positions: Mapping[int, Position],
    kept: Tombstones,
    drained: Mapping[int, frozenset[str]] | None = None,
) -> Batch:
    """Return what entries come to.

    Args:
        journals: By shard, what follows its position, in order.
        positions: By shard, how far it is recorded.
        kept: How long ended holds answer repeated calls.
        drained: By shard, generations that were in force before: their journals were recorded
            to the end, so what is still there of them is passed over.
    """
    batch = Batch()
    for shard, entries in journals.items():
        before = after = positions[shard]
        over = (drained or {}).get(shard, frozenset()) - {before.epoch}
        for entry in entries:
            is_over = entry.fields.get(b"e", b"").decode(errors="replace") in over
            sequence = 0 if is_over else _take(batch, shard, before.epoch, entry, kept)
            after = Position(before.epoch, entry.stream_id, max(sequence, after.sequence))
        if after != before:
            batch.moves[shard] = (before, after)
    return batch


def _take(batch: Batch, shard: int, epoch: str, entry: JournalEntry, kept: Tombstones) -> int:
    """Add an entry whole, or set it aside whole; return its sequence number, 0 if it has none."""
    fields = entry.fields
    try:
        if fields[b"e"].decode() != epoch:
            raise ValueError(f"of generation {fields[b'e']!r}, not {epoch!r}")
        sequence, at_ms = int(fields[b"s"]), int(fields[b"t"])
        events = [_Event.read(shard, raw) for raw in decode_events(fields[b"d"])]
        rows = [
            event.row(epoch, entry.stream_id, sequence, at_ms, ordinal)
            for ordinal, event in enumerate(events)
        ]
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        packed = b"".join(name + b" " + value + b"\n" for name, value in sorted(fields.items()))
        fault = f"{type(error).__name__}: {error}"[:500]
        batch.rejects.append(Reject(shard, epoch, entry.stream_id, packed, fault))
        return 0
    for event, row in zip(events, rows, strict=True):
        batch.rows.append(row)
        _add_balances(batch, row)
        _add_usage(batch, row)
        batch.holds[event.org, event.hold_id] = event.hold_after(at_ms, kept)
    return sequence


@dataclass(frozen=True, slots=True)
class _Event:
    """One event, unpacked."""

    shard: int
    verb: str
    org: OrgId
    hold_id: str
    hold: Hold
    packed: bytes
    deltas: list[int]
    note: bytes

    @classmethod
    def read(cls, shard: int, raw: Any) -> _Event:  # noqa: ANN401 - as the script packed it
        verb, key, packed, deltas, note = raw
        org, hold_id = hold_name(key)
        hold = decode_hold(packed)
        deltas = _whole(unpack_longs(deltas), len(hold.entries))
        if verb not in _VERBS:
            raise ValueError(f"an unknown verb {verb!r}")
        return cls(shard, verb.decode(), OrgId(org), hold_id, hold, packed, deltas, note)

    def row(self, epoch: str, stream_id: str, sequence: int, at_ms: int, ordinal: int) -> LedgerRow:
        hold = self.hold
        subject, request_id, version = Subject(self.org), "", ""
        target = parse_target_key(hold.target)
        if hold.payload:
            payload = decode_payload(self.org, hold.payload)
            subject, request_id = payload.request.subject, payload.request.request_id
            version = payload.policy_version
            target = target if hold.target else payload.request.target
        books = self.verb in ("commit", "commit_partial", "record")
        note = decode_usage_note(self.note) if books and self.note else _NO_USAGE
        added = self._added_by_meter() if self.verb in _REPLACING_VERBS else {}
        usage = note.usage
        return LedgerRow(
            at_ms=at_ms,
            shard=self.shard,
            epoch=epoch,
            stream_id=stream_id,
            sequence=sequence,
            ordinal=ordinal,
            verb=self.verb,
            reservation_id=f"{self.org}.{self.hold_id}",
            request_id=request_id,
            subject=subject,
            target=note.target if books else target,
            outcome=note.outcome,
            late=hold.late and books,
            estimated=note.estimated or (self.verb == "expire" and any(added.values())),
            requests=(hold.charges.get(meter.REQUESTS, 0) if books else 0)
            + added.get(meter.REQUESTS, 0),
            input_tokens=usage.input_tokens + added.get(meter.INPUT_TOKENS, 0),
            output_tokens=usage.output_tokens + added.get(meter.OUTPUT_TOKENS, 0),
            usage=usage,
            cost_nano_usd=self._cost(added) if books or added else 0,
            policy_version=version,
            detail=self.note.decode(errors="replace") if self.verb == "adjust" else "",
            entries=hold.entries,
            deltas=self.deltas,
        )

    def _added_by_meter(self) -> dict[str, int]:
        """Return by meter what this event added besides what it says was used.

        Expiry that charges adds what it booked; whatever settles such a hold afterwards takes
        that back.
        """
        added: dict[str, int] = {}
        for position, entry in enumerate(self.hold.entries):
            amount = self.deltas[_DELTAS * position + 1]
            if self.verb != "expire" and self.hold.settled:
                amount -= self.hold.settled[position].amount
            if not entry.flags & EntryFlags.RETURNED and abs(amount) > abs(
                added.get(entry.meter, 0)
            ):
                added[entry.meter] = amount
        return added

    def _cost(self, added: Mapping[str, int]) -> int | None:
        """Return the nano-USD that this event added; None where no price was known."""
        cost = 0
        if self.verb in ("commit", "commit_partial", "record"):
            cost = self.hold.charges.get(meter.COST, 0)
            if cost < 0:
                booked = [
                    settled.amount
                    for entry, settled in zip(self.hold.entries, self.hold.settled, strict=True)
                    if entry.meter == meter.COST
                ]
                if not booked:
                    return None
                cost = max(booked)
        return cost + added.get(meter.COST, 0)

    def hold_after(self, at_ms: int, kept: Tombstones) -> HoldAfter:
        state = self.hold.state
        if state in (HoldState.OPEN, HoldState.CREDIT):
            keep_until_ms = 0
        elif state in (HoldState.EXPIRED, HoldState.ADJUSTED):
            keep_until_ms = at_ms + kept.expired_ms
        else:
            keep_until_ms = at_ms + kept.settled_ms
        return HoldAfter(self.shard, state, self.hold.expire_ms, keep_until_ms, self.packed)


def _whole(deltas: tuple[int, ...], entries: int) -> list[int]:
    """Return {held, committed, credit} by entry, flat; an event leaves out what it never adds to.

    Raises:
        ValueError: They are not as many as they must be.
    """
    width = len(deltas) // entries if entries else 0
    if len(deltas) != width * entries or (entries and not 0 < width <= _DELTAS):
        raise ValueError(f"{len(deltas)} amounts for {entries} counters")
    missing = (0,) * (_DELTAS - width)
    return [
        delta
        for at in range(0, len(deltas), width or 1)
        for delta in (*deltas[at : at + width], *missing)
    ]


_VERBS = (
    b"reserve",
    b"commit",
    b"commit_partial",
    b"release",
    b"extend",
    b"expire",
    b"record",
    b"adjust",
)
_REPLACING_VERBS = ("expire", "commit", "commit_partial", "release")


def _add_balances(batch: Batch, row: LedgerRow) -> None:
    for position, entry in enumerate(row.entries):
        held, committed, credit = row.deltas[_DELTAS * position : _DELTAS * (position + 1)]
        key = (entry.counter_id, entry.slot)
        delta = batch.balances.get(key)
        if delta is None:
            delta = batch.balances[key] = BalanceDelta(row.shard, entry)
        delta.committed += committed
        delta.held += held
        delta.credit += credit
        delta.used_at_ms = max(delta.used_at_ms, row.at_ms)
        # As the scripts do it: a window with an end has one time to live, set when it begins.
        renews = entry.kind != KIND_PLAIN or entry.p1 > 0
        if renews or row.verb in _BEGINNING_VERBS or entry.flags & EntryFlags.ADDED:
            # What has an end counts from the hour, so that all that begin it agree on that end.
            from_ms = row.at_ms if renews else lives_from_ms(row.at_ms)
            delta.expire_at_ms = max(delta.expire_at_ms, from_ms + entry.ttl_ms)


def _add_usage(batch: Batch, row: LedgerRow) -> None:
    usage, subject = row.usage, row.subject
    amounts = (
        row.requests,
        row.input_tokens,
        row.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.input_audio_tokens,
        usage.reasoning_tokens,
        usage.output_audio_tokens,
        row.cost_nano_usd or 0,
        int(row.cost_nano_usd is None and any((row.requests, row.input_tokens, row.output_tokens))),
    )
    if not any(amounts):
        return
    hour_ms = row.at_ms - row.at_ms % HOUR_MS
    levels = (subject.team, subject.feature, subject.agent, subject.user, subject.task)
    key = (hour_ms, subject.org, *levels, row.target.provider, row.target.model)
    delta = batch.usage.setdefault(key, UsageDelta())
    for name, amount in zip(UsageDelta.__slots__, amounts, strict=True):
        setattr(delta, name, getattr(delta, name) + amount)
