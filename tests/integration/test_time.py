"""T27, T30, T32, T33: which window an operation belongs to, and clocks that disagree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from engine_books import assert_books_balance
from engine_calls import (
    MODELS,
    ask,
    balance,
    carry_out,
    commit,
    denied,
    extend,
    granted,
    record,
    refused,
    release,
    used,
)
from engine_state import counters, everything, names
from engine_world import DAY, HOUR, MINUTE, NOON_MS, SECOND, HandClock, World, open_world

from bursar.authority import clock
from bursar.authority.authority import Authority
from bursar.authority.clock import STEP_MS_MAX, CorrectedClock
from bursar.domain.errors import ClockBehind
from bursar.engine.shards import EngineLimits

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 100000}}, window: day}}
  - {{name: minute, limit: {{tokens: 1000}}, window: minute}}
  - {{name: money, limit: {{usd: 10}}, window: month}}
  - {{name: rolling, limit: {{tokens: 100000}}, window: {{rolling: 1h}}}}
  - {{name: at-once, limit: {{concurrency: 100}}}}
{MODELS}
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, servers=2) as world:
        yield world


@pytest.mark.parametrize("window", ["day", "week", "month", "quarter", "year", "hour", "minute"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
async def test_t27_over_midnight(
    redis_url: str, key_namespace: str, zone: str, window: str
) -> None:
    """T27. Goal: what is reserved a millisecond before the end of a window is committed into it.

    Method: the last midnight of 2029 in each zone, which is a Monday's and ends all windows; the
    sum over both windows is what was used, and the new one has all its room.
    """
    policy = f"""
    org: acme
    timezone: {zone}
    budgets: [{{name: b, limit: {{tokens: 100}}, window: {window}}}]
    """
    midnight = datetime(2030, 1, 1, tzinfo=ZoneInfo(zone))
    week = datetime(2029, 12, 31, tzinfo=ZoneInfo(zone))
    boundary_ms = int((week if window == "week" else midnight).timestamp()) * 1_000
    async with open_world(redis_url, key_namespace, policy) as world:
        world.clock.at_ms = boundary_ms - 1
        hold = await granted(world.authority, ask("a", input_tokens=98))
        world.clock.at_ms = boundary_ms + 1
        assert await used(world.authority, "b") == (0, 0)
        await world.authority.settle(commit(hold, input_tokens=70))
        await granted(world.authority, ask("b", input_tokens=99))
        found = await counters(world.redis, world.keys)
        by_start = {int(name.rpartition("@")[2]): each for name, each in found.items()}
        assert {start == boundary_ms for start in by_start} == {True, False}
        assert by_start.pop(boundary_ms) == {"h": 100}
        [old] = by_start.values()
        assert old == {"c": 70, "h": 0}


async def test_t27_every_settlement_knows_its_window(world: World) -> None:
    """T27. Goal: parts, extends, releases and expiry all act on the window of the reservation.

    Method: four holds of one minute; the clock moves into the next one and each ends otherwise.
    """
    start = world.clock.at_ms
    found = [await granted(world.authority, ask(f"r{n}", input_tokens=99)) for n in range(4)]
    world.clock.at_ms += MINUTE - SECOND
    await world.authority.settle(commit(found[0], part=1, input_tokens=30))
    world.clock.at_ms = start + MINUTE
    await world.authority.settle(commit(found[0], part=2, input_tokens=30))
    await world.authority.extend(extend(found[1], ttl_ms=HOUR, max_output_tokens=50))
    await world.authority.settle(release(found[2]))
    await world.authority.sweep(10)
    state = await counters(world.redis, world.keys)
    [minute] = [each for name, each in state.items() if ":minute:" in name]
    assert (minute["c"], minute["h"]) == (60, 40 + 149)
    assert await used(world.authority, "minute") == (0, 0)
    assert await used(world.authority, "day") == (60, 40 + 149)


async def test_t30_redis_an_hour_off(redis_url: str, key_namespace: str) -> None:
    """T30. Goal: steps of Redis's clock free no hold early but by the steps of the servers' clock.

    Nor do time or counters go back. Method: a server whose clock is corrected every 10 s by a Redis
    that is first an hour early, then an hour late, then right; holds of 60 s all along. True time
    is the test's own.
    """
    true_ms, off_ms = NOON_MS, 0
    corrected = CorrectedClock(lambda: NOON_MS, lambda: true_ms - NOON_MS)
    corrected.correct(true_ms, 0)
    due_ms: list[int] = []
    freed_early_ms, newest, committed = [], 0, 0
    async with open_world(redis_url, key_namespace, POLICY) as world:
        server = await world.server(clock=corrected)
        for number in range(120):
            off_ms = {20: -HOUR, 50: HOUR, 80: 0}.get(number, off_ms)
            await granted(server.authority, ask(f"r{number}", input_tokens=9))
            due_ms.append(true_ms + MINUTE)
            await server.authority.record(record(f"used{number}", input_tokens=1))
            for _ in range(10):
                true_ms += SECOND
                for _ in range((await server.authority.sweep(100)).expired):
                    freed_early_ms.append(due_ms.pop(0) - true_ms)
            corrected.correct(true_ms + off_ms, true_ms - NOON_MS)
            now = int(await world.redis.hget(world.keys.meta(0), "now"))
            assert now >= newest
            newest = now
            values = await balance(server.authority, "day")
            assert values.committed > committed
            committed = values.committed
        # A minute holds six corrections. Holds are freed late by as much, and by the sweep's 1 s.
        assert max(freed_early_ms) <= 6 * STEP_MS_MAX
        assert min(freed_early_ms) >= -6 * STEP_MS_MAX - 2 * SECOND
        assert len(freed_early_ms) > 100
        assert committed == 120


async def test_t30_a_clock_that_follows_at_once_frees_early(
    redis_url: str, key_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T30. Goal: the test before this one sees a clock that follows Redis's steps at once.

    Method: the bound on steps is taken away; Redis steps ahead; a fresh hold is swept away.
    """
    monkeypatch.setattr(clock, "STEP_MS_MAX", DAY)
    followed = clock.CorrectedClock(lambda: NOON_MS, lambda: 0)
    followed.correct(NOON_MS, 0)
    async with open_world(redis_url, key_namespace, POLICY) as world:
        server = await world.server(clock=followed)
        await granted(server.authority, ask("a", input_tokens=9))
        followed.correct(NOON_MS + HOUR, 0)
        assert (await server.authority.sweep(10)).expired == 1


