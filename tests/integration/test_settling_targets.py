"""Settling with another model than the granted one, or with one whose price nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_calls import MODELS, TTL_MS, ask, commit, extend, granted, record, release, used
from engine_state import counters, dumps
from engine_world import HOUR, MINUTE, World, open_world

from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.domain.budget import parse_counter_id
from bursar.domain.request import CommitRequest

POLICY = f"""
org: acme
budgets:
  - {{name: all, limit: {{tokens: 10000}}, window: day}}
  - {{name: p-hour, scope: {{provider: p}}, limit: {{tokens: 5000}}, window: hour}}
  - {{name: q-hour, scope: {{provider: q}}, limit: {{tokens: 5000}}, window: hour}}
  - {{name: q-task, scope: {{provider: q}}, per: [task], limit: {{tokens: 5000}}, window: task}}
  - {{name: q-rolling, scope: {{provider: q}}, limit: {{tokens: 5000}}, window: {{rolling: 1h}}}}
  - {{name: q-at-once, scope: {{provider: q}}, limit: {{concurrency: 5}}}}
  - name: p-charged
    scope: {{provider: p}}
    limit: {{tokens: 5000}}
    window: day
    on_expiry: charge
  - {{name: by-model, per: [model], limit: {{tokens: 5000}}, window: day}}
  - {{name: money, limit: {{usd: 1}}, window: day}}
{MODELS}
  - {{match: third, provider: r, price: {{input: 5, output: 5}}}}
"""
P_BUDGETS = ("p-hour", "p-charged")
Q_BUDGETS = ("q-hour", "q-task", "q-rolling")

UNPRICED = "nobody-knows-this-model"


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, servers=2) as world:
        yield world


async def reserved(world: World, request_id: str = "a") -> ReserveAnswer:
    """Reserve 500 tokens with model m of provider p."""
    return await granted(world.authority, ask(request_id, task="t", input_tokens=499))


async def settle(world: World, request: CommitRequest) -> SettleAnswer:
    """Settle on the server that did not grant."""
    return await world.servers[1].authority.settle(request)


async def committed(world: World, *budgets: str, **levels: str) -> list[int]:
    """Return what budgets have committed, and check that they hold nothing."""
    found = [await used(world.authority, budget, task="t", **levels) for budget in budgets]
    assert {held for _, held in found} == {0}
    return [amount for amount, _ in found]


async def by_model(world: World) -> dict[str, int]:
    """Return what each model's counter has committed."""
    found = await counters(world.redis, world.keys)
    of_models = {parse_counter_id(name): each for name, each in found.items()}
    return {
        dict(name.partition)["model"]: each.get("c", 0)
        for name, each in of_models.items()
        if name.budget == "by-model"
    }


async def test_a_commit_counts_where_its_model_counts(world: World) -> None:
    """Goal: usage is booked on the budgets of the model that was used, in every kind of window.

    Method: granted for one provider, committed with another: its calendar, task and rolling
    budgets book it, the granted provider's do not, and all holds are returned.
    """
    answer = await settle(world, commit(await reserved(world), model="other", input_tokens=100))
    assert await committed(world, *Q_BUDGETS, "all") == [100] * 4
    assert await committed(world, *P_BUDGETS) == [0, 0]
    assert await by_model(world) == {"m": 0, "other": 100}
    assert await committed(world, "money") == [100 * 10_000]
    named = {each.counter.budget.name: each.values.committed for each in answer.counters}
    assert {named[budget] for budget in Q_BUDGETS} == {100}


