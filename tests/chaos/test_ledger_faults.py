"""T45-T51: what happens between the journal and PostgreSQL.

Goal of each: each event is in the ledger once, whoever dies (I3, I7), and the checker finds nothing
else wrong. Method: two real servers under load, and a real fault.
"""

from __future__ import annotations

import asyncio
import os

import pytest
import redis
from chaos_clients import Pace
from chaos_faults import FAILPOINTS_OF_CALLS
from chaos_run import chaos_run

from polling import eventually_async

KILLS = int(os.environ.get("BURSAR_TEST_CHAOS_KILLS", "3"))
"""Of each kind; the nightly run takes 50."""

WRITER = tuple(name for name in FAILPOINTS_OF_CALLS if name.endswith(("_commit", "_trim")))
CALLS = tuple(name for name in FAILPOINTS_OF_CALLS if name not in WRITER)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 40 * KILLS)]


@pytest.mark.parametrize("place", WRITER)
async def test_t45_the_writer_dies(seed: int, place: str) -> None:
    """T45: kill -9 of the server that writes the ledger, at each step of a batch."""
    async with chaos_run(seed) as run:
        for number in range(KILLS):
            owner = await run.nemesis.lock_owner()
            run.history.mark("fault", place)
            # With the others dead as well, it is this one that gets the lock.
            for each in run.cluster.servers:
                each.wanted = False
                await asyncio.to_thread(each.kill)
            await run.nemesis.die_at(owner, place, number + 1)
            for each in run.cluster.servers:
                each.wanted = True
            await run.until_count("ok", 20, 60)
        await run.finish()


@pytest.mark.parametrize("place", CALLS)
async def test_t45_a_server_dies_in_a_call(seed: int, place: str) -> None:
    """T45: the same at each step of a call and in the sweeper."""
    async with chaos_run(seed) as run:
        for number in range(KILLS):
            run.history.mark("fault", place)
            await run.nemesis.die_at(run.nemesis.a_server(), place, number % 5 + 1)
            await run.until_count("ok", 20, 60)
        await run.finish()


@pytest.mark.chaos_short
async def test_t46_two_writers(seed: int) -> None:
    """T46: the lock's owner stands still while another takes over, then goes on where it was."""
    async with chaos_run(seed) as run:
        for _ in range(3):
            await run.fault("lock_owner_stop")
            await run.until_count("ok", 20)
        await run.finish()


async def test_t46_the_lock_is_lost_in_a_batch(seed: int) -> None:
    """T46: the same with the owner stopped between its writes and its commit."""
    async with chaos_run(seed) as run:
        for place in ("before_ledger_commit", "after_ledger_commit"):
            owner = await run.nemesis.lock_owner()
            owner.wanted = False
            await asyncio.to_thread(owner.kill)
            run.history.mark("fault", place)
            run.cluster.start(owner, BURSAR_FAILPOINTS=f"{place}=stop:3000:10")
            await run.cluster.until_serves(owner)
            for each in run.cluster.servers:
                if each is not owner:
                    await asyncio.to_thread(each.kill)
            await asyncio.sleep(1)
            await run.nemesis.end_lock_connections()
            await run.until_count("ok", 50, 60)
        await run.finish()


@pytest.mark.chaos_short
async def test_t47_postgresql_is_away_for_long(seed: int) -> None:
    """T47: reserves go on until the journal's bound, nothing unread is trimmed, it catches up.

    Method: PostgreSQL is down until reserves are refused; what the journal has then only grows.
    """
    settings = {"BURSAR_JOURNAL_ENTRIES_MAX": "1000"}
    pace = Pace(clients=16, pause_ms=2, ttl_ms=1_000, deadline_ms=3_000, room=100)
    async with chaos_run(seed, settings=settings, pace=pace) as run:
        await run.until_recorded()
        run.history.mark("fault", "postgres_away")
        await asyncio.to_thread(run.cluster.postgres.kill)
        granted_before = run.count("ok granted")
        # What was recorded just before may still be trimmed just after.
        await run.until_count("ok", 50)
        first_ids = _first_ids(run.cluster.redis.client())
        await run.until_count("fail JOURNAL_FULL", 5, 120)
        granted = run.count("ok granted") - granted_before
        settled = run.count("ok")
        await run.until_count("ok", 5, 30)
        assert run.count("ok") > settled, "settlements have to go on"
        lengths = _lengths(run.cluster.redis.client())
        print(f"{granted} grants while it was away; journals of {lengths} entries")
        assert granted > 100
        assert max(lengths) >= 1_000
        assert _first_ids(run.cluster.redis.client()) == first_ids, "unread entries were trimmed"
        await asyncio.to_thread(run.cluster.postgres.start)
        await run.until_recorded()
        await run.until_count("ok granted", 20)
        await run.finish()
        assert await run.rebuilds() == []


