"""A Redis Cluster whose slots move, under servers that go on.

Every test of it checks in the end that the journal accounts for every counter (`engine_world`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_world import ORGS, SHARDS, meta_of, policy
from engine_calls import ask, commit, granted, record, refused, used
from engine_world import World, open_world

from bursar.domain.answer import ReserveAnswer
from bursar.domain.errors import BursarError, ShardCold, StoreUnavailable
from bursar.engine import store as store_module
from bursar.engine.redis_servers import Unit
from bursar.engine.scripts import load_script
from bursar.engine.shard_data import CounterRow
from bursar.engine.store import Store
from bursar.engine.wire import pack
from engine_redis import OwnRedis, own_redis
from redis_cluster import RedisCluster, redis_cluster
from shards import look_at_new_runs


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster whose slots may be moved."""
    with redis_cluster(tmp_path_factory.mktemp("moving")) as running:
        yield running


@pytest.fixture
async def world(cluster: RedisCluster, key_namespace: str) -> AsyncIterator[World]:
    documents = [policy(org) for org in ORGS]
    async with open_world(
        cluster.url, key_namespace, *documents, servers=2, shards=SHARDS
    ) as world:
        yield world


def _careless(key: str, commands: tuple[Any, ...], is_whole: bool = False) -> Unit:
    return Unit(key, commands)


def other_primary(cluster: RedisCluster, key: str) -> OwnRedis:
    owner = cluster.owner(key)
    return next(each for each in cluster.primaries() if each is not owner)


