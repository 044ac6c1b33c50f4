"""T6: amounts are exact integers or are refused; none is ever rounded into a grant.

Lua counts in doubles, which are exact up to 2^53, so everything here is at and around 2^53.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_calls import (
    ask,
    carry_out,
    commit,
    denied,
    extend,
    granted,
    record,
    refused,
    seeded,
    used,
)
from engine_state import counters, everything
from engine_world import HOUR, World, compiled, open_world

from bursar.authority.identity import hold_name
from bursar.domain.answer import Decision, ReserveAnswer
from bursar.domain.errors import BursarError, FieldInvalid, PolicyInvalid
from bursar.domain.meter import AMOUNT_MAX, COUNTER_MAX
from bursar.domain.offer import plan
from bursar.engine.operations import ReserveOperation

POLICY = f"""
org: acme
meters: [bytes, free]
models: [{{match: "*", provider: p, price: {{input: 0, output: 0.003}}}}]
budgets:
  - {{name: most, per: [user], limit: {{bytes: {AMOUNT_MAX}}}, window: day}}
  - {{name: free, limit: {{free: unlimited}}, window: day}}
  - {{name: free-hour, limit: {{free: unlimited}}, window: {{rolling: 1h}}}}
  - {{name: free-task, per: [task], limit: {{free: unlimited}}, window: task}}
