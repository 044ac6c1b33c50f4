"""Goal: the end of a block settles exactly what the table in Reservation says, once.

Method: each row of the table, on both clients, against a server that refuses second settlements;
what the server has booked is compared.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from flavours import ASK, AnyClient, MakeClient
from scripted_server import Failure, ScriptedServer

from bursar_client import (
    AlreadySettled,
    AsyncReservation,
    HoldState,
    InvalidRequest,
    Outcome,
    PermissionDenied,
    Reservation,
)
from bursar_client.pb import types_pb2 as types_pb


class ModelFailed(Exception):
    """What the block raises."""


async def test_normal_end_without_a_call_releases(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK):
        pass
    assert server.names() == ["Reserve", "Release"]
    assert server.only().state == "RELEASED"


async def test_commit_inside_is_the_only_settlement(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        r.call_started()
        settled = await r.commit(input_tokens=1_100, output_tokens=40, reasoning_tokens=10)
    assert server.names() == ["Reserve", "Commit"]
    assert settled.state is HoldState.COMMITTED and not settled.queued
    assert str(settled.cost_usd) == "0.00114"
    (commit,) = server.requests("Commit")
    assert commit.target == types_pb.Target(provider="openai", model="gpt-5")
    assert commit.outcome == types_pb.OUTCOME_SUCCEEDED
    assert not commit.estimated and not commit.partial and commit.sequence == 0
    assert commit.usage.reasoning_tokens == 10


async def test_normal_end_of_a_call_without_commit_books_the_whole_estimate(
    client: AnyClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bursar_client"):
        async with client.reserve(**ASK, cache_read_tokens=200, custom_meters={"image": 2}) as r:
            r.call_started()
    (commit,) = server.requests("Commit")
    assert (commit.usage.input_tokens, commit.usage.output_tokens) == (1_200, 500)
    assert commit.usage.cache_read_tokens == 200
    assert commit.usage.custom_meters == {"image": 2}
    assert commit.estimated and commit.outcome == types_pb.OUTCOME_SUCCEEDED
    assert "commit_missing" in caplog.text


async def test_exception_before_the_call_releases(
    client: AnyClient, server: ScriptedServer
) -> None:
    with pytest.raises(ModelFailed):
        async with client.reserve(**ASK):
            raise ModelFailed
    assert server.names() == ["Reserve", "Release"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ModelFailed(), types_pb.OUTCOME_FAILED),
        (asyncio.CancelledError(), types_pb.OUTCOME_CANCELLED),
        (SystemError(), types_pb.OUTCOME_FAILED),
    ],
)
async def test_exception_in_the_call_books_what_was_seen(  # cases 23, 29, 30, 31
    client: AnyClient, server: ScriptedServer, error: BaseException, outcome: int
) -> None:
    with pytest.raises(type(error)):
        async with client.reserve(**ASK) as r:
            r.call_started()
            r.saw_output(30)
            r.saw_output(12)
            raise error
    (commit,) = server.requests("Commit")
    assert (commit.usage.input_tokens, commit.usage.output_tokens) == (1_200, 42)
    assert commit.estimated and commit.outcome == outcome


async def test_exception_after_the_commit_settles_nothing_more(
    client: AnyClient, server: ScriptedServer
) -> None:
    with pytest.raises(ModelFailed):
        async with client.reserve(**ASK) as r:
            r.call_started()
            await r.commit(input_tokens=1, output_tokens=2)
            raise ModelFailed
    assert server.names() == ["Reserve", "Commit"]


async def test_release_inside_is_the_only_settlement(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        settled = await r.release()
    assert settled.state is HoldState.RELEASED
    assert server.names() == ["Reserve", "Release"]


async def test_nothing_is_settled_twice(
    client: AnyClient, server: ScriptedServer
) -> None:  # case 34
    async with client.reserve(**ASK) as r:
        await r.commit(input_tokens=1, output_tokens=2)
        for again in (
            lambda: r.commit(input_tokens=1, output_tokens=2),
            lambda: r.commit_partial(output_tokens=2),
            r.release,
        ):
            with pytest.raises(AlreadySettled) as raised:
                await again()
            assert raised.value.reason == "RESERVATION_COMMITTED"
    assert server.names() == ["Reserve", "Commit"]


async def test_partial_commits_are_numbered_and_ended(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        r.call_started()
        first = await r.commit_partial(input_tokens=1_200, output_tokens=10)
        await r.commit_partial(output_tokens=20)
        await r.commit_partial(output_tokens=5)
    assert first.state is HoldState.OPEN
    commits = server.requests("Commit")
    assert [each.sequence for each in commits] == [1, 2, 3, 0]
    assert commits[-1].usage.requests == 1, "the call itself is counted once"
    assert not commits[-1].estimated
    assert server.only().tokens() == (1_200, 35)


async def test_broken_stream_books_only_what_partial_commits_have_not(
    client: AnyClient, server: ScriptedServer
) -> None:
    with pytest.raises(ModelFailed):
        async with client.reserve(**ASK) as r:
            r.call_started()
            r.saw_output(25)
            await r.commit_partial(input_tokens=1_000, output_tokens=20)
            raise ModelFailed
    assert server.only().tokens() == (1_200, 25)


async def test_each_attempt_is_booked(client: AnyClient, server: ScriptedServer) -> None:  # 33, 90
    with pytest.raises(ModelFailed):
        async with client.reserve(**ASK) as r:
            for _ in range(2):
                r.call_started()
                r.saw_output(7)
                await r.commit_partial(
                    input_tokens=1_200, output_tokens=7, requests=1, outcome=Outcome.FAILED
                )
            r.call_started()
            r.saw_output(3)
            raise ModelFailed
    assert server.only().tokens() == (3_600, 17)
    last = server.requests("Commit")[-1]
    assert last.usage.requests == 1


async def test_a_refused_commit_can_be_corrected(client: AnyClient, server: ScriptedServer) -> None:
    invalid = Failure(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    server.script["Commit"].extend([invalid, invalid])
    async with client.reserve(**ASK) as r:
        with pytest.raises(InvalidRequest):
            await r.commit_partial(output_tokens=-1)
        with pytest.raises(InvalidRequest):
            await r.commit(input_tokens=-1, output_tokens=2)
        await r.commit_partial(output_tokens=1)
        await r.commit(input_tokens=1, output_tokens=2)
    assert [each.sequence for each in server.requests("Commit")] == [1, 0, 1, 0]
    assert server.only().tokens() == (1, 3)
    assert client.settle_stats().failed_count == 0


async def test_faulty_arguments_leave_the_reservation_open(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        with pytest.raises(TypeError, match="missing arguments: output_tokens"):
            await r.commit(input_tokens=1)
        with pytest.raises(TypeError, match="unexpected arguments: tokens"):
            await r.commit(input_tokens=1, output_tokens=1, tokens=2)
        with pytest.raises(TypeError):
            await r.commit(input_tokens="1", output_tokens=1)
        with pytest.raises(ValueError, match="0 or more"):
            r.saw_output(-1)
    assert server.names() == ["Reserve", "Release"]


async def test_other_model_is_booked_at_its_own_price(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        await r.commit(input_tokens=1, output_tokens=2, model="claude")
    (commit,) = server.requests("Commit")
    assert commit.target == types_pb.Target(model="claude")


async def test_extend_changes_the_hold(client: AnyClient, server: ScriptedServer) -> None:
    async with client.reserve(**ASK) as r:
        extension = await r.extend(max_output_tokens=900)
        assert extension.max_output_tokens == r.max_output_tokens == 900
        r.call_started()
    assert server.only().tokens() == (1_200, 900)


async def test_try_reserve_is_settled_by_its_block(
    client: AnyClient, server: ScriptedServer
) -> None:
    reservation = await client.try_reserve(**ASK)
    assert reservation.grant.granted
    async with reservation as r:
        await r.commit(input_tokens=1, output_tokens=2)
    assert server.names() == ["Reserve", "Commit"]


async def test_failed_settlement_at_the_end_is_raised(
    make: MakeClient, server: ScriptedServer
) -> None:
    failed: list[Any] = []
    client = make(on_settle_failed=failed.append)
    server.always["Release"] = Failure(grpc.StatusCode.PERMISSION_DENIED, "ORG_ACCESS_DENIED")
    with pytest.raises(PermissionDenied):
        async with client.reserve(**ASK):
            pass
    assert len(failed) == 1 and client.settle_stats().failed_count == 1


async def test_failed_settlement_does_not_hide_the_error_of_the_block(
    make: MakeClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[Any] = []
    client = make(on_settle_failed=failed.append)
    server.always["Commit"] = Failure(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    with pytest.raises(ModelFailed):
        async with client.reserve(**ASK) as r:
            r.call_started()
            raise ModelFailed
    (unsettled,) = failed
    assert unsettled.usage.input_tokens == 1_200
    assert unsettled.reservation_id in caplog.text and "settle_failed" in caplog.text


def test_a_reservation_of_both_clients_documents_the_table() -> None:
    for kind in (AsyncReservation, Reservation):
        assert kind.__doc__ is not None and "commit: the whole estimate" in kind.__doc__
