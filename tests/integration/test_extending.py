"""T22: Extend makes a hold last longer, larger or smaller, and never breaks a level."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from engine_calls import (
    MODELS,
    TTL_MS,
    ask,
    commit,
    denied,
    extend,
    granted,
    refused,
    release,
    used,
)
from engine_state import counters, everything, expiries, holds, names
from engine_world import SECOND, World, open_world

from bursar.authority.authority import Authority
from bursar.authority.extend import ATTEMPTS_MAX
from bursar.domain.answer import Decision, DenialKind
from bursar.domain.errors import (
    BursarError,
    ConcurrentChange,
    ReservationCommitted,
    ReservationExpired,
    ReservationReleased,
)
from bursar.engine.operations import ExtendOperation, ExtendOutcome
from bursar.engine.redis_engine import RedisEngine

LEVELS = ("org", "team", "feature", "agent", "user", "task")
WINDOWS = ("month", "week", "day", "hour", "{rolling: 24h}", "{task: 1h}")
WHO = {level: "one" for level in LEVELS if level != "org"}


def level_policy(tightest: str = "", room: int = 0) -> str:
    """Return a budget of tokens on every level, and one of concurrency, all roomy but one."""
    budgets = ["  - {name: at-once, limit: {concurrency: 10}}"]
    for level, window in zip(LEVELS, WINDOWS, strict=True):
        per = "" if level == "org" else f"per: [{level}], "
        limit = room if level == tightest else 100_000
        budgets.append(f"  - {{name: {level}, {per}limit: {{tokens: {limit}}}, window: {window}}}")
    return "\n".join(["org: acme", "budgets:", *budgets, MODELS])


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, level_policy(), servers=4) as world:
        yield world


async def held(world: World) -> dict[str, int]:
    """Return what is held by budget."""
    found = await counters(world.redis, world.keys)
    return {name.split(":")[1]: each["h"] for name, each in found.items()}


def everywhere(tokens: int) -> dict[str, int]:
    return dict.fromkeys(LEVELS, tokens) | {"at-once": 1}


@pytest.mark.parametrize("early_ms", [1, 0, -5_000], ids=["last-ms", "expiry", "unswept"])
async def test_t22_extend_at_the_last_moment(world: World, early_ms: int) -> None:
    """T22. Goal: as long as no sweeper came by, an extend keeps the hold.

    Method: extend one ms before expiry, at expiry, and later; then a sweep, which ends nothing
    until the new time is over.
    """
    hold = await granted(world.authority, ask("a", input_tokens=99, **WHO))
    world.clock.at_ms += TTL_MS - early_ms
    answer = await world.authority.extend(extend(hold, ttl_ms=5 * SECOND))
    assert answer.decision is Decision.GRANTED
    assert answer.expire_ms == world.clock.at_ms + 5 * SECOND
    world.clock.at_ms += 5 * SECOND - 1
    assert (await world.authority.sweep(10)).expired == 0
    assert await held(world) == everywhere(100)
    world.clock.at_ms += 1
    assert (await world.authority.sweep(10)).expired == 1
    assert await held(world) == everywhere(0) | {"at-once": 0}
    error = await refused(world.authority, extend(hold, ttl_ms=5 * SECOND))
    assert isinstance(error, ReservationExpired)


@pytest.mark.parametrize("level", LEVELS)
async def test_t22_an_extend_that_would_break_a_level(
    redis_url: str, key_namespace: str, level: str
) -> None:
    """T22. Goal: growing is checked on every level, and a refusal leaves all as it was.

    Method: 100 of 150 tokens held on the tightest level, which varies; growing by 51 is denied
    with its expiry and amounts untouched, growing by 50 is granted on all levels.
    """
    async with open_world(redis_url, key_namespace, level_policy(level, 150)) as world:
        hold = await granted(
            world.authority, ask("a", input_tokens=90, max_output_tokens=10, **WHO)
        )
        before = await everything(world.redis, world.keys)
        answer = await world.authority.extend(extend(hold, ttl_ms=9 * SECOND, max_output_tokens=61))
        assert answer.decision is Decision.DENIED
        assert (answer.max_output_tokens, answer.expire_ms) == (10, hold.expire_ms)
        assert answer.denial is not None
        assert answer.denial.binding is not None
        assert answer.denial.binding.counter.budget.name == level
        assert answer.denial.affordable_output_tokens == 60
        assert answer.denial.kind is DenialKind.NEVER
        assert await everything(world.redis, world.keys) == before
        answer = await world.authority.extend(extend(hold, ttl_ms=9 * SECOND, max_output_tokens=60))
        assert (answer.decision, answer.max_output_tokens) == (Decision.GRANTED, 60)
        assert answer.expire_ms == world.clock.at_ms + 9 * SECOND
        assert await held(world) == everywhere(150)
        await denied(world.authority, ask("b", input_tokens=0, **WHO))


async def test_a_denied_extend_says_who_holds_the_room(redis_url: str, key_namespace: str) -> None:
    """Goal: a denial tells held room from spent room, as a reserve's does.

    Method: another hold has the room, then it is committed.
    """
    async with open_world(redis_url, key_namespace, level_policy("user", 150)) as world:
        hold = await granted(world.authority, ask("a", input_tokens=49, **WHO))
        other = await granted(world.authority, ask("b", input_tokens=89, **WHO))
        for kind in (DenialKind.HELD, DenialKind.SPENT):
            answer = await world.authority.extend(extend(hold, max_output_tokens=12))
            assert answer.denial is not None
            assert (answer.denial.kind, answer.denial.affordable_output_tokens) == (kind, 11)
            if kind is DenialKind.HELD:
                await world.authority.settle(commit(other, input_tokens=90))
        answer = await world.authority.extend(extend(hold, max_output_tokens=11))
        assert answer.decision is Decision.GRANTED


async def test_shrinking_gives_back_at_once(redis_url: str, key_namespace: str) -> None:
    """Goal: a smaller hold frees its room on every level, also where the limit fell meanwhile.

    Method: 1,000 tokens are shrunk to 100 under a policy that allows only 10; the room is used.
    """
    async with open_world(redis_url, key_namespace, level_policy("user", 1_000)) as world:
        hold = await granted(world.authority, ask("a", max_output_tokens=1_000, **WHO))
        await denied(world.authority, ask("b", **WHO))
        world.use_policy(level_policy("user", 10))
        answer = await world.authority.extend(extend(hold, max_output_tokens=100))
        assert (answer.decision, answer.max_output_tokens) == (Decision.GRANTED, 100)
        assert answer.expire_ms == hold.expire_ms
        assert await held(world) == everywhere(100)
        world.use_policy(level_policy("user", 1_000))
        await granted(world.authority, ask("c", max_output_tokens=900, **WHO))


@pytest.mark.parametrize(
    "part,total,expected",
    [
        pytest.param(30, 100, 70, id="same-size"),
        pytest.param(30, 250, 220, id="grows"),
        pytest.param(30, 60, 30, id="shrinks"),
        pytest.param(30, 30, 0, id="to-what-was-used"),
        pytest.param(30, 10, 0, id="below-what-was-used"),
        pytest.param(100, 150, 50, id="all-was-used"),
    ],
)
async def test_extend_after_parts(world: World, part: int, total: int, expected: int) -> None:
    """Goal: the new output counts for the whole reservation: what was committed is part of it.

    Method: a hold of 100 tokens, a part of it, an extend to a total; held is the rest.
    """
    hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
    await world.authority.settle(commit(hold, part=1, output_tokens=part))
    await world.authority.extend(extend(hold, max_output_tokens=total))
    assert await held(world) == everywhere(expected)
    assert await used(world.authority, "user", user="one") == (part, expected)
    answer = await world.authority.settle(commit(hold, output_tokens=expected + 5))
    [charge] = [each for each in answer.charges if each.meter == "total_tokens"]
    assert (charge.amount, charge.overage) == (expected + 5, 5)
    assert await used(world.authority, "user", user="one") == (part + expected + 5, 0)


async def test_growing_at_once_takes_the_room_once(redis_url: str, key_namespace: str) -> None:
    """Goal: holds that grow in parallel share what there is.

    Method: 20 holds of 10 tokens want 60 each, with room for 5 of them; over four servers at once.
    """
    policy = level_policy("org", 20 * 10 + 5 * 50 + 49).replace(
        "concurrency: 10", "concurrency: 99"
    )
    async with open_world(redis_url, key_namespace, policy, servers=4) as world:
        found = [
            await granted(world.authority, ask(f"r{number}", max_output_tokens=10))
            for number in range(20)
        ]
        answers = await asyncio.gather(
            *(
                world.servers[number % 4].authority.extend(extend(hold, max_output_tokens=60))
                for number, hold in enumerate(found)
            )
        )
        decisions = [answer.decision for answer in answers]
        assert decisions.count(Decision.GRANTED) == 5
        assert (await held(world))["org"] == 20 * 10 + 5 * 50


async def test_one_hold_changed_by_many(world: World) -> None:
    """Goal: parallel changes of one hold leave exactly one of the sizes that were asked for.

    Method: 40 extends to different sizes and 10 parts at once over four servers; who lost every
    time is told so, and what is held is the last size less what was committed.
    """
    hold = await granted(world.authority, ask("a", max_output_tokens=500, **WHO))
    extends = [extend(hold, max_output_tokens=200 + number) for number in range(40)]
    parts = [commit(hold, part=part, output_tokens=3) for part in range(1, 11)]

    async def commit_parts() -> None:
        for number, part in enumerate(parts):
            await world.servers[number % 4].authority.settle(part)

    async def change(number: int) -> Decision | BursarError:
        try:
            return (await world.servers[number % 4].authority.extend(extends[number])).decision
        except BursarError as error:
            return error

    results, _ = await asyncio.gather(
        asyncio.gather(*(change(number) for number in range(40))), commit_parts()
    )
    assert {type(each) for each in results} <= {Decision, ConcurrentChange}
    assert Decision.GRANTED in results
    [found] = (await holds(world.redis, world.keys)).values()
    size = found.output_tokens_now
    assert size == 500 or 200 <= size < 240
    assert await used(world.authority, "user", user="one") == (30, size - 30)


class Meddling(RedisEngine):
    """An engine on which somebody else's part comes in before every extend of amounts."""

    def __init__(self, engine: RedisEngine, authority: Authority, parts: list[Any]) -> None:
        self.__dict__.update(engine.__dict__)
        self._authority, self._parts = authority, parts

    async def extend(
        self, operations: Sequence[ExtendOperation], now_ms: int
    ) -> list[ExtendOutcome | BursarError]:
        if operations[0].totals and self._parts:
            await self._authority.settle(self._parts.pop(0))
        return await super().extend(operations, now_ms)


