"""T18, T19, T24, T25, T26: holds that nobody settles in time, and commits that come late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from engine_books import assert_books_balance
from engine_calls import (
    MODELS,
    TTL_MS,
    ask,
    commit,
    granted,
    refused,
    release,
    seeded,
    used,
)
from engine_state import counters, expiries, holds
from engine_world import HOUR, MINUTE, SECOND, HandClock, World, open_world

from bursar.domain.answer import HoldState, ReserveAnswer, SettleAnswer
from bursar.domain.errors import BursarError, ReservationExpired, ShardCold
from bursar.engine.operations import Swept
from bursar.engine.shards import EngineLimits

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000000}}, window: day}}
  - {{name: hour, limit: {{tokens: 10000000}}, window: {{rolling: 1h}}}}
  - {{name: charged, scope: {{team: red}}, limit: {{tokens: 9000}}, window: day, on_expiry: charge}}
  - {{name: tasks, per: [task], limit: {{tokens: 1000}}, window: {{task: 10m}}}}
  - {{name: at-once, limit: {{concurrency: 20000}}}}
{MODELS}
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, servers=4) as world:
        yield world


async def leak(world: World, count: int, **given: object) -> list[ReserveAnswer]:
    """Reserve 10 tokens so many times, in batches, and settle none."""
    found: list[ReserveAnswer] = []
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        batch = [ask(f"leak{number}", input_tokens=9, **given) for number in numbers]
        answers = await world.authority.batch(batch)
        found += [each for each in answers if isinstance(each, ReserveAnswer)]
    assert len({each.reservation_id for each in found}) == count
    return found


async def test_t18_commit_races_the_sweeper(world: World) -> None:
    """T18. Goal: around its expiry each hold is committed once and holds nothing; late ones say so.

    Method: 1,000 holds and their commits, a hundred at once, on servers whose clocks are 5 ms
    before to 5 ms after expiry, with three sweepers that are there, 1 ms and 5 ms past it. A commit
    is late where its own clock says so, or where a sweeper was first.
    """
    leaked = await leak(world, 1_000)
    expiry_ms = world.clock.at_ms + TTL_MS
    offsets_ms = (-5, -1, 0, 1, 5)
    committers = [await world.server(clock=HandClock(expiry_ms + each)) for each in offsets_ms]
    sweepers = [await world.server(clock=HandClock(expiry_ms + each)) for each in (0, 1, 5)]
    swept, done = [0, 0, 0], asyncio.Event()

    async def sweep(number: int) -> None:
        while not done.is_set():
            swept[number] += (await sweepers[number].authority.sweep(20)).expired

    async def commit_all() -> list[SettleAnswer]:
        try:
            answers: list[SettleAnswer] = []
            for first in range(0, 1_000, 100):
                answers += await asyncio.gather(
                    *(
                        committers[number % 5].authority.settle(commit(hold, input_tokens=7))
                        for number, hold in enumerate(leaked[first : first + 100])
                    )
                )
            return answers
        finally:
            done.set()

    answers, *_ = await asyncio.gather(commit_all(), *(sweep(number) for number in range(3)))
    assert {answer.state for answer in answers} == {HoldState.COMMITTED}
    assert [answer.replayed for answer in answers].count(True) == 0
    books = await assert_books_balance(world.redis, world.keys)
    assert set(books.events.values()) == {1}
    expired = {name.rpartition(":")[2] for kind, name in books.events if kind == "expire"}
    for number, answer in enumerate(answers):
        was_first = answer.reservation_id.partition(".")[2] in expired
        assert answer.late is (was_first or offsets_ms[number % 5] >= 0)
    assert sum(kind == "commit" for kind, _ in books.events) == 1_000
    assert len(expired) == sum(swept)
    assert 20 < sum(swept) < 980  # Both sides won some.
    assert await expiries(world.redis, world.keys) == {}
    world.clock.at_ms = expiry_ms
    assert await used(world.authority, "day") == (7_000, 0)
    assert await used(world.authority, "at-once") == (0, 0)


async def test_t19_a_late_commit_lands_in_its_own_window(world: World) -> None:
    """T19. Goal: a commit after expiry, in the next window, is booked in the old one.

    Method: reserved a minute before midnight, expired, committed an hour later; the new day is
    untouched and the sum over both is what was used.
    """
    midnight = world.clock.at_ms + 12 * HOUR
    world.clock.at_ms = midnight - MINUTE
    hold = await granted(world.authority, ask("a", input_tokens=9, team="red"))
    world.clock.at_ms = midnight + 5 * SECOND
    assert (await world.authority.sweep(10)).expired == 1
    await granted(world.authority, ask("today", input_tokens=0))
    world.clock.at_ms = midnight + HOUR
    before = {name: each for name, each in (await counters(world.redis, world.keys)).items()
              if name.endswith(f"day@{midnight}")}  # fmt: skip
    answer = await world.authority.settle(commit(hold, input_tokens=400))
    assert answer.late
    days = {
        name: (each.get("c", 0), each["h"])
        for name, each in (await counters(world.redis, world.keys)).items()
        if ":day:" in name or ":charged:" in name
    }
    assert sorted(days.values()) == [(0, 1), (400, 0), (400, 0)]
    assert {name: each for name, each in (await counters(world.redis, world.keys)).items()
            if name.endswith(f"day@{midnight}")} == before  # fmt: skip
    assert await used(world.authority, "day") == (0, 1)


async def test_t24_ten_thousand_leaked_holds(world: World) -> None:
    """T24. Goal: what nobody settles is freed by the next sweeps, while reserves go on.

    Method: 10,000 holds; one ms before their expiry nothing is freed, at it 20 sweeps of 500 free
    all. Each sweep is one bounded step, so a reserve waits for one at the most: reserves that run
    meanwhile are all granted.
    """
    await leak(world, 10_000)
    assert await used(world.authority, "day") == (0, 100_000)
    world.clock.at_ms += TTL_MS - 1
    assert (await world.authority.sweep(500)).expired == 0
    assert await used(world.authority, "day") == (0, 100_000)
    world.clock.at_ms += 1
    sweeps, waits_s, done = 0, [], asyncio.Event()

    async def sweep() -> None:
        nonlocal sweeps
        more = True
        while more:
            swept = await world.authority.sweep(500)
            assert swept.expired <= 500
            sweeps, more = sweeps + 1, swept.more
        done.set()

    async def reserve() -> None:
        number = 0
        while not done.is_set():
            begun_s = time.monotonic()
            await granted(world.servers[1].authority, ask(f"new{number}", input_tokens=0))
            waits_s.append(time.monotonic() - begun_s)
            number += 1

    await asyncio.gather(sweep(), reserve())
    assert sweeps <= 21
    assert len(waits_s) >= 10
    assert sorted(waits_s)[len(waits_s) // 2] < 1
    assert await used(world.authority, "day") == (0, len(waits_s))
    assert set(await expiries(world.redis, world.keys)) == {
        name for name, hold in (await holds(world.redis, world.keys)).items() if hold.state == 1
    }


async def test_t25_several_sweepers_expire_each_hold_once(world: World) -> None:
    """T25. Goal: sweepers on every server free a hold once.

    Method: 1,000 leaked holds, of which some are released meanwhile; four servers sweep at once
    in small steps; the journal has one expiry or one release of each.
    """
    leaked = await leak(world, 1_000)
    world.clock.at_ms += TTL_MS

    async def sweep(number: int) -> int:
        total, more = 0, True
        while more:
            swept = await world.servers[number].authority.sweep(30)
            total, more = total + swept.expired, swept.more
        return total

    async def release_some() -> None:
        for hold in seeded(25).sample(leaked, 50):
            await world.servers[0].authority.settle(release(hold))

    totals, _ = await asyncio.gather(
        asyncio.gather(*(sweep(number) for number in range(4))), release_some()
    )
    books = await assert_books_balance(world.redis, world.keys)
    assert set(books.events.values()) == {1}
    expired = [name for kind, name in books.events if kind == "expire"]
    assert len(expired) == sum(totals)
    assert min(totals) > 0
    assert await used(world.authority, "day") == (0, 0)


@pytest.mark.parametrize(
    "end,booked",
    [
        pytest.param("never", 500, id="never-settled"),
        pytest.param("less", 40, id="late-commit-of-less"),
        pytest.param("more", 700, id="late-commit-of-more"),
        pytest.param("nothing", 0, id="late-commit-of-nothing"),
        pytest.param("release", 0, id="late-release"),
    ],
)
async def test_t26_charge_on_expiry(world: World, end: str, booked: int) -> None:
    """T26. Goal: `on_expiry: charge` books the estimate; what comes late replaces it.

    Method: a hold of 500 tokens of which 100 were committed in a part, or none, expires and is
    settled late in each way. Only the budget that says so is charged.
    """
    for parts in (0, 1):
        request = ask(f"r{parts}", input_tokens=499, team="red", task=f"t{parts}")
        before = (await used(world.authority, "charged", team="red"))[0]
        hold = await granted(world.authority, request)
        if parts:
            await world.authority.settle(commit(hold, part=1, input_tokens=100))
        world.clock.at_ms += TTL_MS
        swept = await world.authority.sweep(10)
        assert (swept.expired, swept.charged) == (1, 1)
        assert await used(world.authority, "charged", team="red") == (before + 500, 0)
        assert await used(world.authority, "tasks", task=f"t{parts}") == (100 * parts, 0)
        late: SettleAnswer | None = None
        match end:
            case "release":
                late = await world.authority.settle(release(hold))
            case "less" | "more" | "nothing":
                tokens = {"less": 40, "more": 700, "nothing": 0}[end]
                late = await world.authority.settle(commit(hold, input_tokens=tokens))
                [charge] = [each for each in late.charges if each.meter == "total_tokens"]
                assert charge.amount == tokens
        assert late is None or late.late
        part = 100 * parts if end != "never" else 0
        assert await used(world.authority, "charged", team="red") == (before + booked + part, 0)
        if late is not None:
            rest = {"less": 40, "more": 700}.get(end, 0)
            assert await used(world.authority, "tasks", task=f"t{parts}") == (100 * parts + rest, 0)


async def test_t26_the_charge_counts_in_the_old_window_until_replaced(world: World) -> None:
    """T26. Goal: a charge and its replacement belong to the window of the reservation.

    Method: charged at expiry after midnight, replaced the next noon.
    """
    midnight = world.clock.at_ms + 12 * HOUR
    world.clock.at_ms = midnight - SECOND
    hold = await granted(world.authority, ask("a", input_tokens=499, team="red"))
    world.clock.at_ms = midnight + MINUTE
    await world.authority.sweep(10)
    await granted(world.authority, ask("b", input_tokens=499, team="red"))

    async def days() -> list[tuple[int, int]]:
        found = await counters(world.redis, world.keys)
        return [(each.get("c", 0), each["h"]) for name, each in sorted(found.items())
                if ":charged:" in name]  # fmt: skip

    assert await days() == [(500, 0), (0, 500)]
    world.clock.at_ms = midnight + 12 * HOUR
    await world.authority.settle(commit(hold, input_tokens=30))
    assert await days() == [(30, 0), (0, 500)]


async def test_late_calls_of_each_kind(world: World) -> None:
    """Goal: after expiry one final commit or release is accepted, and nothing else.

    Method: a part, a commit, its repetition, another content and a release.
    """
    hold = await granted(world.authority, ask("a", input_tokens=9))
    world.clock.at_ms += TTL_MS
    await world.authority.sweep(10)
    error = await refused(world.authority, commit(hold, part=1, input_tokens=1))
    assert isinstance(error, ReservationExpired)
    assert error.metadata == {"expireTimeMs": str(hold.expire_ms)}
    first = await world.authority.settle(commit(hold, input_tokens=5))
    again = await world.servers[1].authority.settle(commit(hold, input_tokens=5))
    assert (first.late, again.late, again.replayed) == (True, True, True)
    for operation in (commit(hold, input_tokens=6), release(hold)):
        assert isinstance(await refused(world.authority, operation), BursarError)
    assert await used(world.authority, "day") == (5, 0)


async def test_expired_holds_are_kept_for_late_commits(redis_url: str, key_namespace: str) -> None:
    """Goal: open holds never end by Redis's clock, ended ones stay for as long as is set.

    Method: what Redis says of their time to live in each state.
    """
    limits = EngineLimits(tombstone_ms=70_000, expired_tombstone_ms=90_000)
    async with open_world(redis_url, key_namespace, POLICY, limits=limits) as world:
        open_hold, settled, expired = await leak(world, 3)
        await world.authority.settle(commit(settled, input_tokens=1))
        await world.authority.settle(commit(open_hold, part=1, input_tokens=1))
        world.clock.at_ms += TTL_MS - 1
        await world.authority.settle(commit(open_hold, part=2, input_tokens=1))
        world.clock.at_ms += 1
        await world.authority.sweep(10)
        left = {}
        for name in await holds(world.redis, world.keys):
            left[name.rpartition(":")[2]] = await world.redis.pttl(name)
        for hold, least, most in (
            (open_hold, -1, -1),
            (settled, 60_000, 70_000),
            (expired, 80_000, 90_000),
        ):
            assert least <= left[hold.reservation_id.partition(".")[2]] <= most


async def test_a_sweep_ends_nothing_that_has_ended(world: World) -> None:
    """Goal: only open holds expire, whatever the expiries say.

    Method: a settled hold and one that is gone are put back into the expiries.
    """
    hold = await granted(world.authority, ask("a", input_tokens=9))
    [name] = await holds(world.redis, world.keys)
    await world.authority.settle(commit(hold, input_tokens=5))
    planted = {name: world.clock.at_ms, name[:-1] + "7": world.clock.at_ms}
    await world.redis.zadd(world.keys.shard_keys(0)[1], planted)
    assert (await world.authority.sweep(10)).expired == 0
    assert await expiries(world.redis, world.keys) == {}
    assert await used(world.authority, "day") == (5, 0)


async def test_shards_are_swept_one_by_one(redis_url: str, key_namespace: str) -> None:
    """Goal: a sweep reaches every shard, and a shard that is lost keeps no other from it.

    Method: holds of eight orgs on several shards; then more of them, and one shard loses its epoch.
    Where it is the only one left with holds that are over, the sweep says once why it cannot end
    them, and from then on passes over it.
    """
    orgs = [f"org{number}" for number in range(8)]
    documents = [POLICY.replace("org: acme", f"org: {org}") for org in orgs]
    async with open_world(redis_url, key_namespace, *documents, shards=16) as world:
        for org in orgs:
            for number in range(3):
                await granted(world.authority, ask(f"r{number}", org=org, input_tokens=9))
        shards = {world.keys.shard_of(org) for org in orgs}
        assert len(shards) > 3
        world.clock.at_ms += TTL_MS
        first = await world.authority.sweep(1)
        assert (first.expired, first.more) == (len(shards), True)
        while (await world.authority.sweep(1)).more:
            pass
        assert await expiries(world.redis, world.keys) == {}
        for org in orgs:
            assert await used(world.authority, "day", org=org) == (0, 0)
            await granted(world.authority, ask("more", org=org, input_tokens=9))
        other = await world.server()
        for org in orgs:
            await granted(other.authority, ask("others", org=org, input_tokens=9))
        lost = min(shards)
        world.lossy = True
        await world.redis.hdel(world.keys.meta(lost), "epoch")
        world.clock.at_ms += TTL_MS
        assert (await world.authority.sweep(10)).expired == 2 * len(
            [org for org in orgs if world.keys.shard_of(org) != lost]
        )
        with pytest.raises(ShardCold):
            await other.authority.sweep(10)
        for server in world.servers:
            assert lost in server.engine.shards.cold
            assert await server.authority.sweep(10) == Swept(0, 0, more=False)
