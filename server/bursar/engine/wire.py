"""The MessagePack that travels between Python and the scripts."""

from __future__ import annotations

from typing import Any

import msgpack

from bursar.domain.budget import CounterValues
from bursar.engine.operations import EntrySettlement, Hold, HoldEntry, HoldState


def pack(value: object) -> bytes:
    """Return a value as the scripts read it."""
    # Redis's MessagePack knows no separate type for bytes.
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack(data: bytes) -> Any:
    """Return what a script replied; every text is bytes."""
    return msgpack.unpackb(data, raw=True, strict_map_key=False)


def decode_values(flat: list[int], *, buckets: bool = False) -> tuple[CounterValues, ...]:
    """Return counters from committed, held, credit (and buckets) in a row."""
    if buckets:
        return tuple(
            CounterValues(flat[at], flat[at + 1], flat[at + 2], tuple(map(tuple, flat[at + 3])))  # type: ignore[call-overload]
            for at in range(0, len(flat), 4)
        )
    return tuple(
        [CounterValues(flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3)]
    )


def decode_hold(fields: list[Any]) -> Hold:
    """Return a hold from the array that the scripts keep (`lua/shared/holds.lua`)."""
    charges = fields[14] or {}
    return Hold(
        state=_STATES[fields[0]],
        fingerprint=fields[1],
        expire_ms=fields[2],
        ttl_ms=fields[3],
        offer=fields[4],
        output_tokens=fields[5],
        create_ms=fields[6],
        payload=fields[7],
        target=fields[8].decode(),
        entries=tuple([_decode_entry(*entry) for entry in fields[9] or ()]),
        values=decode_values(fields[10] or []),
        settle_fingerprint=fields[11],
        settle_ms=fields[12],
        settled=_decode_settled(fields[13] or []),
        charges={name.decode(): amount for name, amount in charges.items()},
        sequence=fields[15],
        late=bool(fields[16]),
        revision=fields[17],
        output_tokens_now=fields[18],
    )


# An enum's own look-up costs more than a dictionary's, and each call takes some.
_STATES = {int(state): state for state in HoldState}


def _decode_entry(counter_id: bytes, *rest: Any) -> HoldEntry:
    kind, ttl_ms, p1, p2, slot, meter, *amounts = rest
    return HoldEntry(counter_id.decode(), kind, ttl_ms, p1, p2, slot, meter.decode(), *amounts)


def _decode_settled(flat: list[int]) -> tuple[EntrySettlement, ...]:
    return tuple(
        [
            EntrySettlement(
                flat[at], flat[at + 1], CounterValues(flat[at + 2], flat[at + 3], flat[at + 4])
            )
            for at in range(0, len(flat), 5)
        ]
    )
