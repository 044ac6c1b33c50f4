"""Sessions over gRPC: any number of operations at once, each answered as by its unary call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from service_server import (
    Service,
    commit_request,
    failure,
    record_request,
    reserve_request,
    serving,
)

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import error_reason_pb2 as reasons
from polling import eventually_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATIONS_MAX = 20
IN_FLIGHT_MAX = 50


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(
        redis_url, batch_operations_max=OPERATIONS_MAX, session_in_flight_max=IN_FLIGHT_MAX
    ) as service:
        yield service


class Session:
    """A stream of a client that does nothing by itself."""

    def __init__(self, service: Service) -> None:
        self.call: Any = service.authority.Session()
        self.results: dict[int, pb.SessionResult] = {}
        self.drained = False
        self._next = 0

    async def send(self, *requests: Any) -> list[int]:  # noqa: ANN401 - of whichever kind
        """Send requests in one message."""
        numbers = list(range(self._next, self._next + len(requests)))
        self._next += len(requests)
        await self.call.write(
            pb.SessionRequest(
                operations=[
                    pb.SessionOperation(correlation_id=number, operation=_operation(request))
                    for number, request in zip(numbers, requests, strict=True)
                ]
            )
        )
        return numbers

    async def answers(self, numbers: Iterable[int]) -> list[pb.SessionResult]:
        """Read until these are answered."""
        wanted = list(numbers)
        while not all(number in self.results for number in wanted):
            message = await asyncio.wait_for(self.call.read(), 10)
            assert message is not grpc.aio.EOF
            self.take(message)
        return [self.results[number] for number in wanted]

    def take(self, message: pb.SessionResponse) -> None:
        """Note what a message says; nothing is answered twice."""
        self.drained |= message.draining
        for result in message.results:
            assert result.correlation_id not in self.results
            self.results[result.correlation_id] = result

    async def ask(self, *requests: Any) -> list[pb.SessionResult]:  # noqa: ANN401
        """Send and read."""
        return await self.answers(await self.send(*requests))


def _operation(request: object) -> pb.Operation:
    match request:
        case pb.ReserveRequest():
            return pb.Operation(reserve=request)
        case pb.CommitRequest():
            return pb.Operation(commit=request)
        case pb.ReleaseRequest():
            return pb.Operation(release=request)
        case pb.ExtendRequest():
            return pb.Operation(extend=request)
        case pb.RecordRequest():
            return pb.Operation(record=request)
        case _:
            return pb.Operation()


async def test_every_operation_is_answered_as_by_its_unary_call(service: Service) -> None:
    session = Session(service)
    reserves = [reserve_request() for _ in range(3)]
    reserved = await session.ask(*reserves, record_request())
    ids = [each.result.reserve.reservation_id for each in reserved[:3]]
    settled = await session.ask(
        commit_request(ids[0]),
        pb.ReleaseRequest(reservation_id=ids[1]),
        pb.ExtendRequest(reservation_id=ids[2], max_output_tokens=60),
    )

    assert [each.result.WhichOneof("result") for each in (*reserved, *settled)] == [
        *["reserve"] * 3,
        "record",
        "commit",
        "release",
        "extend",
    ]
    again = await service.authority.Commit(commit_request(ids[0]))
    assert settled[0].result.commit == again
    repeated = await service.authority.Reserve(reserves[2])
    assert repeated.reservation_id == ids[2]


async def test_what_was_answered_before_says_so(service: Service) -> None:
    session, request = Session(service), reserve_request()

    [first] = await session.ask(request)
    [second] = await session.ask(request)

    assert (first.replayed, second.replayed) == (False, True)
    assert second.result.reserve.reservation_id == first.result.reserve.reservation_id


async def test_one_that_is_wrong_fails_alone_and_like_its_unary_call(service: Service) -> None:
    session = Session(service)
    wrong = reserve_request(estimate={"input_tokens": -1})

    fine, refused, empty = await session.ask(reserve_request(), wrong, None)

    assert fine.result.HasField("reserve")
    with pytest.raises(grpc.RpcError) as unary:
        await service.authority.Reserve(wrong)
    expected = failure(unary.value)
    error = refused.result.error
    assert error.message == expected.message
    assert reasons.ErrorReason.Name(error.reason) == f"ERROR_REASON_{expected.reason}"
    assert {each.field: each.description for each in error.field_violations} == expected.violations
    assert [each.field for each in empty.result.error.field_violations] == ["operation"]


async def test_hundreds_in_flight_are_each_answered_once(service: Service) -> None:
    session = Session(service)
    numbers: list[int] = []

    async def send_all() -> None:
        for _ in range(40):
            numbers.extend(await session.send(*(reserve_request() for _ in range(OPERATIONS_MAX))))

    sending = asyncio.create_task(send_all())
    while len(session.results) < 40 * OPERATIONS_MAX:
        session.take(await asyncio.wait_for(session.call.read(), 10))
    await sending

    assert set(session.results) == set(numbers)
    assert all(each.result.HasField("reserve") for each in session.results.values())


async def test_a_message_with_too_many_operations_is_refused_whole(service: Service) -> None:
    session = Session(service)

    results = await session.ask(*(reserve_request() for _ in range(OPERATIONS_MAX + 1)))

    found = {each.result.error.reason for each in results}
    assert found == {reasons.ERROR_REASON_LIMIT_EXCEEDED}
    [after] = await session.ask(reserve_request())
    assert after.result.HasField("reserve")


async def test_an_operation_whose_time_is_over_fails_alone(service: Service) -> None:
    session = Session(service)
    await session.call.write(
        pb.SessionRequest(
            operations=[
                pb.SessionOperation(
                    correlation_id=1, operation=_operation(reserve_request()), timeout={"nanos": 0}
                ),
                pb.SessionOperation(correlation_id=2, operation=_operation(reserve_request())),
            ]
        )
    )

    late, fine = await session.answers([1, 2])

    assert late.result.error.reason == reasons.ERROR_REASON_DEADLINE_EXCEEDED
    assert fine.result.HasField("reserve")


async def test_a_client_that_is_done_gets_every_answer_and_then_the_end(service: Service) -> None:
    session = Session(service)
    numbers = await session.send(*(reserve_request() for _ in range(OPERATIONS_MAX)))
    await session.call.done_writing()

    await session.answers(numbers)

    assert await asyncio.wait_for(session.call.read(), 10) is grpc.aio.EOF
    assert await session.call.code() == grpc.StatusCode.OK


async def test_operations_of_a_stream_that_breaks_are_carried_out(service: Service) -> None:
    session, request = Session(service), reserve_request()
    await session.ask(reserve_request())
    await session.send(request)
    session.call.cancel()

    async def is_there() -> bool:
        again = Session(service)
        [answer] = await again.ask(request)
        return answer.result.HasField("reserve")

    await eventually_async(is_there)


async def test_a_server_that_drains_says_so_and_answers_what_is_in_flight(redis_url: str) -> None:
    async with serving(redis_url, drain_delay_ms=0) as service:
        session = Session(service)
        await session.ask(reserve_request())
        numbers = await session.send(*(reserve_request() for _ in range(10)))
        stopping = asyncio.create_task(service.process._server.stop(5_000))
        while not session.drained:
            session.take(await asyncio.wait_for(session.call.read(), 10))
        # What had not been read by then is told to go elsewhere.
        for each in await session.answers(numbers):
            assert (
                each.result.HasField("reserve")
                or each.result.error.reason == reasons.ERROR_REASON_DRAINING
            )

        [refused] = await session.ask(reserve_request())
        await session.call.done_writing()

        assert refused.result.error.reason == reasons.ERROR_REASON_DRAINING
        assert await asyncio.wait_for(session.call.read(), 10) is grpc.aio.EOF
        assert await session.call.code() == grpc.StatusCode.OK
        await asyncio.wait_for(stopping, 10)


async def test_a_stream_that_is_never_closed_does_not_hold_up_the_end(redis_url: str) -> None:
    async with serving(redis_url, drain_delay_ms=0) as service:
        session = Session(service)
        await session.ask(reserve_request())

        await asyncio.wait_for(service.process._server.stop(1_000), 10)

        session.take(await session.call.read())
        assert session.drained
        assert await session.call.read() is grpc.aio.EOF
        assert await session.call.code() == grpc.StatusCode.OK