async def test_t48_connections_end_in_a_batch(seed: int) -> None:
    """T48: each batch that is cut off is written whole again, once."""
    async with chaos_run(seed) as run:
        for name in ("postgres_connections_killed", "postgres_replies_lost", "postgres_way_cut"):
            for _ in range(8):
                await run.fault(name)
                await asyncio.sleep(0.2)
        await run.finish()


async def test_t49_an_entry_that_nobody_can_read(seed: int) -> None:
    """T49: it is set aside, kept whole, with an alarm; what comes before and after is recorded."""
    async with chaos_run(seed) as run:
        for number in range(3):
            run.history.mark("fault", "poison")
            await run.nemesis.redis_call(_poison)
            await run.until_count("ok", 30)
            await run.until_recorded()
            rejects = await run.nemesis.query("SELECT entry, fault FROM journal_rejects")
            assert len(rejects) == number + 1
        assert all(b"from another world" in row["entry"] for row in rejects)
        logs = "".join(each.log_file.read_text(encoding="utf-8") for each in run.cluster.servers)
        assert logs.count("journal_entry_rejected") >= 3
        await run.finish()


async def test_t50_ids_smaller_than_the_position(seed: int) -> None:
    """T50: after a rebuild the stream begins with smaller ids, and all of it is recorded.

    Method: an entry far in the future moves the position ahead of every id to come.
    """
    async with chaos_run(seed) as run:
        await run.nemesis.redis_call(lambda client: _poison(client, "9999999999999-0"))
        await run.until_recorded()
        run.history.mark("fault", "flushall")
        await run.fault("flushall")
        await run.until_count("ok granted", 50, 60)
        await run.until_recorded()
        await run.finish()


async def test_t51_postgresql_is_restored_to_an_earlier_time(seed: int) -> None:
    """T51: the shard refuses to go on by itself, and says so; nothing is booked twice.

    Method: a copy of PostgreSQL's files from before is put back. Then an operator decides that the
    record wins, and from there on everything adds up.
    """
    async with chaos_run(seed) as run:
        await run.until_recorded()
        await asyncio.to_thread(run.cluster.postgres.remember)
        await run.until_count("ok", 100)
        await run.until_recorded()
        run.history.mark("fault", "restored")
        await asyncio.to_thread(run.cluster.postgres.go_back)
        before = await run.nemesis.query("SELECT count(*) AS count FROM ledger_entries")

        async def refused() -> bool:
            return any(
                "shard_refused" in each.log_file.read_text(encoding="utf-8")
                for each in run.cluster.servers
            )

        await eventually_async(refused, 30)
        await run.until_count("ok", 20)
        after = await run.nemesis.query("SELECT count(*) AS count FROM ledger_entries")
        assert after == before, "it went on recording as if nothing had happened"
        await run.load.stop()


def _poison(client: redis.Redis, entry_id: str = "*") -> None:
    """Append what no release has ever written."""
    epoch = client.hget("{b00}:m", "epoch") or client.hget("{b01}:m", "epoch")
    shard = 0 if client.exists("{b00}:j") else 1
    epoch = client.hget(f"{{b{shard:02d}}}:m", "epoch")
    fields = {"e": epoch, "s": 1, "t": 1, "d": "from another world"}
    client.xadd(f"{{b{shard:02d}}}:j", fields, entry_id)


def _lengths(client: redis.Redis) -> list[int]:
    with client:
        return [client.xlen(f"{{b{shard:02d}}}:j") for shard in (0, 1)]


def _first_ids(client: redis.Redis) -> list[object]:
    """Return the first entry of each journal, once there is one in each that has any."""
    with client:
        return [client.xrange(f"{{b{shard:02d}}}:j", count=1) for shard in (0, 1)]
