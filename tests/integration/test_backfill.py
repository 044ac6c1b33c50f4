"""Budgets that begin to count in the middle of their window: they know what was used before.

Goal: all that is used in a window is on the counter, once, however often and by whom it is looked
for, and Redis is the sum of the ledger. Method: policies change under servers on a real Redis and
a real PostgreSQL; the expected sums are worked out by hand.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_calls import ask, balance, commit, denied, granted, record, release, used
from engine_world import DAY, HOUR, MINUTE, NOON_MS, SECOND, compiled
from ledger_world import LedgerWorld
from recorded_world import Record, open_recorded, use_policy

from bursar.authority.adjusting import Adjusted
from bursar.authority.backfill import backfill
from bursar.domain.backfill import counting_anew
from bursar.domain.budget import CounterValues
from bursar.domain.subject import OrgId

MODELS = [
    {"match": "m", "provider": "p", "price": {"input": 1, "output": 2}},
    {"match": "other", "provider": "q", "price": {"input": 10, "output": 20}},
]
NEXT_NOON_MS = NOON_MS + DAY
ALL: dict[str, Any] = {"name": "all", "limit": {"requests": 1_000}, "window": "month"}


def policy(*budgets: dict[str, Any]) -> dict[str, Any]:
    return {"org": "acme", "meters": ["images"], "models": MODELS, "budgets": list(budgets)}


async def switch(world: LedgerWorld, *budgets: dict[str, Any]) -> tuple[str, ...]:
    """Let another version decide and return which budgets count anew by that."""
    before = world.servers[0].policies.of(OrgId("acme"))
    use_policy(world, policy(*budgets))
    return counting_anew(before, compiled(policy(*budgets)))


async def look(world: LedgerWorld, record: Record, names: tuple[str, ...]) -> Adjusted:
    """Record what waits and backfill once."""
    await record.catch_up()
    server = world.servers[0]
    current = server.policies.of(OrgId("acme"))
    return await backfill(server.engine, record.database, current, names, world.clock.at_ms)


METERS = {
    "tokens": ({"tokens": 10_000}, 100 + 20 + 7 + 10 + 5 + 3),
    "input": ({"input_tokens": 10_000}, 100 + 7 + 10 + 3),
    "output": ({"output_tokens": 10_000}, 20 + 5),
    "requests": ({"requests": 100}, 1 + 1 + 0 + 1),
    "money": ({"usd": 10}, 1_000 * (100 + 7 + 3) + 2_000 * 20 + 10_000 * 10 + 20_000 * 5),
    "custom": ({"images": 100}, 4),
}


@pytest.mark.parametrize(("limit", "expected"), METERS.values(), ids=METERS)
async def test_every_meter(
    redis_url: str, key_namespace: str, database_url: str, limit: dict[str, Any], expected: int
) -> None:
    """Goal: commits, partial commits and records count, on every meter. Method: one of each."""
    opened = open_recorded(redis_url, key_namespace, database_url, policy(ALL))
    async with opened as (world, ledger):
        authority = world.authority
        first = await granted(authority, ask("a", user="u1", input_tokens=200))
        await authority.settle(commit(first, input_tokens=100, output_tokens=20))
        parts = await granted(authority, ask("b", user="u2", input_tokens=50))
        await authority.settle(commit(parts, input_tokens=7, part=1))
        await authority.settle(commit(parts, input_tokens=3, requests=1))
        gone = await granted(authority, ask("c", user="u1", input_tokens=900))
        await authority.settle(release(gone))
        await authority.record(
            record("d", user="u1", model="other", input_tokens=10, output_tokens=5,
                   meters={"images": 4})
        )  # fmt: skip
        names = await switch(world, ALL, {"name": "new", "limit": limit, "window": "day"})
        assert names == ("new",)
        assert await used(authority, "new") == (0, 0)
        assert await look(world, ledger, names) == Adjusted(counters=1, booked=1)
        assert await used(authority, "new") == (expected, 0)
        await ledger.catch_up()
        assert await look(world, ledger, names) == Adjusted(counters=1)
        await ledger.assert_exact()


async def test_old_holds_settle_later(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: T33, usage is kept when a window changes, also that of holds which were open then.

    Method: a daily budget becomes a monthly one with a settled, an open and a new hold; every
    look books the difference, and one before it is recorded books nothing twice.
    """
    daily: dict[str, Any] = {
        "name": "b", "per": ["user"], "limit": {"tokens": 1_000}, "window": "day"}  # fmt: skip
    opened = open_recorded(redis_url, key_namespace, database_url, policy(daily))
    async with opened as (world, ledger):
        authority = world.authority
        settled = await granted(authority, ask("a", user="u1", input_tokens=300))
        await authority.settle(commit(settled, input_tokens=300, output_tokens=1))
        open_one = await granted(authority, ask("b", user="u1", input_tokens=400))
        names = await switch(world, daily | {"window": "month"})
        assert names == ("b",)
        await look(world, ledger, names)
        assert await used(authority, "b", user="u1") == (301, 0)
        # What is counted by the new budget itself is not counted again.
        new = await granted(authority, ask("c", user="u1", input_tokens=100))
        await authority.settle(commit(new, input_tokens=100))
        await authority.settle(commit(open_one, input_tokens=400))
        assert await look(world, ledger, names) == Adjusted(counters=1, booked=1)
        for _ in range(3):
            # Booked, but not recorded: the same is found missing and is there.
            found = await backfill(
                world.engine, ledger.database, authority.policies.of(OrgId("acme")), names,
                world.clock.at_ms,
            )  # fmt: skip
            assert found == Adjusted(counters=1, waiting=1)
        assert await used(authority, "b", user="u1") == (301 + 400 + 100, 0)
        await denied(authority, ask("d", user="u1", input_tokens=200))
        await ledger.assert_exact()
        assert [each[2] for each in await ledger.adjustments()] == [301, 400]


