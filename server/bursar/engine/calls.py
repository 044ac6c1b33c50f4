"""Operations of one shard as one script call: its keys, and everything that the script reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bursar.domain.meter import COUNTER_MAX
from bursar.engine.keys import Keys, Tombstones
from bursar.engine.operations import (
    AdjustOperation,
    ExtendOperation,
    RecordOperation,
    ReserveOperation,
    SettleOperation,
    entry_flags,
)
from bursar.engine.recent import Acknowledged
from bursar.engine.rows import Call, adjustment_row, offer_row, retarget_row
from bursar.engine.wire import pack, pack_longs, unpack

_ORDER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script call that only lacks the head, which says of when and of which generation it is.

    Attributes:
        call: Its keys.
        rest: What follows the head.
    """

    call: Call
    rest: tuple[Any, ...]

    @property
    def verbs(self) -> list[str]:
        """What each operation does."""
        return [_text(row[0]) for row in self.rest[-1]]


def prepare(
    operations: Sequence[Acknowledged], keys: Keys, shard: int, now_ms: int, kept: Tombstones
) -> Prepared:
    """Return operations as a call of the script `operate`.

    Args:
        operations: Of orgs that live on the shard, of any kind; at least one.
        keys: Names of everything.
        shard: Which.
        now_ms: When.
        kept: For how long the script keeps what has ended.
    """
    call = Call(keys.shard_keys(shard))
    prefix = keys.counter_prefix(shard)
    # Counters come before holds among the keys.
    rows = [_ROWS[type(each)](call, each, prefix, now_ms) for each in operations]
    for each in operations:
        call.hold(keys.hold(shard, each.org, each.hold_id))
    return Prepared(call, (prefix, call.counters, [kept.settled_ms, kept.expired_ms], rows))


def pack_call(operation: Acknowledged, keys: Keys, shard: int, now_ms: int, order: int,
              kept: Tombstones) -> bytes:  # fmt: skip
    """Return the call of one operation as bytes that any server can make.

    Args:
        operation: What.
        keys: Names of everything.
        shard: Where.
        now_ms: At what time.
        order: Among the calls of this server; bytes of a lower one sort first.
        kept: As in `prepare`.
    """
    ready = prepare([operation], keys, shard, now_ms, kept)
    return order.to_bytes(_ORDER_BYTES, "big") + pack([now_ms, ready.call.keys, ready.rest])


def unpack_call(packed: bytes) -> tuple[Prepared, int]:
    """Read what `pack_call` wrote: the call, and its time in ms."""
    now_ms, names, rest = unpack(packed[_ORDER_BYTES:])
    return Prepared(Call([name.decode() for name in names]), tuple(rest)), now_ms


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _reserve_row(call: Call, each: Any, prefix: str, now_ms: int) -> list[Any]:
    # Its own time, which its windows are of, not that of all that goes with it.
    numbers = (int(each.book), each.expire_ms, each.ttl_ms, each.expire_ms - each.ttl_ms)
    row = ["reserve", pack_longs(numbers), each.fingerprint, each.payload]
    for offer in each.offers:
        row += offer_row(call, offer, prefix, now_ms)
    return row


def _settle_row(_: Call, each: Any, __: str, now_ms: int) -> list[Any]:
    return [
        "settle",
        pack_longs((each.verb, each.partial, each.sequence)),
        each.fingerprint,
        pack(dict(each.amounts)),
        each.target,
        retarget_row(each, now_ms),
        each.note,
    ]


def _extend_row(_: Call, each: Any, __: str, ___: int) -> list[Any]:
    totals = [
        number
        for total, ceiling in each.totals
        for number in (total, COUNTER_MAX if ceiling is None else ceiling)
    ]
    return ["extend", each.revision, each.expire_ms, each.ttl_ms, each.output_tokens, totals]


def _record_row(call: Call, each: Any, prefix: str, now_ms: int) -> list[Any]:
    uses = [
        number
        for counter in each.counters
        for number in (call.counter(counter, prefix, now_ms), entry_flags(counter))
    ]
    charges = pack(dict(each.amounts))
    row = [each.fingerprint, each.payload, each.target, charges, pack_longs(uses), each.note]
    return ["record", *row]


def _adjust_row(call: Call, each: Any, prefix: str, now_ms: int) -> list[Any]:
    uses = adjustment_row(call, each, prefix, now_ms)
    return ["adjust", each.fingerprint, each.expire_ms, each.payload, uses, each.note]


_ROWS: dict[type, Callable[[Call, Any, str, int], list[Any]]] = {
    ReserveOperation: _reserve_row,
    SettleOperation: _settle_row,
    ExtendOperation: _extend_row,
    RecordOperation: _record_row,
    AdjustOperation: _adjust_row,
}
