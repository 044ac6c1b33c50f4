"""More calls than a server takes, calls while it ends, and the time that a call may take."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service_load import all_wait, in_progress, refusal, stalled
from service_server import (
    BUDGET_AUTHORITY,
    Failure,
    reserve_request,
    serving,
)

from bursar.pb import types_pb2
from polling import eventually_async

GRANTED = types_pb2.DECISION_GRANTED
BOUND = 20
SLACK_S = 5.0
"""What a busy machine may take longer than a deadline."""


def check_overloaded(found: Failure, **metadata: object) -> None:
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (found.domain, found.reason) == ("bursar", "SERVER_OVERLOADED")
    assert found.retry_after_ms is not None
    assert 100 <= found.retry_after_ms < 200
    assert found.metadata == {name: str(value) for name, value in metadata.items()}


async def test_more_calls_than_the_bound(redis_url: str) -> None:
    """Goal: what is above the bound is refused at once, and what is below it is answered.

    Method: all 20 calls that an org may have of 40; 60 more; then Redis answers again. Health is
    answered all along.
    """
    async with stalled(redis_url, concurrent_rpcs_max=2 * BOUND) as (service, proxy):
        first = in_progress(service, BOUND)
        await all_wait(service, BOUND)
        for _ in range(3):
            for found in await asyncio.gather(*map(refusal, in_progress(service, BOUND))):
                check_overloaded(found, inProgress=BOUND, limit=2 * BOUND, counted="calls")
                assert str(BOUND) in found.message
        health = health_pb2_grpc.HealthStub(service.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert not any(call.done() for call in first)
        await proxy.heal()
        assert {each.decision for each in await asyncio.gather(*first)} == {GRANTED}
        later = await asyncio.gather(*in_progress(service, BOUND))
        assert {each.decision for each in later} == {GRANTED}


async def test_load_is_refused_before_anything_is_read(redis_url: str) -> None:
    """Goal: a server under load does no work for what it refuses. Method: send it garbage then.

    Were it parsed first, it would be a bad argument.
    """
    async with stalled(redis_url, concurrent_rpcs_max=1) as (service, proxy):
        calls = in_progress(service, 1)
        await all_wait(service, 1)
        method = f"{BUDGET_AUTHORITY}/Reserve"

        async def overloaded() -> bool:
            found = await refusal(service.send_bytes(method, b"\xff" * 500_000))
            return found.reason == "SERVER_OVERLOADED"

        await eventually_async(overloaded)
        await proxy.heal()
        await asyncio.gather(*calls)
        assert (await refusal(service.send_bytes(method, b"\xff"))).reason == "FIELD_INVALID"


async def test_calls_in_progress_end_before_the_server(redis_url: str) -> None:
    """Goal: stopping takes no new calls and lets those in progress end.

    Method: stop a server with 5 calls in progress, ask for more, then let Redis answer.
    """
    async with stalled(redis_url, drain_grace_ms=20_000) as (service, proxy):
        first = in_progress(service, 5)
        await all_wait(service, 5)
        stopping = asyncio.create_task(service.process._server.stop(20_000))

        async def refused() -> bool:
            # One that arrives before the port is closed is told so by us, later ones by gRPC.
            found = await refusal(service.authority.Reserve(reserve_request(), timeout=1))
            return found.code is grpc.StatusCode.UNAVAILABLE

        await eventually_async(refused)
        assert not stopping.done()
        await proxy.heal()
        assert {each.decision for each in await asyncio.gather(*first)} == {GRANTED}
        await stopping


async def test_calls_that_never_end_are_cut_at_the_grace(redis_url: str) -> None:
    """Goal: a silent Redis keeps no server from ending. Method: stop with 300 ms of grace."""
    async with stalled(redis_url) as (service, _):
        calls = in_progress(service, 3)
        await all_wait(service, 3)
        began_s = time.monotonic()
        await service.process._server.stop(300)
        assert 0.25 < time.monotonic() - began_s < 0.3 + SLACK_S
        for found in await asyncio.gather(*map(refusal, calls)):
            assert found.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("timeout_s", [0, -1, 1e-9])
async def test_a_deadline_that_leaves_no_time(redis_url: str, timeout_s: float) -> None:
    """Goal: what comes too late is not done. Method: deadlines that are over; nothing is held.

    A billionth of a second still reaches the server, and is over there.
    """
    async with serving(redis_url) as service:
        for _ in range(10):
            found = await refusal(service.authority.Reserve(reserve_request(), timeout=timeout_s))
            assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await service.authority.Reserve(reserve_request())).decision == GRANTED
        assert len([key for key in await service.dump() if b":h:" in key]) == 1


@pytest.mark.parametrize(
    ("timeout_s", "least_s", "most_s"),
    [(None, 0.2, 0.2), (60.0, 0.4, 0.4), (0.3, 0.2, 0.3)],
    ids=["without", "longer-than-the-longest", "of-its-own"],
)
async def test_how_long_a_call_may_take(
    redis_url: str, timeout_s: float | None, least_s: float, most_s: float
) -> None:
    """Goal: without a deadline the default holds, and none is longer than the longest.

    Method: Redis never answers; default 200 ms, longest 400 ms; look when the answer comes.
    """
    settings = {"default_deadline_ms": 200, "deadline_ms_max": 400}
    async with stalled(redis_url, **settings) as (service, _):
        began_s = time.monotonic()
        found = await refusal(service.authority.Reserve(reserve_request(), timeout=timeout_s))
        took_s = time.monotonic() - began_s
        # A tenth of the deadline is kept for the way back.
        assert least_s * 0.85 < took_s < most_s + SLACK_S
        assert found.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        if timeout_s != most_s:
            assert found.reason == "STORE_UNAVAILABLE"