@pytest.mark.parametrize("changes", [ATTEMPTS_MAX - 1, ATTEMPTS_MAX])
async def test_a_hold_that_changes_meanwhile_is_looked_at_anew(world: World, changes: int) -> None:
    """Goal: an extend that is overtaken starts over, and says so when it is overtaken every time.

    Method: a part is committed between each look and its extend, three and four times.
    """
    hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
    parts = [commit(hold, part=part, output_tokens=1) for part in range(1, changes + 1)]
    first = world.servers[0]
    engine = Meddling(first.engine, first.authority, parts)
    authority = Authority(engine, first.policies, world.clock)
    if changes < ATTEMPTS_MAX:
        answer = await authority.extend(extend(hold, max_output_tokens=200))
        assert answer.decision is Decision.GRANTED
        assert await held(world) == everywhere(200 - changes)
    else:
        error = await refused(authority, extend(hold, max_output_tokens=200, ttl_ms=SECOND))
        assert isinstance(error, ConcurrentChange)
        assert await held(world) == everywhere(100 - changes)
        # The parts moved the expiry; the extend did not.
        assert set((await expiries(world.redis, world.keys)).values()) == {
            world.clock.at_ms + TTL_MS
        }


async def test_one_hold_twice_in_a_call(world: World) -> None:
    """Goal: each extend of a list is answered as of its own turn. Method: the engine's own list."""
    hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
    org, _, hold_id = hold.reservation_id.partition(".")
    [name] = await holds(world.redis, world.keys)
    later = [
        ExtendOperation(
            world.servers[0].policies.of(org).org, hold_id, world.clock.at_ms + ms, ttl_ms=ms
        )
        for ms in (1_000, 2_000)
    ]
    outcomes = await world.engine.extend(later, world.clock.at_ms)
    told = [each.hold.expire_ms - world.clock.at_ms for each in outcomes]
    assert told == [1_000, 2_000]
    assert (await expiries(world.redis, world.keys))[name] == world.clock.at_ms + 2_000