async def test_many_servers_at_once(redis_url: str, key_namespace: str, database_url: str) -> None:
    """Goal: any number of servers book once. Method: ten looks at once, between settlements."""
    opened = open_recorded(redis_url, key_namespace, database_url, policy(ALL), servers=3, shards=2)
    async with opened as (world, ledger):
        holds = [
            await granted(world.authority, ask(f"r{number}", user=f"u{number % 7}", ttl_ms=HOUR,
                                               input_tokens=10))
            for number in range(40)
        ]  # fmt: skip
        names = await switch(
            world, ALL,
            {"name": "each", "per": ["user"], "limit": {"tokens": 10_000}, "window": "month"},
            {"name": "sum", "limit": {"usd": 10}, "window": "month"},
        )  # fmt: skip
        for start in range(0, 40, 10):
            for number in range(start, start + 10):
                settle = commit(holds[number], input_tokens=number + 1)
                await world.authority.settle(settle)
            await ledger.catch_up()
            await asyncio.gather(*(
                backfill(server.engine, ledger.database, server.policies.of(OrgId("acme")), names,
                         world.clock.at_ms)
                for server in world.servers for _ in range(3)
            ))  # fmt: skip
        await look(world, ledger, names)
        for user in range(7):
            expected = sum(number + 1 for number in range(40) if number % 7 == user)
            assert await used(world.authority, "each", user=f"u{user}") == (expected, 0)
        assert await used(world.authority, "sum") == (820 * 1_000, 0)
        await ledger.assert_exact()


