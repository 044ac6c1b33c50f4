"""Servers with a ledger, without a socket in front: authorities on a real Redis and PostgreSQL.

Nothing runs by itself: a test says when a server looks, records and beats.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engine_calls import ask, commit, granted
from engine_world import HandClock, compiled

from bursar.authority.authority import Authority
from bursar.authority.policies import Policies
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.ledger import Ledger
from bursar.ledger.positions import Positions
from bursar.ledger.watch import Confirmations
from redis_cluster import client_of


@dataclass(frozen=True)
class LedgerServer:
    """One server: what decides, and what records."""

    store: Store
    engine: RedisEngine
    policies: Policies
    authority: Authority
    ledger: Ledger


class LedgerWorld:
    """A namespace on a Redis, a database, and the servers on both."""

    def __init__(
        self,
        redis_url: str,
        database_url: str,
        keys: Keys,
        documents: tuple[str | dict[str, Any], ...],
        limits: EngineLimits,
    ) -> None:
        self.redis = client_of(redis_url)
        self.database = Database(database_url)
        self.keys = keys
        self.clock = HandClock()
        self.servers: list[LedgerServer] = []
        self.redis_ends = False
        self._redis_url, self._database_url = redis_url, database_url
        self._documents, self._limits = documents, limits
        self._open = AsyncExitStack()

    @property
    def authority(self) -> Authority:
        return self.servers[0].authority

    @property
    def ledger(self) -> Ledger:
        return self.servers[0].ledger

    @property
    def engine(self) -> RedisEngine:
        return self.servers[0].engine

    async def server(self, *, redis_url: str | None = None) -> LedgerServer:
        """Open one more server; it has looked once."""
        store = Store(redis_url or self._redis_url, timeout_ms=10_000)
        self._open.push_async_callback(store.close)
        database = Database(self._database_url, timeout_ms=10_000)
        await database.open()
        confirmations = Confirmations(Positions(database), 1_000, lambda shard: "")
        engine = RedisEngine(Shards(store, self.keys, self._limits))
        ledger = Ledger(
            database=database,
            engine=engine,
            confirmations=confirmations,
            now_ms=self.clock.now_ms,
        )
        self._open.push_async_callback(ledger.close)
        await ledger.open("")
        policies = Policies([compiled(each) for each in self._documents])
        server = LedgerServer(
            store, engine, policies, Authority(engine, policies, self.clock), ledger
        )
        self.servers.append(server)
        await self.until_warm(server)
        return server

    async def until_warm(self, *servers: LedgerServer) -> None:
        """Let servers look until no shard is cold for them."""
        async with _deadline():
            while True:
                # Those that look at the same time send their calls again at the same time.
                await asyncio.gather(*(each.ledger.look() for each in servers or self.servers))
                if not any(each.engine.shards.cold for each in servers or self.servers):
                    return

    async def record_all(self) -> None:
        """Let the servers record until nothing waits."""
        async with _deadline():
            while any(
                [await self.redis.xlen(self.keys.journal(shard))
                 for shard in range(self.keys.shard_count)]
            ):  # fmt: skip
                for server in self.servers:
                    await server.ledger.look()
                    await server.ledger.record()

    async def rows(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query."""
        async with self.database.connection() as connection:
            found: list[Any] = await connection.fetch(query, *values)
            return found

    async def close(self) -> None:
        """End every server and remove what they wrote in Redis."""
        await self._open.aclose()
        await self.database.close()
        found = self.redis.scan_iter(f"{{{self.keys.namespace}*", 1_000)
        names = [] if self.redis_ends else [name async for name in found]
        if names:
            await self.redis.unlink(*names)
        await self.redis.aclose()


def _deadline() -> asyncio.Timeout:
    return asyncio.timeout(20)


@asynccontextmanager
async def open_ledger_world(
    redis_url: str,
    database_url: str,
    key_namespace: str,
    *documents: str | dict[str, Any],
    servers: int = 1,
    shards: int = 1,
    limits: EngineLimits | None = None,
) -> AsyncIterator[LedgerWorld]:
    """Open servers on a namespace and a database of their own."""
    world = LedgerWorld(
        redis_url, database_url, Keys(key_namespace, shards), documents, limits or EngineLimits()
    )
    await world.database.open()
    try:
        for _ in range(servers):
            await world.server()
        yield world
    finally:
        await world.close()


async def spend(world: LedgerWorld, count: int, tokens: int = 90) -> None:
    """Reserve and commit some calls of 100 tokens or so each."""
    start = len(await world.redis.keys(f"*{world.keys.namespace}*:h:*"))
    for number in range(start, start + count):
        one = await granted(world.authority, ask(f"r{number}", input_tokens=tokens))
        await world.authority.settle(commit(one, input_tokens=tokens))


async def recorded_tokens(world: LedgerWorld) -> int:
    """Return what the record says is committed."""
    [row] = await world.rows("SELECT coalesce(sum(committed), 0) AS n FROM counter_balances")
    return int(row["n"])


async def lose_all(world: LedgerWorld) -> None:
    """Empty Redis."""
    keys = [key async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000)]
    await world.redis.delete(*keys)
