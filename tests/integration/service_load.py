"""A server whose Redis is silent, so that calls stay in progress for as long as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from service_server import Failure, Service, failure, reserve_request, serving

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.service.admission import Admission
from fault_proxy import FaultProxy
from polling import eventually_async


@asynccontextmanager
async def stalled(redis_url: str, **changed: object) -> AsyncIterator[tuple[Service, FaultProxy]]:
    """Run a server whose Redis is silent, until it is healed."""
    settings: dict[str, Any] = {"redis_timeout_ms": 30_000, **changed}
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, **settings) as service,
    ):
        await service.authority.Reserve(reserve_request())
        proxy.stall()
        try:
            yield service, proxy
        finally:
            await proxy.heal()


def of_org(org: str, **changed: object) -> pb.ReserveRequest:
    """Return a request of an org that is granted where the org exists."""
    return reserve_request(subject={"org": org, "user": "u1"}, **changed)


def in_progress(
    service: Service, count: int, timeout_s: float = 30, org: str = "acme"
) -> list[asyncio.Future[Any]]:
    """Begin calls that wait for Redis."""
    return [
        asyncio.ensure_future(service.authority.Reserve(of_org(org), timeout=timeout_s))
        for _ in range(count)
    ]


def calls_of(service: Service) -> Admission:
    """Return what counts a server's calls."""
    return service.process._server.calls


def operations_of(service: Service) -> Admission:
    """Return what counts a server's operations."""
    return service.process._server.operations


async def all_wait(service: Service, count: int, org: str = "acme") -> None:
    """Wait until so many calls of an org are in progress."""

    async def admitted() -> bool:
        return calls_of(service).of_org(org) == count

    await eventually_async(admitted)


async def refusal(call: Awaitable[object]) -> Failure:
    """Return how a call failed."""
    with pytest.raises(grpc.RpcError) as error:
        await call
    return failure(error.value)
