"""Task windows: a task lives as long as it is used, and begins anew after it was idle."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_calls import ask, commit, denied, extend, granted, record, release, used
from engine_state import counters
from engine_world import HOUR, MINUTE, World, open_world

IDLE_MS = 10 * MINUTE
POLICY = """
org: acme
budgets: [{name: b, per: [task], limit: {tokens: 1000}, window: {task: 10m}}]
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY) as world:
        yield world


@pytest.mark.parametrize("use", ["record", "reserve", "commit", "extend", "denied"])
@pytest.mark.parametrize("gap_ms,lives", [(IDLE_MS, True), (IDLE_MS + 1, False)])
async def test_a_task_begins_anew_after_it_was_idle(
    world: World, use: str, gap_ms: int, lives: bool
) -> None:
    """Goal: the idle time counts from the last use, to the millisecond; a denial is no use.

    Method: 900 tokens, 5 minutes, a use of each kind, and then the idle time or a millisecond more
    of it. What the task has spent is there, or it has all its room again.
    """
    await world.authority.record(record("a", task="t", input_tokens=900))
    hold = await granted(world.authority, ask("b", task="t", input_tokens=9))
    if use not in ("commit", "extend"):
        await world.authority.settle(release(hold))
    begun = world.clock.at_ms
    world.clock.at_ms += IDLE_MS // 2
    match use:
        case "record":
            await world.authority.record(record("c", task="t", input_tokens=0))
        case "reserve":
            await world.authority.settle(
                release(await granted(world.authority, ask("c", task="t", input_tokens=0)))
            )
        case "commit":
            await world.authority.settle(commit(hold, input_tokens=0))
        case "extend":
            await world.authority.extend(extend(hold, ttl_ms=MINUTE))
        case _:
            await denied(world.authority, ask("c", task="t", input_tokens=500))
            world.clock.at_ms = begun
    if use == "extend":
        await world.authority.settle(release(hold))
    world.clock.at_ms += gap_ms
    assert await used(world.authority, "b", task="t") == (900 if lives else 0, 0)
    if lives:
        await denied(world.authority, ask("d", task="t", input_tokens=100))
    else:
        await granted(world.authority, ask("d", task="t", input_tokens=999))
        assert await used(world.authority, "b", task="t") == (0, 1_000)


async def test_an_open_hold_keeps_its_task_alive(world: World) -> None:
    """Goal: while a call is under way its task is not idle, however long it takes.

    Method: a hold of two hours; after one of them what was spent still counts; once it is
    committed, the idle time begins.
    """
    await world.authority.record(record("a", task="t", input_tokens=400))
    hold = await granted(world.authority, ask("b", task="t", input_tokens=499, ttl_ms=2 * HOUR))
    world.clock.at_ms += HOUR
    assert await used(world.authority, "b", task="t") == (400, 500)
    await denied(world.authority, ask("c", task="t", input_tokens=100))
    await world.authority.settle(commit(hold, input_tokens=300))
    assert await used(world.authority, "b", task="t") == (700, 0)
    world.clock.at_ms += IDLE_MS + 1
    assert await used(world.authority, "b", task="t") == (0, 0)


async def test_what_comes_late_belongs_to_the_task_that_was(world: World) -> None:
    """Goal: a late commit of an old task is not charged to the new one under its name.

    Method: a hold expires, the task is idle and begins anew, then the commit comes.
    """
    hold = await granted(world.authority, ask("a", task="t", input_tokens=499))
    world.clock.at_ms += MINUTE
    await world.authority.sweep(10)
    world.clock.at_ms += IDLE_MS + 1
    await granted(world.authority, ask("b", task="t", input_tokens=599))
    assert (await world.authority.settle(commit(hold, input_tokens=450))).late
    assert await used(world.authority, "b", task="t") == (0, 600)
    [fields] = (await counters(world.redis, world.keys)).values()
    assert fields["w"] == world.clock.at_ms
