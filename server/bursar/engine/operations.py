"""What an engine is asked and what it answers. It knows amounts and ceilings, and no policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from bursar.domain import meter
from bursar.domain.budget import Counter, CounterValues
from bursar.domain.errors import BursarError
from bursar.domain.offer import Offer
from bursar.domain.subject import OrgId


class EntryFlags(IntEnum):
    """How one counter of a hold ends: any sum of these."""

    CHARGE_ON_EXPIRY = 1
    RETURNED = 2
    ADDED = 4


def entry_flags(counter: Counter) -> int:
    """Return how a hold on a counter ends, as a sum of `EntryFlags`."""
    budget = counter.budget
    flags = 0
    if budget.charge_on_expiry:
        flags += EntryFlags.CHARGE_ON_EXPIRY
    if budget.meter == meter.CONCURRENCY:
        flags += EntryFlags.RETURNED
    return flags


class HoldState(IntEnum):
    """Where a hold stands in the store."""

    OPEN = 1
    COMMITTED = 2
    RELEASED = 3
    EXPIRED = 4
    RECORDED = 5
    CREDIT = 6
    ADJUSTED = 7


class HoldEntry(NamedTuple):
    """One counter of a hold.

    Attributes:
        counter_id: Which counter.
        kind: How it lives (`keys.counter_spec`), with its ttl_ms and parameters.
        slot: The time bucket or the beginning of the task that it was reserved in.
        meter: What is counted.
        flags: How it ends, and whether it came with another target than the granted one: a sum of
            `EntryFlags`.
        held: What it still holds, in the meter's unit.
        reserved: What it held in all; of an expired hold, at its end.
    """

    counter_id: str
    kind: int
    ttl_ms: int
    p1: int
    p2: int
    slot: int
    meter: str
    flags: int
    held: int
    reserved: int


class EntrySettlement(NamedTuple):
    """What a settlement did on one entry: amount booked, overage, and the counter after it."""

    amount: int
    overage: int
    values: CounterValues


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation as the store keeps it. Field by field the text of `lua/shared/holds.lua`."""

    state: HoldState
    fingerprint: bytes
    expire_ms: int
    ttl_ms: int
    offer: int
    output_tokens: int
    create_ms: int
    payload: bytes
    target: str
    entries: tuple[HoldEntry, ...]
    values: tuple[CounterValues, ...]
    settle_fingerprint: bytes = b""
    settle_ms: int = 0
    settled: tuple[EntrySettlement, ...] = ()
    charges: Mapping[str, int] = field(default_factory=dict)
    sequence: int = 0
    late: bool = False
    revision: int = 1
    output_tokens_now: int = 0


@dataclass(frozen=True, slots=True)
class ReserveOperation:
    """Book the first offer that fits.

    Attributes:
        org: Whose it is.
        hold_id: Unique within the org, derived from the request id.
        fingerprint: Of the request's content.
        offers: In order of preference.
        expire_ms: When the hold ends if nobody settles it.
        ttl_ms: The same as a time.
        payload: Kept with the hold as it is.
        book: False only to look.
    """

    org: OrgId
    hold_id: str
    fingerprint: bytes
    offers: tuple[Offer, ...]
    expire_ms: int
    ttl_ms: int
    payload: bytes
    book: bool = True


