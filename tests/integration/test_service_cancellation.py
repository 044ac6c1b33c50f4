"""Callers that leave in the middle, and scripts that Redis forgets in the middle."""

from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest
from service_server import Service, commit_request, new_id, reserve_request, serving

from bursar.authority.identity import hold_name
from bursar.domain.subject import OrgId
from bursar.engine.turns import PIPELINES_MAX
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from bursar.pb import usage_service_pb2 as usage_pb
from fault_proxy import FaultProxy
from polling import eventually_async

CALLS = 200
CONNECTIONS = PIPELINES_MAX
"""All that script calls take: what comes meanwhile goes with the next one."""
LINKS_MAX = 8
"""What the server does in the background takes some, and waits with the others."""
PATIENT_S = 30
"""Deadline of calls that must be answered on however busy a machine."""
SETTINGS = {"redis_connections_max": LINKS_MAX, "redis_timeout_ms": 1_000 * PATIENT_S}


def reservation_of(request: pb.ReserveRequest) -> str:
    """Return the reservation that belongs to a request."""
    return hold_name(OrgId(request.subject.org), request.request_id).reservation_id


async def reserve_and_check(service: Service, user: str, output_tokens: int) -> None:
    """Reserve, and check that the answer is this request's in every part that tells."""
    request = reserve_request(
        subject={"org": "acme", "user": user},
        estimate={"input_tokens": 100, "max_output_tokens": output_tokens},
    )
    answer = await service.authority.Reserve(request, timeout=PATIENT_S)
    assert answer.decision == types_pb2.DECISION_GRANTED
    assert answer.reservation_id == reservation_of(request)
    assert answer.max_output_tokens == output_tokens
    [day] = [counter for counter in answer.counters if counter.budget == "user-day"]
    assert (dict(day.partition), day.amount) == ({"user": user}, 100 + output_tokens)


async def check_many(service: Service, name: str) -> None:
    """Check as many calls at once, all different."""
    await asyncio.gather(
        *(reserve_and_check(service, f"{name}-{number}", number + 1) for number in range(CALLS))
    )


async def test_half_of_the_callers_leave(redis_url: str) -> None:
    """Goal: nobody ever gets the reply to another call, and no connection is lost.

    Method: 200 calls at once, every second one cancelled after a different part
    of its way; those left get their own answers, and so do 200 more afterwards.
    """
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, **SETTINGS) as service,
    ):
        await check_many(service, "before")
        done = itertools.count()

        async def call(number: int) -> None:
            await reserve_and_check(service, f"half-{number}", number + 1)
            # Each answer makes one of the others leave, so that they leave all along.
            leaver = 2 * next(done) + 1
            if leaver < CALLS:
                calls[leaver].cancel()

        calls = [asyncio.create_task(call(number)) for number in range(CALLS)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[::2] == [None] * (CALLS // 2)
        left = sum(isinstance(result, asyncio.CancelledError) for result in results[1::2])
        assert left > CALLS // 5
        assert {type(result) for result in results[1::2]} <= {asyncio.CancelledError, type(None)}
        await check_many(service, "after")
        await eventually_async(lambda: at_most(proxy, LINKS_MAX))


async def open_every_connection(service: Service) -> None:
    """Have the server open all connections that it may: greetings would wait for a silent Redis."""
    await asyncio.gather(*(service.process._store.time_ms() for _ in range(LINKS_MAX)))


async def one_after_another(
    service: Service, proxy: FaultProxy, requests: list[pb.ReserveRequest], timeout_s: float
) -> list[asyncio.Future[pb.ReserveResponse]]:
    """Begin calls, each when the one before it has reached Redis: so none goes with another."""
    calls = []
    for request in requests:
        scripts = proxy.counts["EVALSHA"]
        calls.append(asyncio.ensure_future(service.authority.Reserve(request, timeout=timeout_s)))

        async def has_arrived(scripts: int = scripts) -> bool:
            return proxy.counts["EVALSHA"] > scripts

        await eventually_async(has_arrived)
    return calls


@pytest.mark.parametrize("leave", ["cancel", "deadline"])
async def test_late_replies_reach_nobody_else(redis_url: str, leave: str) -> None:
    """Goal: a reply that comes after its caller has left is never taken for another one.

    Method: Redis is silent while all connections have a call each; the callers leave; then the
    replies arrive, together with new calls.
    """
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, **SETTINGS) as service,
    ):
        await open_every_connection(service)
        proxy.stall(commands=False)
        timeout_s = PATIENT_S if leave == "cancel" else 3
        leaving = [
            reserve_request(subject={"org": "acme", "user": "left"}) for _ in range(CONNECTIONS)
        ]
        calls = await one_after_another(service, proxy, leaving, timeout_s)
        for call in calls if leave == "cancel" else ():
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        later = asyncio.create_task(check_many(service, "later"))
        await proxy.heal()
        await later
        await eventually_async(lambda: at_most(proxy, LINKS_MAX))
        holds = await service.usage.ListHolds(
            usage_pb.ListHoldsRequest(subject={"org": "acme", "user": "left"}, page_size=1_000)
        )
        # Redis had carried all of them out: they end by their TTL, or a retry finds them.
        assert len(holds.holds) == CONNECTIONS


async def test_short_deadlines_do_no_harm(redis_url: str) -> None:
    """Goal: a caller with too short a deadline hurts nobody else. Method: 1 to 20 ms, 200 times."""
    async with serving(redis_url, **SETTINGS) as service:
        calls = [
            service.authority.Reserve(reserve_request(), timeout=(number % 20 + 1) / 1_000)
            for number in range(CALLS)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        codes = {each.code() for each in results if isinstance(each, grpc.aio.AioRpcError)}
        assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        await check_many(service, "after")


async def at_most(proxy: FaultProxy, links: int) -> bool:
    return proxy.links_open <= links


async def test_forgotten_scripts_are_sent_again(redis_url: str) -> None:
    """Goal: SCRIPT FLUSH is never seen by a caller. Method: flush it all the time, under load."""
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, **SETTINGS) as service,
    ):
        flushes = 0
        finished = asyncio.Event()

        async def flush() -> None:
            nonlocal flushes
            while not finished.is_set():
                await service.store.script_flush()
                flushes += 1

        async def whole_life(number: int) -> None:
            user = {"org": "acme", "user": f"flush-{number % 10}"}
            answer = await service.authority.Reserve(
                reserve_request(request_id=new_id(), subject=user), timeout=PATIENT_S
            )
            held = answer.reservation_id
            await service.authority.Extend(
                pb.ExtendRequest(reservation_id=held, ttl={"seconds": 60}), timeout=PATIENT_S
            )
            await service.authority.Commit(commit_request(held), timeout=PATIENT_S)

        flusher = asyncio.create_task(flush())
        try:
            await asyncio.gather(*(whole_life(number) for number in range(100)))
        finally:
            finished.set()
            await flusher
        assert flushes > 10
        assert proxy.counts["EVAL"] > 10
        for number in range(10):
            subject = {"org": "acme", "user": f"flush-{number}"}
            request = usage_pb.GetBalancesRequest(subject=subject)
            counters = (await service.usage.GetBalances(request)).counters
            [day] = [counter for counter in counters if counter.budget == "user-day"]
            assert (day.committed, day.held) == (10 * 120, 0)