async def test_t30_no_key_in_use_expires_within_an_hours_step(world: World) -> None:
    """T30. Goal: keys that a Redis whose clock jumps an hour ahead would drop are not in use.

    Method: what Redis says of the time that each has left: open holds have no end, counters more
    than the longest hold and a day, beyond the end of their window.
    """
    hold = await granted(world.authority, ask("a", input_tokens=9, ttl_ms=DAY))
    await world.authority.settle(commit(hold, part=1, input_tokens=5))
    for name in await names(world.redis, world.keys, "h"):
        assert await world.redis.pttl(name) == -1
    window_ms = {"day": 12 * HOUR, "minute": MINUTE, "rolling": HOUR, "at-once": 0}
    checked = 0
    for name in await names(world.redis, world.keys, "c"):
        left_ms = await world.redis.pttl(name)
        assert left_ms > 2 * DAY - MINUTE + window_ms.get(name.split(":")[3], 0)
        checked += 1
    assert checked == 5


async def test_t32_a_stale_time_is_refused(world: World) -> None:
    """T32. Goal: a server that lags by more than the bound decides nothing, and says why.

    Method: one server moves the shard's time on; another that is 5 s behind still works, one that
    is 5.001 s behind is refused every call, and nothing changes.
    """
    hold = await granted(world.authority, ask("a", input_tokens=9, ttl_ms=10 * SECOND))
    lagging = HandClock(world.clock.at_ms + MINUTE - 5_000)
    server = await world.server(clock=lagging)
    world.clock.at_ms += MINUTE
    await granted(world.authority, ask("b", input_tokens=9))
    assert (await granted(server.authority, ask("c", input_tokens=9))).expire_ms is not None
    lagging.at_ms -= 1
    before = await everything(world.redis, world.keys)
    for operation in (
        ask("d", input_tokens=9),
        commit(hold, input_tokens=1),
        commit(hold, part=1, input_tokens=1),
        release(hold),
        extend(hold, ttl_ms=SECOND),
        extend(hold, max_output_tokens=3),
        record("r", input_tokens=1),
    ):
        error = await refused(server.authority, operation)
        assert isinstance(error, ClockBehind)
        assert "clock" in error.message
        assert error.retry_after_ms == 1_000
        assert error.metadata == {"shard": world.keys.tag(0)}
    with pytest.raises(ClockBehind):
        await used(server.authority, "day")
    with pytest.raises(ClockBehind):
        await server.authority.sweep(10)
    assert await everything(world.redis, world.keys) == before


