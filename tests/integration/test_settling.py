"""T12, T15, T16, T17, T20, T21, T23: a hold ends once, by what was really used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import chain

import pytest
from engine_books import assert_books_balance
from engine_calls import (
    MODELS,
    TTL_MS,
    ask,
    carry_out,
    commit,
    denied,
    extend,
    granted,
    refused,
    release,
    seeded,
    used,
)
from engine_state import counters, dumps, everything, journal
from engine_world import HOUR, SECOND, World, open_world

from bursar.domain.alert import crossings
from bursar.domain.answer import DenialKind, HoldState, SettleAnswer
from bursar.domain.errors import (
    BursarError,
    ReservationCommitted,
    ReservationNotFound,
    ReservationReleased,
    SequenceMismatch,
)
from bursar.domain.request import CommitRequest, ReleaseRequest

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 100000}}, window: day, alerts: [50, 80, 100]}}
  - {{name: user, per: [user], limit: {{tokens: 1000}}, window: {{rolling: 1h}}}}
  - {{name: money, limit: {{usd: 100}}, window: month}}
  - {{name: at-once, limit: {{concurrency: 3000}}}}
{MODELS}
"""
OTHER = "org: umbrella\nbudgets: [{name: day, limit: {tokens: 1000}, window: day}]"


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, OTHER, servers=4) as world:
        yield world


async def test_t12_a_commit_in_parallel_books_once(world: World) -> None:
    """T12. Goal: of equal commits at once one books, and another content is refused.

    Method: 40 equal commits and one with other usage at once over four servers, for 20 holds.
    Whichever content comes first is booked; all of it answers the same, the other is refused.
    """
    wins = set()
    for number in range(20):
        hold = await granted(world.authority, ask(f"r{number}", user="u", input_tokens=99))
        commits = [commit(hold, input_tokens=10) for _ in range(40)]
        commits.insert(number * 2, commit(hold, input_tokens=20))
        results = await asyncio.gather(
            *(world.servers[at % 4].authority.settle(each) for at, each in enumerate(commits)),
            return_exceptions=True,
        )
        answers = [each for each in results if isinstance(each, SettleAnswer)]
        errors = [each for each in results if isinstance(each, BaseException)]
        assert len(answers) in (1, 40)
        assert [each.replayed for each in answers].count(False) == 1
        assert len({repr(each._replace(replayed=False)) for each in answers}) == 1
        assert {type(each) for each in errors} == {ReservationCommitted}
        wins.add(len(answers))
        await world.authority.settle(release(await granted(world.authority, ask(f"next{number}"))))
    committed, held = await used(world.authority, "day")
    assert held == 0
    assert 20 * 10 <= committed <= 20 * 20
    assert 40 in wins


@pytest.mark.parametrize(
    "input_tokens,output_tokens,overage",
    [
        pytest.param(60, 20, 0, id="less"),
        pytest.param(100, 50, 0, id="equal"),
        pytest.param(100, 80, 30, id="more"),
        pytest.param(900, 900, 1_650, id="far-more"),
        pytest.param(0, 0, 0, id="nothing"),
    ],
)
async def test_t15_what_was_used_is_booked(
    world: World, input_tokens: int, output_tokens: int, overage: int
) -> None:
    """T15. Goal: the actual amount is booked and the rest returned; the next reserve sees it.

    Method: a hold of 150 tokens, settled by less, equal, more and nothing, with the overage said;
    then reserves of what is left and of one token more.
    """
    hold = await granted(
        world.authority, ask("a", user="u", input_tokens=100, max_output_tokens=50)
    )
    assert await used(world.authority, "user", user="u") == (0, 150)
    answer = await world.authority.settle(
        commit(hold, input_tokens=input_tokens, output_tokens=output_tokens)
    )
    tokens = input_tokens + output_tokens
    nano_usd = input_tokens * 1_000 + output_tokens * 2_000
    by_meter = {each.meter: (each.amount, each.overage) for each in answer.charges}
    assert by_meter["total_tokens"] == (tokens, overage)
    assert by_meter["cost"] == (nano_usd, max(0, nano_usd - 200_000))
    assert answer.state is HoldState.COMMITTED
    assert await used(world.authority, "user", user="u") == (tokens, 0)
    assert await used(world.authority, "money") == (nano_usd, 0)
    assert await used(world.authority, "at-once") == (0, 0)
    left = 1_000 - tokens
    await denied(world.authority, ask("more", user="u", input_tokens=max(left, 0)))
    if left > 0:
        await granted(world.authority, ask("rest", user="u", input_tokens=left - 1))


