"""Every reason for an error, raised by what it stands for, as it arrives at the caller."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import redis.asyncio as redis
from service_server import (
    BUDGET_AUTHORITY,
    Failure,
    Service,
    commit_request,
    failure,
    new_id,
    reserve_request,
    serving,
)
from structlog.testing import capture_logs

from bursar.embedded.redis_process import EmbeddedRedis
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import error_reason_pb2
from bursar.pb import usage_service_pb2 as usage_pb
from fault_proxy import FaultProxy
from polling import eventually_async

Call = Awaitable[Any]
PROPER_NAMES = ("Redis",)


@pytest_asyncio.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def service(redis_url: str, proxy: FaultProxy) -> AsyncIterator[Service]:
    async with serving(
        redis_url,
        store_url=proxy.url,
        sweep_interval_ms=100,
        concurrent_rpcs_max=120,
    ) as service:
        yield service


async def held(service: Service) -> str:
    return (await service.authority.Reserve(reserve_request())).reservation_id


async def field_invalid(service: Service, proxy: FaultProxy) -> Call:
    return service.authority.Reserve(reserve_request(request_id=""))


async def limit_exceeded(service: Service, proxy: FaultProxy) -> Call:
    operations = [pb.Operation() for _ in range(1_001)]
    return service.authority.Batch(pb.BatchRequest(operations=operations))


async def request_id_reused(service: Service, proxy: FaultProxy) -> Call:
    request = reserve_request()
    await service.authority.Reserve(request)
    request.estimate.max_output_tokens = 7
    return service.authority.Reserve(request)


async def not_found(service: Service, proxy: FaultProxy) -> Call:
    return service.authority.Release(pb.ReleaseRequest(reservation_id="acme." + "a" * 24))


async def committed(service: Service, proxy: FaultProxy) -> Call:
    reservation_id = await held(service)
    await service.authority.Commit(commit_request(reservation_id))
    return service.authority.Release(pb.ReleaseRequest(reservation_id=reservation_id))


async def released(service: Service, proxy: FaultProxy) -> Call:
    reservation_id = await held(service)
    await service.authority.Release(pb.ReleaseRequest(reservation_id=reservation_id))
    return service.authority.Commit(commit_request(reservation_id))


async def expired(service: Service, proxy: FaultProxy) -> Call:
    answer = await service.authority.Reserve(reserve_request(ttl={"seconds": 1}))
    holds = usage_pb.ListHoldsRequest(subject={"org": "acme"})

    async def swept() -> bool:
        return not (await service.usage.ListHolds(holds)).holds

    await eventually_async(swept)
    return service.authority.Extend(
        pb.ExtendRequest(reservation_id=answer.reservation_id, max_output_tokens=5)
    )


async def sequence_mismatch(service: Service, proxy: FaultProxy) -> Call:
    return service.authority.Commit(commit_request(await held(service), partial=True, sequence=3))


async def org_access_denied(service: Service, proxy: FaultProxy) -> Call:
    return service.authority.Reserve(reserve_request(subject={"org": "nobody"}))


async def store_unavailable(service: Service, proxy: FaultProxy) -> Call:
    proxy.refuse()
    return service.authority.Reserve(reserve_request())


async def shard_cold(service: Service, proxy: FaultProxy) -> Call:
    for shard in ("00", "01"):
        await service.store.delete(f"{{{service.namespace}{shard}}}:m")
    return service.authority.Reserve(reserve_request())


async def clock_behind(service: Service, proxy: FaultProxy) -> Call:
    await held(service)
    for shard in ("00", "01"):
        # The year 2100: some server's clock was there.
        await service.store.hset(f"{{{service.namespace}{shard}}}:m", "now", "4102444800000")
    return service.authority.Reserve(reserve_request())


async def draining(service: Service, proxy: FaultProxy) -> Call:
    # What `stop` does first; the port is closed right after it.
    service.process._server._guard.drain()
    return service.authority.Reserve(reserve_request())


async def overloaded(service: Service, proxy: FaultProxy) -> Call:
    proxy.stall()
    calls = [asyncio.ensure_future(service.authority.Reserve(reserve_request())) for _ in range(61)]
    done, others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    await proxy.heal()
    await asyncio.gather(*others)
    return done.pop()


async def concurrent_change(service: Service, proxy: FaultProxy) -> Call:
    extend = pb.ExtendRequest(reservation_id=await held(service), ttl={"seconds": 60})
    # Each looks at the hold, and finds it changed by another one: four times.
    calls = []
    for number in range(50):
        extend.max_output_tokens = 51 + number
        calls.append(asyncio.ensure_future(service.authority.Extend(extend)))
    await asyncio.wait(calls)
    return next(call for call in calls if call.exception() is not None)


async def internal(service: Service, proxy: FaultProxy) -> Call:
    await held(service)
    [key] = await service.store.keys(f"{{{service.namespace}*:c:acme:month:*")
    await service.store.set(key, "not a counter")
    return service.authority.Reserve(reserve_request())


TRIGGERS: dict[str, tuple[Callable[[Service, FaultProxy], Awaitable[Call]], str, int | None]] = {
    "FIELD_INVALID": (field_invalid, "INVALID_ARGUMENT", None),
    "LIMIT_EXCEEDED": (limit_exceeded, "INVALID_ARGUMENT", None),
    "REQUEST_ID_REUSED": (request_id_reused, "INVALID_ARGUMENT", None),
    "RESERVATION_NOT_FOUND": (not_found, "NOT_FOUND", None),
    "RESERVATION_COMMITTED": (committed, "FAILED_PRECONDITION", None),
    "RESERVATION_RELEASED": (released, "FAILED_PRECONDITION", None),
    "RESERVATION_EXPIRED": (expired, "FAILED_PRECONDITION", None),
    "SEQUENCE_MISMATCH": (sequence_mismatch, "FAILED_PRECONDITION", None),
    "ORG_ACCESS_DENIED": (org_access_denied, "PERMISSION_DENIED", None),
    "STORE_UNAVAILABLE": (store_unavailable, "UNAVAILABLE", 200),
    "SHARD_COLD": (shard_cold, "UNAVAILABLE", 1_000),
    "CLOCK_BEHIND": (clock_behind, "UNAVAILABLE", 1_000),
    "DRAINING": (draining, "UNAVAILABLE", 0),
    "SERVER_OVERLOADED": (overloaded, "RESOURCE_EXHAUSTED", 100),
    "CONCURRENT_CHANGE": (concurrent_change, "ABORTED", None),
    "INTERNAL": (internal, "INTERNAL", None),
}
"""By reason: what raises it, its code, and after how many ms to retry."""

ELSEWHERE = {"UNSPECIFIED", "STORE_FULL", "DEADLINE_EXCEEDED"} | {
    "JOURNAL_FULL",
    "LEDGER_UNAVAILABLE",
    "NOT_DURABLE",
    "POLICY_CONFLICT",
    "POLICY_NOT_FOUND",
}
"""Never sent; in a test of its own below; only seen by a caller that waits no more; and those that
the tests of journal, ledger, durability and policies bring about."""


def test_every_reason_is_raised() -> None:
    """Goal: no reason is only on paper. Method: compare the table with the contract."""
    reasons = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    names = {name.removeprefix("ERROR_REASON_") for name in reasons}
    assert set(TRIGGERS) | ELSEWHERE == names


def check_style(found: Failure) -> None:
    """Check what all messages have in common."""
    assert found.domain == "bursar"
    assert found.message[0].islower() or found.message.startswith(PROPER_NAMES), found.message
    assert not found.message.endswith((".", "!", "\n"))
    assert "  " not in found.message
    for key in found.metadata:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z0-9]*)*", key)


@pytest.mark.parametrize("reason", TRIGGERS)
async def test_a_reason_as_callers_see_it(service: Service, proxy: FaultProxy, reason: str) -> None:
    """Goal: code, domain, reason and time to retry are those of the contract.

    Method: bring about what the reason stands for, and read the error's details.
    """
    trigger, code, retry_after_ms = TRIGGERS[reason]
    with pytest.raises(grpc.RpcError) as error:
        await (await trigger(service, proxy))
    found = failure(error.value)
    assert (found.code.name, found.reason) == (code, reason), found
    if reason == "SERVER_OVERLOADED":
        # Spread, so that not all come back together.
        assert retry_after_ms <= found.retry_after_ms < 2 * retry_after_ms
    else:
        assert found.retry_after_ms == retry_after_ms
    assert bool(found.violations) == (code == "INVALID_ARGUMENT" and reason != "REQUEST_ID_REUSED")
    check_style(found)


@pytest.mark.usefixtures("postgres_url")
async def test_a_full_redis(tmp_path: Path) -> None:
    """Goal: STORE_FULL as in the contract, and service again when there is room.

    Method: a Redis of its own, whose memory is made too small and large again.
    """
    with EmbeddedRedis(tmp_path / "redis") as own:
        async with serving(own.url) as service, redis.Redis.from_url(own.url) as store:
            await held(service)
            await store.config_set("maxmemory", "1kb")
            with pytest.raises(grpc.RpcError) as error:
                await held(service)
            found = failure(error.value)
            assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FULL")
            assert found.retry_after_ms == 1_000
            check_style(found)
            await store.config_set("maxmemory", "0")
            assert await held(service)


async def test_an_internal_error_is_found_in_the_log(service: Service, proxy: FaultProxy) -> None:
    """Goal: callers learn a number, operators the rest. Method: break a counter, and compare.

    The same as a call of its own and as an operation of a batch.
    """
    with capture_logs() as logged:
        with pytest.raises(grpc.RpcError) as error:
            await (await internal(service, proxy))
        batch = pb.BatchRequest(operations=[{"reserve": reserve_request(request_id=new_id())}])
        [result] = (await service.authority.Batch(batch)).results
    lines = [line for line in logged if line["log_level"] == "error"]
    found = failure(error.value)
    assert result.error.reason == error_reason_pb2.ERROR_REASON_INTERNAL
    for line, message, metadata, method in (
        (lines[0], found.message, found.metadata, "Reserve"),
        (lines[1], result.error.message, result.error.metadata, "Batch"),
    ):
        assert line["event"] == "call_failed"
        assert line["method"] == f"/{BUDGET_AUTHORITY}/{method}"
        assert dict(metadata) == {"callId": line["call_id"]}
        assert line["call_id"] in message
        assert "WRONGTYPE" in str(line["exc_info"].__cause__)
        assert "WRONGTYPE" not in message
    assert len(lines) == 2
