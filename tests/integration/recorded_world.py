"""A world of servers with its record: what they do is in PostgreSQL whenever a test says so.

async with open_recorded(redis_url, key_namespace, database_url, POLICY) as (world, record):
await granted(world.authority, ask("a", input_tokens=100))
await record.catch_up()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from engine_world import World, open_world

from bursar.engine.journal import Journal
from bursar.engine.keys import Keys
from bursar.ledger.database import Connection, Database
from bursar.ledger.fold import Retention, fold
from bursar.ledger.positions import Positions
from bursar.ledger.recorder import Recorder

ENTRIES_MAX = 10_000


class Record:
    """Brings the journals of a world to PostgreSQL, step by step as tests want it."""

    def __init__(self, world: World, database: Database) -> None:
        self.database = database
        self._world = world
        self._positions = Positions(database)
        self._recorder = Recorder(database)

    async def install(self) -> None:
        """Begin to record the generation that the world began with."""
        await self._positions.install(self._world.keys.shard_count, self._world.keys.namespace)
        async with self.database.connection() as connection:
            await connection.execute("UPDATE journal_position SET epoch = 'first'")

    async def catch_up(self) -> None:
        """Record all that waits; the journal is left as it is."""
        positions = await self._positions.load()
        journal = Journal(self._world.servers[0].store, self._world.keys)
        after = {shard: position.stream_id for shard, position in positions.items()}
        batch = fold(
            await journal.read(after, ENTRIES_MAX), positions, Retention(900_000, 86_400_000)
        )
        assert not batch.rejects, batch.rejects
        if batch.moves:
            await self._recorder.write(batch)

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


@asynccontextmanager
async def open_recorded(
    redis_url: str,
    key_namespace: str,
    database_url: str,
    *documents: str | dict[str, Any],
    **changed: Any,  # noqa: ANN401 - as open_world takes it
) -> AsyncIterator[tuple[World, Record]]:
    """Open a world and its record."""
    async with open_world(redis_url, key_namespace, *documents, **changed) as world:
        # The record is the account here; what it says is compared with Redis by each test.
        world.lossy = True
        database = Database(database_url, timeout_ms=20_000)
        await database.open()
        try:
            record = Record(world, database)
            await record.install()
            yield world, record
        finally:
            await database.close()


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
