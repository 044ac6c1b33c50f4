"""Goal: whoever is cancelled, the settlement is neither lost nor made twice.

Method: tasks are cancelled inside the block, inside a commit and inside the end of the block,
while the server holds the call back; generators and coroutines are closed half-way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from flavours import ASK, FAST, POLL_S, WAIT_S, connect, until
from scripted_server import UNAVAILABLE, Gate, ScriptedServer

from bursar_client import AsyncClient, Client, Reservation
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import types_pb2 as types_pb


@pytest_asyncio.fixture
async def asynchronous(server: ScriptedServer) -> AsyncIterator[AsyncClient]:
    async with connect("async", server.address) as client:
        yield client


@pytest.fixture
def synchronous(server: ScriptedServer) -> Iterator[Client]:
    with connect("sync", server.address).inner as client:
        yield client


async def _arrived(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.arrived.wait, WAIT_S)


def _hold_the_loop_until_reserved(server: ScriptedServer) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not server.reservations:
        assert time.monotonic() < deadline_s, "not reserved in time"
        time.sleep(POLL_S)


async def test_task_cancelled_in_the_block(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:  # case 23
    inside = asyncio.Event()

    async def work() -> None:
        async with asynchronous.reserve(**ASK) as r:
            r.call_started()
            r.saw_output(9)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (commit,) = server.requests("Commit")
    assert commit.outcome == types_pb.OUTCOME_CANCELLED and commit.estimated
    assert server.only().tokens() == (1_200, 9)


async def test_timeout_in_the_block(asynchronous: AsyncClient, server: ScriptedServer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, asynchronous.reserve(**ASK) as r:
            limit.reschedule(asyncio.get_running_loop().time() + 0.01)
            r.call_started()
            await asyncio.Event().wait()
    await until(lambda: server.only().state == "COMMITTED")
    assert server.requests("Commit")[0].outcome == types_pb.OUTCOME_CANCELLED


async def test_task_cancelled_in_the_commit(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script["Commit"].append(gate)

    async def work() -> None:
        async with asynchronous.reserve(**ASK) as r:
            r.call_started()
            await r.commit(input_tokens=10, output_tokens=2)

    task = asyncio.create_task(work())
    await _arrived(gate)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(server.requests("Commit")) == 1
    assert server.only().tokens() == (10, 2)


async def test_task_cancelled_again_and_again_at_the_end(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script["Commit"].append(gate)
    inside = asyncio.Event()

    async def work() -> None:
        async with asynchronous.reserve(**ASK) as r:
            r.call_started()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    await _arrived(gate)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.only().state == "OPEN"
    gate.opened.set()
    await until(lambda: server.only().state == "COMMITTED")
    assert len(server.requests("Commit")) == 1


async def test_cancelled_commit_that_fails_goes_to_the_background(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script["Commit"].append(gate)
    server.always["Commit"] = UNAVAILABLE

    async def work() -> None:
        async with asynchronous.reserve(**ASK) as r:
            await r.commit(input_tokens=10, output_tokens=2)

    task = asyncio.create_task(work())
    await _arrived(gate)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: asynchronous.settle_stats().queued_count == 1)
    server.always.clear()
    await until(lambda: server.only().state == "COMMITTED")
    assert server.only().tokens() == (10, 2)


@pytest.mark.parametrize("at_once", [False, True], ids=["before the answer", "with the answer"])
async def test_reserve_of_a_cancelled_caller_is_given_back(
    asynchronous: AsyncClient, server: ScriptedServer, at_once: bool
) -> None:
    gate = Gate()
    server.script["Reserve"].append(gate)
    entered = False

    async def work() -> None:
        nonlocal entered
        async with asynchronous.reserve(**ASK):
            entered = True

    task = asyncio.create_task(work())
    await _arrived(gate)
    if at_once:
        gate.opened.set()
        _hold_the_loop_until_reserved(server)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asynchronous.close()
    assert not entered
    assert server.only().state == "RELEASED"


async def test_reserve_that_can_be_asked_again_stays(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script["Reserve"].append(gate)
    task = asyncio.create_task(asynchronous.try_reserve(**ASK, request_id="mine"))
    await _arrived(gate)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asynchronous.reserve(**ASK, request_id="mine") as r:
        await r.commit(input_tokens=10, output_tokens=2)
    assert server.names().count("Release") == 0
    assert server.only().tokens() == (10, 2)


async def test_denial_of_a_cancelled_caller_leaves_nothing(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    gate = Gate()
    server.script["Reserve"].append(gate)
    server.decide = lambda request: authority_pb.ReserveResponse(decision="DECISION_DENIED")
    task = asyncio.create_task(asynchronous.try_reserve(**ASK))
    await _arrived(gate)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asynchronous.close()
    assert server.names() == ["Reserve"]


async def test_parallel_partial_commits_keep_their_order(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    async with asynchronous.reserve(**ASK) as r:
        await asyncio.gather(*(r.commit_partial(output_tokens=1) for _ in range(10)))
    assert [each.sequence for each in server.requests("Commit")] == [*range(1, 11), 0]


async def test_async_generator_closed_in_the_block(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    async def stream() -> AsyncIterator[int]:
        async with asynchronous.reserve(**ASK) as r:
            r.call_started()
            for tokens in range(5):
                r.saw_output(tokens)
                yield tokens

    chunks = stream()
    async for chunk in chunks:
        if chunk == 3:
            break
    await chunks.aclose()  # type: ignore[attr-defined]
    await until(lambda: server.reservations and server.only().state == "COMMITTED")
    assert server.requests("Commit")[0].outcome == types_pb.OUTCOME_CANCELLED
    assert server.only().tokens() == (1_200, 6)


async def test_coroutine_closed_in_the_block(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    reservation = await asynchronous.try_reserve(**ASK)

    async def work() -> None:
        async with reservation as r:  # type: ignore[union-attr]
            r.call_started()
            await asyncio.Event().wait()

    coroutine = work()
    coroutine.send(None)
    coroutine.close()
    await until(lambda: server.only().state == "COMMITTED")
    assert server.only().tokens() == (1_200, 0)


async def test_coroutine_closed_in_another_thread(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    reservation = await asynchronous.try_reserve(**ASK)

    async def work() -> None:
        async with reservation:  # type: ignore[union-attr]
            await asyncio.Event().wait()

    coroutine = work()
    coroutine.send(None)
    await asyncio.to_thread(coroutine.close)
    await until(lambda: server.only().state == "RELEASED")


async def test_commit_cancelled_before_it_has_begun(
    asynchronous: AsyncClient, server: ScriptedServer
) -> None:
    reservation = await asynchronous.try_reserve(**ASK)
    before = asyncio.all_tasks()
    commit = asyncio.ensure_future(
        reservation.commit(input_tokens=10, output_tokens=2)  # type: ignore[union-attr]
    )
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await asynchronous.close()
    assert server.only().tokens() == (10, 2)


def test_generator_closed_in_the_block(synchronous: Client, server: ScriptedServer) -> None:
    def stream() -> Iterator[int]:
        with synchronous.reserve(**ASK) as r:
            r.call_started()
            r.saw_output(4)
            yield 4

    chunks = stream()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert server.only().tokens() == (1_200, 4)
    assert server.requests("Commit")[0].outcome == types_pb.OUTCOME_CANCELLED


def test_interrupt_in_the_block(synchronous: Client, server: ScriptedServer) -> None:
    with pytest.raises(KeyboardInterrupt), synchronous.reserve(**ASK) as r:
        r.call_started()
        raise KeyboardInterrupt
    assert server.requests("Commit")[0].outcome == types_pb.OUTCOME_CANCELLED


def test_interrupt_in_a_pause_of_the_settlement(server: ScriptedServer) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    server.script["Commit"].append(UNAVAILABLE)
    with (
        Client(server.address, sleep=interrupted) as client,
        pytest.raises(KeyboardInterrupt),
        client.reserve(**ASK) as r,
    ):
        r.call_started()
        server.script["Commit"].extend([UNAVAILABLE] * 5)
        r.commit(input_tokens=10, output_tokens=2)
    assert server.only().tokens() == (10, 2)


class Interrupted:
    """A lock that is interrupted while it is waited for."""

    def __enter__(self) -> None:
        raise KeyboardInterrupt

    def __exit__(self, *raised: object) -> None:
        pytest.fail("it was never entered")


def test_interrupt_while_another_thread_settles(
    synchronous: Client, server: ScriptedServer
) -> None:
    reservation = synchronous.try_reserve(**ASK)
    assert isinstance(reservation, Reservation)
    reservation._order = Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        reservation.commit(input_tokens=10, output_tokens=2)
    synchronous.close()
    assert server.only().tokens() == (10, 2)


def test_event_loop_that_ends_too_early_is_told(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    server.script["Commit"].append(gate)
    kept: list[AsyncClient] = []

    async def forget() -> None:
        client = AsyncClient(server.address, settings=FAST)
        kept.append(client)
        reservation = await client.try_reserve(**ASK)
        commit = asyncio.ensure_future(reservation.commit(input_tokens=10, output_tokens=2))  # type: ignore[union-attr]
        await _arrived(gate)
        commit.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(forget())
    gate.opened.set()
    assert kept[0].settle_stats().backlog_count == 1
    with pytest.warns(ResourceWarning, match="AsyncClient was not closed; 1 settlements"):
        kept.pop().__del__()
    assert "settle_forgotten" in caplog.text
