"""Pipelines on a bounded number of connections, and scripts of several shards in one of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from bursar.domain.errors import InternalError, StoreFull, StoreUnavailable
from bursar.engine.redis_node import Node, RunCommand
from bursar.engine.scripts import Script
from bursar.engine.store import Store
from engine_redis import own_redis
from fault_proxy import FaultProxy
from polling import eventually_async


def script(text: str) -> Script:
    """Return a script of the test's own."""
    return Script("own", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ECHO = script("return ARGV[1]")
APPEND = script("redis.call('RPUSH', KEYS[1], ARGV[1]) return ARGV[1]")


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as running:
        yield running


@pytest.fixture
async def node(proxy: FaultProxy) -> AsyncIterator[Node]:
    port = int(proxy.url.rpartition(":")[2].partition("/")[0])
    made = Node(
        proxy.url,
        lambda: Connection(host="127.0.0.1", port=port, protocol=2),
        connections_max=3,
        timeout_s=5,
    )
    yield made
    await made.close()


async def test_replies_are_in_their_places(node: Node) -> None:
    """Goal: each command has its own reply, and an error of one is only its own.

    Method: a pipeline with a wrong command in the middle, of all kinds of arguments.
    """
    replies = await node.exchange([("ECHO", "a"), ("NONSENSE",), ["ECHO", b"\x00b"], ("ECHO", 7)])
    assert isinstance(replies[1], ResponseError)
    assert [replies[0], *replies[2:]] == [b"a", b"\x00b", b"7"]
    assert await node.exchange([]) == []


async def test_connections_are_bounded_and_used_again(node: Node, proxy: FaultProxy) -> None:
    """Goal: many pipelines at once share few connections. Method: 100 on 3."""
    replies = await asyncio.gather(*(node.exchange([("ECHO", n)] * 3) for n in range(100)))
    assert [reply[2] for reply in replies] == [str(n).encode() for n in range(100)]
    assert 1 <= proxy.links_open_max <= 3


async def test_a_reply_that_was_not_read_is_nobodys(node: Node, proxy: FaultProxy) -> None:
    """Goal: a connection on which a reply is still to come is closed, never used again.

    Method: replies are held back until a pipeline is cancelled, and then let go; what is asked next
    gets its own reply, on a new connection.
    """
    await node.exchange([("ECHO", "first")])
    proxy.stall(commands=False)
    late = asyncio.ensure_future(node.exchange([("ECHO", "late")] * 3))

    async def arrived() -> bool:
        return proxy.counts["ECHO"] == 4

    await eventually_async(arrived)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    await proxy.heal()
    for number in range(5):
        assert await node.exchange([("ECHO", number)]) == [str(number).encode()]


async def test_silence_ends_in_time(redis_url: str) -> None:
    """Goal: a server that is silent costs the bound, whatever it had replied before.

    Method: a pipeline whose second command waits for ever, then others.
    """
    store = Store(redis_url, timeout_ms=100)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match="in time"):
                await store._one("BLPOP", "never", 0)
        assert await store.run(ECHO, ["{b00}:m"], b"x") == b"x"
    finally:
        await store.close()


async def test_a_connection_that_the_server_closed_is_not_used(
    node: Node, proxy: FaultProxy
) -> None:
    """Goal: connections that died while they were idle fail no call.

    Method: all of them are cut between two calls.
    """
    await asyncio.gather(*(node.exchange([("ECHO", n)]) for n in range(10)))
    proxy.cut()

    async def heard() -> bool:
        readers = [connection.link._reader for connection in node._idle]
        return all(reader.at_eof() or reader.exception() is not None for reader in readers)

    await eventually_async(heard)
    assert await node.exchange([("ECHO", "again")]) == [b"again"]


async def test_a_refused_connection_is_an_error_and_no_more(node: Node, proxy: FaultProxy) -> None:
    """Goal: failing to connect gives the place back. Method: more failures than connections."""
    proxy.refuse()
    for _ in range(10):
        with pytest.raises((RedisConnectionError, OSError)):
            await node.exchange([("ECHO", "no")])
    await proxy.heal()
    assert await node.exchange([("ECHO", "yes")]) == [b"yes"]