async def test_only_what_matches_and_only_this_window(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: scope, partition and window decide as for requests.

    Method: usage inside and outside of each; a hold that was reserved yesterday and settled today
    is of yesterday.
    """
    opened = open_recorded(redis_url, key_namespace, database_url, policy(ALL))
    async with opened as (world, ledger):
        authority = world.authority
        world.clock.at_ms = NEXT_NOON_MS - 13 * HOUR
        yesterday = await granted(authority, ask("y", team="t1", user="u1", ttl_ms=DAY))
        await authority.record(record("y2", team="t1", user="u1", input_tokens=1_000))
        world.clock.at_ms = NEXT_NOON_MS
        await authority.settle(commit(yesterday, input_tokens=2_000))
        paid = {"tier": "paid"}
        await authority.record(record("a", team="t1", user="u1", input_tokens=1, labels=paid))
        await authority.record(record("b", team="t2", user="u1", input_tokens=10, labels=paid))
        await authority.record(record("c", team="t1", input_tokens=100, labels=paid))
        await authority.record(record("d", team="t1", user="u2", input_tokens=1_000))
        await authority.record(record("e", team="t1", user="u/2:,", input_tokens=5, labels=paid))
        await authority.record(
            record("f", team="t1", user="u1", model="other", input_tokens=7, labels=paid)
        )
        names = await switch(
            world, ALL,
            {"name": "some", "scope": {"team": "t*", "labels": {"tier": "paid"}},
             "per": ["user", "labels.tier"], "limit": {"tokens": 9_999}, "window": "day"},
            {"name": "models", "scope": {"team": ["t1"]}, "per": "model",
             "limit": {"tokens": 9_999}, "window": "day"},
            {"name": "kept-out", "limit": {"tokens": 9_999}, "window": "day", "backfill": False},
            {"name": "asleep", "limit": {"tokens": 9_999}, "window": "day", "mode": "off"},
        )  # fmt: skip
        assert names == ("some", "models")
        assert await look(world, ledger, names) == Adjusted(counters=4, booked=4)
        assert await used(authority, "some", user="u1", labels=paid) == (1 + 10 + 7, 0)
        assert await used(authority, "some", user="u/2:,", labels=paid) == (5, 0)
        assert await used(authority, "some", user="u2", labels=paid) == (0, 0)
        await ledger.assert_exact()
        booked = {each[0]: each[2] for each in await ledger.adjustments()}
        day = world.clock.at_ms - world.clock.at_ms % DAY
        assert booked[f"acme:models:total_tokens:model=m:day@{day}"] == 1 + 100 + 1_000 + 5
        assert booked[f"acme:models:total_tokens:model=other:day@{day}"] == 7
        # Switched on, it counts anew.
        names = await switch(
            world, ALL, {"name": "asleep", "limit": {"tokens": 9_999}, "window": "day"}
        )
        assert names == ("asleep",)
        await look(world, ledger, names)
        assert await used(authority, "asleep") == (1 + 10 + 100 + 1_000 + 5 + 7, 0)


async def test_rolling_windows_get_it_in_its_time(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: what was used before leaves a rolling window when it would have.

    Method: usage 50, 30 and 10 minutes ago under an hourly window, then the clock moves on.
    """
    opened = open_recorded(redis_url, key_namespace, database_url, policy(ALL))
    async with opened as (world, ledger):
        authority = world.authority
        for ago, tokens in ((90, 1), (50, 10), (30, 100), (10, 1_000)):
            world.clock.at_ms = NEXT_NOON_MS - ago * MINUTE
            await authority.record(record(f"r{ago}", input_tokens=tokens))
        world.clock.at_ms = NEXT_NOON_MS
        names = await switch(
            world,
            ALL,
            {"name": "r", "limit": {"tokens": 9_999}, "window": {"rolling": "1h"}},
        )
        assert await look(world, ledger, names) == Adjusted(counters=3, booked=3)
        assert await used(authority, "r") == (1_110, 0)
        await ledger.assert_exact()
        for minutes, left in ((15, 1_100), (35, 1_000), (65, 0)):
            world.clock.at_ms = NEXT_NOON_MS + minutes * MINUTE
            assert await balance(authority, "r") == CounterValues(left, 0)
            await look(world, ledger, names)
            assert await balance(authority, "r") == CounterValues(left, 0)


async def test_more_counters_than_go_at_once(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: any number of counters, in bounded steps. Method: more users than one call takes."""
    opened = open_recorded(redis_url, key_namespace, database_url, policy(ALL))
    async with opened as (world, ledger):
        await world.authority.batch(
            [
                record(f"r{number}", user=f"u{number % 1_100}", input_tokens=2)
                for number in range(2_200)
            ]
        )
        world.clock.at_ms += SECOND
        names = await switch(
            world, ALL,
            {"name": "n", "per": "user", "limit": {"tokens": 9}, "window": "month"},
        )  # fmt: skip
        assert await look(world, ledger, names) == Adjusted(counters=1_100, booked=1_100)
        assert await used(world.authority, "n", user="u1099") == (4, 0)
        await ledger.assert_exact()
