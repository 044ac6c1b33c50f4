"""The gRPC server: services, health, reflection and its limits."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bursar.authority.authority import Authority
from bursar.authority.records import Records
from bursar.pb import admin_service_pb2 as admin_pb
from bursar.pb import admin_service_pb2_grpc as admin_grpc
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar.pb import policy_service_pb2 as policy_pb
from bursar.pb import policy_service_pb2_grpc as policy_grpc
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.admin import AdminServicer
from bursar.service.budget_authority import BudgetAuthorityServicer
from bursar.service.decode import Decoder
from bursar.service.guard import Guard
from bursar.service.policy import PolicyCases, PolicyServicer
from bursar.service.settings import Settings
from bursar.service.usage import UsageServicer

TRANSPORT_BYTES_MAX = 16 * 1024 * 1024
"""Largest message that is read at all. Between this and the setting a caller still learns which
field is too large."""

METADATA_BYTES_MAX = 16 * 1024

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

    def close(self) -> None:
        """End every watch."""
        self._closed.set()


class GrpcServer:
    """Serves an authority on one address."""

    def __init__(
        self,
        authority: Authority,
        settings: Settings,
        records: Records | None = None,
        policy: PolicyCases | None = None,
    ) -> None:
        self._guard = Guard(
            default_deadline_ms=settings.default_deadline_ms,
            deadline_ms_max=settings.deadline_ms_max,
            message_bytes_max=settings.message_bytes_max,
            concurrent_calls_max=settings.concurrent_rpcs_max,
        )
        self._server = grpc.aio.server(
            interceptors=[self._guard],
            # The guard refuses earlier and says why; this bounds even what it refuses.
            maximum_concurrent_rpcs=2 * settings.concurrent_rpcs_max,
            options=_options(settings),
        )
        decoder = Decoder(settings.default_ttl_ms, settings.ttl_ms_max)
        authority_grpc.add_BudgetAuthorityServiceServicer_to_server(
            BudgetAuthorityServicer(authority, decoder, settings.batch_operations_max),
            self._server,
        )
        usage_grpc.add_UsageServiceServicer_to_server(
            UsageServicer(authority, records), self._server
        )
        if policy is not None:
            policy_grpc.add_PolicyServiceServicer_to_server(PolicyServicer(policy), self._server)
        if records is not None:
            admin_grpc.add_AdminServiceServicer_to_server(AdminServicer(records), self._server)
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._address = settings.listen_address
        self._is_draining = False

    async def start(self) -> str:
        """Listen and say SERVING.

        Returns:
            The address, with the port that was taken where 0 was asked for.

        Raises:
            OSError: The address cannot be used.
        """
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}; is it in use?") from error
        await self._server.start()
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(True)
        if self._address.startswith("unix:"):
            return self._address
        return f"{self._address.rpartition(':')[0]}:{port}"

    async def set_ready(self, ready: bool) -> None:
        """Tell balancers whether to send calls here; never again once it drains."""
        serving, not_serving = (
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        )
        for name in ("", READINESS, *SERVICES):
            await self._health.set(
                name, serving if ready and not self._is_draining else not_serving
            )

    async def drain(self) -> None:
        """Say NOT_SERVING for good; the process is alive, so liveness says so to its end."""
        self._is_draining = True
        await self.set_ready(False)

    async def stop(self, grace_ms: int) -> None:
        """Take no new calls, and end when those in progress have ended or the time is over."""
        self._guard.drain()
        self._health.close()
        await self._server.stop(grace_ms / 1_000)


def _options(settings: Settings) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max(TRANSPORT_BYTES_MAX, settings.message_bytes_max)),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_connection_age_ms", settings.connection_age_ms_max),
        ("grpc.max_connection_age_grace_ms", settings.drain_grace_ms),
        # Clients keep idle connections alive every 30 s or less often; without this they would
        # be told to go away.
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two servers on one port by mistake would share its calls silently.
        ("grpc.so_reuseport", 0),
    ]
