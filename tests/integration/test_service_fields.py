"""Every field of every request: what is refused is named and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from service_requests import (
    FIELDS,
    READS_OF_THE_LEDGER,
    SERVICES,
    UNKNOWN_RESERVATION,
    Case,
    cases,
    fields_of,
    unary_methods,
)
from service_server import Service, failure, reserve_request, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = list(cases())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_url: str) -> AsyncIterator[Service]:
    """A server that holds one reservation, and that no test changes."""
    async with serving(redis_url) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held(service: Service) -> str:
    """An open reservation."""
    answer = await service.authority.Reserve(reserve_request())
    return answer.reservation_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_service(redis_url: str) -> AsyncIterator[Service]:
    """A server for what is taken."""
    async with serving(redis_url) as service:
        yield service


async def test_every_field_has_its_rows() -> None:
    """Goal: a new field cannot be forgotten. Method: compare the table with the descriptors.

    Only fields of type bool, and the batch's own, may have no rows.
    """
    declared = {
        (field.containing_type.name, field.name): field
        for service in SERVICES
        for method in unary_methods(service)
        if method.name not in READS_OF_THE_LEDGER
        for _, field in fields_of(method.input_type)
    }
    listed = {(message, field) for message, fields in FIELDS.items() for field in fields}
    assert listed == set(declared)
    rowless = {
        name
        for (message, name), field in declared.items()
        if not FIELDS[message][name]
        and message not in ("BatchRequest", "Operation")
        and field.type != field.TYPE_BOOL
    }
    assert not rowless


@pytest.mark.parametrize(
    "case", [each for each in cases() if each.row.path], ids=lambda each: each.id
)
async def test_a_bad_field_is_named_and_nothing_is_booked(
    service: Service, held: str, case: Case
) -> None:
    """Goal: the path and reason are exact, and no byte in Redis changes.

    Method: a valid request, on an open reservation where it is of one, with one field changed.
    """
    before = await service.dump()
    with pytest.raises(grpc.RpcError) as error:
        await service.call(case.method, case.request(held))
    found = failure(error.value)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT, found
    assert (found.domain, found.reason) == ("bursar", case.row.reason)
    assert list(found.violations) == [case.path]
    assert found.retry_after_ms is None
    assert found.message == f"{case.path}: {found.violations[case.path]}"
    if case.row.reason == "LIMIT_EXCEEDED":
        for number in found.metadata.values():
            assert number in found.message
        assert set(found.metadata) == {"given", "limit"}
    assert await service.dump() == before


@pytest.mark.parametrize(
    "case", [each for each in CASES if not each.row.path], ids=lambda each: each.id
)
async def test_a_value_at_its_bound_is_taken(other_service: Service, case: Case) -> None:
    """Goal: no bound is one too tight. Method: the same with values that are just allowed.

    Calls of a reservation name one that does not exist, so that they get as far as its search.
    """
    expected = {grpc.StatusCode.OK}
    if case.method in ("Commit", "Release", "Extend"):
        expected = {grpc.StatusCode.NOT_FOUND}
    elif case.field == "org":
        expected = {grpc.StatusCode.PERMISSION_DENIED}
    try:
        await other_service.call(case.method, case.request(UNKNOWN_RESERVATION))
        code = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        code = error.code()
    assert code in expected
