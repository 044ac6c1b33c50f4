"""Bad input inside batches: its path says where, and the other operations go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from service_requests import Case, cases
from service_server import (
    Service,
    commit_request,
    failure,
    new_id,
    record_request,
    reserve_request,
    serving,
)

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import error_reason_pb2, types_pb2
from bursar.pb import usage_service_pb2 as usage_pb

KINDS = {
    "Reserve": "reserve",
    "Commit": "commit",
    "Release": "release",
    "Extend": "extend",
    "Record": "record",
}


@pytest_asyncio.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url) as service:
        yield service


def granted(result: pb.OperationResult) -> bool:
    return bool(result.reserve.decision == types_pb2.DECISION_GRANTED)


async def open_holds(service: Service, **subject: str) -> list[str]:
    """Return the open reservations of a subject, page after page."""
    request = usage_pb.ListHoldsRequest(subject={"org": "acme", **subject}, page_size=300)
    found: list[str] = []
    while True:
        answer = await service.usage.ListHolds(request)
        found += [hold.reservation_id for hold in answer.holds]
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


@pytest.mark.parametrize("method", KINDS)
async def test_each_bad_field_in_a_batch(service: Service, method: str) -> None:
    """Goal: a batch says of each bad operation what its unary call says, and does all others.

    Method: one batch of every bad row of a call, a good reserve before each and after the last.
    """
    held = (await service.authority.Reserve(reserve_request())).reservation_id
    bad: list[Case] = [case for case in cases() if case.method == method and case.row.path]
    assert len(bad) > 8
    kind = KINDS[method]
    operations = []
    for case in bad:
        operations += [{"reserve": reserve_request()}, {kind: case.request(held)}]
    operations.append({"reserve": reserve_request()})
    answer = await service.authority.Batch(pb.BatchRequest(operations=operations))
    assert all(granted(result) for result in answer.results[::2])
    for position, case in zip(range(1, len(operations), 2), bad, strict=True):
        error = answer.results[position].error
        path = f"operations[{position}].{kind}.{case.path}"
        [violation] = error.field_violations
        assert (error.code, violation.field) == (3, path), case.id
        assert error.reason == error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{case.row.reason}")
        assert error.message == f"{path}: {violation.description}"
        assert set(error.metadata) == (
            {"given", "limit"} if case.row.reason == "LIMIT_EXCEEDED" else set()
        )
        assert not error.HasField("retry_after")
    reserved = [result.reserve.reservation_id for result in answer.results[::2]]
    assert sorted(await open_holds(service)) == sorted([held, *reserved])


async def test_an_operation_without_content(service: Service) -> None:
    """Goal: an empty operation is named. Method: one between two good ones."""
    operations = [
        pb.Operation(reserve=reserve_request()),
        pb.Operation(),
        pb.Operation(reserve=reserve_request()),
    ]
    answer = await service.authority.Batch(pb.BatchRequest(operations=operations))
    assert [granted(result) for result in answer.results] == [True, False, True]
    [violation] = answer.results[1].error.field_violations
    assert violation.field == "operations[1].operation"


async def test_all_kinds_of_failures_side_by_side(service: Service) -> None:
    """Goal: an operation fails alone, whatever stops it. Method: one of each, in one batch."""
    first, second = [
        (await service.authority.Reserve(reserve_request())).reservation_id for _ in range(2)
    ]
    await service.authority.Commit(commit_request(first))
    used_id = new_id()
    operations = [
        {"reserve": reserve_request(request_id=used_id)},
        {"release": {"reservation_id": first}},
        {"reserve": reserve_request(request_id=used_id, estimate={"input_tokens": 7})},
        {"reserve": reserve_request(subject={"org": "nobody"})},
        {"commit": commit_request("acme." + "z" * 24)},
        {"record": record_request(usage={"input_tokens": -1})},
        {"commit": commit_request(second, partial=True, sequence=2)},
        {"commit": commit_request(second)},
    ]
    answer = await service.authority.Batch(pb.BatchRequest(operations=operations))
    kinds = [
        error_reason_pb2.ErrorReason.Name(result.error.reason)[len("ERROR_REASON_") :]
        if result.HasField("error")
        else result.WhichOneof("result")
        for result in answer.results
    ]
    assert kinds == [
        "reserve",
        "RESERVATION_COMMITTED",
        "REQUEST_ID_REUSED",
        "ORG_ACCESS_DENIED",
        "RESERVATION_NOT_FOUND",
        "FIELD_INVALID",
        "SEQUENCE_MISMATCH",
        "commit",
    ]
    assert [result.error.code for result in answer.results] == [0, 9, 3, 7, 5, 3, 9, 0]


@pytest.mark.parametrize("count", [0, 1_001])
async def test_too_few_or_too_many_operations(service: Service, count: int) -> None:
    """Goal: 1 to 1,000 operations. Method: one less and one more; no byte changes in Redis."""
    before = await service.dump()
    operations = [pb.Operation(reserve=reserve_request()) for _ in range(count)]
    with pytest.raises(grpc.RpcError) as error:
        await service.authority.Batch(pb.BatchRequest(operations=operations))
    found = failure(error.value)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(found.violations) == ["operations"]
    assert found.reason == ("LIMIT_EXCEEDED" if count else "FIELD_INVALID")
    assert found.metadata == ({"given": "1001", "limit": "1000"} if count else {})
    assert await service.dump() == before


async def test_a_thousand_operations(service: Service) -> None:
    """Goal: the largest batch works. Method: 1,000 reserves, then 500 commits and 500 releases."""
    subject = {"org": "acme", "user": "many"}
    operations = [pb.Operation(reserve=reserve_request(subject=subject)) for _ in range(1_000)]
    answer = await service.authority.Batch(pb.BatchRequest(operations=operations), timeout=30)
    assert all(granted(result) for result in answer.results)
    held = [result.reserve.reservation_id for result in answer.results]
    assert sorted(await open_holds(service, user="many")) == sorted(held)
    operations = [pb.Operation(commit=commit_request(each)) for each in held[:500]]
    operations += [pb.Operation(release={"reservation_id": each}) for each in held[500:]]
    answer = await service.authority.Batch(pb.BatchRequest(operations=operations), timeout=30)
    assert {result.WhichOneof("result") for result in answer.results[:500]} == {"commit"}
    assert {result.WhichOneof("result") for result in answer.results[500:]} == {"release"}
    assert await open_holds(service, user="many") == []
    balances = await service.usage.GetBalances(usage_pb.GetBalancesRequest(subject=subject))
    [day] = [each for each in balances.counters if each.budget == "user-day"]
    assert (day.committed, day.held) == (500 * 120, 0)