async def test_a_call_that_fails_fails_no_other(redis_url: str, key_namespace: str) -> None:
    """Goal: of several scripts in one pipeline each has its own outcome, in its place.

    Method: one that meets a wrong type, one that Redis would not store, one that it has forgotten,
    between others.
    """
    tags = [f"{{{key_namespace}{number}}}" for number in range(4)]
    client, store = redis.Redis.from_url(redis_url), Store(redis_url)
    full = script("return redis.error_reply('OOM command not allowed when used memory')")
    try:
        await client.set(f"{tags[1]}:l", "text")
        replies = await store.run_all(
            [
                (APPEND, [f"{tags[0]}:l"], b"a"),
                (APPEND, [f"{tags[1]}:l"], b"b"),
                (full, [f"{tags[2]}:l"], b"c"),
                (APPEND, [f"{tags[3]}:l"], b"d"),
            ]
        )
        outcomes = [reply for reply, _ in replies]
        assert [outcomes[0], outcomes[3]] == [b"a", b"d"]
        assert isinstance(outcomes[1], InternalError)
        assert isinstance(outcomes[2], StoreFull)
        assert [await client.llen(f"{tags[number]}:l") for number in (0, 3)] == [1, 1]
        assert await store.run_all([]) == []
    finally:
        await client.delete(*(f"{tag}:l" for tag in tags))
        await client.aclose()
        await store.close()


async def test_only_forgotten_scripts_are_sent_whole(proxy: FaultProxy, key_namespace: str) -> None:
    """Goal: a call that was carried out is not sent again beside one that was forgotten.

    Method: a script that Redis knows and one that it has never seen, in one pipeline; each has
    appended once.
    """
    key = f"{{{key_namespace}}}:l"
    new = script(f"redis.call('RPUSH', KEYS[1], ARGV[1]) return '{key_namespace}'")
    store = Store(proxy.url)
    try:
        await store.run(APPEND, [key], b"0")
        whole = proxy.counts["EVAL"]
        replies = await store.run_all([(APPEND, [key], b"1"), (new, [key], b"2")] * 2)
        assert [reply for reply, _ in replies] == [b"1", key_namespace.encode()] * 2
        assert proxy.counts["EVAL"] == whole + 2
        assert await store._one("LRANGE", key, 0, -1) == [b"0", b"1", b"1", b"2", b"2"]
    finally:
        await store._one("DEL", key)
        await store.close()


async def test_replicas_of_one_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Goal: what is waited for is all of a pipeline's writes. Method: no replica, then one."""
    folder = tmp_path_factory.mktemp("replicas")
    with own_redis(folder / "a") as own:
        store = Store(own.url, timeout_ms=1_000)
        calls = [(APPEND, [f"{{b0{number}}}:l"], b"x") for number in range(3)]
        assert [reached for _, reached in await store.run_all(calls, 1)] == [0, 0, 0]
        follow = ("--replicaof", "127.0.0.1", str(own.port), "--repl-diskless-sync-delay", "0")
        with own_redis(folder / "b", *follow):

            async def reached() -> bool:
                replies = await store.run_all(calls, 1)
                return [each for _, each in replies] == [1, 1, 1]

            await eventually_async(reached)
        await store.close()


async def test_connections_to_a_server_that_was_replaced_are_left(tmp_path: Path) -> None:
    """Goal: once an address belongs to another server, nobody asks the one before, if it lives.

    Method: an address leads to one server, then to another. Connections to the first one are idle
    when the second is first reached; from then on it alone is asked, and commands are told which
    one they reach.
    """
    with own_redis(tmp_path / "old") as old, own_redis(tmp_path / "new") as new:
        port = old.port
        node = Node(
            "moving",
            lambda: Connection(host="127.0.0.1", port=port, protocol=2),
            connections_max=3,
            timeout_s=5,
        )
        told = RunCommand(("ECHO",))
        names = [each.client().info("server")["run_id"].encode() for each in (old, new)]
        asked = await asyncio.gather(*(node.exchange([told]) for _ in range(2)))
        assert asked == [[names[0]]] * 2
        port = new.port
        asked = await asyncio.gather(*(node.exchange([told]) for _ in range(3)))
        assert sorted(asked) == sorted([[names[0]], [names[0]], [names[1]]])
        assert node.run == names[1].decode()
        asked = await asyncio.gather(*(node.exchange([told]) for _ in range(3)))
        assert asked == [[names[1]]] * 3
        await node.close()
