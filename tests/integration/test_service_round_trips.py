"""How often a call asks Redis: once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest_asyncio
from google.protobuf.message import Message
from service_server import (
    POLICY,
    Service,
    commit_request,
    record_request,
    reserve_request,
    serving,
)

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from bursar.pb import usage_service_pb2 as usage_pb
from fault_proxy import FaultProxy

BY_MODEL = "  - {name: small, scope: {model: m-small}, limit: {tokens: 100000}, window: day}\n"
ONE_SCRIPT = {"EVALSHA": 1}
SUBJECT = types_pb2.Subject(org="acme", user="u1")
TARGET = types_pb2.Target(model="m1")


class Watched(NamedTuple):
    """A server whose commands to Redis are counted."""

    service: Service
    proxy: FaultProxy

    async def commands_of(self, method: str, request: Message) -> dict[str, int]:
        """Make a call, and return what it sent to Redis, by command."""
        before = Counter(self.proxy.counts)
        await self.service.call(method, request)
        return dict(self.proxy.counts - before)

    async def reserve(self) -> str:
        answer = await self.service.authority.Reserve(reserve_request())
        return answer.reservation_id


@pytest_asyncio.fixture
async def watched(redis_url: str) -> AsyncIterator[Watched]:
    """A server with a connection and every script at hand."""
    async with (
        FaultProxy(redis_url) as proxy,
        serving(redis_url, store_url=proxy.url, policies=(POLICY + BY_MODEL,)) as service,
    ):
        watched = Watched(service, proxy)
        held = await watched.reserve()
        await service.authority.Extend(
            pb.ExtendRequest(reservation_id=held, ttl={"seconds": 60}, max_output_tokens=10)
        )
        await service.authority.Commit(commit_request(held))
        await service.authority.Record(record_request())
        await service.usage.GetBalances(usage_pb.GetBalancesRequest(subject=SUBJECT))
        yield watched


async def test_each_call_is_one_script(watched: Watched) -> None:
    """Goal: one round trip for each call on the way of an LLM call. Method: count its commands."""
    reserve = reserve_request()
    held = [await watched.reserve() for _ in range(4)]
    requests: list[tuple[str, Message]] = [
        ("Reserve", reserve),
        ("Reserve", reserve),
        ("Reserve", reserve_request(estimate={"input_tokens": 10**9, "max_output_tokens": 1})),
        ("Check", pb.CheckRequest(subject=SUBJECT, target=TARGET)),
        ("Extend", pb.ExtendRequest(reservation_id=held[0], ttl={"seconds": 90})),
        ("Commit", commit_request(held[0], partial=True, sequence=1)),
        ("Commit", commit_request(held[0])),
        ("Commit", commit_request(held[0])),
        ("Release", pb.ReleaseRequest(reservation_id=held[1])),
        ("Record", record_request()),
        ("GetBalances", usage_pb.GetBalancesRequest(subject=SUBJECT)),
        ("Explain", usage_pb.ExplainRequest(subject=SUBJECT, target=TARGET)),
    ]
    for method, request in requests:
        assert await watched.commands_of(method, request) == ONE_SCRIPT, (method, request)


async def test_new_amounts_take_a_look_at_the_hold_first(watched: Watched) -> None:
    """Goal: growing a hold is two round trips, as documented. Method: count its commands."""
    request = pb.ExtendRequest(reservation_id=await watched.reserve(), max_output_tokens=80)
    assert await watched.commands_of("Extend", request) == {"EVALSHA": 2}


async def test_another_model_than_granted_is_a_second_script(watched: Watched) -> None:
    """Goal: only a commit whose model was not the granted one asks again. Method: count both.

    A budget of the policy depends on the model.
    """
    request = commit_request(await watched.reserve(), target={"model": "m-small"})
    assert await watched.commands_of("Commit", request) == {"EVALSHA": 2}


async def test_a_batch_is_a_script_for_each_run_of_a_kind(watched: Watched) -> None:
    """Goal: a batch of one kind and org is one round trip. Method: 50 reserves, then a mix."""
    reserves = [{"reserve": reserve_request()} for _ in range(50)]
    batch = pb.BatchRequest(operations=reserves)
    assert await watched.commands_of("Batch", batch) == ONE_SCRIPT
    held = [await watched.reserve() for _ in range(20)]
    settles = [{"commit": commit_request(each)} for each in held[:10]]
    settles += [{"release": {"reservation_id": each}} for each in held[10:]]
    records = [{"record": record_request()} for _ in range(10)]
    batch = pb.BatchRequest(operations=[*settles, *records])
    assert await watched.commands_of("Batch", batch) == {"EVALSHA": 2}


async def test_what_is_refused_by_itself_asks_nothing(watched: Watched) -> None:
    """Goal: bad input costs Redis nothing. Method: a batch of nothing but bad operations."""
    operations = [
        {"reserve": reserve_request(request_id="")},
        {"reserve": reserve_request(subject={"org": "nobody"})},
        {"commit": commit_request("acme.x")},
        {"release": {"reservation_id": "nobody." + "a" * 24}},
    ]
    assert await watched.commands_of("Batch", pb.BatchRequest(operations=operations)) == {}


async def test_a_forgotten_script_costs_one_more(watched: Watched) -> None:
    """Goal: the count can see more than one. Method: the same after SCRIPT FLUSH."""
    await watched.service.store.script_flush()
    first, second = reserve_request(), reserve_request()
    assert await watched.commands_of("Reserve", first) == {"EVALSHA": 1, "EVAL": 1}
    assert await watched.commands_of("Reserve", second) == ONE_SCRIPT


async def test_a_second_connection_is_opened_only_when_needed(watched: Watched) -> None:
    """Goal: calls one after another share a connection. Method: 20 of them."""
    links = watched.proxy.links_made
    for _ in range(20):
        await watched.reserve()
    assert watched.proxy.links_made == links
