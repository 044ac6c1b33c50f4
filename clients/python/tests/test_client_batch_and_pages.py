"""Goal: batches answer item by item, and lists are read to their end and no further than needed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flavours import AnyClient, MakeClient
from scripted_server import ScriptedServer

from bursar_client import (
    CommitOperation,
    Estimate,
    ExtendOperation,
    Extension,
    Grant,
    InternalError,
    RecordOperation,
    ReleaseOperation,
    ReservationNotFound,
    ReserveOperation,
    Settlement,
    Subject,
    Target,
    Usage,
)
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as usage_pb

ACME = Subject(org="acme")
MODEL = Target("gpt-5", "openai")


async def test_batch_answers_in_order(client: AnyClient, server: ScriptedServer) -> None:
    reserve = ReserveOperation(
        subject=ACME, target=MODEL, estimate=Estimate(input_tokens=5), request_id="r"
    )
    grant, extension, partial, final, record, missing = await client.batch(
        [
            reserve,
            ExtendOperation(reservation_id="acme/r", ttl=timedelta(seconds=60)),
            CommitOperation(
                reservation_id="acme/r", usage=Usage(output_tokens=1), target=MODEL, sequence=1
            ),
            CommitOperation(reservation_id="acme/r", usage=Usage(input_tokens=5), target=MODEL),
            RecordOperation(subject=ACME, target=MODEL, usage=Usage(input_tokens=1)),
            ReleaseOperation(reservation_id="acme/other"),
        ]
    )
    assert isinstance(grant, Grant) and grant.reservation_id == "acme/r"
    assert isinstance(extension, Extension)
    assert isinstance(partial, Settlement) and isinstance(final, Settlement)
    assert isinstance(record, Settlement) and record.reservation_id
    assert isinstance(missing, ReservationNotFound)
    assert server.only().tokens() == (5, 1)


async def test_operations_keep_their_own_request_id() -> None:
    first = ReserveOperation(subject=ACME, target=MODEL)
    second = ReserveOperation(subject=ACME, target=MODEL)
    assert first.request_id and first.request_id != second.request_id


async def test_short_answer_to_a_batch(client: AnyClient, server: ScriptedServer) -> None:
    server._batch = lambda request: authority_pb.BatchResponse()  # type: ignore[method-assign]
    with pytest.raises(InternalError, match="0 of 1"):
        await client.batch([ReleaseOperation(reservation_id="acme/x")])


async def test_empty_result_in_a_batch(client: AnyClient, server: ScriptedServer) -> None:
    server._batch = lambda request: authority_pb.BatchResponse(  # type: ignore[method-assign]
        results=[authority_pb.OperationResult()]
    )
    (result,) = await client.batch([ReleaseOperation(reservation_id="acme/x")])
    assert isinstance(result, InternalError)


async def test_balances_of_all_pages(client: AnyClient, server: ScriptedServer) -> None:
    server.counters = [types_pb.CounterStatus(budget=f"b{number}") for number in range(5)]
    read = [each.budget async for each in client.get_balances(org="acme", user="u1", page_size=2)]
    assert read == ["b0", "b1", "b2", "b3", "b4"]
    requests = server.requests("GetBalances")
    assert [each.page_token for each in requests] == ["", "2", "4"]
    assert {each.page_size for each in requests} == {2}
    assert {each.subject.user for each in requests} == {"u1"}


async def test_holds_of_all_pages(client: AnyClient, server: ScriptedServer) -> None:
    server.holds = [
        usage_pb.Hold(
            reservation_id=f"acme/{number}",
            subject=types_pb.Subject(org="acme", labels={"tier": "free"}),
            target=types_pb.Target(model="gpt-5"),
            amounts=[usage_pb.HeldAmount(budget="b", meter="METER_COST", amount=2_000_000_000)],
        )
        for number in range(3)
    ]
    holds = [each async for each in client.list_holds(org="acme", page_size=1)]
    assert [each.reservation_id for each in holds] == ["acme/0", "acme/1", "acme/2"]
    assert holds[0].subject == Subject(org="acme", labels={"tier": "free"})
    assert holds[0].amounts[0].amount_usd == 2
    assert holds[0].create_time is None
    assert len(server.requests("ListHolds")) == 3


async def test_pages_are_read_as_they_are_needed(
    make: MakeClient, flavour: str, server: ScriptedServer
) -> None:
    server.counters = [types_pb.CounterStatus(budget=f"b{number}") for number in range(5)]
    client = make()
    if flavour == "async":
        counters = client.get_balances(org="acme", page_size=2)
        await anext(counters)
        await counters.aclose()
    else:
        next(client.inner.get_balances(org="acme", page_size=2))
    assert len(server.requests("GetBalances")) == 1


async def test_empty_lists(client: AnyClient) -> None:
    assert [each async for each in client.get_balances(org="acme")] == []
    assert [each async for each in client.list_holds(org="acme")] == []
