"""What is in Redis, read with the tests' own client and little of the engine's code."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import redis.asyncio as redis

from bursar.engine.keys import Keys
from bursar.engine.operations import Hold
from bursar.engine.wire import decode_hold


@dataclass(frozen=True)
class Entry:
    """One entry of a journal: the events of one script call."""

    epoch: bytes
    sequence: int
    time_ms: int
    events: list[list[Any]]


def unpack(data: bytes) -> list[Any]:
    """Read MessagePack as Redis writes it: texts are bytes, an empty list may be an empty map."""
    return msgpack.unpackb(data, raw=True, strict_map_key=False)


def _events(data: bytes) -> list[list[Any]]:
    parts = unpack(data)
    return [parts[at : at + 5] for at in range(0, len(parts), 5)]


@dataclass(frozen=True)
class KeptEntry:
    """One counter of a hold, as the scripts keep it; booked: what its expiry charges."""

    counter: str
    kind: int
    slot: int
    held: int
    reserved: int
    booked: int


@dataclass(frozen=True)
class KeptHold:
    """What the books look at of a hold, read by itself: not by what the server reads it with."""

    payload: bytes
    expire_ms: int
    ttl_ms: int
    output_now: int
    sequence: int
    entries: list[KeptEntry]
    settle_fingerprint: bytes
    settled: tuple[int, ...]


_KEPT = struct.Struct("<BBH8qHIHIIIHII")


def kept_hold(data: bytes) -> KeptHold:
    """Read a hold as `lua/shared/holds.lua` describes it."""
    numbers = _KEPT.unpack_from(data)
    texts, at = [], _KEPT.size
    for size in numbers[11:]:
        texts.append(data[at : at + size])
        at += size
    assert at == len(data)
    counters, entries, fingerprint, settled = texts[4:8]
    kept, at = [], 0
    for flags, slot, held, reserved in struct.iter_unpack("<Bqqq", entries):
        assert flags < 8
        [length] = struct.unpack_from("<H", counters, at)
        at += 2 + length
        described = msgpack.Unpacker(raw=False)
        described.feed(counters[at - length : at])
        kind, _, _, _, _, counter = described
        charged = reserved if flags & 1 and not flags & 2 else 0
        kept.append(KeptEntry(counter, kind, slot, held, reserved, charged))
    assert at == len(counters)
    amounts = struct.unpack(f"<{len(settled) // 8}q", settled)
    return KeptHold(
        texts[1], numbers[3], numbers[4], numbers[7], numbers[8], kept, fingerprint, amounts
    )


def deltas_of(data: bytes, entries: int) -> list[tuple[int, int, int]]:
    """Read what an event added to each counter: {held, committed, credit}."""
    numbers = struct.unpack(f"<{len(data) // 8}q", data)
    width = len(numbers) // entries if entries else 1
    assert width * entries == len(numbers) and 1 <= width <= 3
    rows = [numbers[at : at + width] for at in range(0, len(numbers), width)]
    return [(*row, *(0,) * (3 - width)) for row in rows]


async def names(store: redis.Redis, keys: Keys, kind: str) -> list[str]:
    """Return the keys of a kind (c counters, h holds) on all shards, sorted."""
    pattern = f"{{{keys.namespace}[0-9]*}}:{kind}:*"
    return sorted([name.decode() async for name in store.scan_iter(pattern, 1_000)])


async def counters(store: redis.Redis, keys: Keys) -> dict[str, dict[str, int]]:
    """Return the fields of every counter by its id."""
    found = {}
    for name in await names(store, keys, "c"):
        fields = await store.hgetall(name)
        counter_id = name.split(":", 2)[2]
        found[counter_id] = {field.decode(): int(text) for field, text in fields.items()}
    return found


async def packed_holds(store: redis.Redis, keys: Keys) -> dict[str, bytes]:
    """Return every hold and tombstone by its key, as it is kept."""
    wanted = await names(store, keys, "h")
    pipeline = store.pipeline(transaction=False)
    for name in wanted:
        pipeline.get(name)
    found = await pipeline.execute()
    return {name: data for name, data in zip(wanted, found, strict=True) if data is not None}


async def holds(store: redis.Redis, keys: Keys) -> dict[str, Hold]:
    """Return every hold and tombstone by its key."""
    packed = await packed_holds(store, keys)
    return {name: decode_hold(data) for name, data in packed.items()}


async def expiries(store: redis.Redis, keys: Keys) -> dict[str, int]:
    """Return when each hold is due, by its key."""
    found: dict[str, int] = {}
    for shard in range(keys.shard_count):
        due = await store.zrange(keys.shard_keys(shard)[1], 0, -1, withscores=True)
        found |= {name.decode(): int(score) for name, score in due}
    return found


async def journal(store: redis.Redis, keys: Keys, shard: int) -> list[Entry]:
    """Return a shard's journal."""
    entries = await store.xrange(keys.shard_keys(shard)[2])
    return [
        Entry(fields[b"e"], int(fields[b"s"]), int(fields[b"t"]), _events(fields[b"d"]))
        for _, fields in entries
    ]


async def dumps(store: redis.Redis, keys: Keys, *kinds: str) -> dict[str, bytes]:
    """Return keys of some kinds, byte for byte, and whether they expire."""
    wanted = [name for kind in kinds for name in await names(store, keys, kind)]
    pipeline = store.pipeline(transaction=False)
    for name in wanted:
        pipeline.dump(name).pttl(name)
    replies = await pipeline.execute()
    return {
        name: data + bytes([left_ms >= 0])
        for name, data, left_ms in zip(wanted, replies[::2], replies[1::2], strict=True)
    }


async def everything(store: redis.Redis, keys: Keys) -> dict[str, Any]:
    """Return all that calls could change but the shard's sequence number and newest time."""
    found: dict[str, Any] = dict(await dumps(store, keys, "c", "h"))
    found["expiries"] = await expiries(store, keys)
    for shard in range(keys.shard_count):
        found[f"journal {shard}"] = await store.xlen(keys.shard_keys(shard)[2])
    return found
