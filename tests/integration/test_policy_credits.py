"""Credit over gRPC: room for one counter, given once, recorded, and gone when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_world import DAY, HOUR, NOON_MS
from google.protobuf.timestamp_pb2 import Timestamp
from policy_world import POLICY, PolicyServer, PolicyWorld, open_policy_world, refused
from service_server import new_id

from bursar.domain.errors import LedgerUnavailable
from bursar.ledger.credit_store import Credit, CreditStore
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import types_pb2 as types_pb

Opened = tuple[PolicyWorld, PolicyServer]
MORE = """
  - {name: rate, per: [user], limit: {requests: 3}, window: {rolling: 1h}}
  - {name: free, limit: {tokens: unlimited}, window: day}
  - {name: each, limit: {tokens: 100000}, window: request}
  - {name: away, limit: {tokens: 5}, window: day, mode: "off"}
  - {name: each-task, per: [task], limit: {tokens: 100}, window: {task: 1h}}
  - {name: at-once, per: [agent], limit: {concurrency: 1}}
  - {name: by-model, per: [model], limit: {tokens: 100000}, window: day}
"""


@pytest.fixture
async def opened(redis_url: str, database_url: str, key_namespace: str) -> AsyncIterator[Opened]:
    async with open_policy_world(redis_url, database_url, key_namespace) as world:
        await world[1].apply(POLICY.rstrip() + MORE)
        yield world


@pytest.fixture
def server(opened: Opened) -> PolicyServer:
    return opened[1]


def at(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000)


def request(**changed: Any) -> pb.AdjustCreditRequest:  # noqa: ANN401 - as the message takes it
    given: dict[str, Any] = {
        "request_id": new_id(),
        "org": "acme",
        "budget": "user-day",
        "partition": {"user": "u1"},
        "amount": 500,
        "actor": "ann",
        "reason": "a long day",
    }
    given.update(changed)
    if "usd" in changed:
        del given["amount"]
    return pb.AdjustCreditRequest(**given)


async def adjust(server: PolicyServer, **changed: Any) -> pb.AdjustCreditResponse:  # noqa: ANN401 - as the message takes it
    answer: pb.AdjustCreditResponse = await server.policy.AdjustCredit(request(**changed))
    return answer


async def test_more_room_until_the_window_ends(opened: Opened) -> None:
    """Goal: a credit is room for one counter until its window ends. Method: use it, and go on."""
    world, server = opened
    assert not (await server.reserve(output=1_200)).reservation_id
    answer = await adjust(server)
    counter = answer.counter
    assert (counter.limit, counter.credit, counter.remaining) == (1_000, 500, 1_500)
    assert answer.credit.expire_time == counter.window_end_time
    assert (await server.reserve(output=1_200)).reservation_id
    assert not (await server.reserve(output=1_200, user="u2")).reservation_id
    world.clock.at_ms += DAY
    assert not (await server.reserve(output=1_200)).reservation_id


async def test_money(server: PolicyServer) -> None:
    """Goal: money is given exactly, as nano-USD or dollars. Method: both on one budget."""
    await adjust(server, budget="month", partition={}, usd="0.000000001")
    answer = await adjust(server, budget="month", partition={}, usd="12.5")
    assert answer.counter.credit == 12_500_000_001
    answer = await adjust(server, budget="month", partition={}, amount=-12_500_000_000)
    assert answer.counter.credit == 1


async def test_less_than_nothing(server: PolicyServer) -> None:
    """Goal: a negative amount takes room away, also all of it. Method: below what is used."""
    await server.commit((await server.reserve(output=300)).reservation_id, 300)
    answer = await adjust(server, amount=-800)
    assert (answer.counter.credit, answer.counter.remaining) == (-800, -100)
    denied = await server.reserve(output=1)
    assert denied.denial.binding.budget == "user-day"


async def test_a_credit_that_ends_with_a_hold_above_the_limit(opened: Opened) -> None:
    """Goal: T66: the hold settles, the next is denied. Method: the sweeper ends the credit."""
    world, server = opened
    await adjust(server, expire_time=at(NOON_MS + 60_000))
    granted = await server.reserve(output=1_400)
    assert granted.reservation_id
    world.clock.at_ms = NOON_MS + 61_000
    await server.inner.authority.sweep(100)
    assert not (await server.reserve(output=1)).reservation_id
    settled = await server.commit(granted.reservation_id, 1_400)
    [counter] = [each for each in settled.counters if each.budget == "user-day"]
    assert (counter.committed, counter.credit, counter.remaining) == (1_400, 0, -400)
    assert not (await server.reserve(output=1)).reservation_id


async def test_the_same_request_counts_once(opened: Opened) -> None:
    """Goal: a repeat adds nothing, wherever it is sent. Method: eight at once on two servers."""
    world, server = opened
    other = await world.server()
    wanted = request(request_id="c-1")
    servers = (server, other) * 4
    await asyncio.gather(*(each.policy.AdjustCredit(wanted) for each in servers))
    call = other.policy.AdjustCredit(wanted)
    answer = await call
    assert answer.counter.credit == 500
    assert ("bursar-replayed", "true") in list(await call.trailing_metadata())
    assert len((await server.policy.ListCredits(pb.ListCreditsRequest(org="acme"))).credits) == 1
    for changed in ({"amount": 501}, {"reason": "other"}, {"partition": {"user": "u2"}}):
        found = await refused(adjust(server, request_id="c-1", **changed))
        assert found.reason == "REQUEST_ID_REUSED"
    # A reservation of the same id is another thing.
    assert (await server.reserve(request_id="c-1")).reservation_id


class BrokenOnce(CreditStore):
    """Loses PostgreSQL right after the counter was adjusted, once."""

    def __init__(self, whole: CreditStore) -> None:
        super().__init__(whole._database)
        self.broken = True

    async def add(self, credit: Credit) -> Credit:
        if self.broken:
            self.broken = False
            raise LedgerUnavailable("PostgreSQL cannot be reached or does not answer")
        return await super().add(credit)


async def test_an_end_between_counter_and_record(server: PolicyServer) -> None:
    """Goal: what ended halfway is completed by the same request, and counted once.

    Method: the record fails after the counter was adjusted; the request is sent again.
    """
    server.cases.credits._store = BrokenOnce(server.cases.credits._store)
    found = await refused(adjust(server, request_id="c-1"))
    assert (found.reason, found.retry_after_ms) == ("LEDGER_UNAVAILABLE", 500)
    assert (await adjust(server, request_id="c-1")).counter.credit == 500
    assert (await adjust(server, request_id="c-1")).counter.credit == 500
    [credit] = (await server.policy.ListCredits(pb.ListCreditsRequest(org="acme"))).credits
    assert (credit.request_id, credit.amount) == ("c-1", 500)


async def test_an_end_between_and_a_new_window(opened: Opened) -> None:
    """Goal: a credit of yesterday is not given again today, and is recorded as yesterday's.

    Method: as before, and the request is sent again after the window has ended.
    """
    world, server = opened
    server.cases.credits._store = BrokenOnce(server.cases.credits._store)
    await refused(adjust(server, request_id="c-1"))
    world.clock.at_ms += DAY
    answer = await adjust(server, request_id="c-1")
    assert answer.credit.create_time == at(NOON_MS)
    assert answer.credit.expire_time == at(NOON_MS + DAY // 2)
    assert answer.counter.window_end_time == answer.credit.expire_time
    assert not (await server.reserve(output=1_001)).reservation_id


FAULTS = {
    "no-budget": ({"budget": "nothing"}, "budget"),
    "per-request": ({"budget": "each", "partition": {}}, "budget"),
    "unlimited": ({"budget": "free", "partition": {}}, "budget"),
    "off": ({"budget": "away", "partition": {}}, "budget"),
    "no-partition": ({"partition": {}}, "partition"),
    "other-partition": ({"partition": {"user": "u1", "team": "t"}}, "partition"),
    "no-amount": ({"amount": 0}, "amount"),
    "large": ({"amount": 2**53}, "amount"),
    "money-for-tokens": ({"usd": "5"}, "usd"),
    "no-money": ({"usd": "five"}, "usd"),
    "zero-money": ({"usd": "0.00"}, "usd"),
    "past": ({"expire_time": at(NOON_MS - 1_000)}, "expire_time"),
    "rolling-without-end": ({"budget": "rate"}, "expire_time"),
    "rolling-too-long": (
        {"budget": "rate", "expire_time": at(NOON_MS + 50 * HOUR)},
        "expire_time",
    ),
    "no-actor": ({"actor": ""}, "actor"),
    "no-reason": ({"reason": ""}, "reason"),
    "no-id": ({"request_id": ""}, "request_id"),
    "no-org": ({"org": ""}, "org"),
}


@pytest.mark.parametrize(("changed", "path"), FAULTS.values(), ids=FAULTS)
async def test_faults_of_a_credit(server: PolicyServer, changed: dict[str, Any], path: str) -> None:
    """Goal: each fault has its path, and nothing is given. Method: one at a time."""
    assert path in (await refused(adjust(server, **changed))).violations
    listed = await server.policy.ListCredits(pb.ListCreditsRequest(org="acme"))
    assert not listed.credits


async def test_a_rolling_window(opened: Opened) -> None:
    """Goal: a window without an end takes credit for a given time. Method: 3 requests, then 4."""
    world, server = opened
    until = at(NOON_MS + HOUR)
    answer = await adjust(server, budget="rate", amount=1, expire_time=until)
    assert answer.credit.expire_time == until
    for _ in range(4):
        assert (await server.reserve(output=1)).reservation_id
    assert not (await server.reserve(output=1)).reservation_id
    world.clock.at_ms += HOUR + 61_000
    await server.inner.authority.sweep(100)
    granted = [(await server.reserve(output=1)).reservation_id != "" for _ in range(5)]
    assert granted.count(True) <= 3


async def test_a_task(opened: Opened) -> None:
    """Goal: a task that begins anew has its plain limit, before and after its credit ends.

    Method: a credit that outlives the task; the sweeper ends it when the task has begun anew.
    """
    world, server = opened
    given = {"budget": "each-task", "partition": {"task": "t1"}, "amount": 50}
    await adjust(server, **given, expire_time=at(NOON_MS + 3 * HOUR))
    assert (await server.reserve(output=150, task="t1")).reservation_id
    world.clock.at_ms += 2 * HOUR
    await server.inner.authority.sweep(100)
    first = (await server.reserve(output=100, task="t1")).reservation_id
    assert first
    await server.commit(first, 100)
    world.clock.at_ms += HOUR + 1_000
    await server.inner.authority.sweep(100)
    # The end of the credit is the last that happened to the task.
    world.clock.at_ms += HOUR + 1_000
    for wanted in (101, 100):
        answer = await server.reserve(output=wanted, task="t1")
        [counter] = [each for each in answer.counters if each.budget == "each-task"]
        assert counter.credit == 0
        assert bool(answer.reservation_id) is (wanted == 100)


async def test_calls_at_once(opened: Opened) -> None:
    """Goal: a credit of concurrency is one more call at once, for a time. Method: 2, then 1."""
    world, server = opened
    given = {"budget": "at-once", "partition": {"agent": "a1"}, "amount": 1}
    await adjust(server, **given, expire_time=at(NOON_MS + 60_000))
    held = [(await server.reserve(output=1, agent="a1")).reservation_id for _ in range(3)]
    assert [bool(each) for each in held] == [True, True, False]
    world.clock.at_ms += 61_000
    await server.inner.authority.sweep(100)
    for each in held[:2]:
        await server.commit(each, 1)
    held = [(await server.reserve(output=1, agent="a1")).reservation_id for _ in range(2)]
    assert [bool(each) for each in held] == [True, False]


async def test_case_does_not_matter_for_models(server: PolicyServer) -> None:
    """Goal: credit reaches the counter that requests count on. Method: a model in capitals."""
    answer = await adjust(server, budget="by-model", partition={"model": "M1"})
    assert dict(answer.counter.partition) == {"model": "m1"}
    granted = await server.reserve()
    [counter] = [each for each in granted.counters if each.budget == "by-model"]
    assert counter.credit == 500


async def test_lists_of_credits(opened: Opened) -> None:
    """Goal: who gave what, newest first. Method: pages of two; ended ones on demand; by budget."""
    world, server = opened
    for amount in (1, 2, 3):
        world.clock.at_ms += 1_000
        await adjust(server, amount=amount, reason=f"number {amount}")
    await adjust(server, budget="month", partition={}, amount=9)

    async def amounts(**given: Any) -> list[int]:  # noqa: ANN401 - as the message takes it
        found, token = [], ""
        while True:
            asked = pb.ListCreditsRequest(org="acme", page_size=2, page_token=token, **given)
            page = await server.policy.ListCredits(asked)
            found += [each.amount for each in page.credits]
            if not (token := page.next_page_token):
                return found

    assert sorted(await amounts()) == [1, 2, 3, 9]
    assert await amounts(budget="user-day") == [3, 2, 1]
    world.clock.at_ms += DAY
    assert await amounts() == [9]
    assert await amounts(budget="user-day", include_ended=True) == [3, 2, 1]


async def test_the_ledger_says_who_and_why(opened: Opened) -> None:
    """Goal: a credit is in the ledger with its reason. Method: record the journal, read the row."""
    world, server = opened
    await adjust(server, request_id="c-1")
    await world.ledger.record_all()
    [row] = await world.ledger.rows(
        'SELECT request_id, "user", detail, credit FROM ledger_entries WHERE verb = $1', "adjust"
    )
    assert (row["request_id"], row["user"]) == ("c-1", "u1")
    assert row["detail"] == "credit by ann: a long day"
    assert list(row["credit"]) == [500]
    assert (await adjust(server, request_id="c-1")).credit.meter == types_pb.METER_TOTAL_TOKENS
