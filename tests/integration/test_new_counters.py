"""Looking after counters that begin: what the server which keeps a shard's record does.

Goal: a new version of a policy and a new window find their counters filled without anybody
asking, at a rate that the record can bear. Method: versions in a real PostgreSQL, applied as the
policy service does, and a clock set by hand.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from engine_calls import ask, balance, commit, granted, record, used
from engine_world import DAY, MINUTE, SECOND, compiled
from ledger_world import LedgerWorld
from recorded_world import Record, open_recorded

from bursar.authority.adjusting import Adjusted
from bursar.authority.new_counters import PAUSE_MS_MIN, SEEN_TO_MS, NewCounters
from bursar.ledger.policy_store import NewVersion, PolicyStore

ALL: dict[str, Any] = {"name": "all", "limit": {"requests": 1_000}, "window": "month"}
MONTH: dict[str, Any] = {"name": "month", "limit": {"tokens": 1_000}, "window": "month"}


def policy(*budgets: dict[str, Any]) -> dict[str, Any]:
    return {"org": "acme", "budgets": list(budgets)}


class Owner:
    """A server that keeps the record of every shard."""

    def __init__(self, world: LedgerWorld, ledger: Record) -> None:
        self.world = world
        self.ledger = ledger
        self.number = 0
        self.counters = self.fresh()

    def fresh(self) -> NewCounters:
        """Return the same after a restart."""
        server = self.world.servers[0]
        return NewCounters(
            server.engine, self.ledger.database, server.policies, self.world.keys.shard_of
        )

    async def apply(self, *budgets: dict[str, Any]) -> None:
        """Append a version to the record, and let it decide."""
        await self.store(*budgets)
        decides = compiled(policy(*budgets))
        self.world.servers[0].policies.replace(decides, self.number)

    async def store(self, *budgets: dict[str, Any]) -> None:
        """Append a version to the record."""
        document = policy(*budgets)
        new = NewVersion("acme", "v", yaml.safe_dump(document), (), "a test", "somebody")
        await PolicyStore(self.ledger.database).append(new, self.number)
        self.number += 1

    async def look(self, shards: tuple[int, ...] = (0,)) -> Adjusted:
        await self.ledger.catch_up()
        return await self.counters.look(shards, self.world.clock.at_ms)


@pytest.fixture
async def owner(redis_url: str, key_namespace: str, database_url: str) -> AsyncIterator[Owner]:
    async with open_recorded(redis_url, key_namespace, database_url, policy(ALL)) as opened:
        world, ledger = opened
        # PostgreSQL stamps versions with its own clock.
        world.clock.at_ms = time.time_ns() // 1_000_000
        owner = Owner(world, ledger)
        await owner.apply(ALL)
        yield owner
        await ledger.assert_exact()


async def test_a_new_budget_is_filled(owner: Owner) -> None:
    """Goal: after a version that adds a budget, looks fill it, less often with time.

    Method: usage, an open hold, the version; then looks a second, some seconds and days later.
    """
    authority, clock = owner.world.authority, owner.world.clock
    await authority.record(record("a", input_tokens=300))
    hold = await granted(authority, ask("b", input_tokens=100, ttl_ms=DAY))
    await owner.apply(ALL, MONTH)
    assert await owner.look(()) == Adjusted()
    assert await owner.look() == Adjusted(counters=1, booked=1)
    assert await used(authority, "month") == (300, 0)
    await authority.settle(commit(hold, input_tokens=50))
    clock.at_ms += SECOND
    assert await owner.look() == Adjusted()
    clock.at_ms += PAUSE_MS_MIN
    assert await owner.look() == Adjusted(counters=1, booked=1)
    assert await used(authority, "month") == (350, 0)
    clock.at_ms += 10 * MINUTE
    assert (await owner.look()).counters == 1
    clock.at_ms += MINUTE
    assert await owner.look() == Adjusted()
    owner.counters = owner.fresh()
    assert await owner.look() == Adjusted(counters=1)
    clock.at_ms += SEEN_TO_MS
    owner.counters = owner.fresh()
    assert (await owner.look()).booked == 0


async def test_a_version_that_does_not_decide_yet_waits(owner: Owner) -> None:
    """Goal: nothing is booked for a version that this server has not heard of. Method: one."""
    await owner.world.authority.record(record("a", input_tokens=300))
    await owner.store(ALL, MONTH)
    assert await owner.look() == Adjusted()
    owner.world.servers[0].policies.replace(compiled(policy(ALL, MONTH)), owner.number)
    assert await owner.look() == Adjusted(counters=1, booked=1)


async def test_a_version_that_changes_no_counter(owner: Owner) -> None:
    """Goal: other limits leave counters alone. Method: a limit, then a name."""
    authority = owner.world.authority
    await authority.record(record("a", requests=3))
    await owner.apply(ALL | {"limit": {"requests": 5}})
    assert await owner.look() == Adjusted()
    await owner.apply(ALL | {"name": "renamed"})
    assert await owner.look() == Adjusted(counters=1, booked=1)
    assert await used(authority, "renamed") == (3, 0)


async def test_a_new_window_gets_what_is_carried(owner: Owner) -> None:
    """Goal: windows carry by themselves. Method: a daily budget over midnight."""
    daily = MONTH | {"name": "day", "window": "day", "carry_over": {"unused": True}}
    await owner.apply(ALL, daily)
    await owner.world.authority.record(record("a", input_tokens=400))
    assert (await owner.look()).booked == 0
    owner.world.clock.at_ms += DAY
    found = await owner.look()
    assert (found.counters, found.booked) == (1, 1)
    assert (await balance(owner.world.authority, "day")).credit == 600


async def test_what_fails_of_one_is_done_the_next_time(owner: Owner) -> None:
    """Goal: a cold shard ends no look, and is not passed over. Method: one without its data."""
    world = owner.world
    await world.authority.record(record("a", input_tokens=300))
    await owner.apply(ALL, MONTH)
    await owner.ledger.catch_up()
    meta = world.keys.meta(0)
    kept = await world.redis.dump(meta)
    await world.redis.delete(meta)
    assert await owner.counters.look((0,), world.clock.at_ms) == Adjusted()
    await world.redis.restore(meta, 0, kept)
    assert await owner.look() == Adjusted(counters=1, booked=1)
