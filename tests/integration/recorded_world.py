"""What the ledger says of a world's counters, beside what Redis does (`ledger_world`).

async with open_recorded(redis_url, key_namespace, database_url, POLICY) as (world, record):
await granted(world.authority, ask("a", input_tokens=100))
await record.catch_up()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from engine_world import compiled
from ledger_world import LedgerWorld, open_ledger_world

from bursar.engine.keys import Keys
from bursar.ledger.database import Connection, Database


class Record:
    """The ledger of a world, brought up to date when a test says so."""

    def __init__(self, world: LedgerWorld) -> None:
        self._world = world

    @property
    def database(self) -> Database:
        """Where it is."""
        return self._world.database

    async def catch_up(self) -> None:
        """Record all that waits."""
        await self._world.record_all()

    async def assert_exact(self) -> None:
        """Make sure that every counter in Redis is the sum of its entries in the ledger."""
        await self.catch_up()
        async with self.database.connection() as connection:
            summed = await _sums(connection)
        found = await _counters(self._world.redis, self._world.keys)
        assert found == {name: summed.get(name, (0, 0, 0)) for name in found}

    async def adjustments(self) -> list[tuple[str, str, int, int]]:
        """Return counter, note, committed and credit of every adjustment that is recorded."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT counter_ids[1] AS counter, detail, committed[1] AS committed, "
                "credit[1] AS credit FROM ledger_entries WHERE verb = 'adjust' "
                "ORDER BY at, sequence, ordinal"
            )
        return [tuple(row) for row in rows]


def use_policy(world: LedgerWorld, document: str | dict[str, Any]) -> None:
    """Let another version decide on every server."""
    for server in world.servers:
        server.policies.replace(compiled(document))


@asynccontextmanager
async def open_recorded(
    redis_url: str,
    key_namespace: str,
    database_url: str,
    *documents: str | dict[str, Any],
    **changed: Any,  # noqa: ANN401 - as open_ledger_world takes it
) -> AsyncIterator[tuple[LedgerWorld, Record]]:
    """Open a world and its record."""
    opened = open_ledger_world(redis_url, database_url, key_namespace, *documents, **changed)
    async with opened as world:
        yield world, Record(world)


async def _sums(connection: Connection) -> dict[str, tuple[int, int, int]]:
    rows = await connection.fetch(
        "SELECT counter_id, sum(c)::bigint AS c, sum(h)::bigint AS h, sum(k)::bigint AS k "
        "FROM ledger_entries, unnest(counter_ids, committed, held, credit) "
        "AS change (counter_id, c, h, k) GROUP BY counter_id"
    )
    return {row["counter_id"]: (row["c"], row["h"], row["k"]) for row in rows}


async def _counters(store: redis.Redis, keys: Keys) -> dict[str, tuple[int, int, int]]:
    found = {}
    for shard in range(keys.shard_count):
        prefix = keys.counter_prefix(shard)
        async for key in store.scan_iter(f"{prefix}*", 1_000):
            fields = await store.hmget(key, "c", "h", "k")
            committed, held, credit = (int(field or 0) for field in fields)
            found[key.decode().removeprefix(prefix)] = (committed, held, credit)
    return found