async def test_each_part_counts_where_its_model_counts(world: World) -> None:
    """Goal: parts that used different models never mix.

    Method: parts with another model, with the granted one, with a third and with the other one
    again, then the granted one at the end.
    """
    hold = await reserved(world)
    for part, (model, tokens) in enumerate(
        [("other", 100), ("m", 20), ("third", 3), ("other", 200)], 1
    ):
        await settle(world, commit(hold, part=part, model=model, input_tokens=tokens))
    await settle(world, commit(hold, input_tokens=1))
    assert await committed(world, *Q_BUDGETS) == [300] * 3
    assert await committed(world, *P_BUDGETS) == [21, 21]
    assert await by_model(world) == {"m": 21, "other": 300, "third": 3}
    assert await committed(world, "all") == [324]
    assert await committed(world, "money") == [21 * 1_000 + 3 * 5_000 + 300 * 10_000]


async def test_it_is_booked_in_the_window_of_its_reservation(world: World) -> None:
    """Goal: another model's usage belongs to the window that was open when it was reserved.

    Method: reserved 5 minutes before the hour, committed 10 minutes after it; the new hour is
    empty, the old one and the bucket of the reservation have it.
    """
    world.clock.at_ms += 55 * MINUTE
    hold = await granted(world.authority, ask("a", task="t", input_tokens=499, ttl_ms=HOUR))
    old = world.clock.at_ms
    world.clock.at_ms += 15 * MINUTE
    await settle(world, commit(hold, model="other", input_tokens=100))
    assert await committed(world, "q-hour", "p-hour") == [0, 0]
    assert await committed(world, "q-task", "q-rolling") == [100, 100]
    world.clock.at_ms = old + 61 * MINUTE + 59_999
    assert await committed(world, "q-rolling") == [0]
    hours = [name for name in await dumps(world.redis, world.keys, "c") if ":q-hour:" in name]
    assert [await world.redis.hget(name, "c") for name in hours] == [b"100"]


async def test_a_late_commit_with_another_model(world: World) -> None:
    """Goal: what expiry charged for the granted model is taken back when another one was used.

    Method: expire with `on_expiry: charge`, then commit late with the other provider.
    """
    hold = await reserved(world)
    world.clock.at_ms += TTL_MS
    assert (await world.authority.sweep(10)).charged == 1
    assert await committed(world, "p-charged", "p-hour") == [500, 0]
    assert (await settle(world, commit(hold, model="other", input_tokens=100))).late
    assert await committed(world, *P_BUDGETS) == [0, 0]
    assert await committed(world, *Q_BUDGETS) == [100] * 3


@pytest.mark.parametrize("end", ["release", "expire"])
async def test_parts_with_another_model_stay(world: World, end: str) -> None:
    """Goal: what another model's parts booked stays booked when the rest is given back.

    Method: a part with the other model, an extend, then release or expiry. Expiry charges what
    the granted model still held, and nothing to the other.
    """
    hold = await reserved(world)
    await settle(world, commit(hold, part=1, model="other", input_tokens=100))
    await world.authority.extend(extend(hold, max_output_tokens=11))
    if end == "release":
        await world.authority.settle(release(hold))
    else:
        world.clock.at_ms += TTL_MS
        await world.authority.sweep(10)
    assert await committed(world, *Q_BUDGETS) == [100] * 3
    assert await committed(world, "p-charged") == [0 if end == "release" else 510]


async def test_a_batch_with_several_models(world: World) -> None:
    """Goal: commits of a batch that need another look are answered in their places.

    Method: five commits of alternating models in one batch.
    """
    holds = [await reserved(world, f"r{number}") for number in range(5)]
    models = ("m", "other", "m", "third", "other")
    commits = [
        commit(hold, model=model, input_tokens=10 * number)
        for number, (hold, model) in enumerate(zip(holds, models, strict=True), 1)
    ]
    for replayed in (False, True):
        answers = await world.authority.batch(commits)
        found = [each for each in answers if isinstance(each, SettleAnswer)]
        assert [each.reservation_id for each in found] == [each.reservation_id for each in holds]
        assert [each.charges[0].amount for each in found] == [10, 20, 30, 40, 50]
        assert {each.replayed for each in found} == {replayed}
    assert await by_model(world) == {"m": 40, "other": 70, "third": 40}


