"""Servers with PolicyService over gRPC, on one Redis and one PostgreSQL.

Nothing runs by itself: a test says when a server watches for policies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from ledger_world import LedgerServer, LedgerWorld, open_ledger_world
from service_server import Failure, failure, new_id

from bursar.ledger.database import Database
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import policy_service_pb2_grpc as policy_grpc
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.policy import PolicyCases
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings

POLICY = """
org: acme
meters: [pages]
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - {name: month, limit: {usd: 1000}, window: month}
  - {name: user-day, per: [user], limit: {tokens: 1000}, window: day}
"""


@dataclass(frozen=True)
class PolicyServer:
    """One server, and everything to ask it with."""

    inner: LedgerServer
    database: Database
    cases: PolicyCases
    policy: policy_grpc.PolicyServiceStub
    authority: authority_grpc.BudgetAuthorityServiceStub
    usage: usage_grpc.UsageServiceStub

    async def apply(self, document: str, **changed: Any) -> pb.ApplyPolicyResponse:  # noqa: ANN401 - as the message takes it
        request = pb.ApplyPolicyRequest(**{"document": document, "actor": "ann", **changed})
        answer: pb.ApplyPolicyResponse = await self.policy.ApplyPolicy(request)
        return answer

    async def reserve(
        self, output: int = 100, *, request_id: str = "", **levels: str
    ) -> authority_pb.ReserveResponse:
        """Ask for a call without input, for user u1 where no level is given."""
        answer: authority_pb.ReserveResponse = await self.authority.Reserve(
            authority_pb.ReserveRequest(
                request_id=request_id or new_id(),
                subject={"org": "acme", **(levels or {"user": "u1"})},
                target={"model": "m1"},
                estimate={"input_tokens": 0, "max_output_tokens": output},
            )
        )
        return answer

    async def commit(self, reservation_id: str, output: int) -> authority_pb.CommitResponse:
        answer: authority_pb.CommitResponse = await self.authority.Commit(
            authority_pb.CommitRequest(
                reservation_id=reservation_id,
                usage={"input_tokens": 0, "output_tokens": output},
                target={"model": "m1"},
            )
        )
        return answer


class PolicyWorld:
    """The servers, and what they share."""

    def __init__(self, ledger: LedgerWorld, database_url: str, stack: AsyncExitStack) -> None:
        self.ledger = ledger
        self.clock = ledger.clock
        self._database_url = database_url
        self._stack = stack

    async def server(self, inner: LedgerServer | None = None) -> PolicyServer:
        """Open one more server; it has looked for policies once."""
        inner = inner or await self.ledger.server()
        database = Database(self._database_url, timeout_ms=10_000)
        await database.open()
        self._stack.push_async_callback(database.close)
        cases = PolicyCases.over(database, inner.engine, inner.policies, self.clock)
        self._stack.callback(cases.watch.close)
        await cases.watch.refresh()
        await cases.watch.load_past_versions()
        # The calls of these tests have no deadline of their own; a policy of 600 budgets takes its
        # time on a busy machine.
        settings = Settings(listen_address="127.0.0.1:0", default_deadline_ms=30_000)
        server = GrpcServer(inner.authority, settings, policy=cases)
        address = await server.start()
        self._stack.push_async_callback(server.stop, 0)
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(address))
        return PolicyServer(
            inner,
            database,
            cases,
            policy_grpc.PolicyServiceStub(channel),
            authority_grpc.BudgetAuthorityServiceStub(channel),
            usage_grpc.UsageServiceStub(channel),
        )


@asynccontextmanager
async def open_policy_world(
    redis_url: str, database_url: str, key_namespace: str
) -> AsyncIterator[tuple[PolicyWorld, PolicyServer]]:
    """Open one server without a policy."""
    async with (
        open_ledger_world(redis_url, database_url, key_namespace) as ledger,
        AsyncExitStack() as stack,
    ):
        world = PolicyWorld(ledger, database_url, stack)
        yield world, await world.server(ledger.servers[0])


async def refused(call: Awaitable[object]) -> Failure:
    """Return how a call failed; it must."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return failure(raised.value)
