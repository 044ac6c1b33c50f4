"""Turns: what all callers ask for at one moment goes to Redis together, and is answered as ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from engine_calls import (
    MODELS,
    ask,
    carry_out,
    commit,
    extend,
    granted,
    record,
    release,
    seeded,
    used,
)
from engine_state import journal
from engine_world import MINUTE, SECOND, World, open_world
from test_script_calls import Run, watched
from turns_calls import DOCUMENTS, DOCUMENTS_OF_ONE_CALL, Adjust, Turn, turns
from turns_worlds import two_worlds

from bursar.authority.identity import hold_name
from bursar.domain.answer import Decision, ExtendAnswer, ReserveAnswer, SettleAnswer
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.request import Operation, ReserveRequest
from bursar.engine.scripts import load_script

SEEDS = range(10)
TURNS = 8


def described(answer: Any) -> str:  # noqa: ANN401 - of any call
    """Return what kind of answer it is, so that a run can say that it saw them all."""
    match answer:
        case ReserveAnswer():
            return f"{answer.decision} again" if answer.replayed else str(answer.decision)
        case SettleAnswer():
            return f"{answer.state}{' late' * answer.late}{' again' * answer.replayed}"
        case ExtendAnswer():
            return "extended" if answer.denial is None else "not extended"
        case (kind, _):
            return str(kind.__name__)
        case _:
            return "adjusted"


EVERYWHERE = {
    "granted",
    "granted_degraded",
    "denied",
    "granted again",
    "committed",
    "committed again",
    "committed late",
    "open",
    "released",
    "extended",
    "RequestIdReused",
    "ReservationNotFound",
    "ReservationCommitted",
    "ReservationExpired",
    "SequenceMismatch",
}


async def test_calls_at_once_are_answered_as_one_by_one(redis_url: str, key_namespace: str) -> None:
    """Goal: nobody can tell from an answer that others called at the same moment.

    Method: turns of random calls in two worlds; in one they are made one after the other, in the
    other all at once. Every answer, counter, hold and expiry is the same after each turn, where
    the second world's journal got one entry for each shard.
    """
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        async with two_worlds(redis_url, f"{key_namespace}x{seed}", DOCUMENTS_OF_ONE_CALL) as both:
            for number, turn in enumerate(turns(seeded(seed), TURNS, only_one_call=True)):
                await both.begin(turn)
                expected, _ = await both.carry_out_one_by_one(turn)
                before = await both.entries_together()
                found = await both.calls_at_once(turn)
                after = await both.entries_together()
                assert found == expected, f"seed {seed}, turn {number}"
                await both.assert_same_state()
                assert max(now - then for now, then in zip(after, before, strict=True)) <= 1
                seen.update(map(described, found))
    assert not EVERYWHERE - seen.keys(), seen


async def test_operations_at_once_come_to_the_same_as_one_by_one(
    redis_url: str, key_namespace: str
) -> None:
    """Goal: the same of every kind of operation, also those that only follow from another one.

    Method: what the engine was asked for one by one, with extends that were computed from holds,
    commits that were sent again for another model, and adjustments, is asked for at once.
    """
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        async with two_worlds(redis_url, f"{key_namespace}x{seed}", DOCUMENTS) as both:
            for number, turn in enumerate(turns(seeded(100 + seed), TURNS, only_one_call=False)):
                await both.begin(turn)
                answers, told = await both.carry_out_one_by_one(turn)
                before = await both.entries_together()
                found = await both.operations_at_once(told)
                after = await both.entries_together()
                for outcome, each in zip(found, told, strict=True):
                    assert outcome == each.outcome, f"seed {seed}, turn {number}"
                await both.assert_same_state()
                assert max(now - then for now, then in zip(after, before, strict=True)) <= 1
                seen.update(map(described, answers))
                seen.update(type(each.outcome).__name__ for each in told)
                seen.update(str(getattr(each.outcome, "code", "")) for each in told)
    assert not EVERYWHERE - seen.keys(), seen


SHARED = f"""
org: ORG
budgets:
  - {{name: day, limit: {{tokens: 100000}}, window: day}}
  - {{name: rolling, limit: {{tokens: 100000}}, window: {{rolling: 1h}}}}
  - {{name: user, per: [user], limit: {{tokens: 1000}}, window: {{rolling: 10m}}}}
{MODELS}
"""
MANY = ("acme", "umbrella", "initech", "globex", "hooli")


async def test_a_turn_is_one_script_call_a_shard(redis_url: str, key_namespace: str) -> None:
    """Goal: however many call at once, each shard is asked once, and reads each counter once.

    Method: 60 operations of five orgs and every kind at once; Redis tells what its scripts call.
    Negative control: the same operations one after the other.
    """
    documents = [SHARED.replace("ORG", org) for org in MANY]
    async with open_world(redis_url, key_namespace, *documents, shards=3) as world:
        await world.redis.script_load(load_script("operate").text)
        shards = {world.keys.shard_of(org) for org in MANY}
        assert len(shards) > 1
        holds = [
            await granted(world.authority, ask(f"h{n}", org=org, user="u", input_tokens=9))
            for org in MANY
            for n in range(3)
        ]

        def operations(name: str) -> list[Any]:
            return [
                *(ask(f"{name}{n}", org=org, user="u") for org in MANY for n in range(5)),
                *(record(f"{name}r{n}", org=org, user="u") for org in MANY for n in range(4)),
                *(extend(each, ttl_ms=90_000) for each in holds[2::3]),
                *(commit(each, input_tokens=1) for each in holds[::3]),
                *(release(each) for each in holds[1::3]),
            ]

        async with watched(redis_url) as runs:
            await asyncio.gather(*(carry_out(world.authority, each) for each in operations("a")))
        assert {run.sha for run in runs} == {load_script("operate").sha}
        assert len(runs) == len(shards)
        for run in runs:
            assert max(_times_read(run).values()) == 1
        entries = [await journal(world.redis, world.keys, shard) for shard in shards]
        assert sum(len(each[-1].events) for each in entries) == len(operations("a"))

        async with watched(redis_url) as runs:
            for each in operations("b")[:10]:
                await carry_out(world.authority, each)
        assert len(runs) == 10


def reservation(request: ReserveRequest) -> str:
    return hold_name(request.subject.org, request.request_id).reservation_id


def _times_read(run: Run) -> Counter[str]:
    """Return how often each counter and hold is read."""
    return Counter(
        name
        for words in run.commands
        if words[0].upper() in ("HMGET", "MGET", "GET")
        for name in (words[1:2] if words[0].upper() == "HMGET" else words[1:])
    )


@pytest.mark.parametrize("first", ["large", "small"])
async def test_what_is_asked_for_first_is_decided_first(
    redis_url: str, key_namespace: str, first: str
) -> None:
    """Goal: operations of one shard keep their order, those of one list and those of all callers.

    Method: there is room for the large one alone or for the small one alone, so the first of them
    gets it; a release between two makes room for the second.
    """
    sizes = {"large": 900, "small": 700}
    order = [first, *(sizes.keys() - {first})]
    documents = [SHARED.replace("ORG", org) for org in MANY]
    async with open_world(redis_url, key_namespace, *documents) as world:

        def asked(user: str) -> list[Any]:
            return [ask(user + name, user=user, input_tokens=sizes[name]) for name in order]

        in_a_list = await world.authority.batch(asked("a"))
        at_once = await asyncio.gather(*map(world.authority.reserve, asked("b")))
        for answers in (in_a_list, at_once):
            assert [each.decision for each in answers] == [Decision.GRANTED, Decision.DENIED]
        one, other = asked("c")
        freed = [one, release(reservation(one)), other, commit(reservation(other))]
        answers = await asyncio.gather(*(carry_out(world.authority, each) for each in freed))
        told = [described(each) for each in answers]
        assert told == ["granted", "released", "granted", "committed"]
        assert len(await journal(world.redis, world.keys, 0)) == 3


BY_TARGET = f"""
org: acme
meters: [pages]
budgets:
  - {{name: all, limit: {{pages: unlimited}}, window: day}}
  - name: q-task
    scope: {{provider: q}}
    per: [task]
    limit: {{tokens: 1000}}
    window: {{task: 10m}}
{MODELS}
"""


async def nearly_overflow(world: World) -> None:
    """Let the counter of pages hold nearly as much as one may, which no call can bring about."""
    world.lossy = True
    [name] = [each async for each in world.redis.scan_iter(f"{{{world.keys.namespace}*:all:*")]
    await world.redis.hset(name, "c", COUNTER_MAX - 2**40)


async def test_what_cannot_be_booked_leaves_nothing_behind(
    redis_url: str, key_namespace: str
) -> None:
    """Goal: an operation that is refused changes nothing for those after it in the same turn.

    Method: a task is idle; a commit of another model looks at the task's counter and is refused,
    because it would overflow another one; a late commit continues the task, never begins it anew.
    """
    async with two_worlds(redis_url, key_namespace, [BY_TARGET]) as both:
        late = ask("late", model="other", task="t", input_tokens=9, ttl_ms=SECOND)
        before: list[Operation | Adjust] = [
            late,
            record("used", model="other", task="t", input_tokens=100),
        ]
        hold = ask("hold", task="t", input_tokens=9)
        refused = commit(reservation(hold), model="other", meters={"pages": 2**45})
        calls = [hold, refused, commit(reservation(late), model="other", input_tokens=7)]
        for turn in (Turn(0, False, before), Turn(SECOND, True), Turn(20 * MINUTE, False, calls)):
            await both.begin(turn)
            if turn.steps is calls:
                await nearly_overflow(both.one_by_one)
                await nearly_overflow(both.together)
            answers, told = await both.carry_out_one_by_one(turn)
            assert await both.operations_at_once(told) == [each.outcome for each in told]
        assert [described(each) for each in answers] == [
            "granted",
            "FieldInvalid",
            "committed late",
        ]
        assert len(told) == 4
        await both.assert_same_state()
        assert await used(both.one_by_one.authority, "q-task", task="t") == (107, 0)
