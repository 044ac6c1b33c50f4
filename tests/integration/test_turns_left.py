"""Callers that leave, and those who wait behind a Redis that is silent.

T55. What callers are told is held against what the journal says was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from engine_calls import ask, carry_out, granted, record, release, used
from engine_state import holds, journal
from engine_world import MINUTE, World, open_world
from turns_callers import DOCUMENTS, ORGS, assert_granted, hold_key, reserving, warm_up

from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.engine.operations import HoldState
from bursar.engine.recent import Acknowledged
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.turns import OPERATIONS_MAX, PIPELINES_MAX, Turns
from fault_proxy import FaultProxy
from polling import eventually_async

CALLERS = 40


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, *DOCUMENTS) as world:
        yield world


async def half_leave_before_it_is_sent(world: World) -> None:
    """T55. Cancel every second caller of a turn that is not sent yet, and check the others."""
    tasks = reserving(world, CALLERS)
    await asyncio.sleep(0)  # Every caller has asked, and nothing is sent before the next step.
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in results[::2]} == {asyncio.CancelledError}
    assert_granted(results[1::2])
    found = (await holds(world.redis, world.keys)).items()
    stayed = {hold_key(world, number) for number in range(1, CALLERS, 2)}
    assert {name for name, hold in found if hold.state is HoldState.OPEN} == stayed
    assert_granted(await asyncio.gather(*reserving(world, CALLERS, "after")))


async def half_leave_while_redis_is_silent(world: World, proxy: FaultProxy) -> None:
    """T55. Cancel every second caller of a turn that Redis has, and check all of them."""
    sent = proxy.counts["EVALSHA"]
    proxy.stall(commands=False)
    tasks = reserving(world, CALLERS)
    await eventually_async(lambda: _is(proxy.counts["EVALSHA"] > sent))
    for task in tasks[::2]:
        task.cancel()
    left = await asyncio.gather(*tasks[::2], return_exceptions=True)
    assert {type(each) for each in left} == {asyncio.CancelledError}
    await proxy.heal()
    assert_granted(await asyncio.gather(*tasks[1::2], return_exceptions=True))
    assert proxy.counts["EVALSHA"] == sent + 1
    assert_granted(await asyncio.gather(*reserving(world, CALLERS, "after")))
    # Half of those who left ask again and find theirs, the other half's end by their time.
    authority = world.servers[-1].authority
    for number in range(0, CALLERS, 4):
        again = await granted(authority, ask(f"r{number}", input_tokens=9))
        assert again.replayed
        await authority.settle(release(again))
    world.clock.at_ms += MINUTE
    swept = await authority.sweep(1_000)
    assert swept.expired == 2 * CALLERS - len(range(0, CALLERS, 4))
    assert await used(authority, "day") == (0, 0)


async def _is(condition: bool) -> bool:
    return condition


class OneForAll(Turns):
    """Turns as they must not be: whoever leaves takes with it all that came at the same moment."""

    def __init__(self, engine: RedisEngine) -> None:
        super().__init__(engine.shards)
        self._together: list[asyncio.Future[list[Any]]] = []

    def add(
        self, shard: int, operations: Sequence[Acknowledged], now_ms: int
    ) -> asyncio.Future[list[Any]]:
        if not self._is_due:
            self._together = []
        results, together = super().add(shard, operations, now_ms), self._together
        together.append(results)
        results.add_done_callback(
            lambda done: [each.cancel() for each in together] if done.cancelled() else None
        )
        return results


async def test_callers_that_leave_before_their_turn_is_sent(world: World) -> None:
    """T55. Goal: nothing is done for them, and everything for the others."""
    await half_leave_before_it_is_sent(world)


async def test_callers_that_leave_while_redis_is_silent(world: World, redis_url: str) -> None:
    """T55. Goal: others are answered, later callers too, and what those who left hold ends."""
    async with FaultProxy(redis_url) as proxy:
        await world.server(url=proxy.url)
        await warm_up(world)
        await half_leave_while_redis_is_silent(world, proxy)


@pytest.mark.parametrize("when", ["before", "silent"])
async def test_that_these_checks_find_harm(world: World, redis_url: str, when: str) -> None:
    """Negative control of the two above: turns where one caller's end is everybody's."""
    async with FaultProxy(redis_url) as proxy:
        server = await world.server(url=proxy.url)
        await warm_up(world)
        server.engine._turns = OneForAll(server.engine)
        with pytest.raises(AssertionError, match="CancelledError"):
            if when == "before":
                await half_leave_before_it_is_sent(world)
            else:
                await half_leave_while_redis_is_silent(world, proxy)


async def test_what_waits_behind_a_silent_redis(world: World, redis_url: str) -> None:
    """Goal: bounded calls of a bounded number of operations, and none for those who have left.

    Method: 1,000 callers while Redis is silent: two calls are under way. Half of the others leave;
    those who stay are answered by as few calls as they need, in their order.
    """
    async with FaultProxy(redis_url) as proxy:
        await world.server(url=proxy.url)
        await warm_up(world)
        sent = proxy.counts["EVALSHA"]
        proxy.stall(commands=False)
        tasks = reserving(world, 1_000)
        await eventually_async(lambda: _is(proxy.counts["EVALSHA"] >= sent + PIPELINES_MAX))
        # While others come and go and are answered, no third call is sent.
        for number in range(50):
            await granted(world.authority, ask(f"else {number}"))
        assert proxy.counts["EVALSHA"] == sent + PIPELINES_MAX
        waiting = tasks[PIPELINES_MAX * OPERATIONS_MAX :]
        for task in waiting[::2]:
            task.cancel()
        await proxy.heal()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        stayed = [each for each in results if not isinstance(each, BaseException)]
        assert len(stayed) == 1_000 - len(waiting[::2])
        assert_granted(stayed)
        assert proxy.counts["EVALSHA"] == sent + PIPELINES_MAX + 1
    entries = [each.events for each in await journal(world.redis, world.keys, 0)][4:]
    large = [each for each in entries if len(each) > 1]
    assert [len(each) for each in large] == [OPERATIONS_MAX] * PIPELINES_MAX + [len(waiting[1::2])]
    done = [event[1].decode() for each in large for event in each]
    left = {hold_key(world, number) for number in range(PIPELINES_MAX * OPERATIONS_MAX, 1_000, 2)}
    expected = [hold_key(world, number) for number in range(1_000)]
    assert done == [key for key in expected if key not in left]


async def test_what_is_given_together_goes_together(world: World) -> None:
    """Goal: a list is never cut, so that it keeps its order, however long it is."""
    count = OPERATIONS_MAX + 50
    before = await carry_out(world.authority, record("before"))
    assert isinstance(before, SettleAnswer)
    answers, _ = await asyncio.gather(
        world.authority.batch([ask(f"l{number}") for number in range(count)]),
        world.authority.reserve(ask("beside")),
    )
    assert {type(each) for each in answers} == {ReserveAnswer}
    sizes = [len(each.events) for each in await journal(world.redis, world.keys, 0)]
    assert sizes == [1, count, 1]


async def test_a_list_that_leaves_is_carried_out_nowhere(
    redis_url: str, key_namespace: str
) -> None:
    """T55. Goal: what is asked for on several shards leaves all of them, and others stay.

    Method: one caller with a list of four orgs on several shards among callers with one each.
    """
    async with open_world(redis_url, key_namespace, *DOCUMENTS, shards=3) as world:
        assert len({world.keys.shard_of(org) for org in ORGS}) > 1
        leaving = asyncio.ensure_future(
            world.authority.batch([ask("list", org=org, input_tokens=9) for org in ORGS])
        )
        staying = [
            asyncio.ensure_future(world.authority.reserve(ask("one", org=org, input_tokens=9)))
            for org in ORGS
        ]
        await asyncio.sleep(0)
        leaving.cancel()
        assert_granted(await asyncio.gather(*staying))
        with pytest.raises(asyncio.CancelledError):
            await leaving
        for org in ORGS:
            assert await used(world.authority, "day", org=org) == (0, 10)
