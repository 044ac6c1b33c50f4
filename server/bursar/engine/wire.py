"""The MessagePack that travels between Python and the scripts, and the texts of a hold.

Where a script reads or writes many numbers they are 8 bytes each, little-endian, side by side
(`lua/shared/texts.lua`): Lua needs a fraction of what MessagePack costs it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

import msgpack

from bursar.domain.budget import CounterValues
from bursar.engine.keys import CounterSpec
from bursar.engine.operations import EntrySettlement, Hold, HoldEntry, HoldState

_LONG_BYTES = 8
_DESCRIPTION_LENGTH = 2
_DESCRIPTIONS_CACHED_MAX = 16_384


def pack(value: object) -> bytes:
    """Return a value as the scripts read it."""
    # Redis's MessagePack knows no separate type for bytes.
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack(data: bytes) -> Any:
    """Return what a script replied; every text is bytes."""
    return msgpack.unpackb(data, raw=True, strict_map_key=False)


def pack_longs(numbers: Sequence[int]) -> bytes:
    """Return numbers side by side."""
    return struct.pack(f"<{len(numbers)}q", *numbers)


def unpack_longs(data: bytes) -> tuple[int, ...]:
    """Return numbers that are side by side.

    Raises:
        ValueError: It is no whole number of them.
    """
    _check_whole(data, _LONG_BYTES)
    return struct.unpack(f"<{len(data) // _LONG_BYTES}q", data)


def _check_whole(data: bytes, width: int) -> None:
    if len(data) % width:
        raise ValueError(f"{len(data)} bytes are no whole number of {width}")


@lru_cache(_DESCRIPTIONS_CACHED_MAX)
def pack_description(counter_id: str, spec: CounterSpec, meter: str) -> bytes:
    """Return what says how a counter lives, with its length before it.

    Args:
        counter_id: Which.
        spec: How (`keys.counter_spec`).
        meter: What it counts.
    """
    # One value after another, which Lua reads without making a table: the array without its head.
    described = pack([*spec, meter, counter_id])[1:]
    return len(described).to_bytes(_DESCRIPTION_LENGTH, "little") + described


_ARRAY_OF_SIX = b"\x96"


@lru_cache(_DESCRIPTIONS_CACHED_MAX)
def _described(description: bytes) -> tuple[str, int, int, int, int, str]:
    kind, ttl_ms, p1, p2, meter, counter_id = unpack(_ARRAY_OF_SIX + description)
    return counter_id.decode(), kind, ttl_ms, p1, p2, meter.decode()


_ENTRY, _VALUES, _SETTLED = struct.Struct("<Bqqq"), struct.Struct("<3q"), struct.Struct("<5q")


def pack_entry(flags: int) -> bytes:
    """Return an entry of a hold that holds nothing yet."""
    return _ENTRY.pack(flags, 0, 0, 0)


def unpack_values(data: bytes) -> tuple[CounterValues, ...]:
    """Return counters from committed, held and credit of each, side by side.

    Raises:
        ValueError: They are not.
    """
    _check_whole(data, _VALUES.size)
    return tuple(starmap(CounterValues, _VALUES.iter_unpack(data)))


def decode_values(flat: Sequence[Any], *, buckets: bool = False) -> tuple[CounterValues, ...]:
    """Return counters from committed, held, credit (and buckets) in a row."""
    if buckets:
        return tuple(
            CounterValues(flat[at], flat[at + 1], flat[at + 2], tuple(map(tuple, flat[at + 3])))
            for at in range(0, len(flat), 4)
        )
    return tuple(
        [CounterValues(flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3)]
    )


_SIZES = 11
"""After how many numbers of a hold come the lengths of its texts."""
_NUMBERS = struct.Struct("<BBH8qHIHIIIHII")


def decode_hold(data: bytes) -> Hold:
    """Return a hold from the text that the scripts keep (`lua/shared/holds.lua`).

    Raises:
        ValueError: It is none.
    """
    if len(data) < _NUMBERS.size:
        raise ValueError(f"{len(data)} bytes are no hold")
    numbers = _NUMBERS.unpack_from(data)
    state, late, offer, expire_ms, ttl_ms, create_ms = numbers[:6]
    output_tokens, output_tokens_now, sequence, revision, settle_ms = numbers[6:_SIZES]
    texts, at = [], _NUMBERS.size
    for size in numbers[_SIZES:]:
        texts.append(data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError(f"a hold of {len(data)} bytes should have {at}")
    fingerprint, payload, target, values, counters, entries, settling, settled, charges = texts
    return Hold(
        state=_STATES[state],
        fingerprint=fingerprint,
        expire_ms=expire_ms,
        ttl_ms=ttl_ms,
        offer=offer,
        output_tokens=output_tokens,
        create_ms=create_ms,
        payload=payload,
        target=target.decode(),
        entries=_decode_entries(counters, entries),
        values=unpack_values(values),
        settle_fingerprint=settling,
        settle_ms=settle_ms,
        settled=_decode_settled(settled),
        charges=_decode_charges(charges),
        sequence=sequence,
        late=bool(late),
        revision=revision,
        output_tokens_now=output_tokens_now,
    )


# An enum's own look-up costs more than a dictionary's, and each call takes some.
_STATES = {int(state): state for state in HoldState}


def _decode_entries(counters: bytes, numbers: bytes) -> tuple[HoldEntry, ...]:
    _check_whole(numbers, _ENTRY.size)
    entries, at = [], 0
    for flags, slot, held, reserved in _ENTRY.iter_unpack(numbers):
        begin = at + _DESCRIPTION_LENGTH
        at = begin + (counters[at] | counters[at + 1] << 8)
        counter_id, kind, ttl_ms, p1, p2, meter = _described(counters[begin:at])
        entries.append(
            HoldEntry(counter_id, kind, ttl_ms, p1, p2, slot, meter, flags, held, reserved)
        )
    if at != len(counters):
        raise ValueError(f"{len(entries)} entries do not name all counters of a hold")
    return tuple(entries)


def _decode_settled(data: bytes) -> tuple[EntrySettlement, ...]:
    _check_whole(data, _SETTLED.size)
    return tuple(
        [
            EntrySettlement(amount, overage, CounterValues(committed, held, credit))
            for amount, overage, committed, held, credit in _SETTLED.iter_unpack(data)
        ]
    )


def _decode_charges(packed: bytes) -> Mapping[str, int]:
    if not packed:
        return {}
    return {name.decode(): amount for name, amount in unpack(packed).items()}