@dataclass(frozen=True, slots=True)
class Granted:
    """An offer was booked; values are those of its counters afterwards, in order."""

    offer: int
    output_tokens: int
    values: tuple[CounterValues, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The same request had been granted before."""

    hold: Hold


@dataclass(frozen=True, slots=True)
class Reused:
    """The request id is that of a request with other content."""


@dataclass(frozen=True, slots=True)
class Denied:
    """No offer fits; values of all their counters by id."""

    values: Mapping[str, CounterValues]


ReserveOutcome = Granted | Found | Reused | Denied


class SettleVerb(IntEnum):
    """How to end a hold."""

    COMMIT = 1
    RELEASE = 2


@dataclass(frozen=True, slots=True)
class Retarget:
    """Which counters another target than the granted one belongs to.

    Attributes:
        dropped: Counter ids of the hold that do not count it.
        added: Counters that count it as well.
    """

    dropped: frozenset[str]
    added: tuple[Counter, ...]


@dataclass(frozen=True, slots=True)
class SettleOperation:
    """End a hold, or book a part of it.

    Attributes:
        org: Whose it is.
        hold_id: Which hold.
        verb: Commit or release.
        fingerprint: Of the settlement's content.
        amounts: Actual amounts by meter; -1 books what is still held, or was at expiry.
        target: What was used; empty where no budget depends on it.
        partial: More commits follow.
        sequence: Number of this partial commit.
        retarget: Set where the target is known to differ from the granted one.
        note: Kept in the journal as it is.
    """

    org: OrgId
    hold_id: str
    verb: SettleVerb
    fingerprint: bytes
    amounts: Mapping[str, int]
    target: str = ""
    partial: bool = False
    sequence: int = 0
    retarget: Retarget | None = None
    note: bytes = b""


class SettleCode(IntEnum):
    """How a settlement went."""

    NOT_FOUND = 0
    DONE = 1
    REPEATED = 2
    ENDED = 3
    OTHER_TARGET = 4
    OUT_OF_SEQUENCE = 5
    EXPIRED = 6
    OVERFLOW = 7


@dataclass(frozen=True, slots=True)
class SettleOutcome:
    """How a settlement went, and the hold after it (None where it was not found)."""

    code: SettleCode
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class ExtendOperation:
    """Make an open hold last longer, or larger or smaller.

    Attributes:
        org: Whose it is.
        hold_id: Which hold.
        expire_ms: New expiry, or 0 where it stays.
        ttl_ms: The same as a time, or 0.
        revision: Of the hold that totals were computed from.
        output_tokens: New output, where totals are given.
        totals: For each entry the amount in all and its ceiling (None: nothing binds); empty
            where the amounts stay.
    """

    org: OrgId
    hold_id: str
    expire_ms: int = 0
    ttl_ms: int = 0
    revision: int = 0
    output_tokens: int = 0
    totals: tuple[tuple[int, int | None], ...] = ()


class ExtendCode(IntEnum):
    """How an extend went."""

    NOT_FOUND = 0
    DONE = 1
    NO_ROOM = 2
    ENDED = 3
    EXPIRED = 6
    CHANGED = 7


@dataclass(frozen=True, slots=True)
class ExtendOutcome:
    """How an extend went, the hold after it, and its counters by entry."""

    code: ExtendCode
    hold: Hold | None
    values: tuple[CounterValues, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordOperation:
    """Book usage that had no reservation, on counters, with amounts by meter."""

    org: OrgId
    hold_id: str
    fingerprint: bytes
    counters: tuple[Counter, ...]
    amounts: Mapping[str, int]
    target: str
    payload: bytes
    note: bytes = b""


class RecordCode(IntEnum):
    """How a record went."""

    DONE = 1
    REPEATED = 2
    REUSED = 3
    OVERFLOW = 7


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """How a record went, and what the store keeps of it (None where it keeps nothing)."""

    code: RecordCode
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What to add to one counter.

    Attributes:
        counter: Which.
        committed: Amount to add to what is committed, of either sign.
        credit: Amount to add to its credit, of either sign.
        slot: Of a rolling counter: the time bucket of `committed`; None: the current one.
    """

    counter: Counter
    committed: int = 0
    credit: int = 0
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class AdjustOperation:
    """Book what no call used: a credit for a time, what a new budget starts with, a correction.

    Attributes:
        org: Whose it is.
        hold_id: Of the adjustment; the same one adjusts once.
        fingerprint: Of its content.
        adjustments: By counter.
        expire_ms: When its credits are taken back; 0: they stay for as long as their counters.
        payload: Kept with it as it is (`payload.encode_payload`).
        note: Kept in the journal as it is: who and why, as UTF-8 text.
    """

    org: OrgId
    hold_id: str
    fingerprint: bytes
    adjustments: tuple[Adjustment, ...]
    expire_ms: int = 0
    payload: bytes = b""
    note: bytes = b""


class AdjustCode(IntEnum):
    """How an adjustment went."""

    DONE = 1
    REPEATED = 2
    REUSED = 3
    OVERFLOW = 7


@dataclass(frozen=True, slots=True)
class AdjustOutcome:
    """How an adjustment went, and its counters now, in order; none where it was refused."""

    code: AdjustCode
    values: tuple[CounterValues, ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """Holds that a sweep ended, entries that it charged, and whether more may be due."""

    expired: int
    charged: int
    more: bool


@dataclass(frozen=True, slots=True)
class HoldPage:
    """Open holds of an org in order of expiry, and where the next page begins ("" at the end)."""

    holds: tuple[tuple[str, Hold], ...]
    cursor: str


class Engine(Protocol):
    """Counters and holds. Every list is answered in its order; orgs may be mixed in it.

    Every method raises StoreUnavailable, StoreFull, ShardCold or ClockBehind; a list of which
    other shards carried out their part has the error in place of each answer that failed.
    """

    async def reserve(
        self, operations: Sequence[ReserveOperation], now_ms: int
    ) -> list[ReserveOutcome | BursarError]:
        """Book each request's first offer that fits, or find what it got before."""
        ...

    async def settle(
        self, operations: Sequence[SettleOperation], now_ms: int
    ) -> list[SettleOutcome | BursarError]:
        """Commit and release holds."""
        ...

    async def extend(
        self, operations: Sequence[ExtendOperation], now_ms: int
    ) -> list[ExtendOutcome | BursarError]:
        """Change open holds."""
        ...

    async def record(
        self, operations: Sequence[RecordOperation], now_ms: int
    ) -> list[RecordOutcome | BursarError]:
        """Book usage without reservations."""
        ...

    async def adjust(
        self, operations: Sequence[AdjustOperation], now_ms: int
    ) -> list[AdjustOutcome | BursarError]:
        """Book what no call used."""
        ...

    async def sweep(self, now_ms: int, most: int) -> Swept:
        """End holds whose time is over, at most so many in each shard."""
        ...

    async def read(self, counters: Sequence[Counter], now_ms: int) -> list[CounterValues]:
        """Return what counters of one org hold."""
        ...

    async def find_hold(self, org: OrgId, hold_id: str) -> Hold | None:
        """Return a hold or its tombstone."""
        ...

    async def list_holds(self, org: OrgId, cursor: str, limit: int) -> HoldPage:
        """Return a page of an org's open holds."""
        ...