async def test_t16_a_commit_above_the_limit(world: World) -> None:
    """T16. Goal: a commit above the limit is booked in full and blocks what follows.

    Method: a hold of 100 of 1,000 tokens is committed with 5,000; the next reserve is denied as
    spent, and smaller settlements are still booked.
    """
    holds = [
        await granted(world.authority, ask(f"r{n}", user="u", input_tokens=99)) for n in (1, 2)
    ]
    answer = await world.authority.settle(commit(holds[0], input_tokens=5_000))
    [status] = [each for each in answer.counters if each.counter.budget.name == "user"]
    assert (status.values.committed, status.remaining) == (5_000, -4_100)
    refusal = await denied(world.authority, ask("next", user="u", input_tokens=0))
    assert refusal.denial is not None
    assert refusal.denial.kind is DenialKind.SPENT
    await world.authority.settle(commit(holds[1], input_tokens=1))
    assert await used(world.authority, "user", user="u") == (5_001, 0)


async def test_t16_each_threshold_is_crossed_once(world: World) -> None:
    """T16. Goal: of all settlements exactly one crosses each alert threshold.

    Method: 60 commits of 2,000 tokens at once over four servers take the day to 120 %.
    """
    requests = [ask(f"r{number}", user=f"u{number}", input_tokens=100) for number in range(60)]
    holds = [await granted(world.authority, request) for request in requests]
    answers = await asyncio.gather(
        *(
            world.servers[number % 4].authority.settle(commit(hold, input_tokens=2_000))
            for number, hold in enumerate(holds)
        )
    )
    crossed = [each.percent for answer in answers for each in crossings(answer.counters)]
    assert sorted(crossed) == [50, 80, 100]


async def test_t17_commit_races_release(world: World) -> None:
    """T17. Goal: whichever comes first ends the hold, and the loser is told how it ended.

    Method: 1,000 holds; a commit and a release of each at once on different servers, in random
    order. One of each pair fails, with the state that the other left.
    """
    dice = seeded(17)
    requests = [ask(f"r{number}", user=f"u{number}", input_tokens=9) for number in range(1_000)]
    holds = [each for each in await world.authority.batch(requests)]
    pairs = [(commit(hold, input_tokens=7), release(hold)) for hold in holds]
    calls = list(chain.from_iterable(dice.sample(pair, 2) for pair in pairs))
    dice.shuffle(calls)
    outcomes: dict[str, list[tuple[type, object]]] = {}

    async def call(number: int, request: CommitRequest | ReleaseRequest) -> None:
        try:
            result: object = await world.servers[number % 4].authority.settle(request)
        except BursarError as error:
            result = error
        outcomes.setdefault(request.reservation_id, []).append((type(request), result))

    await asyncio.gather(*(call(number, request) for number, request in enumerate(calls)))
    commits = 0
    for reservation_id, results in outcomes.items():
        [(winner, answer)] = [each for each in results if isinstance(each[1], SettleAnswer)]
        [error] = [each for _, each in results if isinstance(each, BursarError)]
        if winner is CommitRequest:
            commits += 1
            assert isinstance(error, ReservationCommitted)
        else:
            assert isinstance(error, ReservationReleased)
        assert isinstance(answer, SettleAnswer)
        assert error.metadata["state"] == answer.state.name
        assert error.metadata["reservationId"] == reservation_id
    assert len(outcomes) == 1_000
    assert 100 < commits < 900
    assert await used(world.authority, "day") == (commits * 7, 0)
    assert await used(world.authority, "at-once") == (0, 0)


