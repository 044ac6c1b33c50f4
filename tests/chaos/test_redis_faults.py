"""T34-T44: what happens to Redis, under load, and that nothing is lost or counted twice by it.

Goal of each: the checker finds nothing wrong (I1-I12) after the fault and the load that follows it.
Method: two real servers, ten clients, one Redis, one PostgreSQL; the fault is real.
"""

from __future__ import annotations

import asyncio

import pytest
from chaos_clients import Pace
from chaos_faults import FAILPOINTS_OF_REBUILDS
from chaos_run import chaos_run

from polling import eventually_async

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.chaos_short
async def test_t34_flushall_under_load(seed: int) -> None:
    """T34: not one grant from an empty counter; refused until rebuilt, and then all is there."""
    async with chaos_run(seed) as run:
        for number in range(1, 4):
            await run.fault("flushall")
            await run.until_count("ok", 100)
            assert len(await run.rebuilds()) >= number
        await run.finish()
        for rebuild in await run.rebuilds():
            print(f"rebuilt shard {rebuild['shard']} in {rebuild['took']}: {rebuild['cause']}")


async def test_t35_restart_with_everything(seed: int) -> None:
    """T35: a Redis that comes back with its file is as before, and nothing is rebuilt."""
    async with chaos_run(seed) as run:
        for _ in range(3):
            await run.fault("redis_kill")
            await run.until_count("ok", 50)
        await run.finish()
        assert await run.rebuilds() == []


@pytest.mark.parametrize("share", [0.002, 0.02, 0.3], ids=lambda share: f"{share:.1%}")
async def test_t36_the_end_of_the_journal_is_lost(seed: int, share: float) -> None:
    """T36: noticed though the epoch is there; what was acknowledged is sent again: no loss."""
    async with chaos_run(seed) as run:
        for _ in range(3):
            await run.until_count("ok", 100)
            node = run.cluster.redis
            run.history.mark("fault", "cut")
            await run.nemesis.redis_anew(lambda node=node: node.lose_the_end(share))  # type: ignore[misc]
        await run.until_count("ok", 100)
        assert await run.rebuilds(), "nobody noticed"
        await run.finish()


@pytest.mark.chaos_short
async def test_t38_an_older_copy_is_restored(seed: int) -> None:
    """T38: noticed as T36, although every key is there and looks right."""
    async with chaos_run(seed) as run:
        for number in range(1, 3):
            await run.fault("redis_older_copy")
            await run.until_count("ok", 100)
            assert len(await run.rebuilds()) >= number
        await run.finish()


async def test_t40_script_flush_under_load(seed: int) -> None:
    """T40: no caller hears of it: every operation is answered at its first attempt."""
    async with chaos_run(seed) as run:
        for _ in range(20):
            await run.fault("script_flush")
            await run.until_count("ok", 10)
        assert run.history.tried_again == 0
        await run.finish()


async def test_t41_redis_is_full(seed: int) -> None:
    """T41: reserves are refused and say why, settlements go on, and so do reserves after it."""
    async with chaos_run(seed, pace=Pace(impatient_ms=300)) as run:
        await run.nemesis.redis_call(lambda client: client.config_set("maxmemory", "1mb"))
        run.history.mark("fault", "redis_full")
        await run.until_count("fail STORE_FULL", 10)
        await run.nemesis.redis_call(lambda client: client.config_set("maxmemory", "0"))
        await run.until_count("ok granted", 10)
        await run.finish()
        assert await run.rebuilds() == []


@pytest.mark.parametrize("place", FAILPOINTS_OF_REBUILDS)
async def test_t43_a_rebuild_dies(seed: int, place: str) -> None:
    """T43: whoever rebuilds is killed at each step; the next one begins anew and finishes."""
    async with chaos_run(seed) as run:
        first, second = run.cluster.servers
        second.wanted = False
        await asyncio.to_thread(second.kill)
        first.wanted = False
        await asyncio.to_thread(first.kill)
        run.cluster.start(first, BURSAR_FAILPOINTS=f"{place}=kill")
        first.wanted = False
        await run.cluster.until_serves(first)
        # What only the server knows that is about to die would be lost with it.
        await run.load.pause()
        await run.fault("flushall")
        run.load.resume()

        async def is_dead() -> bool:
            return not first.runs

        await eventually_async(is_dead, 30)
        first.wanted = second.wanted = True
        await run.until_count("ok granted", 20, 60)
        await run.finish()


async def test_t43_two_rebuild_at_once(seed: int) -> None:
    """T43: the lock is lost in the middle of a rebuild; one epoch wins, the loser writes nothing.

    Method: the owner stands still in its rebuild while another takes its locks and rebuilds too.
    """
    async with chaos_run(seed) as run:
        for place in ("rebuild_after_epoch", "rebuild_after_purge", "rebuild_before_open"):
            owner = await run.nemesis.lock_owner()
            owner.wanted = False
            await asyncio.to_thread(owner.kill)
            run.cluster.start(owner, BURSAR_FAILPOINTS=f"{place}=stop:3000")
            await run.cluster.until_serves(owner)
            others = [each for each in run.cluster.servers if each is not owner]
            for each in others:
                await asyncio.to_thread(each.kill)
            await run.until_count("ok", 20, 60)
            await run.fault("flushall")
            await asyncio.sleep(0.5)
            await run.nemesis.end_lock_connections()
            await run.until_count("ok granted", 20, 60)
        await run.finish()


@pytest.mark.parametrize("place", ["before_script", "before_trim", "in_sweep"])
async def test_t44_a_writer_of_the_old_generation_is_refused(seed: int, place: str) -> None:
    """T44: a server stands still with the old epoch in hand; what it then sends changes nothing."""
    async with chaos_run(seed) as run:
        for _ in range(2):
            server = run.nemesis.a_server()
            server.wanted = False
            await asyncio.to_thread(server.kill)
            run.cluster.start(server, BURSAR_FAILPOINTS=f"{place}=stop:4000:30")
            await run.until_count("ok", 60, 60)
            await run.fault("flushall")
            await run.until_count("ok granted", 20, 60)
        await run.finish()
