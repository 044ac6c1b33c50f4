"""Requests while nothing can be decided: refused, or granted unchecked where every budget is open.

Goal: T68, both are counted, nothing is granted from an empty counter, and what was used is booked
once afterwards, whatever had become of the reservation. Method: a server over gRPC behind a proxy
that fails between it and a real Redis, and the Python client in front of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from engine_calls import ask, balance, denied, granted, refused, used
from engine_world import SECOND, Server, World, open_world
from service_metrics import Counts
from service_server import failure

from bursar.domain.answer import Decision
from bursar.domain.errors import JournalFull, ShardCold, StoreFull, StoreUnavailable
from bursar.engine.shards import EngineLimits
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings
from bursar_client import AsyncClient, Denial
from engine_redis import own_redis
from fault_proxy import FaultProxy

POLICY: dict[str, Any] = {
    "org": "acme",
    "budgets": [
        {"name": "open", "limit": {"tokens": 1_000}, "window": "day", "on_unavailable": "open"},
        {"name": "closed", "scope": {"team": "t"}, "limit": {"tokens": 1_000}, "window": "day"},
        {"name": "cap", "limit": {"output_tokens": 100}, "window": "request"},
    ],
}
BOTH = ("open", {}), ("closed", {"team": "t"})


@dataclass(frozen=True)
class Failing:
    """A server whose way to Redis can fail, one that has its own, and a client of the first."""

    world: World
    proxy: FaultProxy
    server: Server
    client: AsyncClient
    stub: pb_grpc.BudgetAuthorityServiceStub


@asynccontextmanager
async def failing(redis_url: str, key_namespace: str) -> AsyncIterator[Failing]:
    async with (
        FaultProxy(redis_url) as proxy,
        open_world(redis_url, key_namespace, POLICY) as world,
    ):
        server = await world.server(url=proxy.url, timeout_ms=400)
        grpc_server = GrpcServer(server.authority, Settings(listen_address="127.0.0.1:0"))
        address = await grpc_server.start()
        try:
            async with (
                grpc.aio.insecure_channel(address) as channel,
                AsyncClient(address) as client,
            ):
                stub = pb_grpc.BudgetAuthorityServiceStub(channel)
                yield Failing(world, proxy, server, client, stub)
        finally:
            await grpc_server.stop(0)


def request(request_id: str, **subject: str) -> pb.ReserveRequest:
    return pb.ReserveRequest(
        request_id=request_id,
        subject={"org": "acme", **subject},
        target={"model": "m"},
        estimate={"input_tokens": 50, "max_output_tokens": 50},
    )


async def test_open_and_closed(redis_url: str, key_namespace: str) -> None:
    """Goal: T68, open budgets grant and say so, closed ones refuse, and metrics tell both.

    Method: the same requests while Redis refuses connections, each alone and all in a batch.
    """
    async with failing(redis_url, key_namespace) as found:
        counts = Counts()
        found.proxy.refuse()
        answer = await found.stub.Reserve(request("a"))
        assert answer.decision == 1 and answer.not_enforced and not answer.unbudgeted
        assert answer.reservation_id.startswith("acme.")
        assert not answer.HasField("expire_time") and not answer.HasField("ttl")
        assert [each.budget for each in answer.counters] == ["cap"]
        [notice] = answer.directive.notices
        assert (notice.budget, notice.kind) == ("open", 5)
        assert "STORE_UNAVAILABLE" in notice.message
        with pytest.raises(grpc.RpcError) as caught:
            await found.stub.Reserve(request("b", team="t"))
        assert failure(caught.value).reason == "STORE_UNAVAILABLE"
        check = pb.CheckRequest(subject={"org": "acme"}, target={"model": "m"})
        checked = (await found.stub.Check(check)).decision
        assert checked.not_enforced and not checked.reservation_id
        batch = pb.BatchRequest(
            operations=[{"reserve": request("c")}, {"reserve": request("d", team="t")}]
        )
        first, second = (await found.stub.Batch(batch)).results
        assert first.reserve.not_enforced
        assert second.error.reason == 10 and second.error.retry_after.ToMilliseconds() == 200
        assert counts.of("bursar.grants.not_enforced", "reason") == {"STORE_UNAVAILABLE": 2}
        assert sum(counts.of("bursar.errors").values()) == 2
        await found.proxy.heal()
        assert await used(found.world.authority, "open") == (0, 0)


async def test_what_was_used_is_recorded_once(redis_url: str, key_namespace: str) -> None:
    """Goal: the usage of an unchecked call is booked once, without a change in the caller.

    Method: the client's block while Redis is away: its commit waits, and is a record afterwards;
    repeated by hand it changes nothing.
    """
    async with failing(redis_url, key_namespace) as found:
        found.proxy.refuse()
        reservation = await found.client.try_reserve(
            org="acme", model="m", input_tokens=50, max_output_tokens=50
        )
        assert not isinstance(reservation, Denial)
        assert reservation.grant.not_enforced and reservation.expire_time is None
        await found.proxy.heal()
        async with reservation:
            reservation.call_started()
            settled = await reservation.commit(input_tokens=40, output_tokens=30)
        assert settled.recorded and not settled.queued
        assert await used(found.world.authority, "open") == (70, 0)
        with pytest.raises(grpc.RpcError) as caught:
            await found.stub.Commit(
                pb.CommitRequest(
                    reservation_id=reservation.reservation_id,
                    usage={"input_tokens": 40, "output_tokens": 30},
                    target={"model": "m"},
                )
            )
        assert failure(caught.value).reason == "RESERVATION_NOT_FOUND"
        assert await used(found.world.authority, "open") == (70, 0)


async def test_a_call_that_was_not_made(redis_url: str, key_namespace: str) -> None:
    """Goal: giving back what is not held is no error. Method: a block that calls nothing."""
    async with failing(redis_url, key_namespace) as found:
        found.proxy.refuse()
        reservation = await found.client.try_reserve(
            org="acme", model="m", input_tokens=50, max_output_tokens=50
        )
        assert not isinstance(reservation, Denial)
        await found.proxy.heal()
        await reservation.release()
        assert await used(found.world.authority, "open") == (0, 0)


async def test_a_reservation_whose_answer_was_lost(redis_url: str, key_namespace: str) -> None:
    """Goal: where it is held after all, the commit settles the hold, and nothing counts twice.

    Method: Redis books the reservation and its reply is lost.
    """
    async with failing(redis_url, key_namespace) as found:
        authority = found.server.authority
        await granted(authority, ask("first", ttl_ms=SECOND, max_output_tokens=1))
        found.proxy.lose_replies("EVALSHA", 1)
        reservation = await found.client.try_reserve(
            org="acme", model="m", input_tokens=50, max_output_tokens=50
        )
        assert not isinstance(reservation, Denial) and reservation.grant.not_enforced
        assert await used(found.world.authority, "open") == (0, 101)
        settled = await reservation.commit(input_tokens=40, output_tokens=30)
        assert not settled.recorded
        assert await used(found.world.authority, "open") == (70, 1)


async def test_asked_again_when_it_is_back(redis_url: str, key_namespace: str) -> None:
    """Goal: the same request is then decided as any other. Method: unchecked, then held."""
    async with failing(redis_url, key_namespace) as found:
        found.proxy.refuse()
        first = await found.stub.Reserve(request("a"))
        await found.proxy.heal()
        again = await found.stub.Reserve(request("a"))
        assert first.not_enforced and not again.not_enforced
        assert again.reservation_id == first.reservation_id and again.HasField("expire_time")
        assert await used(found.world.authority, "open") == (0, 100)
        assert {each.budget for each in again.counters} == {"open", "cap"}


async def test_a_cap_on_each_request_binds(redis_url: str, key_namespace: str) -> None:
    """Goal: what needs no counter is enforced all the same. Method: more output than the cap."""
    async with failing(redis_url, key_namespace) as found:
        found.proxy.refuse()
        asked = request("a")
        asked.estimate.max_output_tokens = 500
        answer = await found.stub.Reserve(asked)
        assert answer.not_enforced and answer.decision == 2
        assert answer.max_output_tokens == 100


async def lose_data(world: World) -> None:
    for name in await world.redis.keys(f"{{{world.keys.namespace}*"):
        await world.redis.delete(name)


async def fill_journal(world: World) -> None:
    """Let one more call wait to be recorded than may: the bound of the world is one."""
    await granted(world.authority, ask("filler"))


FAULTS: dict[str, tuple[Callable[[World], Any], type[Exception], str]] = {
    "cold": (lose_data, ShardCold, "SHARD_COLD"),
    "journal": (fill_journal, JournalFull, "JOURNAL_FULL"),
}


@pytest.mark.parametrize(("fault", "error", "reason"), FAULTS.values(), ids=FAULTS)
async def test_every_reason(
    redis_url: str,
    key_namespace: str,
    fault: Callable[[World], Any],
    error: type[Exception],
    reason: str,
) -> None:
    """Goal: lost data and a full journal are answered as an absent Redis. Method: make them so."""
    limits = EngineLimits(journal_entries_max=1)
    async with open_world(redis_url, key_namespace, POLICY, limits=limits) as world:
        world.lossy = True
        await fault(world)
        answer = await world.authority.reserve(ask("a", max_output_tokens=50))
        assert (answer.decision, answer.not_enforced) == (Decision.GRANTED, reason)
        assert isinstance(await refused(world.authority, ask("b", team="t")), error)
        batch = await world.authority.batch([ask("c"), ask("d", team="t")])
        assert [type(each).__name__ for each in batch] == ["ReserveAnswer", error.__name__]


async def test_a_full_redis(tmp_path: Path, key_namespace: str) -> None:
    """Goal: the same where Redis is out of memory. Method: one of its own with none left."""
    with own_redis(tmp_path) as own:
        async with open_world(own.url, key_namespace, POLICY) as world:
            world.lossy = True
            await world.redis.config_set("maxmemory", "1kb")
            answer = await world.authority.reserve(ask("a", max_output_tokens=50))
            assert answer.not_enforced == "STORE_FULL"
            assert isinstance(await refused(world.authority, ask("b", team="t")), StoreFull)
            await world.redis.config_set("maxmemory", "0")
            await denied(world.authority, ask("c", input_tokens=2_000))


async def test_redis_that_stalls_costs_its_timeout_once(redis_url: str, key_namespace: str) -> None:
    """Goal: nobody waits longer than for Redis itself.

    Method: it is silent; the answer comes before a second attempt could have ended.
    """
    async with failing(redis_url, key_namespace) as found:
        found.proxy.stall()
        answer = await found.stub.Reserve(request("a"), timeout=0.75)
        assert answer.not_enforced
        error = await refused(found.server.authority, ask("b", team="t"))
        assert isinstance(error, StoreUnavailable)
        await found.proxy.heal()
        for name, levels in BOTH:
            assert (await balance(found.world.authority, name, **levels)).committed == 0
