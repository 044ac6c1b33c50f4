"""What keeps two servers apart that record or rebuild the same shard, and what ends in the middle.

The locks of PostgreSQL are a courtesy. Here they are passed by: two servers act as if each had all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from engine_calls import MODELS, ask, granted, refused
from engine_state import counters
from ledger_world import LedgerServer, LedgerWorld, open_ledger_world, recorded_tokens, spend

from bursar import failpoints
from bursar.domain.errors import BursarError, ShardCold
from bursar.engine.journal import Journal
from bursar.engine.keys import Tombstones
from bursar.engine.shard_data import CounterRow
from bursar.ledger import recorder as recorder_module
from bursar.ledger.fold import fold
from bursar.ledger.rebuild import Progress
from bursar.ledger.recorder import PositionMoved, Recorder

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


@pytest.fixture
def armed() -> Iterator[None]:
    yield
    failpoints.arm({})


async def read_batch(world: LedgerWorld) -> tuple[Recorder, recorder_module.Batch]:
    """Read what waits, as a recorder does."""
    server = world.servers[0]
    position = (await server.ledger.positions.load())[0]
    journal = Journal(server.store, world.keys)
    entries = await journal.read({0: position.stream_id}, 1_000)
    return Recorder(world.database), fold(entries, {0: position}, Tombstones(1_000, 1_000))


async def record_twice(world: LedgerWorld) -> list[object]:
    """Let two record the same entries at the same time."""
    await spend(world, 5)
    batches = [await read_batch(world) for _ in range(2)]
    return await asyncio.gather(
        *(recorder.write(batch) for recorder, batch in batches), return_exceptions=True
    )


async def test_of_two_writers_one_is_refused(world: LedgerWorld) -> None:
    """Goal: two that record the same entries count them once (T46).

    Method: both have read the same batch, and write it at the same time. One commits, the other is
    told and has written nothing.
    """
    outcomes = await record_twice(world)
    assert [type(each) for each in outcomes if each is not None] == [PositionMoved]
    assert await recorded_tokens(world) == 5 * 90
    [entries] = await world.rows("SELECT count(*) AS n FROM ledger_entries")
    assert entries["n"] == 10


async def test_without_the_comparison_both_would_count(
    world: LedgerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the test above can see the fault. Method: positions move without a comparison."""
    careless = recorder_module._MOVES.replace("AND position.stream_id = move.before_id", "")
    monkeypatch.setattr(recorder_module, "_MOVES", careless)
    await spend(world, 5)
    batches = [await read_batch(world) for _ in range(2)]
    for row in batches[1][1].rows:
        row.ordinal += 1_000  # The primary key would notice as well.
    await asyncio.gather(*(recorder.write(batch) for recorder, batch in batches))
    assert await recorded_tokens(world) == 2 * 5 * 90


STEPS = [
    "rebuild_after_fence",
    "rebuild_after_epoch",
    "rebuild_after_purge",
    "rebuild_during_load",
    "rebuild_before_open",
    "rebuild_after_open",
]


@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("step", STEPS)
async def test_a_rebuild_that_ends_in_the_middle_is_done_again(
    world: LedgerWorld, step: str
) -> None:
    """Goal: a rebuild that fails at any step leaves the shard cold; the next one finishes (T43).

    Method: an error at each step, then the other looks. Nothing is decided between.
    """
    await spend(world, 5)
    await world.record_all()
    await spend(world, 3)
    before = await counters(world.redis, world.keys)
    await world.redis.delete(world.keys.meta(0))
    failpoints.arm({failpoints.VARIABLE: f"{step}=error"})
    async with asyncio.timeout(10):
        while failpoints._armed:
            for server in world.servers:
                await server.ledger.look()
            await asyncio.sleep(0)
    if step != "rebuild_after_open":
        error = await refused(world.authority, ask("new", input_tokens=9))
        assert isinstance(error, ShardCold)
    await world.until_warm()
    assert await counters(world.redis, world.keys) == before
    await world.record_all()
    assert await recorded_tokens(world) == 8 * 90


async def rebuild(server: LedgerServer) -> None:
    """Rebuild the shard, whoever has its lock."""
    await server.ledger.keeper._rebuilder.rebuild({0: "a test"}, Progress({0: "a test"}))


async def test_two_rebuild_at_once(world: LedgerWorld) -> None:
    """Goal: of two rebuilds at once one wins, whole; the other's writes are refused (T43).

    Method: both begin at the same time, 10 times; afterwards all is as it was, and in the epoch
    that the record names.
    """
    await spend(world, 8)
    await world.record_all()
    before = await counters(world.redis, world.keys)
    for _ in range(10):
        outcomes = await asyncio.gather(
            *(rebuild(server) for server in world.servers), return_exceptions=True
        )
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, BursarError), outcome
        if None not in outcomes:
            await world.until_warm()
        assert await counters(world.redis, world.keys) == before
        await world.until_warm()
        [position] = await world.rows("SELECT epoch FROM journal_position")
        meta = await world.redis.hgetall(world.keys.meta(0))
        assert meta[b"epoch"].decode() == position["epoch"]
        assert b"replaying" not in meta


async def test_a_late_write_of_an_old_rebuild_is_refused(world: LedgerWorld) -> None:
    """Goal: one that stood still during its rebuild cannot write over what came after (T44).

    Method: a rebuild begins and stands still; another one is done; then the first goes on writing.
    """
    await spend(world, 3)
    await world.record_all()
    data = world.ledger.data
    await data.fence(0, token="first")  # noqa: S106 - no secret
    await world.until_warm()
    after = await counters(world.redis, world.keys)
    [name] = after
    row = CounterRow(name, 60_000, ("c", "0", "h", "0"))
    assert not await data.load(0, [row], token="first")  # noqa: S106 - no secret
    assert not await data.purge({0: "first"})
    assert not await data.open(0, "first", "old", sequence=1, now_ms=0, replaying=True)
    assert await counters(world.redis, world.keys) == after
    await granted(world.authority, ask("new", input_tokens=9))


