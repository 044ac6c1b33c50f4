"""Operations of one shard as one script call: its keys, and everything that the script reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bursar.domain.meter import COUNTER_MAX
from bursar.engine.keys import Keys, Tombstones
from bursar.engine.operations import (
    AdjustOperation,
    RecordOperation,
    ReserveOperation,
    SettleOperation,
    entry_flags,
)
from bursar.engine.recent import Acknowledged
from bursar.engine.rows import Call, adjustment_row, offer_row, retarget_row
from bursar.engine.wire import pack, unpack

_ORDER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script call that only lacks the head, which says of when and of which generation it is.

    Attributes:
        verb: Name of the script.
        call: Its keys.
        rest: What follows the head.
    """

    verb: str
    call: Call
    rest: tuple[Any, ...]


def prepare(
    operations: Sequence[Acknowledged], keys: Keys, shard: int, now_ms: int, kept: Tombstones
) -> Prepared:
    """Return operations of one kind as a call.

    Args:
        operations: Of orgs that live on the shard; at least one.
        keys: Names of everything.
        shard: Which.
        now_ms: When.
        kept: For how long the script keeps what has ended.
    """
    call = Call(keys.shard_keys(shard))
    prefix = keys.counter_prefix(shard)
    make: Callable[[Any, Any, int, Tombstones], list[object]]
    parts: list[Any]
    group: Sequence[Any] = operations
    # Counters come before holds among the keys, so they are numbered first.
    match operations[0]:
        case ReserveOperation():
            parts = [
                [offer_row(call, offer, prefix, now_ms) for offer in each.offers] for each in group
            ]
            make, verb = _reserve_row, "reserve"
        case RecordOperation():
            parts = [_record_uses(call, each, prefix, now_ms) for each in group]
            make, verb = _record_row, "record"
        case AdjustOperation():
            parts = [adjustment_row(call, each, prefix, now_ms) for each in group]
            make, verb = _adjust_row, "adjust"
        case SettleOperation():
            parts = [retarget_row(each, now_ms) for each in group]
            make, verb = _settle_row, "settle"
        case _:
            parts = [None] * len(group)
            make, verb = _extend_row, "extend"
    rows = [
        [call.hold(keys.hold(shard, each.org, each.hold_id)), *make(each, part, now_ms, kept)]
        for each, part in zip(group, parts, strict=True)
    ]
    with_counters = verb in ("reserve", "record", "adjust")
    rest = (prefix, call.specs, rows) if with_counters else (prefix, rows)
    return Prepared(verb, call, rest)


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
    return order.to_bytes(_ORDER_BYTES, "big") + pack(
        [ready.verb, now_ms, ready.call.keys, ready.rest]
    )


def unpack_call(packed: bytes) -> tuple[Prepared, int]:
    """Read what `pack_call` wrote: the call, and its time in ms."""
    verb, now_ms, names, rest = unpack(packed[_ORDER_BYTES:])
    return Prepared(verb.decode(), Call([name.decode() for name in names]), tuple(rest)), now_ms


def _reserve_row(each: Any, offers: Any, now_ms: int, _: Tombstones) -> list[object]:
    return [
        each.fingerprint,
        int(each.book),
        each.expire_ms,
        each.ttl_ms,
        now_ms,
        each.payload,
        offers,
    ]


def _settle_row(each: Any, retarget: Any, _: int, kept: Tombstones) -> list[object]:
    return [
        int(each.verb),
        each.fingerprint,
        int(each.partial),
        each.sequence,
        dict(each.amounts),
        kept.settled_ms,
        each.target,
        retarget,
        each.note,
    ]


def _extend_row(each: Any, _: Any, __: int, ___: Tombstones) -> list[object]:
    totals = [
        number
        for total, ceiling in each.totals
        for number in (total, COUNTER_MAX if ceiling is None else ceiling)
    ]
    return [each.revision, each.expire_ms, each.ttl_ms, each.output_tokens, totals]


def _record_uses(call: Call, operation: RecordOperation, prefix: str, now_ms: int) -> list[object]:
    return [
        part
        for counter in operation.counters
        for part in (
            call.counter(counter, prefix, now_ms),
            counter.budget.meter,
            int(entry_flags(counter)),
        )
    ]


def _record_row(each: Any, uses: Any, _: int, kept: Tombstones) -> list[object]:
    return [
        each.fingerprint,
        each.payload,
        each.target,
        dict(each.amounts),
        uses,
        kept.settled_ms,
        each.note,
    ]


def _adjust_row(each: Any, uses: Any, _: int, kept: Tombstones) -> list[object]:
    return [each.fingerprint, each.expire_ms, each.payload, uses, kept.expired_ms, each.note]