async def test_t32_a_lagging_server_recovers(redis_url: str, key_namespace: str) -> None:
    """T32. Goal: a refused server works again as soon as its clock is within the bound.

    Method: a server that is 6.5 s behind is corrected in steps of 500 ms; after the third it
    decides.
    """
    true_ms = NOON_MS
    corrected = CorrectedClock(lambda: NOON_MS, lambda: true_ms - NOON_MS)
    corrected.correct(true_ms - 6_500, 0)
    async with open_world(redis_url, key_namespace, POLICY) as world:
        server = await world.server(clock=corrected)
        await granted(world.authority, ask("a", input_tokens=9))
        for number in range(3):
            error = await refused(server.authority, ask(f"b{number}", input_tokens=9))
            assert isinstance(error, ClockBehind)
            corrected.correct(true_ms, true_ms - NOON_MS)
        await granted(server.authority, ask("c", input_tokens=9))


class Paused(HandClock):
    """A clock whose first answer is from before the pause that follows it."""

    def __init__(self, at_ms: int, pause_ms: int) -> None:
        super().__init__(at_ms)
        self.looks, self._before_ms = 0, at_ms - pause_ms

    def now_ms(self) -> int:
        self.looks += 1
        return self._before_ms if self.looks == 1 else self.at_ms


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(ask("new", input_tokens=9), id="reserve"),
        pytest.param(record("new", input_tokens=9), id="record"),
    ],
)
async def test_t32_a_pause_over_a_window_boundary(world: World, operation: object) -> None:
    """T32. Goal: a time that a pause made stale is not used: the call is decided by the new one.

    Method: a server reads its clock before the boundary of a minute and asks 30 s after it, when
    others have been in the new minute; the operation is counted in the new one alone.
    """
    paused = Paused(world.clock.at_ms + 10 * SECOND, 30 * SECOND)
    server = await world.server(clock=paused)
    world.clock.at_ms += 10 * SECOND
    await granted(world.authority, ask("others", input_tokens=0))
    answer = await carry_out(server.authority, operation)
    assert paused.looks == 2
    [status] = [each for each in answer.counters if each.counter.budget.name == "minute"]
    assert status.counter.instance.start_ms == NOON_MS
    minutes = [name for name in await names(world.redis, world.keys, "c") if ":minute:" in name]
    assert [int(name.rpartition("@")[2]) for name in minutes] == [NOON_MS]


