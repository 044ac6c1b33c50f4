"""The store: what it says of its Redis, and that lost data is never read as zero.

Field by field: an epoch that is missing, of another generation, or a sequence number that went
back makes a shard cold. Nothing is decided from a cold shard, and its neighbours go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_calls import MODELS, ask, commit, extend, granted, record, refused, release, used
from engine_state import dumps, everything
from engine_world import SECOND, World, open_world

from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.domain.errors import ShardCold
from bursar.engine.operations import Swept
from bursar.engine.server_facts import ServerFacts
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.positions import InstallationDiffers, Positions
from engine_redis import own_redis

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day}}
  - {{name: q, scope: {{provider: q}}, limit: {{tokens: 10000}}, window: day}}
{MODELS}
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, servers=2) as world:
        yield world


@pytest.mark.parametrize(
    "version,eviction_policy,words",
    [
        pytest.param("6.2.0", "noeviction", [], id="floor"),
        pytest.param("7.4.1", "noeviction", [], id="newer"),
        pytest.param("10.0.0", "noeviction", [], id="two-digits"),
        pytest.param("8.0", "noeviction", [], id="short"),
        pytest.param("6.0.20", "noeviction", ["6.0.20 is too old"], id="old-minor"),
        pytest.param("5.0.14", "noeviction", ["5.0.14 is too old"], id="old-major"),
        pytest.param("7.2.4", "allkeys-lru", ["maxmemory-policy allkeys-lru"], id="evicts-all"),
        pytest.param("7.2.4", "volatile-ttl", ["maxmemory-policy volatile-ttl"], id="evicts-ttl"),
        pytest.param("7.2.4", "", [], id="does-not-say"),
        pytest.param("5.0.0", "allkeys-lfu", ["too old", "allkeys-lfu"], id="both"),
    ],
)
def test_problems_of_a_redis(version: str, eviction_policy: str, words: list[str]) -> None:
    """Goal: what makes a Redis unfit is named, with what to do. Method: a table."""
    problems = ServerFacts("Redis", version, eviction_policy, append_only=True).problems()
    assert len(problems) == len(words)
    for problem, word in zip(problems, words, strict=True):
        assert word in problem
        assert "use 6.2" in problem or "set maxmemory-policy noeviction" in problem


async def test_facts_of_real_servers(redis_url: str, tmp_path: Path) -> None:
    """Goal: facts are those of the server.

    Method: the embedded one, one that evicts, and one on which CONFIG is forbidden, as managed
    services do.
    """
    store = Store(redis_url)
    [facts] = await store.facts()
    assert facts.problems() == []
    assert facts.append_only in (True, False)
    await store.close()
    for name, options, expected in (
        ("plain", [], ("noeviction", False)),
        ("evicts", ["--maxmemory-policy", "allkeys-lru"], ("allkeys-lru", False)),
        ("silent", ["--rename-command", "CONFIG", ""], ("", None)),
    ):
        with own_redis(tmp_path / name, *options) as own:
            store = Store(own.url)
            [found] = await store.facts()
            assert (found.eviction_policy, found.append_only) == expected
            assert found.version == facts.version
            assert len(found.problems()) == (name == "evicts")
            assert abs(await store.time_ms() - own.client().time()[0] * 1_000) < 2_000
            await store.close()


@pytest.mark.parametrize("shards", [1, 2, 4, 64])
async def test_another_shard_count_is_refused(database_url: str, shards: int) -> None:
    """Goal: the shard count is fixed at the first start: another would look for orgs elsewhere.

    Method: a database with 3 shards, opened with others; the message says what to set, and the
    positions of the shards stay as they are.
    """
    database = Database(database_url)
    await database.open()
    positions = Positions(database)
    await positions.install(3, "bursar")
    before = await positions.load()
    with pytest.raises(InstallationDiffers, match="BURSAR_SHARD_COUNT") as caught:
        await positions.install(shards, "bursar")
    assert "3 shards" in caught.value.message
    with pytest.raises(InstallationDiffers, match="BURSAR_KEY_NAMESPACE"):
        await positions.install(3, "other")
    await positions.install(3, "bursar")
    assert await positions.load() == before
    assert sorted(before) == [0, 1, 2]
    await database.close()


async def test_servers_begin_with_a_new_database_at_once(database_url: str) -> None:
    """Goal: servers that open a new database at the same time agree on what it is.

    Method: eight at once, half of them with another shard count; one count wins, for all of those
    that have it.
    """
    databases = [Database(database_url, connections_max=2) for _ in range(8)]
    for database in databases:
        await database.open()
    counts = [3 + number % 2 for number in range(8)]
    answers = await asyncio.gather(
        *(
            Positions(database).install(count, "bursar")
            for database, count in zip(databases, counts, strict=True)
        ),
        return_exceptions=True,
    )
    known = len(await Positions(databases[0]).load())
    for count, answer in zip(counts, answers, strict=True):
        assert answer is None if count == known else isinstance(answer, InstallationDiffers)
    for database in databases:
        await database.close()


LOSSES = {
    "epoch missing": "is gone",
    "shard emptied": "is gone",
    "other epoch": "of another generation",
    "older": "lost calls",
}


async def lose(world: World, loss: str) -> None:
    """Damage the only shard."""
    meta = world.keys.meta(0)
    match loss:
        case "epoch missing":
            await world.redis.hdel(meta, "epoch")
        case "shard emptied":
            found = await dumps(world.redis, world.keys, "c", "h")
            await world.redis.delete(meta, *found, *world.keys.shard_keys(0))
        case "other epoch":
            await world.redis.hset(meta, "epoch", "restored")
        case _:
            await world.redis.hincrby(meta, "seq", -1)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_cold_shard_decides_nothing(world: World, loss: str) -> None:
    """Goal: a running server never decides from a shard that has lost something, nor reads zero.

    Method: each kind of loss, then each call. All are refused as cold, nothing is written, and
    readiness knows.
    """
    world.lossy = True
    hold = await granted(world.authority, ask("a", input_tokens=9, ttl_ms=SECOND))
    await world.authority.record(record("r", input_tokens=500))
    await lose(world, loss)
    before = await everything(world.redis, world.keys)
    calls = (
        ask("b", input_tokens=1),
        ask("a", input_tokens=9, ttl_ms=SECOND),
        commit(hold, input_tokens=1),
        commit(hold, part=1, input_tokens=1),
        release(hold),
        extend(hold, ttl_ms=SECOND),
        record("s", input_tokens=1),
    )
    told: list[str] = []
    for operation in calls:
        error = await refused(world.authority, operation)
        assert isinstance(error, ShardCold), operation
        told.append(error.message)
        assert error.retry_after_ms is not None
    # One that lost calls is stopped at once, so that it decides for no other server either.
    assert LOSSES[loss] in told[0]
    later = "is gone" if loss == "older" else LOSSES[loss]
    assert all(later in each for each in told[1:])
    with pytest.raises(ShardCold):
        await used(world.authority, "day")
    world.clock.at_ms += SECOND
    assert await world.authority.sweep(10) == Swept(0, 0, more=False)
    assert world.engine.shards.all_cold
    assert await everything(world.redis, world.keys) == before


async def test_an_older_shard_is_stopped_for_every_server(world: World) -> None:
    """Goal: a shard that lost calls decides for nobody, also not for those that saw fewer.

    Method: take the sequence number back: the first server, which saw more, notices and stops the
    shard; the other one, which never could, decides no more either, even when the number is back.
    """
    world.lossy = True
    await granted(world.servers[1].authority, ask("early", input_tokens=9))
    for number in range(3):
        await granted(world.authority, ask(f"a{number}", input_tokens=9))
    meta = world.keys.meta(0)
    await world.redis.hincrby(meta, "seq", -2)
    assert await used(world.servers[1].authority, "day") == (0, 40)
    assert isinstance(await refused(world.authority, ask("b")), ShardCold)
    assert not await world.redis.hexists(meta, "epoch")
    await world.redis.hincrby(meta, "seq", 2)
    for server in world.servers:
        assert isinstance(await refused(server.authority, ask("b")), ShardCold)
        assert server.engine.shards.all_cold


async def test_a_restored_shard_is_warm_again(world: World) -> None:
    """Goal: cold is a state of the data, not of the server.

    Method: take the epoch away and bring it back; the server goes on at once, by a call or a look.
    """
    await granted(world.authority, ask("a", input_tokens=9))
    meta = world.keys.meta(0)
    for again in ("call", "look"):
        await world.redis.hdel(meta, "epoch")
        assert isinstance(await refused(world.authority, ask(f"{again} b")), ShardCold)
        assert world.engine.shards.all_cold
        await world.redis.hset(meta, "epoch", "first")
        if again == "call":
            await granted(world.authority, ask("c", input_tokens=9))
        else:
            await world.engine.shards.look()
        assert not world.engine.shards.all_cold


async def test_a_cold_shard_keeps_nothing_from_the_others(
    redis_url: str, key_namespace: str
) -> None:
    """Goal: in a batch over several orgs, a cold shard fails its own operations alone.

    Method: six orgs on several shards, of which one is lost; reserves, commits and records are
    answered in their places, and what is said to have failed was not done.
    """
    orgs = [f"org{number}" for number in range(6)]
    documents = [POLICY.replace("org: acme", f"org: {org}") for org in orgs]
    async with open_world(redis_url, key_namespace, *documents, shards=16) as world:
        world.lossy = True
        holds = {
            org: await granted(world.authority, ask("a", org=org, input_tokens=9)) for org in orgs
        }
        lost = world.keys.shard_of(orgs[2])
        cold = [org for org in orgs if world.keys.shard_of(org) == lost]
        assert len(cold) < len(orgs)
        await world.redis.hdel(world.keys.meta(lost), "epoch")
        for operations, kind in (
            ([ask("b", org=org, input_tokens=9) for org in orgs], ReserveAnswer),
            ([commit(holds[org], model="other", input_tokens=9) for org in orgs], SettleAnswer),
            ([record("c", org=org, input_tokens=9) for org in orgs], SettleAnswer),
        ):
            answers = await world.authority.batch(operations)
            for org, answer in zip(orgs, answers, strict=True):
                assert isinstance(answer, ShardCold if org in cold else kind), (org, answer)
        for org in orgs:
            if org not in cold:
                assert await used(world.authority, "day", org=org) == (18, 10)
        assert not world.engine.shards.all_cold
        answers = await world.authority.batch([ask("d", org=org) for org in cold])
        assert all(isinstance(each, ShardCold) for each in answers)
