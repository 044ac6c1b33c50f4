"""Goal: every way in which a call can fail is one typed error with all that the server said.

Method: each reason of the contract, with its code, over a session, by unary calls and in a batch;
codes without a reason, as proxies send them; a server that is not there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from flavours import ASK, FAST, WAIT_S, AnyClient, MakeClient, connect
from scripted_server import REASONS, Failure, Gate, ScriptedServer

import bursar_client
from bursar_client import (
    AlreadySettled,
    BudgetDenied,
    BursarError,
    ConcurrentChange,
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    ReleaseOperation,
    RequestIdReused,
    ReservationExpired,
    ReservationNotFound,
    RetryableError,
    SequenceMismatch,
    Settings,
    Unavailable,
)
from bursar_client._status import BY_REASON

CODE = grpc.StatusCode

EXPECTED = {
    "FIELD_INVALID": (CODE.INVALID_ARGUMENT, InvalidRequest),
    "LIMIT_EXCEEDED": (CODE.INVALID_ARGUMENT, InvalidRequest),
    "REQUEST_ID_REUSED": (CODE.INVALID_ARGUMENT, RequestIdReused),
    "RESERVATION_NOT_FOUND": (CODE.NOT_FOUND, ReservationNotFound),
    "RESERVATION_COMMITTED": (CODE.FAILED_PRECONDITION, AlreadySettled),
    "RESERVATION_RELEASED": (CODE.FAILED_PRECONDITION, AlreadySettled),
    "RESERVATION_EXPIRED": (CODE.FAILED_PRECONDITION, ReservationExpired),
    "SEQUENCE_MISMATCH": (CODE.FAILED_PRECONDITION, SequenceMismatch),
    "ORG_ACCESS_DENIED": (CODE.PERMISSION_DENIED, PermissionDenied),
    "STORE_UNAVAILABLE": (CODE.UNAVAILABLE, Unavailable),
    "STORE_FULL": (CODE.UNAVAILABLE, Unavailable),
    "SHARD_COLD": (CODE.UNAVAILABLE, Unavailable),
    "CLOCK_BEHIND": (CODE.UNAVAILABLE, Unavailable),
    "DRAINING": (CODE.UNAVAILABLE, Unavailable),
    "SERVER_OVERLOADED": (CODE.RESOURCE_EXHAUSTED, Overloaded),
    "DEADLINE_EXCEEDED": (CODE.DEADLINE_EXCEEDED, DeadlineExceeded),
    "CONCURRENT_CHANGE": (CODE.ABORTED, ConcurrentChange),
    "INTERNAL": (CODE.INTERNAL, InternalError),
    "JOURNAL_FULL": (CODE.UNAVAILABLE, Unavailable),
    "LEDGER_UNAVAILABLE": (CODE.UNAVAILABLE, Unavailable),
    "NOT_DURABLE": (CODE.UNAVAILABLE, Unavailable),
    "POLICY_CONFLICT": (CODE.ABORTED, ConcurrentChange),
    "POLICY_NOT_FOUND": (CODE.NOT_FOUND, BursarError),
}


def test_every_reason_of_the_contract_has_a_class() -> None:
    assert sorted(EXPECTED) == sorted(REASONS) == sorted(BY_REASON)


@pytest.mark.parametrize("session", [True, False], ids=["session", "unary"])
@pytest.mark.parametrize("reason", REASONS)
async def test_reason_of_a_call(
    make: MakeClient, server: ScriptedServer, reason: str, session: bool
) -> None:
    client = make(settings=replace(FAST, session=session))
    code, kind = EXPECTED[reason]
    server.always["Reserve"] = Failure(
        code, reason, "what happened", {"limitTokens": "5"}, retry_after_ms=250
    )
    with pytest.raises(BursarError) as raised:
        async with client.reserve(**ASK):
            pytest.fail("the block must not be entered")
    error = raised.value
    assert type(error) is kind
    assert (error.reason, error.message, str(error)) == (reason, "what happened", "what happened")
    assert error.metadata == {"limitTokens": "5"}
    assert error.retry_after == timedelta(milliseconds=250)
    assert isinstance(error, RetryableError) == (
        code in (CODE.UNAVAILABLE, CODE.RESOURCE_EXHAUSTED, CODE.DEADLINE_EXCEEDED, CODE.ABORTED)
    )


@pytest.mark.parametrize("reason", REASONS)
async def test_reason_in_a_batch(client: AnyClient, server: ScriptedServer, reason: str) -> None:
    code, kind = EXPECTED[reason]
    server.always["Release"] = Failure(
        code, reason, "what happened", {"a": "b"}, [("ttl", "too long")], retry_after_ms=250
    )
    (error,) = await client.batch([ReleaseOperation(reservation_id="acme/x")])
    assert type(error) is kind
    assert (error.reason, error.message, error.metadata) == (reason, "what happened", {"a": "b"})
    assert error.retry_after == timedelta(milliseconds=250)
    if isinstance(error, InvalidRequest):
        assert error.field_violations == (FieldViolation("ttl", "too long"),)


async def test_field_violations(client: AnyClient, server: ScriptedServer) -> None:
    fields = [("estimate.input_tokens", "must be 0 or more"), ("ttl", "must be 1 s to 24 h")]
    server.always["Check"] = Failure(CODE.INVALID_ARGUMENT, "FIELD_INVALID", fields=fields)
    with pytest.raises(InvalidRequest) as raised:
        await client.check(**ASK)
    assert raised.value.field_violations == tuple(FieldViolation(*each) for each in fields)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.INVALID_ARGUMENT, InvalidRequest),
        (CODE.UNAVAILABLE, Unavailable),
        (CODE.RESOURCE_EXHAUSTED, Overloaded),
        (CODE.UNAUTHENTICATED, PermissionDenied),
        (CODE.UNKNOWN, InternalError),
        (CODE.UNIMPLEMENTED, BursarError),
    ],
)
async def test_code_without_a_reason(
    client: AnyClient, server: ScriptedServer, code: grpc.StatusCode, kind: type[BursarError]
) -> None:
    server.always["Explain"] = Failure(code)
    with pytest.raises(BursarError) as raised:
        await client.explain(org="acme", model="gpt-5")
    assert type(raised.value) is kind and raised.value.reason == code.name


async def test_reason_of_a_newer_server(client: AnyClient, server: ScriptedServer) -> None:
    server.always["Check"] = Failure(CODE.UNAVAILABLE, "LEDGER_BEHIND")
    with pytest.raises(Unavailable) as raised:
        await client.check(**ASK)
    assert raised.value.reason == "LEDGER_BEHIND"


async def test_no_server(flavour: str) -> None:
    async with connect(flavour, "127.0.0.1:1") as client:
        with pytest.raises(Unavailable) as raised:
            await client.check(**ASK)
    assert raised.value.reason == "UNAVAILABLE" and raised.value.message


async def test_no_answer_in_time(flavour: str, server: ScriptedServer) -> None:
    # A second attempt is made by a unary call: no stream was answered yet.
    gate = Gate()
    server.script["Reserve"].extend([gate, gate])
    settings = Settings(reserve_timeout_s=0.05)
    async with connect(flavour, server.address, settings=settings) as client:
        with pytest.raises(DeadlineExceeded):
            await client.try_reserve(**ASK)
    gate.opened.set()


async def test_call_after_close(flavour: str, server: ScriptedServer) -> None:
    client = connect(flavour, server.address, settings=FAST)
    await client.check(**ASK)
    await client.close()
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await client.check(**ASK)


async def test_call_under_way_at_close(flavour: str, server: ScriptedServer) -> None:
    gate = Gate()
    server.script["Reserve"].append(gate)
    client = connect(flavour, server.address, settings=FAST)
    reserving = asyncio.create_task(client.try_reserve(**ASK))
    assert await asyncio.to_thread(gate.arrived.wait, WAIT_S)
    await client.close()
    with pytest.raises(Unavailable):
        await reserving
    gate.opened.set()


def test_one_root_and_a_tree_that_is_documented() -> None:
    from bursar_client import _errors

    kinds = [
        value
        for value in vars(bursar_client).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(kinds) > 15
    for kind in kinds:
        assert issubclass(kind, BursarError)
        assert _errors.__doc__ is not None and kind.__name__ in _errors.__doc__
    assert issubclass(BudgetDenied, BursarError) and not issubclass(BudgetDenied, RetryableError)
