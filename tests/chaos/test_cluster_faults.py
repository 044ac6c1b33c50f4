"""T36 and T42 on a Redis Cluster: slots move and primaries fail under load.

Goal of each: the checker finds nothing wrong (I1-I12) after it and the load that follows.
Method: two real servers, ten clients, three primaries with a replica each, one PostgreSQL.
"""

from __future__ import annotations

import asyncio
import signal

import pytest
from chaos_run import Run, chaos_run

from redis_cluster import RedisCluster

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

KEYS = ("{b00}:m", "{b01}:m")
"""Of the two shards of a run."""


def cluster_of(run: Run) -> RedisCluster:
    running: RedisCluster = run.cluster.redis.running
    return running


async def move(cluster: RedisCluster, key: str, page: int) -> None:
    """Move a shard to another primary, so many keys at a time."""
    owner = cluster.owner(key)
    target = next(each for each in cluster.primaries() if each is not owner)
    steps = cluster.move(key, target, page=page)
    for _ in range(1_000_000):
        if await asyncio.to_thread(next, steps, None) is None:
            return


@pytest.mark.chaos_short
async def test_t42_slots_move_under_load(seed: int) -> None:
    """T42: both shards go round the primaries; nothing is rebuilt, lost, or booked twice."""
    async with chaos_run(seed, on_redis_cluster=True) as run:
        cluster = cluster_of(run)
        for number in range(8):
            run.history.mark("fault", "slot_moves")
            await move(cluster, KEYS[number % 2], page=1 + 5 * (number % 3))
            run.history.mark("fault_ended", "slot_moves")
            await run.until_count("ok", 50)
        assert run.history.tried_again, "no call met a slot that moved"
        await run.finish()
        assert await run.rebuilds() == []


async def test_t36_a_failover_loses_the_last_calls(seed: int) -> None:
    """T36: a replica that was deaf takes over; it is noticed, and all comes back."""
    async with chaos_run(seed, on_redis_cluster=True) as run:
        cluster = cluster_of(run)
        primary = cluster.owner(KEYS[0])
        replica = cluster.replica_of(primary)
        replica.process.send_signal(signal.SIGSTOP)
        # Otherwise what is sent meanwhile would wait for it in its socket.
        cluster.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        await run.until_count("ok", 100)
        run.history.mark("fault", "failover")
        primary.process.send_signal(signal.SIGKILL)
        primary.process.wait()
        replica.process.send_signal(signal.SIGCONT)
        await run.until_count("ok granted", 100, 60)
        run.history.mark("fault_ended", "failover")
        assert await run.rebuilds(), "nobody noticed"
        await run.finish()


async def test_a_failover_that_loses_nothing(seed: int) -> None:
    """A replica that is in step takes over: nothing is rebuilt, unless a call was on its way."""
    async with chaos_run(seed, on_redis_cluster=True) as run:
        cluster = cluster_of(run)
        run.history.mark("fault", "failover")
        await asyncio.to_thread(cluster.fail, cluster.owner(KEYS[0]))
        run.history.mark("fault_ended", "failover")
        await run.until_count("ok granted", 100, 60)
        await run.finish()
