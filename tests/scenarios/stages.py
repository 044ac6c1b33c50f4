"""Where scenarios are played: the reference model, the engine on Redis, servers over gRPC.

A server is asked by calls of their own, or by one session for all operations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio
import yaml
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bursar.authority.authority import Authority
from bursar.authority.policies import Policies
from bursar.domain.errors import BursarError, FieldInvalid
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.pb import usage_service_pb2_grpc as usage_grpc
from bursar.service.budget_authority import REPLAYED_KEY
from bursar.service.decode import Decoder, decode_query, decode_question
from bursar.service.encode import (
    encode_balances,
    encode_commit,
    encode_explanation,
    encode_extend,
    encode_holds,
    encode_record,
    encode_release,
    encode_reserve,
)
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings
from model.reference import Reference
from scenarios.answers import describe
from scenarios.requests import message
from scenarios.session import FIELD_OF_KIND, OperationFailed, SessionStream
from shards import open_shards

UNKNOWN_HOLD = "a" * 24
SWEEP_BATCH = 100

Answered: TypeAlias = "tuple[Message, bool]"


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time_ms = 0

    def now_ms(self) -> int:
        return self.time_ms


class ModelStage:
    """The reference model."""

    silent_on = frozenset(
        {"by", "message", "notices", "explanation", "counter_offers", "fields", "estimated",
         "tightest", "mode", "resets_ms", "reason"}
    )  # fmt: skip

    def __init__(self, policy: dict[str, Any]) -> None:
        self._reference = Reference(policy)

    async def call(
        self, verb: str, arguments: dict[str, Any], now_ms: int, server: str
    ) -> dict[str, Any]:
        if verb == "list_holds":
            return {"count": self._reference.holds_open(arguments)}
        # The caller's mappings are kept by the model, so it gets its own.
        return self._reference.call(verb, copy.deepcopy(arguments), now_ms)

    async def sweep(self, now_ms: int) -> None:
        self._reference.call("sweep", {}, now_ms)

    async def use_policy(self, policy: dict[str, Any]) -> None:
        self._reference.use_policy(policy)

    async def restart(self) -> None:
        """It has no servers."""


class Transport(Protocol):
    """How messages of the contract reach one server."""

    async def send(self, request: Message) -> Answered:
        """Return the answer and whether it was given before, or raise BursarError or RpcError."""
        ...

    async def close(self) -> None:
        """Give up what it holds."""
        ...


class ContractStage:
    """Servers that speak the contract, all on one Redis and one clock."""

    silent_on: frozenset[str] = frozenset()

    def __init__(
        self,
        policy: dict[str, Any],
        redis_url: str,
        key_namespace: str,
        connect: Callable[[Authority], Transport],
    ) -> None:
        self._org = policy["org"]
        self._policy = compiled(policy)
        self._redis_url, self._key_namespace = redis_url, key_namespace
        self._connect = connect
        self._clock = HandClock()
        self._servers: dict[str, tuple[Store, Policies, Authority, Transport]] = {}
        self._reservations: dict[str, str] = {}

    async def call(
        self, verb: str, arguments: dict[str, Any], now_ms: int, server: str
    ) -> dict[str, Any]:
        self._clock.time_ms = now_ms
        _, _, _, transport = await self._server(server)
        unknown = f"{self._org}.{UNKNOWN_HOLD}"
        reservation_id = self._reservations.get(arguments.get("id", ""), unknown)
        request = message(verb, arguments, self._org, reservation_id)
        try:
            answer, replayed = await transport.send(request)
        except BursarError as error:
            faults = error.faults if isinstance(error, FieldInvalid) else ()
            return {"error": error.reason, "fields": [fault.path for fault in faults]}
        except grpc.aio.AioRpcError as error:
            return _described_error(error)
        except OperationFailed as error:
            return error.described
        if isinstance(answer, pb.ReserveResponse | pb.RecordResponse) and answer.reservation_id:
            self._reservations[arguments["id"]] = answer.reservation_id
        return describe(answer, replayed=replayed)

    async def sweep(self, now_ms: int) -> None:
        self._clock.time_ms = now_ms
        _, _, authority, _ = await self._server("a")
        try:
            while (await authority.sweep(SWEEP_BATCH)).more:
                pass
        except BursarError:
            pass  # A server whose clock is behind leaves it to others.

    async def use_policy(self, policy: dict[str, Any]) -> None:
        self._policy = compiled(policy)
        for _, policies, _, _ in self._servers.values():
            policies.replace(self._policy)

    async def restart(self) -> None:
        await self.close()

    async def close(self) -> None:
        """End every server."""
        for store, _, _, transport in self._servers.values():
            await transport.close()
            await store.close()
        self._servers.clear()

    async def _server(self, name: str) -> tuple[Store, Policies, Authority, Transport]:
        if name not in self._servers:
            store = Store(self._redis_url, timeout_ms=10_000)
            keys = Keys(self._key_namespace, 2)
            engine = RedisEngine(Shards(store, keys, EngineLimits()))
            await open_shards(store, keys, engine, "first")
            policies = Policies([self._policy])
            authority = Authority(engine, policies, self._clock)
            transport = self._connect(authority)
            self._servers[name] = (store, policies, authority, transport)
        return self._servers[name]


class Direct:
    """Decodes, asks the authority and encodes, without a socket in between."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._decoder = Decoder(default_ttl_ms=120_000, ttl_ms_max=86_400_000)

    async def send(self, request: Message) -> Answered:
        authority, decoder = self._authority, self._decoder
        match request:
            case pb.ReserveRequest():
                answer = await authority.reserve(decoder.reserve(request))
                return encode_reserve(answer), answer.replayed
            case pb.CheckRequest():
                answer = await authority.reserve(decoder.check(request))
                return pb.CheckResponse(decision=encode_reserve(answer)), False
            case pb.CommitRequest():
                settled = await authority.settle(decoder.commit(request))
                return encode_commit(settled), settled.replayed
            case pb.ReleaseRequest():
                settled = await authority.settle(decoder.release(request))
                return encode_release(settled), settled.replayed
            case pb.ExtendRequest():
                return encode_extend(await authority.extend(decoder.extend(request))), False
            case pb.RecordRequest():
                settled = await authority.record(decoder.record(request))
                return encode_record(settled), settled.replayed
            case usage_pb.ExplainRequest():
                who, what = decode_question(request.subject, request.target)
                return encode_explanation(await authority.explain(who, what)), False
            case usage_pb.GetBalancesRequest():
                who = decode_query(request.subject, request.page_size, "")
                return encode_balances(await authority.balances(who, request.page_size, "")), False
            case _:
                assert isinstance(request, usage_pb.ListHoldsRequest)
                who = decode_query(request.subject, request.page_size, "")
                return encode_holds(await authority.list_holds(who, request.page_size, "")), False

    async def close(self) -> None:
        """Nothing is held."""