@pytest.mark.parametrize("end", ["commit", "release"])
async def test_a_settled_hold_is_not_extended(world: World, end: str) -> None:
    """Goal: an ended hold stays ended. Method: settle, then extend its time and its amounts."""
    hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
    await world.authority.settle(
        commit(hold, output_tokens=5) if end == "commit" else release(hold)
    )
    before = await everything(world.redis, world.keys)
    expected = ReservationCommitted if end == "commit" else ReservationReleased
    for given in ({"ttl_ms": SECOND}, {"max_output_tokens": 5}):
        assert isinstance(await refused(world.authority, extend(hold, **given)), expected)
    assert await everything(world.redis, world.keys) == before


async def test_more_than_the_model_can_produce(redis_url: str, key_namespace: str) -> None:
    """Goal: no hold grows past what the model can produce. Method: ask for one token more."""
    policy = level_policy().replace("{match: m,", "{match: m, max_output_tokens: 200,")
    async with open_world(redis_url, key_namespace, policy) as world:
        hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
        answer = await world.authority.extend(extend(hold, max_output_tokens=201))
        assert answer.decision is Decision.DENIED
        assert answer.denial is not None
        assert (answer.denial.kind, answer.denial.affordable_output_tokens) == (
            DenialKind.NEVER,
            200,
        )
        answer = await world.authority.extend(extend(hold, max_output_tokens=200))
        assert answer.decision is Decision.GRANTED
        assert await held(world) == everywhere(200)


