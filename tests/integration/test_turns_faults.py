"""Turns of which a part fails: everybody else is answered as if it had not been there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_calls import ask, carry_out, commit, extend, granted, record, release, used
from engine_world import MINUTE, World, open_world
from turns_callers import DOCUMENTS, ORGS, assert_granted, reserving

from bursar.domain.answer import ExtendAnswer, ReserveAnswer, SettleAnswer
from bursar.domain.errors import InternalError, ShardCold, StoreFull, StoreUnavailable
from bursar.domain.subject import OrgId
from bursar.domain.window import WindowKind
from bursar.engine.operations import Adjustment, AdjustOperation
from engine_redis import own_redis
from fault_proxy import FaultProxy, Link
from polling import eventually_async


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, *DOCUMENTS) as world:
        yield world


async def test_a_call_that_ends_without_an_answer_keeps_nobody_waiting(
    world: World, redis_url: str
) -> None:
    """Goal: where Redis does not answer in time, its callers are told, and the next are served.

    Method: 600 callers, so that some wait behind those; the latter are sent then, and time out as
    well, until Redis is back.
    """
    async with FaultProxy(redis_url) as proxy:
        server = await world.server(url=proxy.url, timeout_ms=500)
        await granted(server.authority, ask("first"))
        proxy.stall()
        results = await asyncio.gather(*reserving(world, 600), return_exceptions=True)
        assert {type(each) for each in results} == {StoreUnavailable}
        await proxy.heal()

        async def all_granted() -> bool:
            # What had been sent may arrive by now, late; it is found, or done.
            answers = await asyncio.gather(*reserving(world, 600), return_exceptions=True)
            return all(isinstance(each, ReserveAnswer) for each in answers)

        await eventually_async(all_granted)
        assert await used(world.authority, "day") == (0, 1 + 600 * 10)


async def poison(world: World, org: str) -> None:
    """Put something else where a counter of an org is."""
    world.lossy = True
    values = world.servers[0].policies.of(OrgId(org))
    [day, *_] = values.counters(ask("x", org=org).subject, ask("x").target, world.clock.at_ms)
    shard = world.keys.shard_of(org)
    await world.redis.set(world.keys.counter_prefix(shard) + day.id, "broken")


@pytest.mark.parametrize("asked", ["by callers", "in one list"])
async def test_a_broken_counter_harms_nobody_else(world: World, asked: str) -> None:
    """Goal: what meets it fails, and all that came at the same moment is done, once.

    Method: four orgs of one shard reserve, record, extend and commit at once; a counter of the
    first is not what it was. A list is what a session brings from several callers.
    """
    first = {
        org: [
            await granted(world.authority, ask(f"h{number}", org=org, input_tokens=9))
            for number in range(2)
        ]
        for org in ORGS
    }
    await poison(world, ORGS[0])
    operations = [
        operation
        for org in ORGS
        for operation in (
            ask("new", org=org, input_tokens=9),
            record("used", org=org, input_tokens=9),
            extend(first[org][0], ttl_ms=2 * MINUTE),
            commit(first[org][1], input_tokens=5),
        )
    ]
    if asked == "by callers":
        calls = [carry_out(world.authority, each) for each in operations]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    else:
        answers = await world.authority.concurrent(operations)
    kinds = [type(each) for each in answers]
    assert kinds[:4] == [InternalError] * 4
    assert kinds[4:] == [ReserveAnswer, SettleAnswer, ExtendAnswer, SettleAnswer] * 3
    assert not any(getattr(each, "replayed", False) for each in answers)
    for org in ORGS[1:]:
        assert await used(world.authority, "day", org=org) == (14, 20)


async def test_what_goes_wrong_afterwards_reaches_those_who_wait(world: World) -> None:
    """Goal: where an answer cannot be given after all, its callers are told, and nobody hangs.

    Method: waiting until the record has it fails in a way that nobody foresaw.
    """

    async def fail(shard: int, sequence: int) -> None:
        raise RuntimeError(f"{shard} at {sequence}")

    world.engine.shards._confirm = fail
    async with asyncio.timeout(10):
        results = await asyncio.gather(*reserving(world, 5), return_exceptions=True)
    assert {type(each) for each in results} == {RuntimeError}
    world.engine.shards._confirm = None
    again = await asyncio.gather(*reserving(world, 5))
    assert [each.replayed for each in again] == [True] * 5


async def test_what_cannot_be_sent_harms_nobody_else(world: World) -> None:
    """Goal: an operation that cannot be packed fails alone.

    Method: an adjustment of a cap on each request, which has no counter, amid other callers.
    """
    policy = world.servers[0].policies.of(OrgId("acme"))
    request = ask("x")
    counters = policy.counters(request.subject, request.target, world.clock.at_ms)
    [cap] = [each for each in counters if each.budget.window.kind is WindowKind.REQUEST]
    broken = AdjustOperation(OrgId("acme"), "a" * 24, b"", (Adjustment(cap, committed=1),))
    first = reserving(world, 3, "first")
    adjusting = asyncio.ensure_future(world.engine.adjust([broken], world.clock.at_ms))
    results = await asyncio.gather(
        *first, adjusting, *reserving(world, 3, "last"), return_exceptions=True
    )
    assert_granted(results[:3] + results[4:])
    assert isinstance(results[3], Exception)


class DeafLater(FaultProxy):
    """A proxy whose Redis answers some scripts more, and then keeps silent to who asks for one.

    Attributes:
        scripts_left: How many it still answers; None: all.
    """

    scripts_left: int | None = None

    def passed(self, link: Link, name: str) -> None:
        super().passed(link, name)
        if name == "EVALSHA" and self.scripts_left is not None:
            link.deaf = self.scripts_left == 0
            self.scripts_left = max(self.scripts_left - 1, 0)


async def test_trying_again_keeps_no_other_shard_waiting(
    redis_url: str, key_namespace: str
) -> None:
    """Goal: what failed on one shard is tried again while those of others are answered.

    Method: a broken counter on one of two shards, and nobody answers what is tried again.
    """
    async with (
        DeafLater(redis_url) as proxy,
        open_world(redis_url, key_namespace, *DOCUMENTS, shards=3) as world,
    ):
        broken, other = _on_two_shards(world)
        server = await world.server(url=proxy.url)
        await granted(server.authority, ask("first", org=other))
        await poison(world, broken)
        proxy.scripts_left = 2
        failing = [
            asyncio.ensure_future(server.authority.reserve(ask(f"a{number}", org=broken)))
            for number in range(2)
        ]
        # In the same pipeline, behind them.
        await asyncio.ensure_future(granted(server.authority, ask("b", org=other)))
        assert not any(each.done() for each in failing)
        proxy.scripts_left = None
        proxy.cut()
        results = await asyncio.gather(*failing, return_exceptions=True)
        assert {type(each) for each in results} <= {StoreUnavailable, InternalError}


def _on_two_shards(world: World) -> tuple[str, str]:
    """Return an org of the first shard and one of another."""
    first = world.keys.shard_of(ORGS[0])
    return ORGS[0], next(org for org in ORGS if world.keys.shard_of(org) != first)


async def test_a_full_redis_settles_all_of_a_mixed_turn(tmp_path: Path, key_namespace: str) -> None:
    """Goal: out of memory, what is new is refused, and what settles beside it is booked.

    Method: reserves, records, extends, commits, parts and releases of one shard at once.
    """
    with own_redis(tmp_path) as own:
        async with open_world(own.url, key_namespace, *DOCUMENTS) as world:
            open_holds = [
                await granted(world.authority, ask(f"h{number}", input_tokens=99))
                for number in range(8)
            ]
            new = [
                *(ask(f"n{number}", input_tokens=9) for number in range(4)),
                *(record(f"u{number}", input_tokens=9) for number in range(4)),
                *(extend(each, ttl_ms=2 * MINUTE) for each in open_holds[:2]),
            ]
            settling = [
                *(commit(each, input_tokens=10) for each in open_holds[2:5]),
                *(commit(each, part=1, input_tokens=10) for each in open_holds[5:7]),
                release(open_holds[7]),
            ]
            await world.redis.config_set("maxmemory", "1")
            calls = [carry_out(world.authority, each) for each in [*new, *settling]]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            kinds = [type(each) for each in answers]
            assert kinds[: len(new)] == [StoreFull] * len(new)
            assert kinds[len(new) :] == [SettleAnswer] * len(settling)
            await world.redis.config_set("maxmemory", "0")
            assert await used(world.authority, "day") == (50, 2 * 100 + 2 * 90)
            assert_granted(await asyncio.gather(*reserving(world, 4, "n")))


async def test_a_shard_without_data_harms_no_other(redis_url: str, key_namespace: str) -> None:
    """Goal: of a turn of several shards, those that can decide do.

    Method: the data of one shard is gone; callers of four orgs reserve and record at once.
    """
    async with open_world(redis_url, key_namespace, *DOCUMENTS, shards=3) as world:
        world.lossy = True
        gone = world.keys.shard_of(ORGS[0])
        assert any(world.keys.shard_of(org) != gone for org in ORGS)
        await world.redis.delete(world.keys.meta(gone))
        asked = [each for org in ORGS for each in (ask("a", org=org), record("b", org=org))]
        calls = [carry_out(world.authority, each) for each in asked]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for request, result in zip(asked, results, strict=True):
            is_gone = world.keys.shard_of(request.subject.org) == gone
            assert isinstance(result, ShardCold) is is_gone, result
