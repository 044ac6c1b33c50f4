"""What is left of a window, or was used past it, in the next one.

Goal: each counter gets it once, whoever books it and how often, and late settlements move it.
Method: servers on a real Redis and a real PostgreSQL over the ends of days, by a clock set by
hand.
"""

from __future__ import annotations

import asyncio
from typing import Any

from engine_calls import ask, balance, commit, denied, granted, record
from engine_world import DAY, HOUR, NOON_MS
from ledger_world import LedgerWorld
from recorded_world import Record, open_recorded, use_policy

from bursar.authority.adjusting import Adjusted
from bursar.authority.carry_over import carry_over
from bursar.authority.credits import CreditRequest, Credits
from bursar.authority.policy_admin import By
from bursar.domain.subject import OrgId
from bursar.ledger.credit_store import CreditStore

MIDNIGHT_MS = NOON_MS + 12 * HOUR


def policy(**carry: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    budget = {
        "name": "b", "per": ["user"], "limit": {"tokens": 1_000}, "window": "day",
        "carry_over": carry,
    }  # fmt: skip
    return {"org": "acme", "budgets": [budget]}


async def look(world: LedgerWorld, ledger: Record, server: int = 0) -> Adjusted:
    """Record what waits and carry over once."""
    await ledger.catch_up()
    return await carry(world, ledger, server)


async def carry(world: LedgerWorld, ledger: Record, server: int = 0) -> Adjusted:
    current = world.servers[server].policies.of(OrgId("acme"))
    budget = current.budget("b")
    assert budget is not None
    return await carry_over(
        world.servers[server].engine,
        ledger.database,
        current,
        budget,
        world.keys.shard_of("acme"),
        world.clock.at_ms,
    )


async def credit(world: LedgerWorld, user: str) -> int:
    return (await balance(world.authority, "b", user=user)).credit


async def test_unused_and_debt_of_each_user(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: users get their own, capped. Method: one with little use, one with much, one past it.

    Case 125: a capped carry entry at the beginning of the window, in the ledger.
    """
    opened = open_recorded(
        redis_url, key_namespace, database_url, policy(unused=True, debt=True, max={"tokens": 300})
    )
    async with opened as (world, ledger):
        authority = world.authority
        for user, tokens in (("little", 10), ("much", 900), ("past", 1_200), ("far", 2_000)):
            await authority.record(record(user, user=user, input_tokens=tokens))
        assert await look(world, ledger) == Adjusted()
        world.clock.at_ms = MIDNIGHT_MS + 1_000
        assert await look(world, ledger) == Adjusted(counters=4, booked=4)
        found = {user: await credit(world, user) for user in ("little", "much", "past", "far", "x")}
        assert found == {"little": 300, "much": 100, "past": -200, "far": -300, "x": 0}
        await granted(authority, ask("a", user="little", input_tokens=1_299))
        await denied(authority, ask("b", user="past", input_tokens=800))
        await granted(authority, ask("c", user="past", input_tokens=799))
        assert await look(world, ledger) == Adjusted(counters=4)
        await ledger.assert_exact()
        # A day without any use: what was carried is carried on, up to the most.
        world.clock.at_ms += DAY
        await look(world, ledger)
        assert await credit(world, "much") == 300


async def test_holds_that_are_open_at_the_end(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: what is held is not carried until it comes back; late commits take it off again.

    Method: two holds over midnight: one is released by expiry, one is committed above its hold.
    """
    opened = open_recorded(redis_url, key_namespace, database_url, policy(unused=True, debt=True))
    async with opened as (world, ledger):
        authority = world.authority
        kept = await granted(authority, ask("a", user="u", ttl_ms=DAY, input_tokens=499))
        await granted(authority, ask("b", user="u", ttl_ms=14 * HOUR, input_tokens=499))
        world.clock.at_ms = MIDNIGHT_MS + 1_000
        assert await look(world, ledger) == Adjusted(counters=1)
        assert await credit(world, "u") == 0
        world.clock.at_ms = MIDNIGHT_MS + 3 * HOUR
        await authority.sweep(100)
        await look(world, ledger)
        assert await credit(world, "u") == 500
        await authority.settle(commit(kept, input_tokens=1_100))
        assert await look(world, ledger) == Adjusted(counters=1, booked=1)
        assert await credit(world, "u") == -100
        assert [each[3] for each in await adjusted(ledger)] == [500, -600]
        await ledger.assert_exact()


async def adjusted(ledger: Record) -> list[tuple[str, str, int, int]]:
    await ledger.catch_up()
    return await ledger.adjustments()


async def test_any_number_of_servers_book_once(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: nothing is carried twice. Method: looks at once from three servers, recorded or not."""
    opened = open_recorded(
        redis_url, key_namespace, database_url, policy(unused=True), servers=3, shards=2
    )
    async with opened as (world, ledger):
        for number in range(30):
            await world.authority.record(
                record(f"r{number}", user=f"u{number}", input_tokens=number)
            )
        await ledger.catch_up()
        world.clock.at_ms = MIDNIGHT_MS
        looks = [carry(world, ledger, number % 3) for number in range(9)]
        found = sum(await asyncio.gather(*looks), Adjusted())
        assert (found.booked, found.refused) == (30, 0)
        assert await look(world, ledger) == Adjusted(counters=30)
        for number in range(30):
            assert await credit(world, f"u{number}") == 1_000 - number
        await ledger.assert_exact()


async def test_a_temporary_credit_makes_no_debt(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: who spends a credit for the day owes nothing. Method: a credit that ends with the day.

    Before and after it is taken back the same is carried.
    """
    opened = open_recorded(redis_url, key_namespace, database_url, policy(unused=True, debt=True))
    async with opened as (world, ledger):
        authority = world.authority
        credits = Credits(
            world.engine, world.servers[0].policies, CreditStore(ledger.database), world.clock
        )
        await credits.adjust(
            CreditRequest("more", OrgId("acme"), "b", {"user": "u"}, 500, False, None,
                          By("somebody", "a demo"))
        )  # fmt: skip
        await authority.record(record("b", user="u", input_tokens=1_400))
        world.clock.at_ms = MIDNIGHT_MS
        await look(world, ledger)
        assert await credit(world, "u") == 100
        await authority.sweep(100)
        assert await look(world, ledger) == Adjusted(counters=1)
        assert await credit(world, "u") == 100
        await ledger.assert_exact()


async def test_windows_that_do_not_carry(
    redis_url: str, key_namespace: str, database_url: str
) -> None:
    """Goal: only the counter's own window is looked at. Method: a changed window, and no rule."""
    opened = open_recorded(redis_url, key_namespace, database_url, policy(unused=True))
    async with opened as (world, ledger):
        await world.authority.record(record("a", user="u", input_tokens=10))
        weekly = policy(unused=True)
        weekly["budgets"][0]["window"] = "week"
        use_policy(world, weekly)
        world.clock.at_ms = MIDNIGHT_MS + 7 * DAY
        assert await look(world, ledger) == Adjusted()
        off = policy(unused=True)
        off["budgets"][0]["mode"] = "off"
        use_policy(world, off)
        world.clock.at_ms = MIDNIGHT_MS
        assert await look(world, ledger) == Adjusted()
