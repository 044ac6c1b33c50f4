"""Calls that were answered and are lost: they are missed, and made again in the order they had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from engine_calls import MODELS, ask, commit, extend, granted, refused
from engine_state import counters
from ledger_world import LedgerWorld, lose_all, open_ledger_world, recorded_tokens, spend

from bursar.domain.errors import ShardCold
from bursar.domain.subject import OrgId, Subject

SIMPLE = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day}}
{MODELS}
"""


@pytest.fixture
async def world(
    redis_url: str, database_url: str, key_namespace: str
) -> AsyncIterator[LedgerWorld]:
    async with open_ledger_world(
        redis_url, database_url, key_namespace, SIMPLE, servers=2
    ) as world:
        yield world


async def test_what_servers_answered_is_made_again_in_one_order(world: LedgerWorld) -> None:
    """Goal: calls on one hold that different servers answered all come back (T34).

    Method: one server reserves, the other commits two parts and the first the rest, many times;
    nothing is recorded, all is lost. Whichever server speaks first, all of it is there again.
    """
    first, second = (server.authority for server in world.servers)
    for number in range(8):
        one = await granted(first, ask(f"r{number}", input_tokens=900))
        await second.settle(commit(one, part=1, input_tokens=100))
        await first.settle(commit(one, part=2, input_tokens=100))
        await second.settle(commit(one, input_tokens=100))
        await granted(second, ask(f"open{number}", input_tokens=10))
        first, second = second, first
    before = await counters(world.redis, world.keys)
    await lose_all(world)
    await world.until_warm()
    assert await counters(world.redis, world.keys) == before
    await world.record_all()
    assert await recorded_tokens(world) == 8 * 300
    rows = await world.rows("SELECT sum(resent) AS n FROM rebuilds")
    assert rows[0]["n"] == 8 * 5


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_lost_tail_is_noticed_though_others_went_on(
    world: LedgerWorld, recorded: bool
) -> None:
    """Goal: a call that was lost is missed although others have raised the shard's number (T36).

    Method: a server's last call is taken out of Redis as if it had come back without it; the other
    server, which never saw it, makes several. The first one's next call is refused and all is
    rebuilt with the lost call; where that call was recorded, whoever keeps the shard notices.
    """
    first, second = (server.authority for server in world.servers)
    await granted(first, ask("a", input_tokens=100))
    await granted(second, ask("b", input_tokens=100))
    await world.record_all()
    copy = {}
    async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000):
        copy[key] = await world.redis.dump(key)
    await granted(first, ask("lost", input_tokens=1_000))
    if recorded:
        await world.record_all()
    await lose_all(world)
    for key, dump in copy.items():
        await world.redis.restore(key, 0, dump, replace=True)
    # The second server has seen nothing of the lost call.
    world.servers[1].engine.shards._sequences[0] = 0
    for number in range(5):
        await granted(second, ask(f"c{number}", input_tokens=100))
    error = await refused(first, ask("d", input_tokens=1))
    assert isinstance(error, ShardCold)
    await world.until_warm()
    assert (await first.reserve(ask("lost", input_tokens=1_000))).replayed
    [found] = (await counters(world.redis, world.keys)).values()
    assert found["h"] == 2 * 101 + 1_001 + 5 * 101


async def test_a_lost_call_is_missed_though_its_server_went_on(world: LedgerWorld) -> None:
    """Goal: a call is missed though its own server has made others since, and all is trimmed (T36).

    Method: as above, but what others did meanwhile is recorded and trimmed before the first server
    calls again, so that its call passes. At its next beat it misses the lost one.
    """
    first, second = (server.authority for server in world.servers)
    await granted(first, ask("a", input_tokens=100))
    await world.record_all()
    copy = {}
    async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000):
        copy[key] = await world.redis.dump(key)
    await granted(first, ask("lost", input_tokens=1_000))
    await lose_all(world)
    for key, dump in copy.items():
        await world.redis.restore(key, 0, dump, replace=True)
    world.servers[1].engine.shards._sequences[0] = 0
    for number in range(5):
        await granted(second, ask(f"c{number}", input_tokens=100))
    await world.record_all()
    await granted(first, ask("d", input_tokens=100))
    await world.record_all()
    for server in world.servers:
        await server.ledger.beat()
    await world.until_warm()
    assert (await first.reserve(ask("lost", input_tokens=1_000))).replayed
    [found] = (await counters(world.redis, world.keys)).values()
    assert found["h"] == 101 + 1_001 + 5 * 101 + 101


async def test_the_keeper_notices_that_a_recorded_call_is_lost(world: LedgerWorld) -> None:
    """Goal: where nobody who saw the lost call is there any more, the record remembers it.

    Method: as above, and only the server that keeps the shard looks; it has seen nothing itself.
    """
    await spend(world, 2)
    await world.record_all()
    copy = {}
    async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000):
        copy[key] = await world.redis.dump(key)
    await spend(world, 1)
    await world.record_all()
    before = await counters(world.redis, world.keys)
    await lose_all(world)
    for key, dump in copy.items():
        await world.redis.restore(key, 0, dump, replace=True)
    for server in world.servers:
        server.engine.shards.recent.keep_only(0, [])
        server.engine.shards._sequences[0] = 0
    await world.redis.hincrby(world.keys.meta(0), "seq", 50)
    async with asyncio.timeout(10):
        while await counters(world.redis, world.keys) != before:
            await world.until_warm()
    assert [row["cause"] for row in await world.rows("SELECT cause FROM rebuilds")][-1] == (
        "Redis lacks calls that are recorded"
    )


async def test_an_extend_does_not_take_lost_data_for_no_hold(world: LedgerWorld) -> None:
    """Goal: where the data is gone, nothing is said of what is not there.

    Method: a hold is extended, and listed, after Redis was emptied.
    """
    one = await granted(world.authority, ask("one", input_tokens=9))
    await lose_all(world)
    error = await refused(world.authority, extend(one, max_output_tokens=5))
    assert isinstance(error, ShardCold)
    with pytest.raises(ShardCold):
        await world.authority.list_holds(Subject(OrgId("acme")), 10, "")