async def test_t20_a_counter_that_is_gone_stays_gone(world: World) -> None:
    """T20. Goal: settling never brings a dropped counter back with a wrong value.

    Method: one counter's key is deleted under two holds, as when its window is long over; commit,
    partial commit, extend, release and expiry leave it away, book the others, and are journaled.
    """
    world.lossy = True
    verbs = ("commit", "partial", "extend", "release", "expire")
    holds = {verb: await granted(world.authority, ask(verb, input_tokens=9)) for verb in verbs}
    [name] = [each for each in await dumps(world.redis, world.keys, "c") if ":day:" in each]
    await world.redis.delete(name)
    await world.authority.settle(commit(holds["commit"], input_tokens=7))
    await world.authority.settle(commit(holds["partial"], part=1, input_tokens=7))
    await world.authority.extend(extend(holds["extend"], max_output_tokens=50))
    await world.authority.settle(release(holds["release"]))
    world.clock.at_ms += TTL_MS
    assert (await world.authority.sweep(10)).expired == 3
    assert not await world.redis.exists(name)
    assert await used(world.authority, "day") == (0, 0)
    assert await used(world.authority, "money") == (14_000, 0)
    events = [
        event[0] for entry in await journal(world.redis, world.keys, 0) for event in entry.events
    ]
    assert events.count(b"commit") == events.count(b"commit_partial") == 1
    last = await world.authority.reserve(ask("new", input_tokens=9))
    assert {each.values.held for each in last.counters if each.counter.budget.name == "day"} == {10}


async def test_t21_parts_stay_when_the_client_dies(world: World) -> None:
    """T21. Goal: what was committed in parts stays, the rest is freed one TTL after the last part.

    Method: two parts of a hold of 500 tokens, the second one 50 s after the first; then nobody.
    """
    hold = await granted(world.authority, ask("a", user="u", input_tokens=499))
    await world.authority.settle(commit(hold, part=1, input_tokens=100))
    assert await used(world.authority, "user", user="u") == (100, 400)
    world.clock.at_ms += TTL_MS - 10 * SECOND
    answer = await world.authority.settle(commit(hold, part=2, input_tokens=50))
    assert answer.state is HoldState.OPEN
    assert answer.expire_ms == world.clock.at_ms + TTL_MS
    assert await used(world.authority, "user", user="u") == (150, 350)
    world.clock.at_ms += TTL_MS - 1
    assert (await world.authority.sweep(10)).expired == 0
    world.clock.at_ms += 1
    assert (await world.authority.sweep(10)).expired == 1
    assert await used(world.authority, "user", user="u") == (150, 0)
    assert await used(world.authority, "at-once") == (0, 0)


async def test_parts_come_in_order_and_are_repeated(world: World) -> None:
    """Goal: no part is booked twice or skipped.

    Method: each part twice, then one too early, one that is long over, and one with other content
    under the last number.
    """
    hold = await granted(world.authority, ask("a", user="u", input_tokens=499))
    for part in (1, 2, 3):
        first = await world.authority.settle(commit(hold, part=part, input_tokens=part))
        again = await world.servers[part].authority.settle(
            commit(hold, part=part, input_tokens=part)
        )
        assert again._replace(replayed=False) == first
    before = await everything(world.redis, world.keys)
    for part, tokens in ((5, 1), (1, 1), (3, 99), (2, 2)):
        error = await refused(world.authority, commit(hold, part=part, input_tokens=tokens))
        assert isinstance(error, SequenceMismatch)
        assert error.metadata == {"expectedSequence": "4"}
    assert await everything(world.redis, world.keys) == before
    await world.authority.settle(commit(hold, input_tokens=10))
    assert isinstance(await refused(world.authority, commit(hold, part=4)), ReservationCommitted)
    assert await used(world.authority, "user", user="u") == (16, 0)


@pytest.mark.parametrize("parts", [0, 1, 2])
async def test_release_after_parts(world: World, parts: int) -> None:
    """Goal: Release gives back what is still held.

    Method: after no, one and two parts, the second of which used more than was held; the state says
    whether anything was committed.
    """
    hold = await granted(world.authority, ask("a", user="u", input_tokens=99))
    for part in range(1, parts + 1):
        await world.authority.settle(commit(hold, part=part, input_tokens=60))
    answer = await world.authority.settle(release(hold))
    assert answer.state is (HoldState.COMMITTED if parts else HoldState.RELEASED)
    assert await used(world.authority, "user", user="u") == (60 * parts, 0)
    again = await world.authority.settle(release(hold))
    assert again.replayed
    assert again.state is answer.state
    expected = ReservationCommitted if parts else ReservationReleased
    assert isinstance(await refused(world.authority, commit(hold, input_tokens=1)), expected)


