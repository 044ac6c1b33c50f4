"""Health and reflection, as balancers, probes and tools see them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from service_server import (
    BUDGET_AUTHORITY,
    USAGE,
    Service,
    record_request,
    reserve_request,
    serving,
)

from polling import eventually_async

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ORGS = ("acme", "umbrella", "globex")
READY_NAMES = ("", "readiness", BUDGET_AUTHORITY, USAGE)


@pytest_asyncio.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url, sweep_interval_ms=20) as service:
        yield service


async def status(service: Service, name: str) -> int:
    health = health_pb2_grpc.HealthStub(service.channel)
    request = health_pb2.HealthCheckRequest(service=name)
    return (await health.Check(request, timeout=5)).status


async def statuses(service: Service) -> list[int]:
    return [await status(service, name) for name in READY_NAMES]


async def test_a_server_that_serves(service: Service) -> None:
    """Goal: every name that probes ask for is known. Method: ask for each, and for another."""
    assert await statuses(service) == [SERVING] * 4
    assert await status(service, "liveness") == SERVING
    for unknown in ("bursar.v1.SecretService", "Readiness", " "):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await status(service, unknown)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_that_drains(service: Service) -> None:
    """Goal: balancers leave, and nobody restarts a process that is at work. Method: drain it.

    Readiness is set again and again in the background; it must stay off.
    """
    server = service.process._server
    await server.drain()
    for _ in range(2):
        assert await statuses(service) == [NOT_SERVING] * 4
        assert await status(service, "liveness") == SERVING
        await server.set_ready(True)
    answer = await service.authority.Reserve(reserve_request())
    assert answer.reservation_id


async def test_watchers_hear_of_it(service: Service) -> None:
    """Goal: whoever watches is told at once. Method: watch through a drain."""
    health = health_pb2_grpc.HealthStub(service.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=10)
    assert (await watch.read()).status == SERVING
    await service.process._server.drain()
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


async def test_a_store_that_has_lost_its_data(redis_url: str) -> None:
    """Goal: readiness goes off when every shard is cold, not when one is, and comes back.

    Method: three orgs on three shards. Take the shards' own state away from one, then from all,
    each with a call that notices; then put it back.
    """
    policies = tuple(f"org: {org}\nbudgets: []" for org in ORGS)
    async with serving(
        redis_url, policies=policies, shard_count=3, sweep_interval_ms=20
    ) as service:
        states = [f"{{{service.namespace}0{shard}}}:m" for shard in range(3)]
        assert [await notice(service, org) for org in ORGS] == [grpc.StatusCode.OK] * 3
        await service.store.rename(states[0], f"{states[0]}-away")
        codes = [await notice(service, org) for org in ORGS]
        assert sorted(codes, key=str) == [grpc.StatusCode.OK] * 2 + [grpc.StatusCode.UNAVAILABLE]
        assert await statuses(service) == [SERVING] * 4
        for state in states[1:]:
            await service.store.rename(state, f"{state}-away")
        assert [await notice(service, org) for org in ORGS] == [grpc.StatusCode.UNAVAILABLE] * 3
        await eventually_async(lambda: all_are(service, NOT_SERVING))
        assert await status(service, "liveness") == SERVING
        for state in states:
            await service.store.rename(f"{state}-away", state)
        assert [await notice(service, org) for org in ORGS] == [grpc.StatusCode.OK] * 3
        await eventually_async(lambda: all_are(service, SERVING))


async def all_are(service: Service, expected: int) -> bool:
    return await statuses(service) == [expected] * 4


async def notice(service: Service, org: str) -> grpc.StatusCode:
    """Make a call that needs an org's shard, and return how it ended."""
    try:
        await service.authority.Record(record_request(subject={"org": org}))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def listed(service: Service) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    names: set[str] = set()
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=5):
        names |= {each.name for each in answer.list_services_response.service}
    return names


async def test_reflection(service: Service) -> None:
    """Goal: tools find every service and its messages. Method: list, and ask for one symbol."""
    assert await listed(service) == {
        BUDGET_AUTHORITY,
        USAGE,
        "bursar.v1.AdminService",
        "bursar.v1.PolicyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=USAGE)
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=5):
        [file, *_] = answer.file_descriptor_response.file_descriptor_proto
        assert b"bursar/v1/usage_service.proto" in file


async def test_without_reflection(redis_url: str) -> None:
    """Goal: it can be switched off. Method: list the services of a server without it."""
    async with serving(redis_url, reflection=False) as service:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await listed(service)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("path", [f"{BUDGET_AUTHORITY}/Cancel", "bursar.v1.PolicyService/Get"])
async def test_methods_that_do_not_exist(service: Service, path: str) -> None:
    """Goal: what is not there says so. Method: call two such methods."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await service.send_bytes(path, b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
