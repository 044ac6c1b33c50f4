"""The same faults on uvloop, the event loop that `bursar serve` runs on."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import grpc
import uvloop
from service_server import failure, reserve_request, serving

from fault_proxy import FaultProxy
from polling import eventually_async

ROUNDS = 10


def test_connections_that_are_reset_in_the_middle(redis_url: str) -> None:
    """Goal: a lost connection is UNAVAILABLE on the loop of production too.

    Method: reset every connection with 8 calls on their way to Redis, ten times. A transport of
    uvloop that was closed meanwhile raises RuntimeError where asyncio's raises OSError.
    """

    async def sent(proxy: FaultProxy, before: int) -> bool:
        return proxy.counts["EVALSHA"] > before

    async def run() -> Counter[str]:
        seen: Counter[str] = Counter()
        async with (
            FaultProxy(redis_url) as proxy,
            serving(redis_url, store_url=proxy.url) as service,
        ):
            for _ in range(ROUNDS):
                before = proxy.counts["EVALSHA"]
                proxy.stall(commands=False)
                calls = [
                    asyncio.ensure_future(service.authority.Reserve(reserve_request(), timeout=10))
                    for _ in range(8)
                ]
                await eventually_async(partial(sent, proxy, before))
                proxy.cut()
                await proxy.heal()
                for result in await asyncio.gather(*calls, return_exceptions=True):
                    if isinstance(result, grpc.RpcError):
                        seen[failure(result).reason] += 1
                assert (await service.authority.Reserve(reserve_request(), timeout=10)).decision
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert set(runner.run(run())) == {"STORE_UNAVAILABLE"}
