"""Redis goes away, in every way, and comes back: what callers see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
import redis.asyncio as redis
from google.protobuf.message import Message
from service_server import (
    Failure,
    Service,
    commit_request,
    failure,
    record_request,
    reserve_request,
    serving,
)

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.service.budget_authority import REPLAYED_KEY
from fault_proxy import FaultProxy
from polling import eventually_async

ATTEMPTS = 5
"""Calls of which one must be answered before its deadline, on however busy a machine."""


@asynccontextmanager
async def behind_a_proxy(
    redis_url: str, **changed: object
) -> AsyncIterator[tuple[Service, FaultProxy]]:
    """Run a server whose Redis can fail, with its scripts loaded."""
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, **changed) as service,
    ):
        held = await service.authority.Reserve(reserve_request())
        await service.authority.Commit(commit_request(held.reservation_id))
        await service.authority.Record(record_request())
        yield service, proxy


async def refused(call: Awaitable[Message]) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        await call
    return failure(error.value)


def check_unavailable(found: Failure) -> None:
    assert found.code is grpc.StatusCode.UNAVAILABLE, found
    assert (found.domain, found.reason) == ("bursar", "STORE_UNAVAILABLE")
    assert found.retry_after_ms == 200


def requests() -> dict[str, Message]:
    """Return a request of every call that needs Redis."""
    unknown = "acme." + "b" * 24
    subject = types_pb2.Subject(org="acme", user="u1")
    reserve = reserve_request()
    return {
        "Reserve": reserve,
        "Commit": commit_request(unknown),
        "Release": pb.ReleaseRequest(reservation_id=unknown),
        "Extend": pb.ExtendRequest(reservation_id=unknown, max_output_tokens=5),
        "Record": record_request(),
        "Check": pb.CheckRequest(subject=subject, target=reserve.target),
        "GetBalances": usage_pb.GetBalancesRequest(subject=subject),
        "Explain": usage_pb.ExplainRequest(subject=subject, target=reserve.target),
        "ListHolds": usage_pb.ListHoldsRequest(subject=subject),
    }


@pytest.mark.parametrize("fault", ["refuse", "cut", "stall", "stall-replies"])
async def test_every_call_says_that_redis_is_away(redis_url: str, fault: str) -> None:
    """Goal: UNAVAILABLE with its reason and a time to retry, then service again without restart.

    Method: break the way to Redis in the middle of a call of each kind, heal it, and call again:
    the first call after it must be answered.
    """
    async with behind_a_proxy(redis_url, redis_timeout_ms=600) as (service, proxy):
        if fault == "refuse":
            proxy.refuse()
        else:
            proxy.stall(commands=fault != "stall-replies")
        calls = [
            asyncio.ensure_future(service.call(method, request))
            for method, request in requests().items()
        ]
        if fault == "cut":
            # Calls that come together share a connection; those that follow find it stalled too.
            await under_way(proxy, 1)
            proxy.cut()
        for found in await asyncio.gather(*map(refused, calls)):
            check_unavailable(found)
        await proxy.heal()
        answer = await service.authority.Reserve(reserve_request(), timeout=5)
        assert answer.decision == types_pb2.DECISION_GRANTED
        batch = pb.BatchRequest(operations=[{"reserve": reserve_request()}])
        proxy.refuse()
        [result] = (await service.authority.Batch(batch)).results
        assert (result.error.code, result.error.reason) == (14, 10)
        assert result.error.retry_after.ToMilliseconds() == 200


async def at_most(proxy: FaultProxy, links: int) -> bool:
    return proxy.links_open <= links


async def under_way(proxy: FaultProxy, count: int) -> None:
    """Wait until so many calls wait for Redis."""

    async def connected() -> bool:
        return proxy.links_open >= count

    await eventually_async(connected)


@pytest.mark.parametrize("timeout_s", [0.3, 2.0])
@pytest.mark.parametrize("redis_timeout_ms", [1_000, 30_000])
async def test_the_answer_comes_before_the_deadline(
    redis_url: str, timeout_s: float, redis_timeout_ms: int
) -> None:
    """Goal: a caller learns why before its deadline, whatever the bound on Redis is.

    Method: Redis takes the command and stays silent. A call that is answered in time has the
    server's reason; one that is not has none, as its own side ended it.
    """
    async with behind_a_proxy(redis_url, redis_timeout_ms=redis_timeout_ms) as (service, proxy):
        proxy.stall(commands=False)
        answers = []
        for _ in range(ATTEMPTS):
            found = await refused(service.authority.Reserve(reserve_request(), timeout=timeout_s))
            answers.append(found)
            if found.reason:
                break
        check_unavailable(answers[-1])
        assert {each.code for each in answers[:-1]} <= {grpc.StatusCode.DEADLINE_EXCEEDED}


async def settled(service: Service) -> tuple[int, int]:
    """Return what user u1 has committed and holds."""
    subject = {"org": "acme", "user": "u1"}
    answer = await service.usage.GetBalances(usage_pb.GetBalancesRequest(subject=subject))
    [day] = [counter for counter in answer.counters if counter.budget == "user-day"]
    return day.committed, day.held


@pytest.mark.parametrize("cut", [True, False], ids=["reset", "silence"])
@pytest.mark.parametrize("method", ["Reserve", "Commit", "Release", "Record"])
async def test_a_lost_reply_is_found_again(redis_url: str, method: str, cut: bool) -> None:
    """Goal: after an unknown outcome the same call finds what was booked, and books it once.

    Method: Redis runs the script and its reply is lost. The caller is told, and repeats: one
    script for each of its two calls and no more, so nothing was repeated behind its back.
    """
    async with behind_a_proxy(redis_url, redis_timeout_ms=600) as (service, proxy):
        before = await settled(service)
        held = (await service.authority.Reserve(reserve_request())).reservation_id
        calls: dict[str, tuple[Callable[..., object], Message, tuple[int, int]]] = {
            "Reserve": (service.authority.Reserve, reserve_request(), (0, 300)),
            "Commit": (service.authority.Commit, commit_request(held), (120, 0)),
            "Release": (service.authority.Release, pb.ReleaseRequest(reservation_id=held), (0, 0)),
            "Record": (service.authority.Record, record_request(), (120, 150)),
        }
        call, request, moved = calls[method]
        scripts, whole_scripts = proxy.counts["EVALSHA"], proxy.counts["EVAL"]
        proxy.lose_replies("EVALSHA", 1, cut=cut)
        check_unavailable(await refused(call(request, timeout=5)))
        assert proxy.counts["EVALSHA"] == scripts + 1
        again = call(request, timeout=5)
        first = await again
        assert (REPLAYED_KEY, "true") in tuple(await again.trailing_metadata())
        assert proxy.counts["EVALSHA"] == scripts + 2
        assert proxy.counts["EVAL"] == whole_scripts
        assert await settled(service) == (before[0] + moved[0], before[1] + moved[1])
        assert await call(request, timeout=5) == first


async def test_the_proxy_would_see_a_silent_repetition(redis_url: str, key_namespace: str) -> None:
    """Goal: a negative control of the test above. Method: redis-py as it comes, which repeats."""
    async with FaultProxy(redis_url) as proxy, redis.Redis(port=proxy.address[1]) as client:
        proxy.lose_replies("EVAL", 2, cut=True)
        script = "return redis.call('INCR', KEYS[1])"
        assert await client.eval(script, 1, key_namespace) == 3
        assert proxy.counts["EVAL"] == 3
        await client.delete(key_namespace)


async def test_a_stalled_pool_recovers(redis_url: str) -> None:
    """Goal: many calls on a silent Redis neither leak connections nor block the time after.

    Method: 60 calls on 4 connections while Redis is silent, then as many as it is back; each
    answer is that of its own request.
    """
    async with behind_a_proxy(redis_url, redis_timeout_ms=2_000, redis_connections_max=4) as (
        service,
        proxy,
    ):
        proxy.stall()
        calls = [service.authority.Reserve(reserve_request(), timeout=5) for _ in range(60)]
        for found in await asyncio.gather(*map(refused, calls)):
            check_unavailable(found)
        await proxy.heal()
        answers = await asyncio.gather(
            *(service.authority.Reserve(reserve_request(), timeout=5) for _ in range(60))
        )
        assert {answer.decision for answer in answers} == {types_pb2.DECISION_GRANTED}
        assert len({answer.reservation_id for answer in answers}) == 60
        # Those that ended may still be on their way out.
        await eventually_async(lambda: at_most(proxy, 4))
