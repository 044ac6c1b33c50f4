"""T8 to T14: a call that is repeated answers the same and changes nothing.

Wherever an answer is compared, it is compared whole; wherever nothing may change, counters, holds,
expiries and the length of the journal are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import redis.asyncio as redis
from engine_books import assert_books_balance
from engine_calls import (
    MODELS,
    TTL_MS,
    ask,
    commit,
    denied,
    extend,
    granted,
    record,
    refused,
    release,
    used,
)
from engine_processes import ServerProcess, connected, running_servers
from engine_state import counters, everything, holds
from engine_world import SECOND, World, open_world

from bursar.domain.answer import Decision
from bursar.domain.budget import Degradation, Priority
from bursar.domain.errors import RequestIdReused, StoreUnavailable
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import Target
from bursar.engine.keys import Keys
from bursar.engine.scripts import SCRIPTS, load_script
from bursar.engine.shards import EngineLimits
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2 as types
from bursar.service.budget_authority import REPLAYED_KEY
from fault_proxy import FaultProxy
from polling import eventually_async

POLICY = f"""
org: acme
meters: [bytes]
budgets:
  - {{name: day, limit: {{tokens: 1000}}, window: day}}
  - {{name: money, per: [user], limit: {{usd: 10}}, window: {{rolling: 1h}}}}
  - {{name: bytes, limit: {{bytes: 1000}}, window: month}}
  - {{name: at-once, limit: {{concurrency: 5}}}}
{MODELS}
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY, servers=2) as world:
        yield world


@pytest.fixture(scope="module")
def namespace() -> str:
    return "i" + secrets.token_hex(4)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, namespace: str
) -> Iterator[list[ServerProcess]]:
    folder = tmp_path_factory.mktemp("servers")
    with running_servers(folder, redis_url, namespace, {"acme": POLICY}, 0, 0, 0, 0) as running:
        yield running


async def test_t8_one_request_a_hundred_times_on_four_servers(
    servers: list[ServerProcess], redis_url: str, namespace: str
) -> None:
    """T8. Goal: the same Reserve from everywhere at once holds once and answers the same.

    Method: 100 calls with one request id over four server processes; the answers are equal to the
    byte, one of them says that it was the first, and there is one hold of one unit.
    """
    request = pb.ReserveRequest(
        request_id="once",
        subject=types.Subject(org="acme", user="u1"),
        target=types.Target(model="m"),
        estimate=types.Estimate(input_tokens=100, max_output_tokens=50),
    )
    async with connected(servers) as stubs:
        calls = [stubs[number % 4].Reserve(request, timeout=30) for number in range(100)]
        answers = await asyncio.gather(*calls)
        trailers = [dict(await call.trailing_metadata()) for call in calls]
    assert {answer.SerializeToString(deterministic=True) for answer in answers} == {
        answers[0].SerializeToString(deterministic=True)
    }
    assert answers[0].decision == types.DECISION_GRANTED
    assert [each.get(REPLAYED_KEY) for each in trailers].count("true") == 99
    async with redis.Redis.from_url(redis_url) as store:
        keys = Keys(namespace, 4)
        books = await assert_books_balance(store, keys)
        assert sum(books.events.values()) == len(await holds(store, keys)) == 1
        held = {
            name.split(":")[1]: each["h"] for name, each in (await counters(store, keys)).items()
        }
        assert held == {"day": 150, "money": 200_000, "bytes": 0, "at-once": 1}


@pytest.mark.parametrize("cut", [False, True], ids=["silence", "reset"])
async def test_t9_a_lost_reply_is_not_repeated_by_itself(
    redis_url: str, key_namespace: str, cut: bool
) -> None:
    """T9. Goal: a script whose reply is lost is repeated by the caller alone, and books once.

    Method: a proxy drops the reply; Redis saw one script call, the caller an error; its retry is
    answered as a repetition.
    """
    async with (
        open_world(redis_url, key_namespace, POLICY) as world,
        FaultProxy(redis_url) as proxy,
    ):
        server = await world.server(url=proxy.url, timeout_ms=300)
        for name in SCRIPTS:  # So that none is sent twice because Redis does not know it yet.
            await world.redis.script_load(load_script(name).text)
        first = await granted(server.authority, ask("before", input_tokens=1))
        scripts = proxy.counts["EVALSHA"]
        for number, operation in enumerate(
            [
                ask("lost", input_tokens=100),
                extend(first, max_output_tokens=9),
                commit(first, part=1, input_tokens=1),
                commit(first, input_tokens=1),
                record("lost record", input_tokens=5),
            ]
        ):
            proxy.lose_replies("EVALSHA", 1, cut=cut)
            error = await refused(server.authority, operation)
            assert isinstance(error, StoreUnavailable)
            assert proxy.counts["EVALSHA"] + proxy.counts["EVAL"] == scripts + number + 1
        await proxy.heal()
        assert (await granted(server.authority, ask("lost", input_tokens=100))).replayed
        assert (await server.authority.settle(commit(first, input_tokens=1))).replayed
        assert (await server.authority.record(record("lost record", input_tokens=5))).replayed
        assert await used(world.authority, "day") == (7, 101)
        assert (await used(world.authority, "at-once")) == (0, 1)


