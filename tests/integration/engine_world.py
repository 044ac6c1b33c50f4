"""Servers without a socket in front: authorities on a real Redis, at a time set by hand.

    async with open_world(redis_url, key_namespace, POLICY) as world:
        granted = await world.authority.reserve(ask("a", input_tokens=100))
        world.clock.at_ms += 1_000

What every test of the engine takes for granted is checked when a world ends: the journal alone
accounts for every counter and every hold (`engine_books`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import yaml
from engine_books import assert_books_balance

from bursar.authority.authority import Authority
from bursar.authority.policies import Policies
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from redis_cluster import client_of
from shards import open_shards

NOON_MS = 1_773_144_000_000
"""2026-03-10T12:00:00Z."""

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


class Clock(Protocol):
    """What an authority reads the time from."""

    def now_ms(self) -> int: ...


class HandClock:
    """A clock that is set by hand."""

    def __init__(self, at_ms: int = NOON_MS) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


@dataclass(frozen=True)
class Server:
    """One server: its connection, engine, policies and authority."""

    store: Store
    engine: RedisEngine
    policies: Policies
    authority: Authority


class World:
    """A namespace on a Redis and the servers on it.

    Attributes:
        redis: A client of the tests' own.
        keys: Names of everything.
        clock: Of every server that gets no other one.
        servers: Those that were opened, the first one by the world itself.
        lossy: Set by tests that destroy data: the books need not balance at the end.
        redis_ends: Set by tests whose Redis ends with them: nothing is removed from it.
    """

    def __init__(
        self,
        redis_url: str,
        keys: Keys,
        documents: tuple[str | dict[str, Any], ...],
        limits: EngineLimits,
    ) -> None:
        self.redis_url = redis_url
        self.redis = client_of(redis_url)
        self.keys = keys
        self.clock = HandClock()
        self.servers: list[Server] = []
        self.lossy = False
        self.redis_ends = False
        self._documents = documents
        self._limits = limits
        self._open = AsyncExitStack()

    @property
    def authority(self) -> Authority:
        return self.servers[0].authority

    @property
    def engine(self) -> RedisEngine:
        return self.servers[0].engine

    async def server(
        self,
        *,
        url: str | None = None,
        clock: Clock | None = None,
        epoch: str = "first",
        timeout_ms: int = 10_000,
    ) -> Server:
        """Open one more server.

        Args:
            url: Where it finds Redis, if not where everyone does.
            clock: Of its own, if not the world's.
            epoch: What it would call the data if it found none.
            timeout_ms: Of its calls to Redis.
        """
        store = Store(url or self.redis_url, timeout_ms=timeout_ms)
        self._open.push_async_callback(store.close)
        engine = RedisEngine(Shards(store, self.keys, self._limits))
        await open_shards(store, self.keys, engine, epoch)
        policies = Policies([compiled(each) for each in self._documents])
        server = Server(store, engine, policies, Authority(engine, policies, clock or self.clock))
        self.servers.append(server)
        return server

    def use_policy(self, document: str | dict[str, Any]) -> None:
        """Let another version decide on every server."""
        for server in self.servers:
            server.policies.replace(compiled(document))

    async def close(self) -> None:
        """End every server and remove what they wrote."""
        await self._open.aclose()
        found = self.redis.scan_iter(f"{{{self.keys.namespace}*", 1_000)
        names = [] if self.redis_ends else [name async for name in found]
        pipeline = self.redis.pipeline(transaction=False)
        for name in names:  # One by one: in a cluster they are in many slots.
            pipeline.execute_command("UNLINK", name)
        await pipeline.execute()
        await self.redis.aclose()


@asynccontextmanager
async def open_world(
    redis_url: str,
    key_namespace: str,
    *documents: str | dict[str, Any],
    servers: int = 1,
    shards: int = 1,
    limits: EngineLimits | None = None,
) -> AsyncIterator[World]:
    """Open servers on a namespace of their own.

    Args:
        redis_url: Where.
        key_namespace: Nobody else's.
        documents: Policies, one for each org.
        servers: How many.
        shards: In how many parts.
        limits: Of the engines.
    """
    keys = Keys(key_namespace, shards)
    world = World(redis_url, keys, documents, limits or EngineLimits())
    try:
        for _ in range(servers):
            await world.server()
        yield world
        if not world.lossy:
            await assert_books_balance(world.redis, keys)
    finally:
        await world.close()


def compiled(document: str | dict[str, Any]) -> Policy:
    """Return a policy as it decides, by way of its text, as people give it."""
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    return compile_policy(parse_policy(text, "test"))