async def test_one_hold_twice_in_a_batch(world: World) -> None:
    """Goal: each operation of a batch is answered as of its own turn.

    Method: three parts and a final commit of one hold in one batch, against the same four calls
    one after another on another hold.
    """
    answers = []
    for name in ("batch", "single"):
        hold = await granted(world.authority, ask(name, user=name, input_tokens=499))
        calls = [commit(hold, part=part, input_tokens=10 * part) for part in (1, 2, 3)]
        calls.append(commit(hold, input_tokens=400))
        if name == "batch":
            answers.append(await world.authority.batch(calls))
        else:
            answers.append([await carry_out(world.authority, each) for each in calls])
    charges = [[each.charges for each in some] for some in answers]
    assert charges[0] == charges[1]
    assert [some[0].amount for some in charges[0]] == [10, 20, 30, 400]
    assert [each.state for each in answers[0]] == [each.state for each in answers[1]]
    held = [[status.values.held for each in some for status in each.counters
             if status.counter.budget.name == "user"] for some in answers]  # fmt: skip
    assert held == [[490, 470, 440, 0]] * 2


async def test_t23_unknown_and_foreign_reservations_look_the_same(world: World) -> None:
    """T23. Goal: who guesses ids learns nothing.

    Method: ids that nobody has, that another org has, of unknown orgs and malformed ones: settling
    each is NOT_FOUND with one text.
    """
    hold = await granted(world.authority, ask("a", user="u", input_tokens=9))
    hold_id = hold.reservation_id.partition(".")[2]
    before = await everything(world.redis, world.keys)
    texts = set()
    for guess in ("acme." + "a" * 24, f"umbrella.{hold_id}", f"nobody.{hold_id}", "x", hold_id,
                  f"acme.{hold_id}x", f"acme..{hold_id}", f"ACME.{hold_id}"):  # fmt: skip
        for operation in (
            commit(guess, input_tokens=1),
            commit(guess, part=1, input_tokens=1),
            release(guess),
            extend(guess, ttl_ms=SECOND),
            extend(guess, max_output_tokens=5),
        ):
            error = await refused(world.authority, operation)
            assert isinstance(error, ReservationNotFound), operation
            assert "Record" in error.message
            assert error.metadata == {"reservationId": guess}
            texts.add(error.message.replace(guess, "ID"))
    assert len(texts) == 1
    assert await everything(world.redis, world.keys) == before
    assert len(await counters(world.redis, world.keys)) == 4


async def test_t23_a_server_without_the_policy_knows_no_reservation(
    world: World, redis_url: str, key_namespace: str
) -> None:
    """T23. Goal: a server that does not serve an org neither changes nor betrays its holds.

    Method: another server on the same Redis, with another org's policy, is asked for a real hold.
    """
    hold = await granted(world.authority, ask("a", user="u", input_tokens=9))
    other = "{org: umbrella, budgets: []}"
    async with open_world(redis_url, key_namespace, other, shards=1) as elsewhere:
        elsewhere.lossy = True  # The books are those of the other world.
        before = await everything(world.redis, world.keys)
        for operation in (
            commit(hold, input_tokens=1),
            release(hold),
            extend(hold, ttl_ms=SECOND),
            extend(hold, max_output_tokens=5),
        ):
            error = await refused(elsewhere.authority, operation)
            assert isinstance(error, ReservationNotFound), operation
        assert await everything(world.redis, world.keys) == before


async def test_a_hold_of_very_many_counters(redis_url: str, key_namespace: str) -> None:
    """Goal: how many budgets a request matches is bounded by nothing that Lua can read at once.

    Method: a request of 2,100 budgets, whose numbers do not fit Lua's stack, is reserved, made
    larger, committed in parts and to the end; another one expires. The journal agrees with all of
    them.
    """
    budgets = "".join(
        f"  - {{name: b{number}, limit: {{tokens: 1000}}, window: day}}\n"
        for number in range(2_100)
    )
    policy = f"org: acme\nbudgets:\n{budgets}"
    async with open_world(redis_url, key_namespace, policy) as world:
        hold = await granted(world.authority, ask("a", input_tokens=10, max_output_tokens=5))
        await granted(world.authority, ask("b", input_tokens=7, max_output_tokens=1))
        await world.authority.extend(extend(hold, max_output_tokens=50))
        await world.authority.settle(commit(hold, part=1, input_tokens=10))
        await world.authority.settle(commit(hold, input_tokens=2))
        world.clock.at_ms += HOUR
        await world.authority.sweep(10)
        await assert_books_balance(world.redis, world.keys)
        found = await counters(world.redis, world.keys)
        assert len(found) == 2_100
        assert {(each["c"], each["h"]) for each in found.values()} == {(12, 0)}