async def persist(call: Callable[[], Any], refusals: list[BursarError]) -> Any:  # noqa: ANN401
    """Repeat a call until Redis serves it; any other error is the test's."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except (StoreUnavailable, ShardCold) as error:
                refusals.append(error)
                await asyncio.sleep(0.002)


async def test_every_org_is_served_wherever_it_is(world: World, cluster: RedisCluster) -> None:
    """Goal: one batch over many orgs is answered by several servers, each for its own shards.

    Method: twelve orgs on eight shards, reserved and settled in batches; the shards are on more
    than one server.
    """
    places = {world.servers[0].store.place(meta_of(world, org)) for org in ORGS}
    assert places <= {f"127.0.0.1:{each.port}" for each in cluster.primaries()}
    assert len(places) > 1
    answers = await world.authority.batch([ask("a", org=org, input_tokens=9) for org in ORGS])
    assert all(isinstance(each, ReserveAnswer) for each in answers)
    await world.authority.batch([commit(each, input_tokens=9) for each in answers])
    for org in ORGS:
        assert await used(world.authority, "day", org=org) == (9, 0)


async def test_a_slot_that_has_moved_is_followed(world: World, cluster: RedisCluster) -> None:
    """Goal: a server that does not know of a move is told, and knows then.

    Method: a slot moves between two calls; the second one reaches its new server, and is carried
    out there once everyone has looked at it.
    """
    key = meta_of(world, "org1")
    await granted(world.authority, ask("a", org="org1", input_tokens=9))
    target = other_primary(cluster, key)
    for _ in cluster.move(key, target, page=100):
        pass
    store = world.servers[0].store
    assert store.place(key) != f"127.0.0.1:{target.port}"
    assert isinstance(
        await refused(world.authority, ask("a", org="org1", input_tokens=9)), ShardCold
    )
    await look_at_new_runs(world.engine)
    assert (await granted(world.authority, ask("a", org="org1", input_tokens=9))).replayed
    assert store.place(key) == f"127.0.0.1:{target.port}"
    await granted(world.authority, ask("b", org="org1", input_tokens=9))


async def test_slots_move_under_load(world: World, cluster: RedisCluster) -> None:
    """T42. Goal: a slot that moves costs time, and never a booking: none is lost, none doubled.

    Method: a shard's slot goes round the primaries, a few keys at a time, while servers reserve,
    settle and record on it. What Redis refuses meanwhile is repeated with the same request id; no
    call fails in another way (as CROSSSLOT would). In the end every token is there once.
    """
    org = ORGS[0]
    key, refusals, moves = meta_of(world, org), [], 0
    # Counters that no script names in its keys, so that a script can meet some of them only.
    for number in range(200):
        await world.authority.record(
            record(f"begin{number}", org=org, user=f"u{number % 50}", input_tokens=1)
        )
    done = asyncio.Event()

    async def call(worker: int) -> int:
        authority, tokens, number = world.servers[worker % 2].authority, 0, 0
        while not done.is_set():
            number += 1
            name, user = f"w{worker}.{number}", f"u{(worker * 7 + number) % 60}"
            hold = await persist(
                lambda name=name, user=user: granted(
                    authority, ask(name, org=org, user=user, input_tokens=90)
                ),
                refusals,
            )
            await persist(
                lambda hold=hold: authority.settle(commit(hold, input_tokens=7)), refusals
            )
            await persist(
                lambda name=name, user=user: authority.record(
                    record(name + "r", org=org, user=user, input_tokens=3)
                ),
                refusals,
            )
            tokens += 10
        return tokens

    async def look() -> None:
        while True:
            for server in world.servers:
                with contextlib.suppress(StoreUnavailable):
                    await look_at_new_runs(server.engine)
            await asyncio.sleep(0.01)

    calls = [asyncio.ensure_future(call(worker)) for worker in range(6)]
    looking = asyncio.ensure_future(look())
    try:
        for _ in range(4):
            for _ in cluster.move(key, other_primary(cluster, key), page=7):
                await asyncio.sleep(0.001)
            moves += 1
    finally:
        done.set()
        tokens = await asyncio.gather(*calls)
        looking.cancel()
    assert moves == 4
    assert refusals, "nothing was asked while the slot moved"
    assert await used(world.authority, "day", org=org) == (200 + sum(tokens), 0)


@pytest.mark.parametrize("careful", [True, False])
async def test_a_script_is_not_taken_to_where_half_of_the_data_is(
    cluster: RedisCluster, key_namespace: str, monkeypatch: pytest.MonkeyPatch, careful: bool
) -> None:
    """Goal: a settlement waits while its counters are on another server than its hold.

    Method: the hold has moved, its counters have not. The settlement is refused, and carried out
    once they are there. Without that care it is "carried out", and what it booked is nowhere.
    """
    if not careful:
        monkeypatch.setattr(store_module, "Unit", _careless)
    async with open_world(cluster.url, key_namespace, policy("acme")) as world:
        world.lossy = not careful
        key = meta_of(world, "acme")
        hold = await granted(world.authority, ask("a", user="u", input_tokens=99))
        source, target = cluster.owner(key), other_primary(cluster, key)
        cluster.begin_move(key, target)
        names = [name async for name in world.redis.scan_iter(f"{{{key_namespace}*", 1_000)]
        moved = [name for name in names if b":c:" not in name]
        assert len(moved) < len(names)
        cluster.move_keys(source, target, moved)
        settle = world.authority.settle(commit(hold, input_tokens=10))
        if careful:
            with pytest.raises(StoreUnavailable):
                await settle
        else:
            # Or else it is refused because nobody has looked at that server.
            await world.engine.shards.confirm([0], "alone", ())
            await settle
        cluster.move_keys(source, target, [name for name in names if b":c:" in name])
        cluster.end_move(key, target)
        await look_at_new_runs(world.engine)
        if careful:
            await world.authority.settle(commit(hold, input_tokens=10))
        assert (await used(world.authority, "day") == (10, 0)) == careful


async def test_scripts_that_one_server_forgot(world: World, cluster: RedisCluster) -> None:
    """T40. Goal: a server that has never seen a script gets it whole, the others are not asked.

    Method: one call on every shard, after one server has lost its scripts.
    """
    script, state = load_script("fence"), pack(["nobody", 0, "", ""])
    calls = [(script, [world.keys.meta(shard)], state) for shard in range(SHARDS)]
    store = world.servers[0].store
    await store.run_all(calls)
    forgetful = cluster.owner(world.keys.meta(0))
    cluster.ask(forgetful, "SCRIPT", "FLUSH")
    replies = await store.run_all(calls)
    assert all(isinstance(reply, bytes) and not replicas for reply, replicas in replies)


async def test_what_the_servers_are(cluster: RedisCluster) -> None:
    """Goal: each server that takes writes is looked at; so is a URL of the wrong kind.

    Method: one of three primaries evicts; a URL for one server, and one for a cluster, swapped.
    """
    evicting = cluster.primaries()[1]
    cluster.ask(evicting, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    store, single = Store(cluster.url), Store(cluster.servers[0].url)
    try:
        facts = await store.facts()
        assert len(facts) == 3
        [problem] = [(each.address, each.problems()) for each in facts if each.problems()]
        assert problem[0] == f"127.0.0.1:{evicting.port}"
        assert "allkeys-lru" in problem[1][0]
        [alone] = await single.facts()
        assert "redis+cluster://" in alone.problems()[-1]
        assert abs(await store.time_ms() - await single.time_ms()) < 2_000
    finally:
        cluster.ask(evicting, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        await store.close()
        await single.close()


async def test_a_single_redis_is_no_cluster(tmp_path: Path) -> None:
    """Goal: a cluster's URL for one server says so. Method: ask it."""
    with own_redis(tmp_path) as own:
        store = Store(own.url.replace("redis://", "redis+cluster://"))
        with pytest.raises(StoreUnavailable, match="no cluster"):
            await store.facts()
        with pytest.raises(StoreUnavailable, match="no cluster"):
            await store.run(load_script("fence"), ["{b00}:m"], b"")
        await store.close()


async def test_a_repair_while_a_slot_moves_is_done_whole_or_not_at_all(
    cluster: RedisCluster, key_namespace: str
) -> None:
    """Goal: a script that writes a key anew does not end halfway while its slot moves.

    Method: a slot is about to move, and nothing has moved yet; a counter is written over. Were it
    removed first, Redis would take what follows as meant for the other server.
    """
    async with open_world(cluster.url, key_namespace, policy("acme")) as world:
        key = meta_of(world, "acme")
        await granted(world.authority, ask("a", input_tokens=99))
        [name] = [name async for name in world.redis.scan_iter(f"{{{key_namespace}*:c:*", 1_000)]
        fields = await world.redis.hgetall(name)
        [mark] = await world.engine.shards.look()
        assert mark is not None
        row = CounterRow(
            name.decode().split(":", 2)[2],
            60_000,
            tuple(text.decode() for pair in fields.items() for text in pair),
        )
        target = other_primary(cluster, key)
        cluster.begin_move(key, target)
        data = world.engine.shards.data
        with contextlib.suppress(StoreUnavailable):
            await data.load(0, [row], sequence=mark.sequence)
        names = [name async for name in world.redis.scan_iter(f"{{{key_namespace}*", 1_000)]
        cluster.move_keys(cluster.owner(key), target, names)
        cluster.end_move(key, target)
        assert await world.redis.hgetall(name) == fields