BASE = ask(
    "used",
    user="u1",
    input_tokens=100,
    max_output_tokens=50,
    min_output_tokens=10,
    meters={"bytes": 5},
    labels={"tier": "free"},
    accepts=frozenset({Degradation.QUEUE}),
)


def with_estimate(**changed: object) -> ReserveRequest:
    return replace(BASE, estimate=replace(BASE.estimate, **changed))


def with_subject(**changed: object) -> ReserveRequest:
    return replace(BASE, subject=replace(BASE.subject, **changed))


OTHERS = {
    "input": with_estimate(input_tokens=101),
    "less input": with_estimate(input_tokens=99),
    "max output": with_estimate(max_output_tokens=51),
    "no max output": with_estimate(max_output_tokens=None),
    "min output": with_estimate(min_output_tokens=11),
    "requests": with_estimate(requests=2),
    "cached": with_estimate(cache_read_tokens=1),
    "custom meter": with_estimate(custom_meters={"bytes": 6}),
    "no custom meter": with_estimate(custom_meters={}),
    "user": with_subject(user="u2"),
    "team": with_subject(team="red"),
    "feature": with_subject(feature="chat"),
    "agent": with_subject(agent="a1"),
    "task": with_subject(task="t1"),
    "label": with_subject(labels={"tier": "pro"}),
    "more labels": with_subject(labels={"tier": "free", "region": "eu"}),
    "model": replace(BASE, target=Target("", "other")),
    "provider": replace(BASE, target=Target("q", "m")),
    "ttl": replace(BASE, ttl_ms=TTL_MS + 1),
    "priority": replace(BASE, priority=Priority.HIGH),
    "accepts": replace(BASE, accepts=frozenset()),
    "closing": replace(BASE, closing=True),
    "record": record("used", user="u1", input_tokens=100),
}


@pytest.mark.parametrize("ended", ["open", "committed", "expired"])
@pytest.mark.parametrize("other", OTHERS)
async def test_t10_an_id_is_for_one_content(world: World, other: str, ended: str) -> None:
    """T10. Goal: the same id with anything else in it is refused, and changes nothing.

    Method: a request, and the same with one field changed, while it is open and after it ended.
    """
    first = await granted(world.authority, BASE)
    if ended == "committed":
        await world.authority.settle(commit(first, input_tokens=1))
    if ended == "expired":
        world.clock.at_ms += TTL_MS
        await world.authority.sweep(10)
    before = await everything(world.redis, world.keys)
    for server in world.servers:
        error = await refused(server.authority, OTHERS[other])
        assert isinstance(error, RequestIdReused)
        assert error.metadata == {"requestId": "used"}
    assert await everything(world.redis, world.keys) == before
    assert (await granted(world.authority, BASE))._replace(replayed=False) == first


async def test_t10_the_id_of_a_record_is_no_reserve(world: World) -> None:
    """T10. Goal: records and reserves share their ids.

    Method: a record, then a reserve with its id, and another record.
    """
    first = await world.authority.record(record("used", input_tokens=3))
    for operation in (ask("used", input_tokens=3), record("used", input_tokens=4)):
        assert isinstance(await refused(world.authority, operation), RequestIdReused)
    again = await world.authority.record(record("used", input_tokens=3))
    assert again.replayed
    assert again._replace(replayed=False) == first
    assert await used(world.authority, "day") == (3, 0)


@pytest.mark.parametrize(
    "end", ["commit", "partial", "release", "expiry", "late commit", "extend", "policy change"]
)
async def test_t11_a_retry_answers_as_the_first_time(world: World, end: str) -> None:
    """T11. Goal: whatever became of the hold, its Reserve is answered the same, on any server.

    Method: reserve, let the hold end in each way while others use the counters, then retry.
    """
    first = await granted(world.authority, BASE)
    await granted(world.authority, ask("other", user="u1", input_tokens=77))
    match end:
        case "commit":
            await world.authority.settle(commit(first, input_tokens=9))
        case "partial":
            await world.authority.settle(commit(first, part=1, input_tokens=9))
        case "release":
            await world.authority.settle(release(first))
        case "extend":
            await world.authority.extend(extend(first, max_output_tokens=90, ttl_ms=5 * SECOND))
        case "policy change":
            world.use_policy(POLICY.replace("{tokens: 1000}", "{tokens: 5}"))
        case _:
            world.clock.at_ms += TTL_MS
            await world.authority.sweep(10)
    if end == "late commit":
        assert (await world.authority.settle(commit(first, input_tokens=9))).late
    world.clock.at_ms += 10 * SECOND
    before = await everything(world.redis, world.keys)
    for server in world.servers:
        again = await server.authority.reserve(BASE)
        assert again.replayed
        assert again._replace(replayed=False) == first
    assert await everything(world.redis, world.keys) == before


