"""Operations as the rows that the scripts read, and their replies as outcomes."""

from __future__ import annotations

from typing import Any

from bursar.domain.budget import Counter, CounterValues
from bursar.domain.errors import BursarError, JournalFull
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.offer import Offer
from bursar.domain.subject import target_key
from bursar.engine.keys import counter_spec
from bursar.engine.operations import (
    AdjustCode,
    AdjustOperation,
    AdjustOutcome,
    Denied,
    EntryFlags,
    ExtendCode,
    ExtendOutcome,
    Found,
    Granted,
    Hold,
    ReserveOperation,
    ReserveOutcome,
    Reused,
    SettleOperation,
    entry_flags,
)
from bursar.engine.wire import (
    decode_hold,
    decode_values,
    pack_description,
    pack_entry,
    pack_longs,
    unpack_values,
)


class Call:
    """One script call: its keys, each once, and where they are; then how safe it is.

    Attributes:
        keys: In order.
        counters: How each counter lives, in order, described as a hold keeps it.
        replicas: How many replicas had it, where that was asked.
        journaled: Sequence number of the newest journal entry as of this call.
        epoch: Generation of the shard that it was made in.
        sequence: Of this call.
        entry_id: Of its entry in the journal, or empty.
    """

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self._index: dict[str, int] = {}
        self.counters: list[bytes] = []
        self.replicas = 0
        self.journaled = 0
        self.epoch = ""
        self.sequence = 0
        self.entry_id = ""

    def counter(self, counter: Counter, prefix: str, now_ms: int) -> int:
        """Return the number of a counter in this call, from 1."""
        counter_id = counter.id
        found = self._index.get(counter_id)
        if found is None:
            self.keys.append(prefix + counter_id)
            self.counters.append(_description(counter, now_ms))
            found = self._index[counter_id] = len(self.counters)
        return found

    def hold(self, key: str) -> None:
        """Add the key of an operation's hold; all counters must be there before."""
        self.keys.append(key)


def _description(counter: Counter, now_ms: int) -> bytes:
    return pack_description(counter.id, counter_spec(counter, now_ms), counter.budget.meter)


def offer_row(call: Call, offer: Offer, prefix: str, now_ms: int) -> tuple[str, bytes]:
    """Return target and terms of an offer as the script reads them."""
    terms = [offer.output_min, offer.output_max]
    for use in offer.uses:
        terms += (
            call.counter(use.counter, prefix, now_ms) if use.counts else 0,
            entry_flags(use.counter),
            use.base,
            use.slope,
            COUNTER_MAX if use.ceiling is None else use.ceiling,
        )
    return target_key(offer.target), pack_longs(terms)


def reserve_outcome(operation: ReserveOperation, result: list[Any]) -> ReserveOutcome | BursarError:
    """Return what the script replied for a reserve."""
    match result[0]:
        case 1:
            return Granted(result[1] - 1, result[2], unpack_values(result[3]))
        case 2:
            return Found(decode_hold(result[1]))
        case 3:
            return Reused()
        case 4:
            return JournalFull(
                "more calls wait to be recorded than may: nothing new is granted until PostgreSQL "
                "has caught up; settling goes on"
            )
        case _:
            values = decode_values(result[1] or [], buckets=True)
            ids = dict.fromkeys(
                use.counter.id for offer in operation.offers for use in offer.uses if use.counts
            )
            return Denied(dict(zip(ids, values, strict=True)))


def adjustment_row(call: Call, operation: AdjustOperation, prefix: str, now_ms: int) -> bytes:
    """Return the counters of an adjustment as the adjust script reads them."""
    uses: list[int] = []
    for each in operation.adjustments:
        uses += (
            call.counter(each.counter, prefix, now_ms),
            -1 if each.slot is None else each.slot,
            each.committed,
            each.credit,
        )
    return pack_longs(uses)


def adjust_outcome(result: list[Any]) -> AdjustOutcome:
    """Return what the adjust script replied for an operation."""
    values = result[2] if len(result) > 2 else []  # noqa: PLR2004 - third place
    return AdjustOutcome(AdjustCode(result[0]), decode_values(values or []))


def retarget_row(operation: SettleOperation, now_ms: int) -> object:
    """Return the retarget of a settlement as the script reads it."""
    if operation.retarget is None:
        return 0
    added = operation.retarget.added
    # The script finds the slot: the bucket of the reservation, or the task that runs.
    return [
        dict.fromkeys(operation.retarget.dropped, 1),
        b"".join(_description(counter, now_ms) for counter in added),
        b"".join(pack_entry(entry_flags(counter) + EntryFlags.ADDED) for counter in added),
    ]


def hold_of(result: list[Any]) -> Hold | None:
    """Return the hold of a reply, or None where it has none."""
    return decode_hold(result[1]) if len(result) > 1 else None


def extend_outcome(result: list[Any]) -> ExtendOutcome:
    """Return what the extend script replied for an operation."""
    code = ExtendCode(result[0])
    values: tuple[CounterValues, ...] = ()
    if len(result) > 2:  # noqa: PLR2004 - the reply has its values in third place
        values = decode_values(result[2] or [], buckets=code is ExtendCode.NO_ROOM)
    return ExtendOutcome(code, hold_of(result), values)
