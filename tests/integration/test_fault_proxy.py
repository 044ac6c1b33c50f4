"""The fault proxy does what it is told: every other test that uses it rests on that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fault_proxy import CommandNames, FaultProxy
from polling import eventually_async


@asynccontextmanager
async def connected(url: str, timeout_s: float = 5.0) -> AsyncIterator[redis.Redis]:
    """Open a client that repeats nothing by itself."""
    client = redis.Redis.from_url(
        url, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0), single_connection_client=True
    )
    async with client:
        yield client


@pytest.mark.parametrize("part_bytes", [1, 2, 7, 1_000])
def test_commands_are_counted_however_they_are_cut(part_bytes: int) -> None:
    """Goal: names are found in any packets. Method: three commands, one empty argument, in parts.

    An argument may itself look like a command.
    """
    sent = (
        b"*1\r\n$4\r\nping\r\n"
        b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$14\r\n*1\r\n$4\r\nPING\r\n\r\n"
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    )
    names = CommandNames()
    parts = [sent[at : at + part_bytes] for at in range(0, len(sent), part_bytes)]
    assert [name for part in parts for name in names.feed(part)] == ["PING", "SET", "GET"]


async def test_it_forwards_and_counts(redis_url: str, key_namespace: str) -> None:
    """Goal: undisturbed, it is not noticed. Method: write and read a large value through it."""
    value = b"x" * 300_000
    async with FaultProxy(redis_url) as proxy, connected(proxy.url) as client:
        await client.set(key_namespace, value, px=10_000)
        assert await client.get(key_namespace) == value
        assert (proxy.counts["SET"], proxy.counts["GET"]) == (1, 1)
        assert (proxy.links_made, proxy.links_open, proxy.links_open_max) == (1, 1, 1)
        await client.aclose()

        async def closed() -> bool:
            return proxy.links_open == 0

        await eventually_async(closed)


async def test_refused_and_cut_connections(redis_url: str) -> None:
    """Goal: both are errors at once, and over after healing. Method: ping in each state."""
    async with FaultProxy(redis_url) as proxy, connected(proxy.url) as client:
        await client.ping()
        for fail in (proxy.cut, proxy.refuse):
            fail()
            with pytest.raises(RedisConnectionError):
                await client.ping()
        with pytest.raises(RedisConnectionError):
            await client.ping()
        await proxy.heal()
        assert await client.ping()


@pytest.mark.parametrize("commands", [True, False], ids=["both-ways", "replies-only"])
async def test_stalled_commands_arrive_late(
    redis_url: str, key_namespace: str, commands: bool
) -> None:
    """Goal: a stall is silence, and nothing is lost by it.

    Method: increment while it is stalled, give up, look directly, heal, look again.
    """
    async with (
        FaultProxy(redis_url) as proxy,
        connected(proxy.url, timeout_s=0.1) as client,
        connected(redis_url) as direct,
    ):
        await client.ping()
        proxy.stall(commands=commands)
        with pytest.raises(RedisTimeoutError):
            await client.incr(key_namespace)
        assert await direct.get(key_namespace) == (None if commands else b"1")
        with pytest.raises(RedisTimeoutError):
            async with connected(proxy.url, timeout_s=0.1) as other:
                await other.ping()
        await proxy.heal()

        async def arrived() -> bool:
            return await direct.get(key_namespace) == b"1"

        await eventually_async(arrived)
        assert proxy.counts["INCRBY"] == 1
        assert await client.ping()
        await direct.delete(key_namespace)


@pytest.mark.parametrize("cut", [True, False])
async def test_lost_replies(redis_url: str, key_namespace: str, cut: bool) -> None:
    """Goal: Redis does it and the caller never knows. Method: lose two increments of three."""
    async with (
        FaultProxy(redis_url) as proxy,
        connected(proxy.url, timeout_s=0.2) as client,
    ):
        proxy.lose_replies("INCRBY", 2, cut=cut)
        for _ in range(2):
            with pytest.raises(RedisConnectionError if cut else RedisTimeoutError):
                await client.incr(key_namespace)
        assert await client.incr(key_namespace) == 3
        await client.delete(key_namespace)


async def test_it_ends_with_connections_open(redis_url: str) -> None:
    """Goal: leaving it never hangs. Method: leave with a stalled and an idle connection."""
    async with FaultProxy(redis_url) as proxy:
        proxy.stall()
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        await writer.drain()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