class Grpc:
    """A server on a loopback port and a channel to it."""

    def __init__(self, authority: Authority) -> None:
        self._server = GrpcServer(authority, Settings(listen_address="127.0.0.1:0"))
        self._channel: grpc.aio.Channel | None = None

    async def send(self, request: Message) -> Answered:
        channel = await self._connected()
        authority = pb_grpc.BudgetAuthorityServiceStub(channel)
        usage = usage_grpc.UsageServiceStub(channel)
        method = {
            "ReserveRequest": authority.Reserve,
            "CommitRequest": authority.Commit,
            "ReleaseRequest": authority.Release,
            "ExtendRequest": authority.Extend,
            "RecordRequest": authority.Record,
            "CheckRequest": authority.Check,
            "GetBalancesRequest": usage.GetBalances,
            "ExplainRequest": usage.Explain,
            "ListHoldsRequest": usage.ListHolds,
        }[request.DESCRIPTOR.name]
        call = method(request, timeout=10)
        answer = await call
        trailing = dict(await call.trailing_metadata())
        return answer, trailing.get(REPLAYED_KEY) == "true"

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        await self._server.stop(0)

    async def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(await self._server.start())
        return self._channel


class GrpcSession(Grpc):
    """The same, where every operation that a session takes goes over one."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(authority)
        self._stream: SessionStream | None = None

    async def send(self, request: Message) -> Answered:
        if request.DESCRIPTOR.name not in FIELD_OF_KIND:
            return await super().send(request)
        channel = await self._connected()
        if self._stream is None:
            self._stream = SessionStream(pb_grpc.BudgetAuthorityServiceStub(channel).Session())
        return await self._stream.ask(request)

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        await super().close()


def compiled(policy: dict[str, Any]) -> Any:
    """Return a policy as it decides, by way of its text, as people give it."""
    return compile_policy(parse_policy(yaml.safe_dump(policy), "scenario"))


def _described_error(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    status = rpc_status.from_call(error)
    assert status is not None, error
    described: dict[str, Any] = {}
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            described["error"] = info.reason
        if detail.Unpack(bad):
            described["fields"] = [each.field for each in bad.field_violations]
    return described
