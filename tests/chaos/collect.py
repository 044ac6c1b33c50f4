"""Dump what is left of a run, for the checker: `python collect.py DATABASE_URL REDIS_URL FOLDER`.

Writes `ledger.jsonl` and `redis.jsonl`. It reads both stores with plain clients and knows how they
are laid out, but none of the server's code.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import msgpack
import redis

_QUERIES = {
    "ledger_entries": "SELECT (extract(epoch FROM at) * 1000)::bigint AS at, shard, epoch,"
    " stream_id, sequence, ordinal, verb, org, reservation_id, request_id, late, counter_ids,"
    " slots, held, committed, credit FROM ledger_entries",
    "counter_balances": "SELECT counter_id, slot, shard, kind, p1, p2, committed, held, credit"
    " FROM counter_balances",
    "open_holds": "SELECT org, hold_id, shard, state, expire_at_ms, hold FROM open_holds",
    "journal_position": "SELECT shard, epoch, stream_id, sequence FROM journal_position",
    "rebuilds": "SELECT rebuild_id, shard, epoch, cause, counters, holds, resent FROM rebuilds",
    "journal_rejects": "SELECT shard, epoch, stream_id, fault FROM journal_rejects",
}

# A hold as the scripts keep it: numbers, of which the last ones say how long the texts behind them
# are; what an entry has for each counter; and where of these there is what.
_NUMBERS, _ENTRY = struct.Struct("<BBH8qHIHIIIHII"), struct.Struct("<Bqqq")
_STATE, _EXPIRE_MS, _SIZES = 0, 3, 11
_COUNTERS, _ENTRIES = 4, 5


async def ledger_rows(database_url: str) -> list[dict[str, Any]]:
    """Return the rows of every table that the checker reads, all as of one moment."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = []
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for table, query in _QUERIES.items():
                for record in await connection.fetch(query):
                    row = {"table": table, **record}
                    if "hold" in row:
                        row["entries"] = _entries(row.pop("hold"))
                    rows.append(row)
        return rows
    finally:
        await connection.close()


def redis_rows(client: redis.Redis) -> list[dict[str, Any]]:
    """Return what Redis holds, and when it was read."""
    rows = [{"what": "collected", "time_ms": time.time_ns() // 1_000_000}]
    for key in client.scan_iter("{*}:*", 1_000):
        rows += _rows_of(client, key.decode())
    return rows


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    with file.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, separators=(",", ":")) + "\n")


def _rows_of(client: redis.Redis, key: str) -> Iterator[dict[str, Any]]:
    tag, kind, *rest = key.split(":", 2)
    shard_text = tag.strip("{}").lstrip("abcdefghijklmnopqrstuvwxyz")
    if not shard_text.isdigit():
        return
    shard = int(shard_text)
    match kind:
        case "m":
            yield {"what": "shard", "shard": shard, **_texts(client.hgetall(key))}
        case "c":
            fields = _texts(client.hgetall(key))
            yield {"what": "counter", "shard": shard, "counter_id": rest[0], "fields": fields}
        case "h":
            if (packed := client.get(key)) is not None:
                numbers = _NUMBERS.unpack_from(packed)
                yield {
                    "what": "hold",
                    "shard": shard,
                    **_name(rest[0]),
                    "state": numbers[_STATE],
                    "expire_at_ms": numbers[_EXPIRE_MS],
                    "entries": _entries(packed),
                }
        case "x":
            for name, due_ms in client.zrange(key, 0, -1, withscores=True):
                hold_name = name.decode().split(":", 2)[2]
                yield {"what": "expiry", "shard": shard, **_name(hold_name), "due_ms": int(due_ms)}
        case "j":
            last = client.xrevrange(key, count=1)
            yield {
                "what": "stream",
                "shard": shard,
                "length": client.xlen(key),
                "last_id": last[0][0].decode() if last else "0-0",
            }


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}


def _name(text: str) -> dict[str, str]:
    org, hold_id = text.split(":")
    return {"org": org, "hold_id": hold_id}


def _entries(packed: bytes) -> list[dict[str, Any]]:
    texts, at = [], _NUMBERS.size
    for size in _NUMBERS.unpack_from(packed)[_SIZES:]:
        texts.append(packed[at : at + size])
        at += size
    counters, entries, at = texts[_COUNTERS], [], 0
    for _, slot, held, _ in _ENTRY.iter_unpack(texts[_ENTRIES]):
        length = int.from_bytes(counters[at : at + 2], "little")
        description = msgpack.Unpacker(raw=False)
        description.feed(counters[at + 2 : at + 2 + length])
        *_, counter_id = description
        entries.append({"counter_id": counter_id, "slot": slot, "held": held})
        at += 2 + length
    return entries


def main(database_url: str, redis_url: str, folder: str) -> None:
    """Write both dumps into a folder."""
    write_rows(Path(folder) / "ledger.jsonl", asyncio.run(ledger_rows(database_url)))
    with redis.Redis.from_url(redis_url) as client:
        write_rows(Path(folder) / "redis.jsonl", redis_rows(client))


if __name__ == "__main__":
    main(*sys.argv[1:])