UNKNOWN_PRICES = """
org: acme
budgets:
  - {name: money, limit: {usd: 1}, window: day}
  - {name: charged, scope: {team: red}, limit: {usd: 1}, window: day, on_expiry: charge}
  - {name: tokens, limit: {tokens: 10000}, window: day}
"""


@pytest.mark.parametrize(
    "unpriced,cost",
    [
        pytest.param("", 200_000, id="deny"),
        pytest.param("unpriced: allow", 0, id="allow"),
        pytest.param("unpriced: {fallback: {input: 3, output: 3}}", 270_000, id="fallback"),
    ],
)
async def test_an_unknown_price(
    redis_url: str, key_namespace: str, unpriced: str, cost: int
) -> None:
    """Goal: a model without a price is charged what is held, nothing, or the fallback price.

    Method: a hold of 200,000 nano-USD is committed with 90 tokens of a model that nobody knows.
    """
    policy = UNKNOWN_PRICES + unpriced + MODELS
    async with open_world(redis_url, key_namespace, policy) as world:
        hold = await granted(world.authority, ask("a", input_tokens=100, max_output_tokens=50))
        answer = await world.authority.settle(commit(hold, model=UNPRICED, input_tokens=90))
        assert answer.unpriced
        [charge] = [each for each in answer.charges if each.meter == "cost"] or [None]
        assert (charge.amount if charge else 0) == cost
        assert charge is None or charge.estimated
        assert await used(world.authority, "money") == (cost, 0)
        assert await used(world.authority, "tokens") == (90, 0)


@pytest.mark.parametrize("end", ["commit", "release", "late commit", "late release"])
async def test_an_unknown_price_is_never_charged_twice(
    redis_url: str, key_namespace: str, end: str
) -> None:
    """Goal: of an unknown price, what is held is booked once, whatever follows.

    Method: a part at a known price, two parts at an unknown one, of which the first books all
    that is still held; then each kind of end. An extend in between holds more, which the next
    unknown price books.
    """
    async with open_world(redis_url, key_namespace, UNKNOWN_PRICES + MODELS) as world:
        hold = await granted(
            world.authority, ask("a", team="red", input_tokens=100, max_output_tokens=50)
        )
        await world.authority.settle(commit(hold, part=1, input_tokens=30))
        for part, amount in ((2, 170_000), (3, 0)):
            answer = await world.authority.settle(
                commit(hold, part=part, model=UNPRICED, input_tokens=30)
            )
            assert {each.amount for each in answer.charges if each.meter == "cost"} <= {amount}
            assert await used(world.authority, "money") == (200_000, 0)
        await world.authority.extend(extend(hold, max_output_tokens=60))
        assert await used(world.authority, "money") == (200_000, 20_000)
        if end.startswith("late"):
            world.clock.at_ms += TTL_MS
            assert (await world.authority.sweep(10)).charged == 1
            assert await used(world.authority, "charged", team="red") == (220_000, 0)
            assert await used(world.authority, "money") == (200_000, 0)
        if end.endswith("commit"):
            await world.authority.settle(commit(hold, model=UNPRICED, input_tokens=30))
        else:
            await world.authority.settle(release(hold))
        total = 220_000 if end.endswith("commit") else 200_000
        assert await used(world.authority, "money") == (total, 0)
        assert await used(world.authority, "charged", team="red") == (total, 0)


async def test_a_record_of_an_unknown_price_is_flagged(redis_url: str, key_namespace: str) -> None:
    """Goal: where nothing was held, nothing can stand in for a price, and the answer says so.

    Method: a record of tokens of a model that nobody knows.
    """
    async with open_world(redis_url, key_namespace, UNKNOWN_PRICES + MODELS) as world:
        answer = await world.authority.record(record("a", model=UNPRICED, input_tokens=90))
        assert answer.unpriced
        assert await used(world.authority, "money") == (0, 0)
        assert await used(world.authority, "tokens") == (90, 0)
