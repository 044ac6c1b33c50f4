"""T53-T58: what happens to servers and to their callers."""

from __future__ import annotations

import signal
from functools import partial

import pytest
from chaos_clients import Pace
from chaos_cluster import ServerNode
from chaos_run import chaos_run

from polling import eventually_async

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.chaos_short
async def test_t53_rolling_restart(seed: int) -> None:
    """T53: four servers are restarted one after another at load; no call fails for good."""
    async with chaos_run(seed, servers=4) as run:
        for server in run.cluster.servers:
            run.history.mark("fault", "restart")
            starts = server.starts
            server.signal(signal.SIGTERM)
            await eventually_async(partial(_serves_again, server, starts), 60)
        await run.finish()
        assert run.count("fail") == 0
        assert run.count("info") == 0


async def test_servers_that_start_together_all_know_the_policies(seed: int) -> None:
    """Goal: who says that it serves, serves. Method: three first starts at the same moment."""
    async with chaos_run(seed, servers=3) as run:
        await run.load.pause()
        for server in run.cluster.servers:
            server.wanted = False
            server.kill()
        await run.nemesis.query("DELETE FROM policies")
        for server in run.cluster.servers:
            run.cluster.start(server)
        for server in run.cluster.servers:
            await run.cluster.until_serves(server)
        run.load.resume()
        await run.finish()
        assert run.count("fail ORG_ACCESS_DENIED") == 0


async def test_t55_t56_callers_give_up_early(seed: int) -> None:
    """T55, T56: many calls end by their deadline while they wait; none counts twice or is lost.

    Method: attempts of 15 ms while Redis is slow, tried again with the same content.
    """
    async with chaos_run(seed, pace=Pace(attempt_ms=15, impatient_ms=100)) as run:
        run.history.mark("fault", "slow")
        for server in run.cluster.servers:
            server.to_redis.delay_ms = 6

        async def many_gave_up() -> bool:
            return run.count("info") >= 20 and run.history.unknown > 50

        await eventually_async(many_gave_up, 60)
        for server in run.cluster.servers:
            await server.to_redis.heal()
        # Of whoever waits for 15 ms, some give up on a busy machine without any fault.
        run.load.wait_as(Pace())
        await run.finish()


async def test_t58_the_event_loop_stands_still(seed: int) -> None:
    """T58: a server does nothing for 2 s, again and again; others take over, and all is right."""
    async with chaos_run(seed, servers=3) as run:
        for place in ("after_decode", "before_reply", "after_script"):
            server = run.nemesis.a_server()
            server.wanted = False
            server.kill()
            run.history.mark("fault", place)
            run.cluster.start(server, BURSAR_FAILPOINTS=f"{place}=stop:2000:5")
            await run.until_count("ok", 150, 60)
        await run.finish()


@pytest.mark.parametrize("fault", ["clock_ahead", "clock_behind"])
async def test_a_clock_steps(seed: int, fault: str) -> None:
    """A server's clock steps by 2 s and back; no window gets more than its limit."""
    async with chaos_run(seed) as run:
        for _ in range(3):
            await run.fault(fault)
        await run.finish()


async def _serves_again(server: ServerNode, starts: int) -> bool:
    return server.starts > starts and server.serves()
