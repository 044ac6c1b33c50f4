"""Load by unary calls: callers that wait for their answers, or calls at their intended times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any

import grpc.aio

from bench.channel import Connections
from bench.load import Load
from bench.tally import TOO_LATE, Tally, reason
from bench.workload import Call
from bursar.pb import budget_authority_service_pb2 as pb

Ids = Iterator[str]
_LATE_S = 0.010


async def callers(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Let callers reserve and commit, each waiting for its answers, until it is over."""
    connections = Connections(load.address, load.connections)
    feed = cycle(calls)

    async def caller() -> None:
        reserve, commit = connections.unary("Reserve", "Commit")
        while not tally.ended:
            call, request_id = next(feed), next(ids)
            if await _one(reserve, call.reserve_as(request_id), load, tally, True) and load.settles:
                await _one(commit, call.commit_of(request_id), load, tally, False)

    await asyncio.gather(*(caller() for _ in range(load.callers)))
    await connections.close()


async def _one(method: Any, message: bytes, load: Load, tally: Tally, is_reserve: bool) -> bool:  # noqa: ANN401 - grpc's own
    begin_s = time.perf_counter()
    try:
        data = await method(message, timeout=load.timeout_s)
    except grpc.aio.AioRpcError as error:
        tally.failed(reason(error))
        return False
    latency_s = time.perf_counter() - begin_s
    return tally.answered(latency_s, pb.ReserveResponse.FromString(data) if is_reserve else None)


async def at_their_times(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Begin operations at a steady rate, whatever is answered; latency counts from the plan."""
    connections = Connections(load.address, load.connections)
    feed, running = cycle(calls), set[asyncio.Task[None]]()
    methods = [connections.unary("Reserve", "Commit") for _ in range(load.connections)]
    turn = cycle(methods)
    epoch_s = time.time() - time.perf_counter()

    async def one(due_s: float) -> None:
        reserve, commit = next(turn)
        call, request_id = next(feed), next(ids)
        sent_s = time.perf_counter()
        late = sent_s - due_s > _LATE_S
        try:
            data = await reserve(call.reserve_as(request_id), timeout=load.timeout_s)
            latency_s = time.perf_counter() - due_s
            if latency_s > load.timeout_s:
                tally.failed(TOO_LATE)
                return
            held = tally.answered(latency_s, pb.ReserveResponse.FromString(data))
            tally.answered_in_time(epoch_s + due_s, latency_s, late)
            if held and load.settles:
                begin_s = time.perf_counter()
                await commit(call.commit_of(request_id), timeout=load.timeout_s)
                tally.answered(time.perf_counter() - begin_s, None)
        except grpc.aio.AioRpcError as error:
            tally.failed(reason(error), time.perf_counter() - sent_s)

    # A reserve and its commit are two operations, of which only the first has a plan.
    step_s = (2 if load.settles else 1) / load.rate_per_s
    begin_s = time.perf_counter()
    for number in count():
        due_s = begin_s + number * step_s
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if tally.ended:
            break
        if len(running) < load.callers:
            task = asyncio.create_task(one(due_s))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            tally.not_begun()
        if wait_s < 0 and number % 32 == 0:
            # It is behind its plan, but answers must be read all the same.
            await asyncio.sleep(0)
    await asyncio.gather(*running)
    await connections.close()
