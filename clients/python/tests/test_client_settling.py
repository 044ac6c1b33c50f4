"""Goal: no settlement is lost silently, and none is booked twice.

Method: a server that fails, loses its answers or forgets reservations; clients whose pauses take
no time; then what the server has booked and what the client says about the rest.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random

import grpc
import pytest
from flavours import ASK, FAST, AnyClient, FakeTime, MakeClient, connect, until
from scripted_server import NOT_FOUND, UNAVAILABLE, AnswerLost, Booking, Failure, ScriptedServer

from bursar_client import (
    AlreadySettled,
    CommitOperation,
    HoldState,
    Outcome,
    PermissionDenied,
    RecordOperation,
    ReleaseOperation,
    Settings,
    SettleBacklogFull,
    Subject,
    Unsettled,
    UnsettledError,
    Usage,
)

INLINE = Settings(settle_timeout_s=5, retry_attempts_max=1)


async def test_reserve_is_retried_with_its_request_id(
    make: MakeClient, server: ScriptedServer
) -> None:
    server.script["Reserve"].extend([UNAVAILABLE, AnswerLost()])
    async with make(settings=Settings()).reserve(**ASK) as r:
        await r.commit(input_tokens=1, output_tokens=1)
        assert r.request_id == server.requests("Reserve")[0].request_id
    assert len({each.request_id for each in server.requests("Reserve")}) == 1
    assert len(server.requests("Reserve")) == 3
    assert server.only().tokens() == (1, 1)


async def test_given_request_id_is_kept_and_others_differ(
    make: MakeClient, server: ScriptedServer
) -> None:
    client = make(new_id=iter(["one", "two"]).__next__)
    for request_id in (None, "mine", None):
        async with client.reserve(**ASK, request_id=request_id):
            pass
    assert [each.request_id for each in server.requests("Reserve")] == ["one", "mine", "two"]


@pytest.mark.parametrize(
    "failure",
    [
        UNAVAILABLE,
        AnswerLost(),
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        Failure(grpc.StatusCode.ABORTED, "CONCURRENT_CHANGE"),
        Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED"),
        Failure(grpc.StatusCode.UNKNOWN),
    ],
    ids=str,
)
async def test_settle_is_retried_inline(
    make: MakeClient, server: ScriptedServer, failure: Failure
) -> None:  # case 19
    time = FakeTime()
    client = make(settings=INLINE, fake=time, random=lambda: 1.0)
    server.script["Commit"].extend([failure] * 3)
    async with client.reserve(**ASK) as r:
        settled = await r.commit(input_tokens=10, output_tokens=2)
    assert settled.state is HoldState.COMMITTED
    assert time.pauses_s == [0.05, 0.1, 0.2]
    assert server.only().tokens() == (10, 2)
    assert len(server.requests("Commit")) == 4


async def test_pause_is_as_long_as_the_server_asks(
    make: MakeClient, server: ScriptedServer
) -> None:
    time = FakeTime()
    client = make(settings=INLINE, fake=time, random=lambda: 1.0)
    server.script["Release"].append(
        Failure(grpc.StatusCode.UNAVAILABLE, "SHARD_COLD", retry_after_ms=400)
    )
    async with client.reserve(**ASK):
        pass
    assert time.pauses_s == [0.4]


async def test_settle_goes_to_the_background_and_arrives(
    make: MakeClient, server: ScriptedServer
) -> None:
    client = make()
    server.always["Commit"] = UNAVAILABLE
    async with client.reserve(**ASK) as r:
        r.call_started()
        settled = await r.commit(input_tokens=10, output_tokens=2)
    assert settled.queued and settled.state is HoldState.OPEN
    assert client.settle_stats().queued_count == 1
    await until(lambda: len(server.requests("Commit")) >= 3)
    server.always.clear()
    await until(lambda: client.settle_stats().backlog_count == 0)
    assert server.only().tokens() == (10, 2)
    assert client.settle_stats().failed_count == 0


async def test_many_waiting_settlements_travel_together(
    make: MakeClient, server: ScriptedServer
) -> None:
    client = make()
    server.always["Commit"] = server.always["Batch"] = UNAVAILABLE
    for tokens in range(20):
        async with client.reserve(**ASK) as r:
            await r.commit(input_tokens=tokens, output_tokens=0)
    server.always.clear()
    await client.close()
    assert sum(each.tokens()[0] for each in server.reservations.values()) == sum(range(20))
    assert {each.state for each in server.reservations.values()} == {"COMMITTED"}
    assert server.requests("Batch")


async def test_order_within_a_reservation_is_kept(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    server.always["Commit"] = UNAVAILABLE
    async with client.reserve(**ASK) as r:
        for _ in range(3):
            assert (await r.commit_partial(output_tokens=5)).queued
        assert (await r.commit(input_tokens=10, output_tokens=1)).queued
    assert server.only().tokens() == (0, 0)
    server.always.clear()
    await client.close()
    assert server.only().sequence == 3
    assert server.only().tokens() == (10, 16)


async def test_full_backlog_is_said_to_the_caller(make: MakeClient, server: ScriptedServer) -> None:
    failed: list[Unsettled] = []
    settings = Settings(settle_timeout_s=0, settle_backlog_max=1, retry_attempts_max=1)
    client = make(settings=settings, on_settle_failed=failed.append)
    server.always["Commit"] = UNAVAILABLE
    async with client.reserve(**ASK) as r:
        await r.commit(input_tokens=1, output_tokens=0)
    with pytest.raises(SettleBacklogFull) as raised:
        async with client.reserve(**ASK) as r:
            await r.commit(input_tokens=7, output_tokens=0)
    assert raised.value.unsettled.usage == Usage(input_tokens=7)
    assert [each.usage for each in failed] == [Usage(input_tokens=7)]
    assert client.settle_stats().backlog_count == 1, "what waits is not dropped"
    server.always.clear()
    settled = await client.settle(raised.value.unsettled)
    assert settled.state is HoldState.COMMITTED
    await client.close()
    assert sorted(each.tokens()[0] for each in server.reservations.values()) == [1, 7]


async def test_settle_deadline_gives_up_loudly(
    make: MakeClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    time, failed = FakeTime(), list[Unsettled]()
    client = make(fake=time, on_settle_failed=failed.append)
    server.always["Commit"] = UNAVAILABLE
    async with client.reserve(**ASK, team="search") as r:
        await r.commit(input_tokens=10, output_tokens=2)
    time.now_s += 901
    await until(lambda: failed)
    (unsettled,) = failed
    assert unsettled.subject == Subject(org="acme", team="search")
    assert unsettled.error is not None and unsettled.error.reason == "STORE_UNAVAILABLE"
    record = unsettled.as_record()
    assert record is not None and record.usage == Usage(input_tokens=10, output_tokens=2)
    (line,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert r.reservation_id in line.getMessage() and "input_tokens=10" in line.getMessage()
    assert client.settle_stats().failed_count == 1
    assert client.settle_stats().backlog_count == 0


async def test_final_error_in_the_background_gives_up_loudly(
    make: MakeClient, server: ScriptedServer
) -> None:
    failed: list[Unsettled] = []

    def raise_too(unsettled: Unsettled) -> None:
        failed.append(unsettled)
        raise RuntimeError("a callback may not stop the client")

    client = make(on_settle_failed=raise_too)
    server.script["Release"].append(UNAVAILABLE)
    server.always["Release"] = Failure(grpc.StatusCode.PERMISSION_DENIED, "ORG_ACCESS_DENIED")
    async with client.reserve(**ASK):
        pass
    await until(lambda: client.settle_stats().backlog_count == 0)
    await until(lambda: failed)
    assert isinstance(failed[0].error, PermissionDenied)
    assert failed[0].usage is None and failed[0].as_record() is None
    assert isinstance(failed[0].operation, ReleaseOperation)


async def test_one_that_spoils_a_batch_spoils_only_itself(
    make: MakeClient, server: ScriptedServer
) -> None:
    client = make()
    server.always["Commit"] = UNAVAILABLE
    server.always["Batch"] = Failure(grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    for tokens in (1, 2, 3):
        async with client.reserve(**ASK) as r:
            await r.commit(input_tokens=tokens, output_tokens=0)
    server.always.pop("Commit")
    await client.close()
    assert {each.state for each in server.reservations.values()} == {"COMMITTED"}


@pytest.mark.parametrize("queued", [False, True])
async def test_commit_of_a_forgotten_reservation_is_recorded_once(
    make: MakeClient, server: ScriptedServer, queued: bool
) -> None:
    client = make(settings=FAST)
    async with client.reserve(**ASK, user="u1", labels={"tier": "free"}) as r:
        server.reservations.clear()
        server.script["Commit"].extend([UNAVAILABLE] * queued)
        server.script["Record"].append(AnswerLost())
        await r.commit(input_tokens=10, output_tokens=2, outcome=Outcome.FAILED)
    await client.close()
    assert len(server.requests("Record")) == 2
    (booking,) = server.records.values()
    record = booking.request
    assert record.request_id.startswith("record-") and len(record.request_id) < 256
    assert record.subject.user == "u1" and record.subject.labels == {"tier": "free"}
    assert record.target.model == "gpt-5"
    assert (record.usage.input_tokens, record.usage.output_tokens) == (10, 2)
    assert record.outcome == 2


async def test_recorded_commit_says_so(client: AnyClient, server: ScriptedServer) -> None:
    async with client.reserve(**ASK) as r:
        server.reservations.clear()
        settled = await r.commit(input_tokens=10, output_tokens=2)
    assert settled.recorded and settled.state is HoldState.COMMITTED


@pytest.mark.parametrize("reason", ["RESERVATION_EXPIRED", "RESERVATION_RELEASED"])
async def test_partial_commit_that_comes_too_late_is_recorded(
    client: AnyClient, server: ScriptedServer, reason: str
) -> None:
    server.script["Commit"].append(Failure(grpc.StatusCode.FAILED_PRECONDITION, reason))
    async with client.reserve(**ASK) as r:
        settled = await r.commit_partial(output_tokens=5)
        assert settled.recorded
        server.only().sequence = 1
        await r.commit(input_tokens=1, output_tokens=1)
    (record,) = server.requests("Record")
    assert record.usage.output_tokens == 5
    assert record.usage.HasField("requests") and record.usage.requests == 0


async def test_release_of_a_forgotten_reservation_is_done(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK):
        server.script["Release"].append(NOT_FOUND)
    assert server.names() == ["Reserve", "Release"]
    assert client.settle_stats().failed_count == 0


async def test_commit_of_what_others_committed_is_an_error(
    client: AnyClient, server: ScriptedServer
) -> None:
    with pytest.raises(AlreadySettled) as raised:
        async with client.reserve(**ASK) as r:
            server.reservations[r.reservation_id] = Booking(None, "COMMITTED")
            await r.commit(input_tokens=10, output_tokens=2)
    assert raised.value.metadata["state"] == "COMMITTED"
    assert server.names() == ["Reserve", "Commit"]


async def test_record_is_settled_like_a_commit(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    server.script["Record"].extend([UNAVAILABLE, AnswerLost()])
    settled = await client.record(
        org="acme", model="gpt-5", input_tokens=3, output_tokens=4, request_id="mine"
    )
    assert settled.queued
    await client.close()
    assert list(server.records) == ["mine"]


async def test_close_lists_what_is_left(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    server.always["Commit"] = server.always["Record"] = UNAVAILABLE
    async with client.reserve(**ASK) as r:
        await r.commit(input_tokens=10, output_tokens=2)
    await client.record(org="acme", model="gpt-5", input_tokens=3, output_tokens=4)
    with pytest.raises(UnsettledError) as raised:
        await client.close(timeout_s=0.05)
    commit, record = raised.value.unsettled
    assert isinstance(commit.operation, CommitOperation)
    assert commit.reservation_id == r.reservation_id and commit.usage is not None
    assert isinstance(record.as_record(), RecordOperation)
    server.always.clear()
    other = make()
    for each in raised.value.unsettled:
        await other.settle(each)
    assert server.only().tokens() == (10, 2)
    assert len(server.records) == 1
    await client.close()


async def test_settlement_after_close_is_said(make: MakeClient, server: ScriptedServer) -> None:
    failed: list[Unsettled] = []
    client = make(on_settle_failed=failed.append)
    with pytest.raises(UnsettledError) as raised:
        async with client.reserve(**ASK) as r:
            await client.close()
            await r.commit(input_tokens=10, output_tokens=2)
    assert raised.value.unsettled[0].usage == Usage(input_tokens=10, output_tokens=2)
    assert len(failed) == 1


async def test_close_waits_for_the_backlog(make: MakeClient, server: ScriptedServer) -> None:
    settings = Settings(
        settle_timeout_s=0,
        settle_backoff_initial_s=600,
        settle_backoff_max_s=600,
        retry_attempts_max=1,
    )
    async with make(settings=settings) as client, client.reserve(**ASK) as r:
        server.script["Commit"].append(UNAVAILABLE)
        await r.commit(input_tokens=10, output_tokens=2)
    assert server.only().tokens() == (10, 2)


async def test_forgotten_client_complains(
    flavour: str, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        settle_timeout_s=0,
        settle_backoff_initial_s=600,
        settle_backoff_max_s=600,
        retry_attempts_max=1,
    )
    client = connect(flavour, server.address, settings=settings)
    server.always["Commit"] = UNAVAILABLE
    async with client.reserve(**ASK) as r:
        await r.commit(input_tokens=10, output_tokens=2)
    inner = client if flavour == "async" else client.inner
    with pytest.warns(ResourceWarning, match="1 settlements"):
        inner.__del__()
    assert "settle_forgotten" in caplog.text and r.reservation_id in caplog.text
    server.always.clear()
    await client.close()
    del inner, client, r
    gc.collect()


async def test_everything_is_booked_once_in_the_end(
    make: MakeClient, server: ScriptedServer
) -> None:
    chance = random.Random(7)  # noqa: S311
    changed = Failure(grpc.StatusCode.ABORTED, "CONCURRENT_CHANGE")
    failures: list[Failure | AnswerLost] = [UNAVAILABLE, AnswerLost(), changed]

    def chaos(name: str) -> Failure | AnswerLost | None:
        settles = name in ("Commit", "Release", "Batch")
        return chance.choice(failures) if settles and chance.random() < 0.4 else None

    server.chaos = chaos
    client = make()

    async def work(number: int) -> None:
        async with client.reserve(**ASK) as r:
            r.call_started()
            for _ in range(number % 4):
                await r.commit_partial(output_tokens=1)
            if number % 5:
                await r.commit(input_tokens=number, output_tokens=0)
            else:
                await r.release()

    await asyncio.gather(*(work(number) for number in range(100)))
    await client.close()
    booked = [each.tokens() for each in server.reservations.values()]
    assert sum(tokens for tokens, _ in booked) == sum(n for n in range(100) if n % 5)
    assert sum(tokens for _, tokens in booked) == sum(n % 4 for n in range(100))
    assert "OPEN" not in {each.state for each in server.reservations.values()}
    assert client.settle_stats().failed_count == 0
    assert client.settle_stats().queued_count > 0
