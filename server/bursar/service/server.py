"""The gRPC server: services, health, reflection and its limits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bursar.authority.authority import Authority
from bursar.authority.records import Records
from bursar.pb import admin_service_pb2_grpc as admin_grpc
from bursar.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar.pb import policy_service_pb2_grpc as policy_grpc
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.admin import AdminServicer
from bursar.service.admission import Admission
from bursar.service.budget_authority import BudgetAuthorityServicer
from bursar.service.deadlines import Deadlines
from bursar.service.decode import Decoder
from bursar.service.guard import Guard
from bursar.service.health import LIVENESS, SERVICES, Health, HealthPort, listen
from bursar.service.pace import Pace
from bursar.service.policy import PolicyCases, PolicyServicer
from bursar.service.session import SessionLimits
from bursar.service.settings import Settings
from bursar.service.usage import UsageServicer

TRANSPORT_BYTES_MAX = 16 * 1024 * 1024
"""Largest message that is read at all. Between this and the setting a caller still learns which
field is too large."""

METADATA_BYTES_MAX = 16 * 1024

UNREAD_BYTES = 8 * 1024
"""What a stream may send ahead of what is read. A client that cannot send gathers, drops what
nobody waits for any more, and sends larger messages; one that can fills whatever there is to fill,
and its operations are old when they are read. It bounds a session to so much in a round trip."""

UNSEEN_CALLS_MAX = 1_024
"""Calls that gRPC may have received and nobody has looked at."""

SESSION_GRACE_PERCENT = 80
"""Of the time that calls have to end: when a session that its client does not close is ended, so
that its last answers still go out."""

_log = structlog.get_logger(__name__)


class GrpcServer:
    """Serves an authority on one address.

    Attributes:
        is_ready: Whether calls should be sent here.
    """

    def __init__(
        self,
        authority: Authority,
        settings: Settings,
        records: Records | None = None,
        policy: PolicyCases | None = None,
        *,
        shares_port: bool = False,
    ) -> None:
        """Listen to nothing yet.

        Args:
            authority: What it serves.
            settings: How.
            records: What the record answers, where there is one.
            policy: What is known of policies, where they are kept.
            shares_port: Whether other processes serve on the same address.
        """
        self.calls = _admission("calls", settings.concurrent_rpcs_max, settings)
        self.operations = _admission("operations", settings.concurrent_operations_max, settings)
        deadlines = Deadlines(settings.default_deadline_ms, settings.deadline_ms_max)
        self._guard = Guard(
            deadlines=deadlines,
            message_bytes_max=settings.message_bytes_max,
            batch_operations_max=settings.batch_operations_max,
            calls=self.calls,
            operations=self.operations,
        )
        self._server = grpc.aio.server(
            interceptors=[self._guard],
            # The guard refuses earlier, says why, and shares fairly; this bounds even what it has
            # not looked at yet, and knows no orgs, so it must not be what refuses.
            maximum_concurrent_rpcs=2 * settings.concurrent_rpcs_max + UNSEEN_CALLS_MAX,
            options=transport_options(settings, shares_port=shares_port),
        )
        decoder = Decoder(settings.default_ttl_ms, settings.ttl_ms_max)
        servicer = BudgetAuthorityServicer(
            authority,
            decoder,
            self.operations,
            settings.batch_operations_max,
            _session_limits(settings, deadlines),
        )
        self._sessions = servicer.sessions
        authority_grpc.add_BudgetAuthorityServiceServicer_to_server(servicer, self._server)
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
        self._health_port: HealthPort | None = None
        if settings.health_listen_address is not None:
            self._health_port = HealthPort(self._health, settings.health_listen_address)
        self._address = settings.listen_address
        self._is_draining = False
        self.is_ready = False

    async def start(self) -> str:
        """Listen and say SERVING.

        Returns:
            The address, with the port that was taken where 0 was asked for.

        Raises:
            OSError: The address cannot be used.
        """
        address = listen(self._server, self._address)
        health_address = self._health_port.listen() if self._health_port is not None else ""
        await self._server.start()
        await self._health.set_serving(LIVENESS, True)
        await self.set_ready(True)
        if self._health_port is not None:
            await self._health_port.start()
            _log.info("health_serving", address=health_address)
        return address

    async def set_ready(self, ready: bool) -> None:
        """Tell balancers whether to send calls here; never again once it drains."""
        self.is_ready = ready and not self._is_draining
        await self._health.set_ready(self.is_ready)

    async def drain(self) -> None:
        """Say NOT_SERVING for good; the process is alive, so liveness says so to its end."""
        self._is_draining = True
        await self.set_ready(False)

    async def stop(self, grace_ms: int) -> None:
        """Take no new calls, and end when those in progress have ended or the time is over."""
        self._guard.drain()
        self._health.close()
        # First clients learn that this connection takes nothing new, then that their sessions end:
        # else they would open the next one here.
        stopping = asyncio.ensure_future(self._server.stop(grace_ms / 1_000))
        await asyncio.sleep(0)
        self._sessions.drain(grace_ms * SESSION_GRACE_PERCENT // 100)
        await stopping
        if self._health_port is not None:
            await self._health_port.stop()


def _admission(what: str, most: int, settings: Settings) -> Admission:
    return Admission(what, most, settings.queue_wait_ms_max, Pace(time.monotonic), random.random)


def _session_limits(settings: Settings, deadlines: Deadlines) -> SessionLimits:
    return SessionLimits(
        message_operations_max=settings.batch_operations_max,
        message_bytes_max=settings.message_bytes_max,
        in_flight_max=settings.session_in_flight_max,
        deadlines=deadlines,
    )


def transport_options(settings: Settings, *, shares_port: bool = False) -> list[tuple[str, Any]]:
    """Return what gRPC is told about connections.

    Args:
        settings: Their limits.
        shares_port: Whether other processes serve on the same address.
    """
    return [
        ("grpc.max_receive_message_length", max(TRANSPORT_BYTES_MAX, settings.message_bytes_max)),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.http2.lookahead_bytes", UNREAD_BYTES),
        # Else gRPC lets more come the faster it comes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_connection_age_ms", settings.connection_age_ms_max),
        ("grpc.max_connection_age_grace_ms", settings.drain_grace_ms),
        # Clients keep idle connections alive every 30 s or less often; without this they would
        # be told to go away.
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two servers on one port by mistake would share its calls silently.
        ("grpc.so_reuseport", int(shares_port)),
    ]
