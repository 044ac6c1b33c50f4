"""Health, as balancers and probes ask for it: on the port of the calls, and on one of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bursar.pb import admin_service_pb2 as admin_pb
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import policy_service_pb2 as policy_pb
from bursar.pb import usage_service_pb2 as usage_pb

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (authority_pb, "BudgetAuthorityService"),
        (usage_pb, "UsageService"),
        (policy_pb, "PolicyService"),
        (admin_pb, "AdminService"),
    )
)

READINESS, LIVENESS = "readiness", "liveness"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):  # type: ignore[name-defined,misc]
    """Says whether to send calls here, also to those who watch it."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    async def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """Tell of every change until the server stops: a watcher must not hold that up."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((watching, closed), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            closed.cancel()

    async def set_serving(self, name: str, serving: bool) -> None:
        """Set what one name is answered with."""
        await self.set(name, _SERVING if serving else _NOT_SERVING)

    async def set_ready(self, ready: bool) -> None:
        """Tell balancers whether to send calls here: every name but liveness."""
        for name in ("", READINESS, *SERVICES):
            await self.set_serving(name, ready)

    def close(self) -> None:
        """End every watch."""
        self._closed.set()


class HealthPort:
    """Answers health, and nothing else, on an address of its own."""

    def __init__(self, health: Health, address: str) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        self._address = address

    def listen(self) -> str:
        """Take the address.

        Returns:
            It, with the port that was taken where 0 was asked for.

        Raises:
            OSError: The address cannot be used.
        """
        return listen(self._server, self._address)

    async def start(self) -> None:
        """Answer."""
        await self._server.start()

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop(None)


def listen(server: grpc.aio.Server, address: str) -> str:
    """Give a server its address.

    Returns:
        It, with the port that was taken where 0 was asked for.

    Raises:
        OSError: The address cannot be used.
    """
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}; is it in use?") from error
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
