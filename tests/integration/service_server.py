"""The server as callers meet it: in this process, on a real socket, on a real Redis."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, NamedTuple

import grpc
import grpc.aio
import redis.asyncio as redis
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.process import ServerProcess
from bursar.service.settings import Settings
from databases import own_database

METERS = tuple(f"meter_{number}" for number in range(16))

POLICY = f"""
org: acme
meters: [{", ".join(METERS)}]
models: [{{match: "m*", provider: p, price: {{input: 1, output: 10}}}}]
budgets:
  - {{name: month, limit: {{usd: 1000000}}, window: month}}
  - {{name: user-day, per: [user], limit: {{tokens: 1000000}}, window: day}}
  - {{name: hot, scope: {{feature: hot}}, limit: {{tokens: 1000}}, window: day, alerts: [50, 80]}}
"""

OTHER_POLICY = """
org: umbrella
budgets: [{name: day, limit: {tokens: 1000000}, window: day}]
"""

BUDGET_AUTHORITY = "bursar.v1.BudgetAuthorityService"
USAGE = "bursar.v1.UsageService"


class Failure(NamedTuple):
    """How a call failed, with every detail that it carried."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: Mapping[str, str]
    violations: Mapping[str, str]
    retry_after_ms: int | None


class Service:
    """A running server, and everything to ask and examine it with."""

    def __init__(
        self, process: ServerProcess, channel: grpc.aio.Channel, store: redis.Redis, namespace: str
    ) -> None:
        self.process = process
        self.channel = channel
        self.store = store
        self.namespace = namespace
        self.authority = authority_grpc.BudgetAuthorityServiceStub(channel)
        self.usage = usage_grpc.UsageServiceStub(channel)

    async def dump(self) -> dict[bytes, bytes | None]:
        """Return every key of the server, byte for byte, once what waits is recorded."""
        await self.process._record()
        keys = sorted(await self.store.keys(f"{{{self.namespace}*"))
        async with self.store.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.dump(key)
            return dict(zip(keys, await pipeline.execute(), strict=True))

    async def call(self, method: str, request: Message, timeout_s: float = 10.0) -> Message:
        """Call a method of either service by its name."""
        stub = self.authority if hasattr(self.authority, method) else self.usage
        answer: Message = await getattr(stub, method)(request, timeout=timeout_s)
        return answer

    async def send_bytes(self, path: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Send whatever bytes to a method, `<service>/<method>`."""
        send: Any = self.channel.unary_unary(f"/{path}")
        answer: bytes = await send(data, timeout=timeout_s)
        return answer


@asynccontextmanager
async def serving(
    redis_url: str,
    *,
    store_url: str | None = None,
    policies: tuple[str, ...] = (),
    **changed: object,
) -> AsyncIterator[Service]:
    """Run a server that does little in the background, in a namespace that is removed after.

    It has a database of its own, and records nothing for the first ten seconds.

    Args:
        redis_url: The Redis itself.
        store_url: What the server is told it is, such as a proxy's URL.
        policies: Documents; acme's and umbrella's where none is given.
        changed: Settings that differ.
    """
    given = changed.pop("database_url", None)
    with nullcontext(given) if given else own_database() as database_url:
        async with _serving(redis_url, store_url, policies, database_url, **changed) as service:
            yield service


@asynccontextmanager
async def _serving(
    redis_url: str,
    store_url: str | None,
    policies: tuple[str, ...],
    database_url: str,
    **changed: object,
) -> AsyncIterator[Service]:
    given: dict[str, Any] = {
        "key_namespace": "t" + secrets.token_hex(6),
        "listen_address": "127.0.0.1:0",
        "redis_url": store_url or redis_url,
        "database_url": database_url,
        "shard_count": 2,
        "sweep_interval_ms": 60_000,
        "clock_sync_interval_ms": 3_600_000,
        "record_interval_ms": 10_000,
        "watch_interval_ms": 10_000,
        "drain_grace_ms": 2_000,
    }
    settings = Settings(**{**given, **changed})
    documents = policies or (POLICY, OTHER_POLICY)
    compiled = [compile_policy(parse_policy(text, "policy")) for text in documents]
    process = ServerProcess(settings, compiled)
    store = redis.Redis.from_url(redis_url)
    try:
        try:
            await process.start()
        except BaseException:
            await process.close()
            raise
        try:
            async with grpc.aio.insecure_channel(process.address) as channel:
                yield Service(process, channel, store, settings.key_namespace)
        finally:
            await process.stop()
    finally:
        if keys := await store.keys(f"{{{settings.key_namespace}*"):
            await store.delete(*keys)
        await store.aclose()


def failure(error: grpc.RpcError) -> Failure:
    """Read everything that an error says."""
    assert isinstance(error, grpc.aio.AioRpcError)
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    status: status_pb2.Status | None = rpc_status.from_call(_AsCall(error))
    details = {each.TypeName(): each for each in status.details} if status else {}
    for known in (info, request, retry):
        if (packed := details.get(known.DESCRIPTOR.full_name)) is not None:
            packed.Unpack(known)
    has_retry = retry.DESCRIPTOR.full_name in details
    return Failure(
        error.code(),
        error.details() or "",
        info.reason,
        info.domain,
        dict(info.metadata),
        {each.field: each.description for each in request.field_violations},
        retry.retry_delay.ToMilliseconds() if has_retry else None,
    )


class _AsCall:
    """An aio error in the form that grpc_status reads."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code
        self.details = error.details
        self.trailing_metadata = lambda: tuple(error.trailing_metadata())


def new_id() -> str:
    """Return a request id that nobody used."""
    return str(uuid.uuid4())


def reserve_request(**changed: object) -> pb.ReserveRequest:
    """Return a request that is granted: 100 + 50 tokens for user u1."""
    given: dict[str, Any] = {
        "request_id": new_id(),
        "subject": {"org": "acme", "user": "u1"},
        "target": {"model": "m1"},
        "estimate": {"input_tokens": 100, "max_output_tokens": 50},
    }
    return pb.ReserveRequest(**{**given, **changed})


def commit_request(reservation_id: str, **changed: object) -> pb.CommitRequest:
    """Return a commit of 100 + 20 tokens."""
    given: dict[str, Any] = {
        "reservation_id": reservation_id,
        "usage": {"input_tokens": 100, "output_tokens": 20},
        "target": {"model": "m1"},
    }
    return pb.CommitRequest(**{**given, **changed})


def record_request(**changed: object) -> pb.RecordRequest:
    """Return a record of 100 + 20 tokens for user u1."""
    given: dict[str, Any] = {
        "request_id": new_id(),
        "subject": {"org": "acme", "user": "u1"},
        "target": {"model": "m1"},
        "usage": {"input_tokens": 100, "output_tokens": 20},
    }
    return pb.RecordRequest(**{**given, **changed})
