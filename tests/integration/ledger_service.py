"""A server over gRPC with rows in its ledger, and shards that stand as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import grpc.aio
from engine_world import HandClock
from ledger_rows import ms, opened

from bursar.authority.authority import Authority
from bursar.authority.policies import Policies
from bursar.authority.records import Records
from bursar.domain.errors import ShardCold
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.differences import VerifyReport
from bursar.ledger.status import ShardState, ShardStatus, Verification
from bursar.pb import admin_service_pb2_grpc as admin_grpc
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings

NOW_MS = ms("2026-03-20T10:20")
ORGS = ("acme", "umbrella")
CLEAN = VerifyReport(10, 2, (), 0, 0)


@dataclass
class ScriptedShards:
    """Shards as a server would find them: what a test says, and what was asked of them.

    A rebuild is seen as done by the second look after it.
    """

    states: list[ShardStatus]
    last: Verification | None = None
    reports: dict[int, VerifyReport] = field(default_factory=dict)
    verified: list[tuple[int, str, bool, bool]] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    cold_answers: int = 0

    async def shards(self) -> Sequence[ShardStatus]:
        found = tuple(self.states)
        for at, each in enumerate(self.states):
            if each.state is ShardState.REBUILDING:
                epoch = each.epoch + "+"
                self.states[at] = replace(each, epoch=epoch, state=ShardState.LIVE)
        return found

    def verification(self) -> Verification | None:
        return self.last

    async def rebuild(self, shards: Sequence[int]) -> None:
        for shard in shards:
            self.rebuilt.append(shard)
            self.states[shard] = replace(self.states[shard], state=ShardState.REBUILDING)

    async def verify(self, shard: int, *, org: str, deep: bool, repair: bool) -> VerifyReport:
        self.verified.append((shard, org, deep, repair))
        if self.cold_answers > 0:
            self.cold_answers -= 1
            raise ShardCold("it is being rebuilt")
        return self.reports.get(shard, CLEAN)


@dataclass
class LedgerService:
    """A running server, its ledger and its shards."""

    address: str
    database: Database
    shards: ScriptedShards
    keys: Keys
    usage: usage_grpc.UsageServiceAsyncStub
    admin: admin_grpc.AdminServiceAsyncStub


@asynccontextmanager
async def serving_ledger(
    database_url: str, redis_url: str, *, shard_count: int = 4
) -> AsyncIterator[LedgerService]:
    """Run a server over a database that is made ready for the rows of tests."""
    keys = Keys("t", shard_count)
    documents = [
        f"org: {org}\nbudgets: [{{name: d, limit: {{usd: 1}}, window: day}}]" for org in ORGS
    ]
    policies = Policies([compile_policy(parse_policy(text, "policy")) for text in documents])
    clock = HandClock(NOW_MS)
    shards = ScriptedShards(
        [ShardStatus(each, f"e{each}", ShardState.LIVE) for each in range(shard_count)]
    )
    store = Store(redis_url, timeout_ms=5_000)
    async with opened(database_url) as database:
        records = Records(
            database,
            keys,
            policies,
            clock,
            server_id="server-1",
            overseer=shards,
            verify=shards.verify,
        )
        engine = RedisEngine(Shards(store, keys, EngineLimits()))
        settings = Settings(listen_address="127.0.0.1:0")
        server = GrpcServer(Authority(engine, policies, clock), settings, records)
        address = await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                usage = usage_grpc.UsageServiceStub(channel)
                admin = admin_grpc.AdminServiceStub(channel)
                yield LedgerService(address, database, shards, keys, usage, admin)
        finally:
            await server.stop(0)
            await store.close()
