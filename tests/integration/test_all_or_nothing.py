"""T2, T3, T4, T7: a reserve takes its amounts on every counter or on none of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from engine_calls import MODELS, ask, commit, denied, granted, seeded, used
from engine_state import counters, dumps
from engine_world import World, open_world

from bursar.domain.answer import Decision, DenialKind
from bursar.domain.offer import plan
from bursar.engine.operations import Granted, ReserveOperation

LEVELS = """
org: acme
budgets:
  - {name: org, limit: {tokens: 12000}, window: month}
  - {name: team, per: [team], limit: {tokens: 6500}, window: day}
  - {name: feature, per: [feature], limit: {tokens: 6500}, window: {rolling: 1h}}
  - {name: user, per: [user], limit: {tokens: 4500}, window: week}
  - {name: task, per: [task], limit: {tokens: 2200}, window: task}
"""
LIMITS = {"org": 12_000, "team": 6_500, "feature": 6_500, "user": 4_500, "task": 2_200}

TWO_METERS = f"""
org: acme
budgets:
  - {{name: money, limit: {{usd: 1}}, window: day}}
  - {{name: tokens, limit: {{tokens: 1000}}, window: day}}
{MODELS}
"""


@pytest.fixture
async def levels(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, LEVELS, servers=4) as world:
        yield world


def somebody(dice: random.Random) -> dict[str, str]:
    """Return one of some subjects, so that which budget is the tightest varies."""
    return {
        "team": dice.choice(("red", "blue")),
        "feature": dice.choice(("chat", "search")),
        "user": dice.choice(("u1", "u2", "u3")),
        "task": f"t{dice.randrange(8)}",
    }


async def test_t2_denied_requests_leave_no_trace(levels: World) -> None:
    """T2. Goal: what all five levels have room for is granted, and a denial changes nothing.

    Method: 150 requests of random subjects and amounts, against sums in plain Python; after a
    denial every counter is compared byte for byte with what it was.
    """
    dice = seeded(2)
    held: dict[tuple[str, str], int] = {}
    decisions, binding = {True: 0, False: 0}, set()
    for number in range(150):
        who, tokens = somebody(dice), dice.randint(1, 400)
        places = [(level, who.get(level, "")) for level in LIMITS]
        fits = all(held.get(at, 0) + tokens + 1 <= LIMITS[at[0]] for at in places)
        before = await dumps(levels.redis, levels.keys, "c", "h")
        answer = await levels.servers[number % 4].authority.reserve(
            ask(f"r{number}", input_tokens=tokens, **who)
        )
        assert (answer.decision is Decision.GRANTED) is fits, f"seed 2, request {number}"
        decisions[fits] += 1
        if fits:
            for at in places:
                held[at] = held.get(at, 0) + tokens + 1
        else:
            assert answer.denial is not None
            assert answer.denial.binding is not None
            binding.add(answer.denial.binding.counter.budget.name)
            assert await dumps(levels.redis, levels.keys, "c", "h") == before
    assert min(decisions.values()) > 20
    assert len(binding) >= 3


async def test_t2_random_amounts_at_once(levels: World) -> None:
    """T2. Goal: parallel requests of random amounts keep every limit on five levels.

    Method: 300 at once over four servers; the sums of what was granted are what is held.
    """
    dice = seeded(22)
    asked = [(somebody(dice), dice.randint(1, 400)) for _ in range(300)]
    answers = await asyncio.gather(
        *(
            levels.servers[number % 4].authority.reserve(
                ask(f"r{number}", input_tokens=tokens, **who)
            )
            for number, (who, tokens) in enumerate(asked)
        )
    )
    held: dict[str, int] = {}
    for (_, tokens), answer in zip(asked, answers, strict=True):
        for status in answer.counters if answer.reservation_id else ():
            held[status.counter.id] = held.get(status.counter.id, 0) + tokens + 1
    found = {name: each["h"] for name, each in (await counters(levels.redis, levels.keys)).items()}
    assert found == held
    assert all(amount <= LIMITS[name.split(":")[1]] for name, amount in held.items())
    grants = sum(answer.reservation_id != "" for answer in answers)
    assert 20 < grants < 280


async def test_t3_opposite_orders_of_shared_counters(levels: World) -> None:
    """T3. Goal: callers that name shared counters in opposite orders never wait for each other.

    Method: 200 reserves at once, every second one with its counters reversed; all are answered,
    and together they took exactly what there was.
    """
    policy, now_ms = levels.servers[0].policies.of("acme"), levels.clock.now_ms()
    who = {"team": "red", "feature": "chat", "user": "u1", "task": "t1"}

    def operation(number: int) -> ReserveOperation:
        [offer] = plan(ask(f"r{number}", input_tokens=99, **who), policy, now_ms).offers
        uses = offer.uses[::-1] if number % 2 else offer.uses
        offers = (offer._replace(uses=uses),)
        return ReserveOperation(
            policy.org, f"{number:024}", b"f", offers, now_ms + 60_000, 60_000, b""
        )

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(
                levels.servers[number % 4].engine.reserve([operation(number)], now_ms)
                for number in range(200)
            )
        )
    assert sum(isinstance(each, Granted) for [each] in outcomes) == LIMITS["task"] // 100
    found = await counters(levels.redis, levels.keys)
    assert {each["h"] for each in found.values()} == {LIMITS["task"]}


async def test_t4_money_fits_and_tokens_do_not(redis_url: str, key_namespace: str) -> None:
    """T4. Goal: one meter without room denies the whole request.

    Method: 900 of 1,000 tokens are held and nearly all the money is there; 101 more tokens are
    denied by the tokens alone.
    """
    async with open_world(redis_url, key_namespace, TWO_METERS) as world:
        await granted(world.authority, ask("first", input_tokens=899))
        before = await dumps(world.redis, world.keys, "c", "h")
        answer = await denied(world.authority, ask("second", input_tokens=100))
        assert answer.denial is not None
        assert answer.denial.binding is not None
        assert answer.denial.binding.counter.budget.name == "tokens"
        assert answer.denial.kind is DenialKind.HELD
        assert await dumps(world.redis, world.keys, "c", "h") == before
        assert await used(world.authority, "money") == (0, 899 * 1_000 + 2_000)
        assert await used(world.authority, "tokens") == (0, 900)
        await granted(world.authority, ask("third", input_tokens=99))


@pytest.mark.parametrize("level", ["org", "team", "feature", "agent", "user", "task"])
async def test_t7_zero_absent_and_unlimited_are_three_things(
    redis_url: str, key_namespace: str, level: str
) -> None:
    """T7. Goal: on every level no budget, a limit of 0 and an unlimited budget differ.

    Method: the same request under each: absent is let pass and said to be unbudgeted, 0 is denied
    for good and counts nothing, unlimited is let pass and counted.
    """
    who = {} if level == "org" else {level: "x"}

    def policy(limit: int | str) -> dict[str, object]:
        budget = {"name": "b", "scope": who, "limit": {"tokens": limit}, "window": "day"}
        return {"org": "acme", "budgets": [budget]}

    async with open_world(redis_url, key_namespace, "org: acme") as world:
        answer = await granted(world.authority, ask("absent", input_tokens=5, **who))
        assert answer.unbudgeted
        assert answer.counters == ()
        world.use_policy(policy(0))
        answer = await denied(world.authority, ask("zero", input_tokens=5, **who))
        assert answer.denial is not None
        assert answer.denial.kind is DenialKind.NEVER
        assert not answer.unbudgeted
        assert await counters(world.redis, world.keys) == {}
        world.use_policy(policy("unlimited"))
        answer = await granted(world.authority, ask("unlimited", input_tokens=5, **who))
        assert not answer.unbudgeted
        [status] = answer.counters
        assert (status.remaining, status.ceiling) == (None, None)
        assert await used(world.authority, "b", **who) == (0, 6)
        await world.authority.settle(commit(answer, input_tokens=5, output_tokens=1))
        assert await used(world.authority, "b", **who) == (6, 0)
