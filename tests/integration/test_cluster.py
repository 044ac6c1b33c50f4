"""A Redis Cluster whose slots move and whose servers fail, under servers that go on.

Every test of it checks in the end that the journal accounts for every counter (`engine_world`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_calls import MODELS, ask, commit, granted, record, refused, used
from engine_world import World, open_world
from ledger_world import open_ledger_world, recorded_tokens

from bursar.domain.answer import ReserveAnswer
from bursar.domain.errors import BursarError, ShardCold, StoreUnavailable
from bursar.engine import store as store_module
from bursar.engine.redis_servers import Unit
from bursar.engine.scripts import load_script
from bursar.engine.shard_data import CounterRow
from bursar.engine.store import Store
from bursar.engine.wire import pack
from engine_redis import OwnRedis, own_redis
from polling import eventually_async
from redis_cluster import RedisCluster, redis_cluster

ORGS = [f"org{number}" for number in range(12)]
SHARDS = 8


def policy(org: str) -> str:
    return f"""
org: {org}
budgets:
  - {{name: day, limit: {{tokens: 1000000}}, window: day}}
  - {{name: user, per: [user], limit: {{tokens: 1000000}}, window: day}}
{MODELS}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster whose slots may be moved."""
    with redis_cluster(tmp_path_factory.mktemp("moving")) as running:
        yield running


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of the test's own, whose servers may be ended."""
    with redis_cluster(tmp_path_factory.mktemp("fragile")) as running:
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


def meta_of(world: Any, org: str) -> str:  # noqa: ANN401 - a world of either kind
    """Return the key that tells an org's slot."""
    key: str = world.keys.meta(world.keys.shard_of(org))
    return key


def other_primary(cluster: RedisCluster, key: str) -> OwnRedis:
    owner = cluster.owner(key)
    return next(each for each in cluster.primaries() if each is not owner)


async def persist(call: Callable[[], Any], refusals: list[BursarError]) -> Any:  # noqa: ANN401
    """Repeat a call until Redis serves it; any other error is the test's."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
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

    Method: a slot moves between two calls; the second one is carried out on its new server.
    """
    key = meta_of(world, "org1")
    await granted(world.authority, ask("a", org="org1", input_tokens=9))
    target = other_primary(cluster, key)
    for _ in cluster.move(key, target, page=100):
        pass
    store = world.servers[0].store
    assert store.place(key) != f"127.0.0.1:{target.port}"
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

    calls = [asyncio.ensure_future(call(worker)) for worker in range(6)]
    try:
        for _ in range(4):
            for _ in cluster.move(key, other_primary(cluster, key), page=7):
                await asyncio.sleep(0.001)
            moves += 1
    finally:
        done.set()
        tokens = await asyncio.gather(*calls)
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
            await settle
        cluster.move_keys(source, target, [name for name in names if b":c:" in name])
        cluster.end_move(key, target)
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