"""

BEYOND = [
    pytest.param(2**53, id="2^53"),
    pytest.param(2**53 + 1, id="2^53+1"),
    pytest.param(10**17, id="1e17"),
    pytest.param(2**63 - 1, id="int64-max"),
]


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY) as world:
        yield world


async def test_t6_the_largest_amount_is_exact(world: World) -> None:
    """T6. Goal: 2^53 - 1 of 2^53 - 1 fits, and not one more.

    Method: reserve it whole; reserve all but one and then one; commit it whole.
    """
    whole = await granted(world.authority, ask("whole", user="a", meters={"bytes": AMOUNT_MAX}))
    await denied(world.authority, ask("one", user="a", meters={"bytes": 1}))
    assert await used(world.authority, "most", user="a") == (0, AMOUNT_MAX)
    answer = await world.authority.settle(commit(whole, meters={"bytes": AMOUNT_MAX}))
    assert [each.amount for each in answer.charges if each.meter == "bytes"] == [AMOUNT_MAX]
    assert await used(world.authority, "most", user="a") == (AMOUNT_MAX, 0)
    await denied(world.authority, ask("one again", user="a", meters={"bytes": 1}))

    await granted(world.authority, ask("most", user="b", meters={"bytes": AMOUNT_MAX - 1}))
    await denied(world.authority, ask("two", user="b", meters={"bytes": 2}))
    await granted(world.authority, ask("last", user="b", meters={"bytes": 1}))
    assert await used(world.authority, "most", user="b") == (0, AMOUNT_MAX)


@pytest.mark.parametrize("amount", BEYOND)
async def test_t6_larger_amounts_are_refused_with_a_reason(world: World, amount: int) -> None:
    """T6. Goal: what cannot be counted exactly is refused, and changes nothing.

    Method: each call that brings amounts, with amounts from 2^53 on.
    """
    hold = await granted(world.authority, ask("hold", meters={"free": 5}, max_output_tokens=10))
    before = await everything(world.redis, world.keys)
    for operation in (
        ask("new", user="a", meters={"bytes": amount}),
        ask("new", meters={"free": amount}),
        commit(hold, meters={"free": amount}),
        commit(hold, input_tokens=amount),
        commit(hold, part=1, meters={"free": amount}),
        record("new", meters={"free": amount}),
    ):
        error = await refused(world.authority, operation)
        assert isinstance(error, FieldInvalid), operation
        assert str(AMOUNT_MAX) in error.message
    assert await everything(world.redis, world.keys) == before


@pytest.mark.parametrize("amount", BEYOND)
@pytest.mark.parametrize("limit", ["bytes", "tokens", "usd"])
def test_t6_larger_limits_are_refused_with_a_reason(limit: str, amount: int) -> None:
    """T6. Goal: no limit that could not be kept exactly. Method: documents in three units."""
    value = f"{amount // 10**9}.{amount % 10**9:09}" if limit == "usd" else amount
    document = f"""
    org: acme
    meters: [bytes]
    budgets: [{{name: b, limit: {{{limit}: {value}}}, window: day}}]
    """
    with pytest.raises(PolicyInvalid) as caught:
        compiled(document)
    assert "budgets[0].limit" in caught.value.faults[0].path


async def test_t6_random_amounts_up_to_the_limit(world: World) -> None:
    """T6. Goal: near 2^53 each decision is what whole numbers say.

    Method: 200 random reserves whose sizes halve towards the limit, against Python's integers.
    """
    dice, held, decisions = seeded(6), 0, set()
    for number in range(200):
        amount = dice.randint(0, max(1, (AMOUNT_MAX - held) * 21 // 20 // (1 + number % 3)))
        answer = await world.authority.reserve(
            ask(f"r{number}", user="a", meters={"bytes": amount})
        )
        fits = held + amount <= AMOUNT_MAX
        assert (answer.decision is Decision.GRANTED) is fits, f"seed 6, {held} + {amount}"
        held += amount if fits else 0
        decisions.add(fits)
    assert decisions == {True, False}
    assert await used(world.authority, "most", user="a") == (0, held)
    assert AMOUNT_MAX - held < 1_000


async def test_t6_the_largest_output_that_fits_is_exact(world: World) -> None:
    """T6. Goal: dividing room by price never grants a token too many, nor one too few.

    Method: 300 offers with random ceilings up to 2^53 - 1, bases and slopes, in one call; the
    output of each is the floor of the exact quotient.
    """
    dice, policy = seeded(66), world.servers[0].policies.of("acme")
    now_ms = world.clock.now_ms()
    operations, expected = [], []
    for number in range(300):
        request = ask(f"r{number}", user=f"u{number}")
        [offer] = plan(request, policy, now_ms).offers
        [use] = [each for each in offer.uses if each.counter.budget.name == "most"]
        slope = dice.choice((1, 3, 7, 999, 10**6 + 3, 99_999_989, 2**31 - 1))
        base = dice.choice((0, 1, dice.randint(0, 2**52)))
        fits = dice.randint(0, (AMOUNT_MAX - base) // slope)
        ceiling = min(AMOUNT_MAX, base + slope * fits + dice.choice((0, slope - 1)))
        use = use._replace(base=base, slope=slope, ceiling=ceiling)
        most = (AMOUNT_MAX - base) // slope
        offer = offer._replace(uses=(use,), output_min=0, output_max=most)
        hold_id = hold_name(policy.org, request.request_id).hold_id
        operations.append(
            ReserveOperation(policy.org, hold_id, b"f", (offer,), now_ms + 1_000, 1_000, b"")
        )
        expected.append((fits, base + slope * fits))
    outcomes = await world.engine.reserve(operations, now_ms)
    found = [(each.output_tokens, each.values[0].held) for each in outcomes]
    assert found == expected


async def test_t6_counters_pass_2_to_the_53_exactly(world: World) -> None:
    """T6. Goal: sums of exact amounts stay exact where a double no longer holds them.

    Method: 21 odd amounts near 2^53 are recorded on plain, rolling and task counters; what Redis
    keeps and what a reader is told are the sum of Python's integers.
    """
    amounts = [AMOUNT_MAX - 2 * number for number in range(21)]
    for number, amount in enumerate(amounts):
        await world.authority.record(record(f"r{number}", task="t", meters={"free": amount}))
    total = sum(amounts)
    assert float(total) != total
    for budget in ("free", "free-hour", "free-task"):
        assert await used(world.authority, budget, task="t") == (total, 0)


async def test_t6_a_batch_passes_2_to_the_53_exactly(world: World) -> None:
    """T6. Goal: amounts that one call adds up stay exact as well.

    Method: 21 records and 21 reserves in one batch each, then partial and final commits.
    """
    amounts = [AMOUNT_MAX - 2 * number for number in range(21)]
    records = [record(f"r{n}", task="t", meters={"free": each}) for n, each in enumerate(amounts)]
    answers = await world.authority.batch(records)
    assert not [each for each in answers if isinstance(each, BursarError)]
    total = sum(amounts)
    assert await used(world.authority, "free", task="t") == (total, 0)
    asked = [ask(f"h{n}", task="t", meters={"free": each}) for n, each in enumerate(amounts)]
    holds = await world.authority.batch(asked)
    assert await used(world.authority, "free", task="t") == (total, total)
    parts = [commit(h, part=1, meters={"free": 7}) for h in holds if isinstance(h, ReserveAnswer)]
    await world.authority.batch(parts)
    assert await used(world.authority, "free", task="t") == (total + 147, total - 147)
    ends = [commit(h, meters={"free": 1}) for h in holds if isinstance(h, ReserveAnswer)]
    await world.authority.batch(ends)
    for budget in ("free", "free-hour", "free-task"):
        assert await used(world.authority, budget, task="t") == (total + 168, 0)


async def test_t6_what_leaves_a_rolling_window_is_exact(world: World) -> None:
    """T6. Goal: taking more than 2^53 off a rolling counter leaves what is really left.

    Method: amounts near 2^53 in several buckets, then 3; an hour later a record makes the window
    move on, first past some of them, then past all.
    """
    for number in range(5):
        for part in range(3):
            amount = AMOUNT_MAX - 2 * number
            await world.authority.record(record(f"r{number}-{part}", meters={"free": amount}))
        world.clock.at_ms += 120_000
    await world.authority.record(record("small", meters={"free": 3}))
    world.clock.at_ms += HOUR - 5 * 120_000 + 60_000
    await world.authority.record(record("moved", meters={"free": 5}))
    left = 3 * sum(AMOUNT_MAX - 2 * number for number in range(1, 5)) + 8
    assert await used(world.authority, "free-hour") == (left, 0)
    world.clock.at_ms += 4 * 120_000
    await world.authority.record(record("on", meters={"free": 1}))
    assert await used(world.authority, "free-hour") == (9, 0)
    [fields] = [
        fields
        for name, fields in (await counters(world.redis, world.keys)).items()
        if name.startswith("acme:free-hour:")
    ]
    assert fields["c"] == 9


async def test_t6_a_counter_never_overflows(world: World) -> None:
    """T6. Goal: what would take a counter past 2^62 is refused whole.

    Method: 512 records of 2^53 - 1 in a batch come close; another is refused with a reason and
    books on none of its counters, by record and by commit; a small one is still booked.
    """
    fill = [record(f"r{number}", task="t", meters={"free": AMOUNT_MAX}) for number in range(512)]
    answers = await world.authority.batch(fill)
    assert not [each for each in answers if isinstance(each, BursarError)]
    total = 512 * AMOUNT_MAX
    assert total <= COUNTER_MAX < total + AMOUNT_MAX
    hold = await granted(world.authority, ask("hold", task="t", user="a", meters={"free": 9}))
    before = await everything(world.redis, world.keys)
    for operation in (
        record("more", task="t", user="a", meters={"free": AMOUNT_MAX, "bytes": 1}),
        commit(hold, meters={"free": AMOUNT_MAX, "bytes": 1}),
        commit(hold, part=1, meters={"free": AMOUNT_MAX, "bytes": 1}),
    ):
        error = await refused(world.authority, operation)
        assert isinstance(error, FieldInvalid)
        assert str(COUNTER_MAX) in error.message
    assert await everything(world.redis, world.keys) == before
    await carry_out(world.authority, commit(hold, meters={"free": 9}))
    assert await used(world.authority, "free", task="t") == (total + 9, 0)


async def test_t6_held_amounts_never_overflow(world: World) -> None:
    """T6. Goal: unlimited budgets deny before int64 overflows. Method: 600 holds of 2^53 - 1."""
    asked = [ask(f"h{number}", meters={"free": AMOUNT_MAX}) for number in range(600)]
    answers = await world.authority.batch(asked)
    grants = [each for each in answers if isinstance(each, ReserveAnswer) and each.reservation_id]
    assert COUNTER_MAX // AMOUNT_MAX - 1 <= len(grants) <= COUNTER_MAX // AMOUNT_MAX
    assert not [each for each in answers if isinstance(each, BursarError)]
    assert await used(world.authority, "free") == (0, len(grants) * AMOUNT_MAX)
    [refusal] = await world.authority.batch([extend(grants[0], max_output_tokens=5)])
    assert not isinstance(refusal, BursarError)


async def test_t6_beyond_2_to_the_53_a_limit_still_holds(world: World) -> None:
    """T6. Goal: a counter that overage took past 2^53 denies, in exact numbers.

    Method: commits far above a limit of 2^53 - 1; the next reserve of 1 is denied, and the denial
    says what is committed.
    """
    for number in range(3):
        hold = await world.authority.reserve(ask(f"h{number}", user="a", meters={"bytes": 0}))
        await world.authority.record(record(f"r{number}", user="a", meters={"bytes": AMOUNT_MAX}))
        if hold.reservation_id:
            await world.authority.settle(commit(hold, meters={"bytes": AMOUNT_MAX - 1}))
    committed, held = await used(world.authority, "most", user="a")
    assert (committed, held) == (4 * AMOUNT_MAX - 1, 0)
    answer = await denied(world.authority, ask("next", user="a", meters={"bytes": 1}))
    assert answer.denial is not None
    assert answer.denial.binding is not None
    assert answer.denial.binding.counter.budget.name == "most"