async def test_t32_a_pause_moves_no_clock(world: World) -> None:
    """T32. Goal: a pause alone never makes a server follow a step of Redis's clock at once.

    Method: as above, with a server that would catch up with a Redis that is an hour ahead: it is
    not asked to, and the hold of a minute that it makes is there half a minute later.
    """
    asked = 0

    async def catch_up() -> None:
        nonlocal asked
        asked, paused.at_ms = asked + 1, paused.at_ms + HOUR

    paused = Paused(world.clock.at_ms + 10 * SECOND, 30 * SECOND)
    first = world.servers[0]
    authority = Authority(first.engine, first.policies, paused, catch_up)
    world.clock.at_ms += 10 * SECOND
    await granted(world.authority, ask("others", input_tokens=0))
    await granted(authority, ask("new", input_tokens=9))
    assert asked == 0
    paused.at_ms += 30 * SECOND
    assert (await authority.sweep(10)).expired == 0
    world.clock.at_ms += HOUR
    await granted(world.authority, ask("later", input_tokens=0))
    await granted(authority, ask("newer", input_tokens=9))
    assert asked == 1


@pytest.mark.parametrize("lag_ms", [0, 250])
async def test_the_bound_of_a_lag_is_a_setting(
    redis_url: str, key_namespace: str, lag_ms: int
) -> None:
    """Goal: the bound is what is set, to the millisecond. Method: at it and one past it."""
    limits = EngineLimits(clock_lag_ms_max=lag_ms)
    async with open_world(redis_url, key_namespace, POLICY, limits=limits) as world:
        await granted(world.authority, ask("a", input_tokens=9))
        world.clock.at_ms -= lag_ms
        await granted(world.authority, ask("b", input_tokens=9))
        world.clock.at_ms -= 1
        assert isinstance(await refused(world.authority, ask("c")), ClockBehind)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("window: day, timezone: Asia/Kolkata", id="time-zone"),
        pytest.param("window: week", id="window"),
        pytest.param("window: {rolling: 24h}", id="rolling"),
    ],
)
async def test_t33_a_window_that_changes_midway(
    redis_url: str, key_namespace: str, change: str
) -> None:
    """T33. Goal: a changed window counts anew; what was held before settles where it was reserved.

    Method: usage and a hold under the old window; the policy changes; the new counter is empty,
    the old hold's commit, extend and release go to the old one; back again, the usage is there.
    """
    old = "org: acme\nbudgets:\n  - {name: b, limit: {tokens: 1000}, window: day}"
    new = old.replace("window: day", change)
    async with open_world(redis_url, key_namespace, old, servers=2) as world:
        await world.authority.record(record("before", input_tokens=300))
        found = [await granted(world.authority, ask(f"r{n}", input_tokens=99)) for n in range(3)]
        world.use_policy(new)
        assert await used(world.authority, "b") == (0, 0)
        await granted(world.authority, ask("after", input_tokens=998))
        await denied(world.authority, ask("too much", input_tokens=5))
        answer = await world.authority.settle(commit(found[0], input_tokens=150))
        assert [charge.amount for charge in answer.charges if charge.meter == "total_tokens"] == [
            150
        ]
        await world.authority.extend(extend(found[1], ttl_ms=HOUR))
        await world.authority.settle(release(found[2]))
        assert await used(world.authority, "b") == (0, 999)
        await assert_books_balance(world.redis, world.keys)
        world.use_policy(old)
        assert await used(world.authority, "b") == (450, 100)
        await denied(world.authority, ask("no room", input_tokens=450))
        await granted(world.authority, ask("room", input_tokens=449))


async def test_t33_a_limit_that_changes_keeps_what_was_used(world: World) -> None:
    """T33. Goal: a new limit, mode or ladder goes on with the same counter.

    Method: lower the limit below what is used and raise it again.
    """
    hold = await granted(world.authority, ask("a", input_tokens=499))
    for limit, fits in (("400", False), ("501", True), ("400", False)):
        world.use_policy(POLICY.replace("{tokens: 1000}", f"{{tokens: {limit}}}"))
        answer = await world.authority.reserve(ask(f"b{limit}", input_tokens=0))
        assert (answer.reservation_id != "") is fits
        if fits:
            await world.authority.settle(release(answer))
    await world.authority.settle(commit(hold, input_tokens=450))
    assert await used(world.authority, "minute") == (450, 0)
