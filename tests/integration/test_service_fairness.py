"""Too much load: who is refused, who is not, and what is left of it (T56, T59, T60)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from service_load import (
    all_wait,
    calls_of,
    in_progress,
    of_org,
    operations_of,
    refusal,
    stalled,
)
from service_metrics import Counts
from service_server import new_id, reserve_request, serving

from bursar import failpoints
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import error_reason_pb2, types_pb2
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.service.admission import ALWAYS, Admission
from bursar.service.errors import PUSHBACK_KEY
from bursar.service.server import UNREAD_BYTES
from polling import eventually_async

GRANTED = types_pb2.DECISION_GRANTED
BOUND = 40
HOT, OTHER = "acme", "umbrella"


def plain_enter(self: Admission, org: str, count: int = 1) -> None:
    """Admit up to the bound, whoever asks: what a server without shares would do."""
    if self.in_progress + count > self.most:
        raise self._refusal(0, is_full=True)
    self._by_org[org] = self._by_org.get(org, 0) + count
    self.in_progress += count


def overloaded(finished: set[asyncio.Future[Any]]) -> list[grpc.aio.AioRpcError]:
    """Return the errors of calls, all of which were refused because of load."""
    errors = [each.exception() for each in finished]
    assert all(isinstance(each, grpc.aio.AioRpcError) for each in errors)
    found: list[Any] = errors
    assert {each.code() for each in found} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    return found


async def test_a_hot_org_leaves_room(redis_url: str) -> None:
    """Goal: one org's flood keeps no other org out (T60). Method: at a Redis that is silent.

    600 calls of one org: half of the bound is in progress, all others are refused. 20 of another
    org come after them: all are in progress, and all are granted once Redis answers.
    """
    async with stalled(redis_url, concurrent_rpcs_max=BOUND) as (service, proxy):
        hot = in_progress(service, 600)
        await all_wait(service, BOUND // 2)
        others = in_progress(service, BOUND // 4, org=OTHER)
        await all_wait(service, BOUND // 4, OTHER)
        refused, waiting = await asyncio.wait(hot, return_when=asyncio.ALL_COMPLETED, timeout=0)
        while len(waiting) > BOUND // 2:
            refused, waiting = await asyncio.wait(hot, return_when=asyncio.FIRST_COMPLETED)
        overloaded(refused)
        assert not any(each.done() for each in others)
        await proxy.heal()
        answers = await asyncio.gather(*others, *waiting)
        assert {each.decision for each in answers} == {GRANTED}


async def test_without_shares_a_hot_org_takes_all(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the test above can fail. Method: the same with one bound for all."""
    monkeypatch.setattr(Admission, "enter", plain_enter)
    async with stalled(redis_url, concurrent_rpcs_max=BOUND) as (service, _):
        hot = in_progress(service, 3 * BOUND)
        await all_wait(service, BOUND)
        others = in_progress(service, BOUND // 4, org=OTHER)
        finished, _waiting = await asyncio.wait(others, timeout=20)
        assert len(overloaded(finished)) == BOUND // 4
        for call in hot:
            call.cancel()
        await asyncio.gather(*hot, return_exceptions=True)


async def test_others_are_served_in_a_storm(redis_url: str) -> None:
    """Goal: the same while everything moves. Method: 100 callers of one org that never pause.

    None of another org's calls is refused, and the storm itself gets on. Redis is silent until the
    storm is too much.
    """
    async with stalled(redis_url, concurrent_rpcs_max=16) as (service, proxy):
        answers: dict[object, int] = {}
        stop = asyncio.Event()

        async def storm() -> None:
            while not stop.is_set():
                try:
                    result: object = (await service.authority.Reserve(of_org(HOT))).decision
                except grpc.aio.AioRpcError as error:
                    result = error.code()
                answers[result] = answers.get(result, 0) + 1

        async def is_too_much() -> bool:
            return grpc.StatusCode.RESOURCE_EXHAUSTED in answers

        callers = [asyncio.create_task(storm()) for _ in range(100)]
        try:
            await eventually_async(is_too_much)
            others = in_progress(service, 4, org=OTHER)
            await proxy.heal()
            for _ in range(8):
                granted = await asyncio.gather(*others)
                assert {each.decision for each in granted} == {GRANTED}
                others = in_progress(service, 4, org=OTHER)
            await asyncio.gather(*others)

            async def gets_on() -> bool:
                return GRANTED in answers

            await eventually_async(gets_on)
            assert answers.keys() == {GRANTED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        finally:
            stop.set()
            await asyncio.gather(*callers)


async def test_what_is_too_much_is_told_when_to_come_back(redis_url: str) -> None:
    """Goal: the excess is refused with a time, and leaves nothing behind (T59).

    Method: ten times the bound, in five waves, some under names of orgs that do not exist; what is
    in progress goes on. The times differ, and a caller's gRPC is told the same.
    """
    async with stalled(redis_url, concurrent_rpcs_max=BOUND) as (service, proxy):
        first = in_progress(service, BOUND // 2)
        await all_wait(service, BOUND // 2)
        tasks, pushbacks = len(asyncio.all_tasks()), set[str]()
        for _ in range(5):
            wave = in_progress(service, 2 * BOUND)
            unknown = in_progress(service, 5, org=f"org-{new_id()}")
            finished, _none = await asyncio.wait(wave)
            for error in overloaded(finished):
                trailers = dict(error.trailing_metadata())
                pushbacks.add(str(trailers[PUSHBACK_KEY]))
            for found in await asyncio.gather(*map(refusal, unknown)):
                assert found.reason == "ORG_ACCESS_DENIED"
            assert (calls_of(service).in_progress, calls_of(service).orgs) == (BOUND // 2, 1)
        assert all(100 <= int(each) < 200 for each in pushbacks)
        assert len(pushbacks) > 20
        assert len(asyncio.all_tasks()) <= tasks
        assert not any(call.done() for call in first)
        await proxy.heal()
        assert {each.decision for each in await asyncio.gather(*first)} == {GRANTED}
        for admission in (calls_of(service), operations_of(service)):
            assert (admission.in_progress, admission.orgs) == (0, 0)


async def test_other_failures_give_their_place_back(redis_url: str) -> None:
    """Goal: however a call ends, it no longer counts. Method: more failures than the bound."""
    async with stalled(redis_url, concurrent_rpcs_max=6) as (service, proxy):
        for _ in range(5):
            late = in_progress(service, 2, timeout_s=0.2)
            cancelled = in_progress(service, 2, org=OTHER)
            await all_wait(service, 2, OTHER)
            for call in cancelled:
                call.cancel()
            await asyncio.gather(*late, *cancelled, return_exceptions=True)
            await all_wait(service, 0)
            await all_wait(service, 0, OTHER)
        await proxy.heal()
        unreadable = reserve_request(request_id="")
        for _ in range(9):
            found = await refusal(service.authority.Reserve(unreadable))
            assert found.reason == "FIELD_INVALID"
        assert (await service.authority.Reserve(reserve_request())).decision == GRANTED


async def test_a_batch_counts_what_is_in_it(redis_url: str) -> None:
    """Goal: a batch is as much load as its operations. Method: two of one org, one of another."""

    def batch(org: str, count: int) -> Awaitable[pb.BatchResponse]:
        operations = [pb.Operation(reserve=of_org(org)) for _ in range(count)]
        return service.authority.Batch(pb.BatchRequest(operations=operations), timeout=30)

    bounds = {"concurrent_operations_max": 20, "batch_operations_max": 11}
    async with stalled(redis_url, **bounds) as (service, proxy):
        first = asyncio.ensure_future(batch(HOT, 10))
        await all_wait(service, 1)
        assert operations_of(service).of_org(HOT) == 10
        found = await refusal(batch(HOT, 1))
        assert found.metadata == {"inProgress": "10", "limit": "20", "counted": "operations"}
        other = asyncio.ensure_future(batch(OTHER, 5))
        await all_wait(service, 1, OTHER)
        # What can never be taken is no matter of load.
        assert (await refusal(batch(OTHER, 12))).reason == "LIMIT_EXCEEDED"
        await proxy.heal()
        for answer in (await first, await other):
            assert {each.reserve.decision for each in answer.results} == {GRANTED}


def session_message(org: str, count: int) -> pb.SessionRequest:
    """Return reserves of an org for a session, numbered from 0 on."""
    operations = [
        pb.SessionOperation(
            correlation_id=number,
            operation=pb.Operation(reserve=of_org(org)),
            timeout={"seconds": 30},
        )
        for number in range(count)
    ]
    return pb.SessionRequest(operations=operations)


async def results(
    stream: grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionResponse], count: int
) -> list[pb.OperationResult]:
    """Read so many answers of a session."""
    found: list[pb.OperationResult] = []
    while len(found) < count:
        answer = await stream.read()
        assert isinstance(answer, pb.SessionResponse)
        found += [each.result for each in answer.results]
    assert len(found) == count
    return found


async def test_a_hot_session_leaves_room(redis_url: str) -> None:
    """Goal: orgs share what sessions do, too (T60). Method: as above, on two sessions.

    Five messages of 20 operations each: the org's share is in progress, the others are refused,
    each with a time to come back.
    """
    bounds = {"concurrent_operations_max": BOUND, "batch_operations_max": BOUND}
    async with stalled(redis_url, **bounds) as (service, proxy):
        hot, other = service.authority.Session(), service.authority.Session()
        for _ in range(5):
            await hot.write(session_message(HOT, BOUND // 2))
        refused = await results(hot, 4 * BOUND // 2)
        assert {each.error.reason for each in refused} == {
            error_reason_pb2.ERROR_REASON_SERVER_OVERLOADED
        }
        assert all(100 <= each.error.retry_after.ToMilliseconds() < 200 for each in refused)
        await other.write(session_message(OTHER, BOUND // 4))

        async def admitted() -> bool:
            return operations_of(service).of_org(OTHER) == BOUND // 4

        await eventually_async(admitted)
        assert operations_of(service).of_org(HOT) == BOUND // 2
        await proxy.heal()
        granted = [*await results(hot, BOUND // 2), *await results(other, BOUND // 4)]
        assert {each.reserve.decision for each in granted} == {GRANTED}
        for stream in (hot, other):
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
        assert (operations_of(service).in_progress, operations_of(service).orgs) == (0, 0)


async def test_what_is_let_in_follows_what_ends(redis_url: str) -> None:
    """Goal: no more is let in than ends in time (T59). Method: a Redis that falls silent."""
    async with stalled(redis_url) as (service, proxy):
        first = in_progress(service, 1)

        async def only_a_burst() -> bool:
            return {calls_of(service).limit, operations_of(service).limit} == {ALWAYS}

        await eventually_async(only_a_burst)
        await proxy.heal()
        [answer] = await asyncio.gather(*first)
        assert answer.decision == GRANTED


async def test_a_session_that_is_not_read_holds_its_client_back(redis_url: str) -> None:
    """Goal: what waits, waits where it can be gathered and dropped (T59). Method: fill a session.

    It has all in flight that it may, so nothing more of it is read, and a write does not end. Where
    gRPC decides, over 64 KiB go out before.
    """
    async with stalled(redis_url, session_in_flight_max=1) as (service, _):
        stream, sent_bytes = service.authority.Session(), 0
        message = session_message(HOT, 10)
        with pytest.raises(TimeoutError):
            while sent_bytes < 64 * 1024:
                await asyncio.wait_for(stream.write(message), timeout=1)
                sent_bytes += message.ByteSize()
        assert sent_bytes <= 3 * UNREAD_BYTES


async def test_what_operators_see_of_load(redis_url: str) -> None:
    """Goal: metrics say how full it is and whose bound refuses. Method: fill an org's, then all."""
    async with stalled(redis_url, concurrent_rpcs_max=4) as (service, proxy):
        before = Counts()
        calls = in_progress(service, 2)
        await all_wait(service, 2)
        await refusal(service.authority.Reserve(reserve_request()))
        calls += in_progress(service, 1, org=OTHER)
        await all_wait(service, 1, OTHER)
        calls += in_progress(service, 1, org="nobody-waits")
        await asyncio.gather(calls.pop(), return_exceptions=True)
        assert before.of("bursar.load.in_progress", "of") == {"calls": 3, "operations": 3}
        assert before.of("bursar.load.refused", "of", "share") == {("calls", "org"): 1}
        assert not before.attributes() & {HOT, OTHER}
        await proxy.heal()
        await asyncio.gather(*calls)


async def test_a_deadline_that_passes_before_the_server_looks(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: what nobody waits for any more is not done (T56). Method: a server that stands still.

    The first of ten calls stops the event loop for longer than the others' deadlines.
    """
    async with serving(redis_url) as service:
        failpoints.arm({failpoints.VARIABLE: "after_decode=stop:700"})
        try:
            first = in_progress(service, 1, timeout_s=30)
            late = in_progress(service, 9, timeout_s=0.3)
            for found in await asyncio.gather(*map(refusal, late)):
                assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
            [answer] = await asyncio.gather(*first)
        finally:
            failpoints.arm({})
        assert answer.decision == GRANTED
        assert len([key for key in await service.dump() if b":h:" in key]) == 1


async def test_a_deadline_that_passes_while_redis_is_silent(redis_url: str) -> None:
    """Goal: what failed so may have been done, and is never done twice (T56).

    Method: 50 calls whose deadlines pass while nothing moves; then Redis answers, and the same
    requests are sent again.
    """
    requests = [reserve_request() for _ in range(50)]
    async with stalled(redis_url) as (service, proxy):
        late = [service.authority.Reserve(each, timeout=0.3) for each in requests]
        for found in await asyncio.gather(*map(refusal, late)):
            assert found.code in (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.UNAVAILABLE,
            )
        await proxy.heal()
        again = await asyncio.gather(
            *(service.authority.Reserve(each, timeout=30) for each in requests)
        )
        assert {each.decision for each in again} == {GRANTED}
        # One more from the beginning of `stalled`; each holds 150 tokens.
        holds = [key for key in await service.dump() if b":h:" in key]
        assert len(holds) == len(requests) + 1
        asked = usage_pb.GetBalancesRequest(subject=requests[0].subject)
        counters = (await service.usage.GetBalances(asked)).counters
        [held] = [each.held for each in counters if each.budget == "user-day"]
        assert held == 150 * len(holds)