async def test_one_id_twice_in_a_batch(world: World) -> None:
    """Goal: a batch that names an id twice books it once.

    Method: reserves and records, each with its own repetition and with other content behind it.
    """
    reserves = [ask("a", input_tokens=tokens) for tokens in (9, 9, 8)]
    records = [record("b", input_tokens=tokens) for tokens in (5, 5, 6)]
    answers = await world.authority.batch([*reserves, *records])
    assert [isinstance(each, RequestIdReused) for each in answers] == [False, False, True] * 2
    for first, again in (answers[:2], answers[3:5]):
        assert (first.replayed, again.replayed) == (False, True)
        assert again._replace(replayed=False) == first
    assert await used(world.authority, "day") == (5, 10)


async def test_t11_until_the_tombstone_ends(redis_url: str, key_namespace: str) -> None:
    """T11. Goal: a retry just before the end of the tombstone is a repetition, and only then.

    Method: tombstones of 1.2 s; retries while Redis says that one has less than 0.4 s left, and
    after it is gone.
    """
    limits = EngineLimits(tombstone_ms=1_200)
    async with open_world(redis_url, key_namespace, POLICY, limits=limits) as world:
        first = await granted(world.authority, BASE)
        [name] = await holds(world.redis, world.keys)
        assert await world.redis.pttl(name) == -1
        settled = await world.authority.settle(commit(first, input_tokens=1))
        assert 0 < await world.redis.pttl(name) <= 1_200

        async def nearly_over() -> bool:
            return await world.redis.pttl(name) < 400

        await eventually_async(nearly_over)
        assert (await granted(world.authority, BASE))._replace(replayed=False) == first
        again = await world.authority.settle(commit(first, input_tokens=1))
        assert again.replayed
        assert again._replace(replayed=False) == settled

        async def over() -> bool:
            return not await world.redis.exists(name)

        await eventually_async(over)
        world.lossy = True  # The journal holds this request twice, as two reservations.
        assert not (await granted(world.authority, BASE)).replayed


@pytest.mark.parametrize("shards", [1, 64])
async def test_t13_the_same_id_under_two_orgs(
    redis_url: str, key_namespace: str, shards: int
) -> None:
    """T13. Goal: request ids are an org's own.

    Method: one id under two orgs, on one shard and on two; each is held, settled and repeated by
    itself.
    """
    documents = POLICY, POLICY.replace("org: acme", "org: umbrella")
    async with open_world(redis_url, key_namespace, *documents, shards=shards) as world:
        one = await granted(world.authority, ask("same", input_tokens=10))
        other = await granted(world.authority, ask("same", org="umbrella", input_tokens=20))
        assert not other.replayed
        assert one.reservation_id != other.reservation_id
        await world.authority.settle(commit(one, input_tokens=10))
        assert await used(world.authority, "day") == (10, 0)
        assert await used(world.authority, "day", org="umbrella") == (0, 21)
        assert (await granted(world.authority, ask("same", input_tokens=10))).replayed


async def test_t14_a_denial_is_decided_afresh(world: World) -> None:
    """T14. Goal: a denial is not remembered.

    Method: deny, make room, retry: it is granted and from then on repeated; a denied id may come
    back with other content.
    """
    blocker = await granted(world.authority, ask("blocker", input_tokens=989))
    request = ask("again", input_tokens=100)
    before = await everything(world.redis, world.keys)
    for server in world.servers:
        assert not (await denied(server.authority, request)).replayed
    assert await everything(world.redis, world.keys) == before
    assert (
        await world.authority.reserve(ask("again", input_tokens=1))
    ).decision is Decision.GRANTED
    await world.authority.settle(release(blocker))
    assert isinstance(await refused(world.authority, request), RequestIdReused)
    fresh = ask("fresh", input_tokens=990)
    await denied(world.authority, ask("fresh", input_tokens=999))
    first = await granted(world.authority, fresh)
    assert not first.replayed
    assert (await granted(world.servers[1].authority, fresh))._replace(replayed=False) == first


async def test_a_check_holds_nothing_and_uses_no_id(world: World) -> None:
    """Goal: validate_only leaves no trace. Method: look twice with an id, then reserve with it."""
    look = replace(BASE, validate_only=True)
    before = await everything(world.redis, world.keys)
    answers = [await world.authority.reserve(look) for _ in range(2)]
    assert answers[0] == answers[1]
    assert (answers[0].reservation_id, answers[0].decision) == ("", Decision.GRANTED)
    assert await everything(world.redis, world.keys) == before
    first = await granted(world.authority, BASE)
    assert not first.replayed
    assert first.counters == answers[0].counters