async def test_an_extended_hold_keeps_its_counters_alive(world: World) -> None:
    """Goal: counters that live by use outlive every hold on them.

    Method: their time to live is cut short, and began two hours ago, as if nobody had used them
    for long; an extend of time alone restores it. A calendar counter's is fixed by its window's
    end.
    """
    hold = await granted(world.authority, ask("a", max_output_tokens=100, **WHO))
    found = await names(world.redis, world.keys, "c")
    by_use = [each for each in found if each.split(":")[3] in ("at-once", "user", "task")]
    assert len(by_use) == 3
    for name in by_use:
        await world.redis.pexpire(name, 90_000)
        await world.redis.hincrby(name, "e", -2 * 3_600_000)
    await world.authority.extend(extend(hold, ttl_ms=80 * SECOND))
    for name in by_use:
        assert await world.redis.pttl(name) > 24 * 3_600_000 + 80_000


async def test_a_time_to_live_begins_anew_once_an_hour(world: World) -> None:
    """Goal: a busy counter is not told at each call how long it lives, and never lives too short.

    Method: what Redis says is left after the first use, after one within the hour (nothing is
    written anew, and as much is left as this use promises), and after one that comes later.
    """

    async def used(name: str) -> dict[str, int]:
        await granted(world.authority, ask(name, max_output_tokens=100, **WHO))
        found = await names(world.redis, world.keys, "c")
        by_use = [each for each in found if each.split(":")[3] in ("at-once", "user", "task")]
        assert len(by_use) == 3
        begun = [int(await world.redis.hget(each, "e")) for each in by_use]
        assert len(set(begun)) == 1
        assert min([await world.redis.pttl(each) for each in by_use]) > 48 * 3_600_000
        return dict(zip(by_use, begun, strict=True))

    first = await used("a")
    assert set(first.values()) == {world.clock.at_ms}
    world.clock.at_ms += 3_600_000
    assert await used("b") == first
    world.clock.at_ms += 1
    assert set((await used("c")).values()) == {world.clock.at_ms}
