"""A Redis Cluster whose servers fail: others go on, and what a replica lacks is noticed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from cluster_world import ORGS, SHARDS, meta_of, policy
from engine_calls import ask, commit, granted, refused, used
from engine_world import open_world
from ledger_world import open_ledger_world, recorded_tokens

from bursar.domain.answer import ReserveAnswer
from bursar.domain.errors import BursarError, ShardCold, StoreUnavailable
from bursar.engine.scripts import load_script
from bursar.engine.wire import pack
from polling import eventually_async
from redis_cluster import RedisCluster, redis_cluster


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of the test's own, whose servers may be ended."""
    with redis_cluster(tmp_path_factory.mktemp("fragile")) as running:
        yield running


async def test_writes_reach_replicas(fragile: RedisCluster, key_namespace: str) -> None:
    """Goal: how many replicas have a call's writes is known for each server's calls.

    Method: calls on every shard at once with all replicas there, then with one of them stopped.
    """
    async with open_world(
        fragile.url, key_namespace, *(policy(org) for org in ORGS), shards=SHARDS
    ) as world:
        script, state = load_script("fence"), pack(["nobody", 0, "", ""])
        calls = [(script, [world.keys.meta(shard)], state) for shard in range(SHARDS)]
        store = world.servers[0].store
        for org in ORGS:
            await granted(world.authority, ask("a", org=org, input_tokens=9))
        assert [reached for _, reached in await store.run_all(calls, 1)] == [1] * SHARDS
        deaf = fragile.replica_of(fragile.owner(world.keys.meta(0)))
        deaf.process.send_signal(signal.SIGSTOP)
        try:
            for org in ORGS:
                await granted(world.authority, ask("b", org=org, input_tokens=9))
            reached = [each for _, each in await store.run_all(calls, 1)]
        finally:
            deaf.process.send_signal(signal.SIGCONT)
        alone = fragile.owner(world.keys.meta(0))
        for shard in range(SHARDS):
            owner = fragile.owner(world.keys.meta(shard))
            assert reached[shard] == (0 if owner is alone else 1)


async def test_a_server_that_is_down_takes_its_shards_only(
    fragile: RedisCluster, key_namespace: str
) -> None:
    """Goal: shards of other servers go on, in the same batch too, and are looked after.

    Method: a primary is stopped (it is silent), with its replica; then both are killed.
    """
    async with open_world(
        fragile.url, key_namespace, *(policy(org) for org in ORGS), shards=SHARDS
    ) as world:
        world.lossy = world.redis_ends = True
        server = await world.server(timeout_ms=500)
        down = fragile.owner(meta_of(world, ORGS[0]))
        replica = fragile.replica_of(down)
        lost = {org for org in ORGS if fragile.owner(meta_of(world, org)) is down}
        assert lost != set(ORGS)
        for number, how in enumerate((signal.SIGSTOP, signal.SIGKILL)):
            for each in (replica, down):
                each.process.send_signal(how)
            async with asyncio.timeout(5):
                answers = await server.authority.batch(
                    [ask(f"b{number}", org=org, input_tokens=9) for org in ORGS]
                )
            for org, answer in zip(ORGS, answers, strict=True):
                assert isinstance(answer, StoreUnavailable if org in lost else ReserveAnswer), org
            states = await server.engine.shards.look()
            unknown = {org for org in ORGS if states[world.keys.shard_of(org)] is None}
            assert unknown == lost
            world.clock.at_ms += 120_000
            assert (await server.authority.sweep(100)).expired == len(ORGS) - len(lost)
            facts = await server.store.facts()
            assert f"127.0.0.1:{down.port}" not in {each.address for each in facts}
            if how is signal.SIGSTOP:
                for each in (down, replica):
                    each.process.send_signal(signal.SIGCONT)

                async def served() -> bool:
                    states = await server.engine.shards.look()
                    return None not in states

                await eventually_async(served)
                await server.authority.sweep(100)


async def test_a_failover_that_loses_calls_is_noticed(
    fragile: RedisCluster, database_url: str, key_namespace: str
) -> None:
    """T36. Goal: a replica that takes over without the last calls decides nothing without them.

    They are made again, and none is lost while a server lives that answered them.

    Method: the replica is deaf while calls are answered, some of them recorded by then; its primary
    is killed, the replica takes over. Other shards are served all along.
    """
    documents = [policy(org) for org in ORGS]
    async with open_ledger_world(
        fragile.url, database_url, key_namespace, *documents, servers=2, shards=SHARDS
    ) as world:
        world.redis_ends = True
        org = ORGS[0]
        key = meta_of(world, org)
        primary = fragile.owner(key)
        elsewhere = next(each for each in ORGS if fragile.owner(meta_of(world, each)) != primary)
        await granted(world.authority, ask("a", org=org, input_tokens=99))
        fragile.ask(primary, "WAIT", 1, 5_000)
        replica = fragile.replica_of(primary)
        replica.process.send_signal(signal.SIGSTOP)
        # Otherwise what is sent meanwhile would wait for it in its socket.
        fragile.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        for number in range(20):
            one = await granted(world.authority, ask(f"b{number}", org=org, input_tokens=9))
            await world.servers[1].authority.settle(commit(one, input_tokens=9))
            if number == 9:
                await world.record_all()
        primary.process.send_signal(signal.SIGKILL)
        primary.process.wait()
        replica.process.send_signal(signal.SIGCONT)
        refusals: list[BursarError] = []
        await granted(world.authority, ask("other", org=elsewhere, input_tokens=9))

        async def cold() -> bool:
            error = await refused(world.authority, ask("c", org=org, input_tokens=9))
            refusals.append(error)
            return isinstance(error, ShardCold)

        await eventually_async(cold, 30)
        assert {type(each) for each in refusals} <= {StoreUnavailable, ShardCold}
        await world.until_warm()
        assert (await granted(world.authority, ask("a", org=org, input_tokens=99))).replayed
        assert await used(world.authority, "day", org=org) == (20 * 9, 100)
        await world.record_all()
        assert await recorded_tokens(world) == 20 * 9