async def test_a_script_of_an_old_epoch_is_refused(world: LedgerWorld) -> None:
    """Goal: a server that knows only the old epoch decides nothing from the new one (T44).

    Method: the shard is rebuilt while the second server does not look.
    """
    await spend(world, 3)
    await world.record_all()
    await world.redis.delete(world.keys.meta(0))
    first, second = world.servers
    owner, other = (first, second) if first.ledger.keeper.kept.shards else (second, first)
    await world.until_warm(owner)
    error = await refused(other.authority, ask("new", input_tokens=9))
    assert isinstance(error, ShardCold)
    await world.until_warm(other)
    await granted(other.authority, ask("new", input_tokens=9))


async def test_an_entry_that_cannot_be_read_is_set_aside(world: LedgerWorld) -> None:
    """Goal: a poison entry stops nothing, is kept whole, and is told of (T49).

    Method: three entries between good ones: no MessagePack, an unknown verb, no fields at all.
    """
    await spend(world, 2)
    journal = world.keys.journal(0)
    position = (await world.ledger.positions.load())[0]
    for fields in (
        {"e": position.epoch, "s": 90, "t": 5, "d": b"\xc1"},
        {"e": position.epoch, "s": 91, "t": 5, "d": b"\x91\x95\xa4what\xa1k\xa1h\x90\xa0"},
        {"x": 1},
    ):
        await world.redis.xadd(journal, fields)
    await spend(world, 2)
    await world.record_all()
    rejects = await world.rows("SELECT * FROM journal_rejects ORDER BY stream_id")
    assert len(rejects) == 3
    assert b"d \xc1" in rejects[0]["entry"]
    assert await recorded_tokens(world) == 4 * 90


async def test_smaller_stream_ids_after_a_rebuild(world: LedgerWorld) -> None:
    """Goal: entries of a new epoch are read though their ids are smaller than those before (T50).

    Method: the old journal's ids are far in the future; then all is lost and rebuilt.
    """
    await spend(world, 1)
    await world.record_all()
    future = 2**52
    position = (await world.ledger.positions.load())[0]
    empty = {"e": position.epoch, "s": 1, "t": 1, "d": b"\x90"}
    await world.redis.xadd(world.keys.journal(0), empty, id=f"{future}-0")
    await world.record_all()
    assert (await world.ledger.positions.load())[0].stream_id == f"{future}-0"
    keys = [key async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000)]
    await world.redis.delete(*keys)
    await world.until_warm()
    await spend(world, 2, tokens=70)
    await world.record_all()
    assert await recorded_tokens(world) == 90 + 2 * 70
    assert int((await world.ledger.positions.load())[0].stream_id.split("-")[0]) < future


async def test_an_older_copy_of_redis_is_noticed(world: LedgerWorld) -> None:
    """Goal: an older copy decides for nobody, and what it lacks comes back (T36, T38).

    Method: a copy is taken; calls are answered, some recorded and some not; the copy is put back.
    The first call of a server that saw a later one is refused; so is then every other server's.
    """
    await spend(world, 2)
    copy = {}
    async for key in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000):
        copy[key] = await world.redis.dump(key)
    await spend(world, 2)
    await world.record_all()
    await spend(world, 2)
    before = await counters(world.redis, world.keys)
    await world.redis.delete(*[key async for key in world.redis.scan_iter(
        f"{{{world.keys.namespace}*", 1_000)])  # fmt: skip
    for key, dump in copy.items():
        await world.redis.restore(key, 0, dump, replace=True)
    for server in world.servers:
        error = await refused(server.authority, ask("new", input_tokens=9))
        assert isinstance(error, ShardCold)
    await world.until_warm()
    assert await counters(world.redis, world.keys) == before
    await world.record_all()
    assert await recorded_tokens(world) == 6 * 90


@pytest.mark.parametrize("epoch_known", [True, False])
async def test_a_record_restored_to_an_older_state_is_refused(
    world: LedgerWorld, epoch_known: bool
) -> None:
    """Goal: a PostgreSQL that was restored to an earlier time never makes Redis forget (T51).

    Method: the position goes back to an earlier one of the same epoch, or to an epoch that Redis's
    own is unknown to. Redis stays as it is, nothing is recorded twice, and the shard is refused.
    """
    await spend(world, 2)
    await world.record_all()
    [old] = await world.rows("SELECT * FROM journal_position")
    await spend(world, 2)
    await world.record_all()
    before = await counters(world.redis, world.keys)
    async with world.database.connection() as connection:
        if epoch_known:
            await connection.execute(
                "UPDATE journal_position SET stream_id = $1, sequence = $2",
                old["stream_id"], old["sequence"],
            )  # fmt: skip
        else:
            await connection.execute("UPDATE journal_position SET epoch = 'earlier'")
            await connection.execute("UPDATE rebuilds SET epoch = 'earlier'")
    for each in world.servers:
        await each.ledger.keeper._locks.release()
        each.ledger.keeper._known = {}
    if epoch_known:
        await spend(world, 1)
    for _ in range(5):
        for each in world.servers:
            await each.ledger.look()
            await each.ledger.record()
    refused_shards = {shard for each in world.servers for shard in each.ledger.keeper.kept.refused}
    assert refused_shards == {0}
    found = await counters(world.redis, world.keys)
    assert [each["c"] for each in found.values()] == [
        each["c"] + (90 if epoch_known else 0) for each in before.values()
    ]
