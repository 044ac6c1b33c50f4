"""A server with several workers: which process serves whom, and callers that count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from bursar_processes import Running, parent_of
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bursar_client import AsyncClient, BursarError, Settings
from bursar_client.pb import admin_service_pb2 as admin_pb
from bursar_client.pb.admin_service_pb2_grpc import AdminServiceStub
from polling import eventually

POLICY = """\
org: acme
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - {name: tokens, limit: {tokens: 1000000000}, window: month}
"""
TOKENS = 60
"""Of each call that a caller makes."""

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Channels with equal options share a connection, and so a worker, without it."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Served:
    """A server with workers.

    Attributes:
        running: Its supervisor.
        address: Where its workers serve.
    """

    running: Running
    address: str

    def events(self, event: str) -> list[dict[str, object]]:
        """Return the lines of its log with one event."""
        lines = self.running.errors.splitlines()
        read = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in read if each["event"] == event]

    def pid_of(self, number: int) -> int:
        """Return the process id of the newest process of a worker."""
        pids = [e["pid"] for e in self.events("worker_started") if e["number"] == number]
        assert isinstance(pids[-1], int)
        return pids[-1]

    @property
    def health_address(self) -> str:
        """Where it answers health for all workers."""
        eventually(lambda: self.events("health_serving"))
        return str(self.events("health_serving")[-1]["address"])

    def health(self, name: str) -> int:
        """Return what it answers for a name."""
        with grpc.insecure_channel(self.health_address, options=[OWN_CONNECTION]) as channel:
            request = health_pb2.HealthCheckRequest(service=name)
            return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status)


def server_id(address: str, timeout_s: float = 10.0) -> str:
    """Return who serves a new connection."""
    with grpc.insecure_channel(address, options=[OWN_CONNECTION]) as channel:
        answer = AdminServiceStub(channel).GetStatus(admin_pb.GetStatusRequest(), timeout=timeout_s)
        return str(answer.server_id)


def children_of(pid: int) -> list[int]:
    """Return the processes that pid has started and that have not been reaped."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = parent_of(int(entry.name))
            except OSError:
                continue
            found.extend([int(entry.name)] if parent == pid else [])
    return found


@dataclass(slots=True)
class Load:
    """Callers that reserve and commit without pause, each over a connection of its own.

    Attributes:
        booked: Calls whose commit was acknowledged.
        failed: Why calls failed for good, after what the client repeats by itself.
    """

    address: str
    booked: int = 0
    failed: list[str] = field(default_factory=list)
    _stopping: bool = False

    @asynccontextmanager
    async def running(self, callers: int) -> AsyncIterator[None]:
        """Let callers call; at the end each has settled what it reserved."""
        settings = Settings(channel_options=(OWN_CONNECTION,))
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AsyncClient(self.address, settings=settings))
                for _ in range(callers)
            ]
            calling = [asyncio.create_task(self._call(client)) for client in clients]
            try:
                yield
            finally:
                self._stopping = True
                await asyncio.gather(*calling)

    async def _call(self, client: AsyncClient) -> None:
        while not self._stopping:
            try:
                async with client.reserve(
                    org="acme", model="m", input_tokens=50, max_output_tokens=50
                ) as call:
                    settled = await call.commit(input_tokens=50, output_tokens=TOKENS - 50)
                self.booked += settled is not None
            except BursarError as error:
                self.failed.append(repr(error))


async def tokens(address: str) -> tuple[int, int]:
    """Return what the org has committed and what it holds."""
    async with AsyncClient(address) as client:
        [counter] = [each async for each in client.get_balances(org="acme")]
        return counter.committed, counter.held
