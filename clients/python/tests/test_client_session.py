"""Goal: operations over one stream are as independent as calls, and cost fewer messages.

Method: callers at once, of which some are cancelled, too slow or too many, against a server that
holds operations back as told.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flavours import ASK, FAST, WAIT_S, AnyClient, MakeClient, connect, until
from scripted_server import Gate, ScriptedServer

from bursar_client import (
    AsyncClient,
    DeadlineExceeded,
    Overloaded,
    Unavailable,
    _async_session,
)
from bursar_client._session import SessionQueue

COUNT = 100
CALLERS_OF_THREADS = 4
"""Less than the threads that the tests of the sync client have."""


def held_back(server: ScriptedServer, count: int) -> threading.Event:
    """Hold the next reserves back until the event that this returns is set."""
    opened = threading.Event()
    server.script["Reserve"].extend(Gate(opened=opened) for _ in range(count))
    return opened


async def ready(client: AnyClient) -> None:
    """Have a stream that was answered."""
    await (await client.try_reserve(**ASK)).release()


async def test_operations_go_over_one_stream(client: AnyClient, server: ScriptedServer) -> None:
    async with client.reserve(**ASK) as r:
        await r.commit_partial(output_tokens=1)
        await r.extend(max_output_tokens=5)
        await r.commit(input_tokens=10, output_tokens=2)
    await client.record(org="acme", model="gpt-5", input_tokens=1, output_tokens=1)
    (stream,) = server.sessions.streams
    assert stream.messages == [[1], [2], [3], [4], [5]]
    await client.check(**ASK)
    assert len(stream.messages) == 5, "what holds nothing is a unary call"


async def test_callers_at_once_go_together(server: ScriptedServer) -> None:
    """Goal: what is asked at once is one message. Method: messages are counted as they arrive."""
    async with connect("async", server.address) as client:
        await asyncio.gather(*(client.try_reserve(**ASK) for _ in range(COUNT)))
        sizes = [len(message) for message in server.sessions.messages]
        assert sum(sizes) == COUNT and len(sizes) <= 3, sizes


async def test_answers_come_in_any_order(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    await ready(client)
    opened = held_back(server, 1)
    slow = asyncio.create_task(client.try_reserve(**ASK, request_id="slow"))
    await until(lambda: server.names().count("Reserve") == 2)
    for _ in range(3):
        await client.try_reserve(**ASK)
    assert not slow.done()
    opened.set()
    assert (await slow).request_id == "slow"
    assert len(server.sessions.streams) == 1


async def cancel_half(client: AsyncClient, server: ScriptedServer) -> list[object]:
    """Ask at once, cancel every second caller while all are in flight; return the others' answers.

    Those have ids r1, r3, r5 and so on.
    """
    await ready(client)
    opened = held_back(server, COUNT)
    tasks = [
        # With an id of the caller nothing has to be undone: the caller itself waits.
        asyncio.create_task(client.try_reserve(**ASK, request_id=f"r{number}"))
        for number in range(COUNT)
    ]
    await until(lambda: server.names().count("Reserve") == COUNT + 1)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.sleep(0)
    opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])
    return [getattr(each, "request_id", each) for each in results[1::2]]


async def test_cancelled_callers_harm_nobody(server: ScriptedServer) -> None:  # T55
    async with connect("async", server.address) as client:
        answered = await cancel_half(client, server)
        assert answered == [f"r{number}" for number in range(1, COUNT, 2)]
        assert len(server.sessions.streams) == 1
        assert server.names().count("Reserve") == COUNT + 1, "nothing was sent again"
        await ready(client)
        assert not client._transport._session._streams.current.in_flight


async def test_a_careless_session_is_harmed_by_cancelled_callers(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the test above can see it: answers are handed to callers who have gone."""
    monkeypatch.setattr(SessionQueue, "forget", lambda queue, asked: None)
    monkeypatch.setattr(_async_session, "_wake", lambda outcome: outcome.set_result(None))
    monkeypatch.setattr(AsyncClient, "__del__", lambda client: None)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with connect("async", server.address) as client:
        answered = await cancel_half(client, server)
        monkeypatch.undo()
        assert answered != [f"r{number}" for number in range(1, COUNT, 2)]


async def test_each_has_its_own_timeout(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: one that is too slow fails alone, and its late answer is nobody else's.

    Method: one is held back beyond its time while others are answered.
    """
    client = make(settings=replace(FAST, reserve_timeout_s=0.2))
    await ready(client)
    opened = held_back(server, 1)
    slow = asyncio.create_task(client.try_reserve(**ASK))
    await until(lambda: server.names().count("Reserve") == 2)
    await client.try_reserve(**ASK)
    with pytest.raises(DeadlineExceeded) as raised:
        await slow
    assert raised.value.reason == "DEADLINE_EXCEEDED"
    opened.set()
    await until(lambda: len(server.reservations) == 3)
    await client.try_reserve(**ASK)
    (stream,) = server.sessions.streams
    assert set(stream.timeouts_s[2:]) == {0.2}


async def test_a_stream_that_hangs_is_replaced(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: a server that hangs costs one timeout. Method: it answers nothing any more."""
    client = make(settings=replace(FAST, reserve_timeout_s=0.1))
    await ready(client)
    server.sessions.silent = True
    with pytest.raises(DeadlineExceeded):
        await client.try_reserve(**ASK)
    server.sessions.silent = False
    await client.try_reserve(**ASK)
    first, _ = server.sessions.streams
    assert await asyncio.to_thread(first.closed.wait, WAIT_S)


async def test_operations_in_flight_are_bounded(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: who finds no room in time was not sent, and is told. Method: room for one."""
    client = make(settings=replace(FAST, session_in_flight_max=1, reserve_timeout_s=0.05))
    await ready(client)
    gate = Gate()
    server.script["Record"].append(gate)
    slow = asyncio.create_task(
        client.record(org="acme", model="gpt-5", input_tokens=1, output_tokens=1)
    )
    assert await asyncio.to_thread(gate.arrived.wait, WAIT_S)
    with pytest.raises(Overloaded) as raised:
        await client.try_reserve(**ASK)
    assert raised.value.reason == "SESSION_FULL"
    assert raised.value.metadata == {"sessionInFlightMax": "1"}
    assert server.names().count("Reserve") == 1
    gate.opened.set()
    assert not (await slow).queued
    await ready(client)


async def test_room_that_is_left_is_taken_in_time(make: MakeClient, server: ScriptedServer) -> None:
    client = make(settings=replace(FAST, session_in_flight_max=1))
    await ready(client)
    opened = held_back(server, 1)
    first = asyncio.create_task(client.try_reserve(**ASK))
    await until(lambda: server.names().count("Reserve") == 2)
    second = asyncio.create_task(client.try_reserve(**ASK))
    opened.set()
    assert len(await asyncio.gather(first, second)) == 2


async def test_operations_in_flight_at_close(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    await ready(client)
    opened = held_back(server, CALLERS_OF_THREADS)
    tasks = [asyncio.create_task(client.try_reserve(**ASK)) for _ in range(CALLERS_OF_THREADS)]
    await until(lambda: server.names().count("Reserve") == CALLERS_OF_THREADS + 1)
    await client.close(timeout_s=0)
    for task in tasks:
        with pytest.raises(Unavailable) as raised:
            await task
        assert raised.value.reason == "CLIENT_CLOSED"
    opened.set()


async def test_streams_are_replaced_at_their_age(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: load moves to new servers. Method: streams of no age; each is closed by its client."""
    client = make(settings=replace(FAST, session_age_s_max=1e-6))
    for _ in range(3):
        await client.try_reserve(**ASK)
    assert len(server.sessions.streams) == 3
    for stream in server.sessions.streams[:2]:
        assert await asyncio.to_thread(stream.closed.wait, WAIT_S)


async def test_switched_off(make: MakeClient, server: ScriptedServer) -> None:
    client = make(settings=replace(FAST, session=False))
    await ready(client)
    assert server.sessions.streams == [] and server.names() == ["Reserve", "Release"]


def test_many_threads(server: ScriptedServer) -> None:
    """Goal: threads share one stream, each with its own answers. Method: 32 threads, 10 each."""

    def work(number: int) -> None:
        for turn in range(10):
            name = f"t{number}-{turn}"
            with client.reserve(**ASK, request_id=name) as r:
                assert r.request_id == name and r.reservation_id == f"acme/{name}"
                r.commit(input_tokens=number, output_tokens=turn)

    with connect("sync", server.address).inner as client, ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
    assert len(server.reservations) == 320
    assert len(server.sessions.streams) == 1
    assert sum(map(len, server.sessions.messages)) == 640
    for each in server.reservations.values():
        number, turn = each.request.request_id[1:].split("-")
        assert each.tokens() == (int(number), int(turn))


def threads_of_sessions() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "bursar-session"]


def test_threads_end_with_the_client(server: ScriptedServer) -> None:
    with connect("sync", server.address).inner as client:
        client.try_reserve(**ASK)
        assert len(threads_of_sessions()) == 1
    assert threads_of_sessions() == []


def test_a_forgotten_client_leaves_no_stream(server: ScriptedServer) -> None:
    def forget() -> None:
        connect("sync", server.address).inner.try_reserve(**ASK).release()

    with pytest.warns(ResourceWarning, match="Client was not closed"):
        forget()
        gc.collect()
    (stream,) = server.sessions.streams
    assert stream.closed.wait(WAIT_S)


async def test_a_forgotten_async_client_leaves_no_stream(server: ScriptedServer) -> None:
    async def forget() -> None:
        await ready(connect("async", server.address))

    with pytest.warns(ResourceWarning, match="AsyncClient was not closed"):
        await forget()
        gc.collect()
    (stream,) = server.sessions.streams
    assert await asyncio.to_thread(stream.closed.wait, WAIT_S)


FORKS = """
import os, sys
from bursar_client import Client

client = Client(sys.argv[1])
ask = {"org": "acme", "model": "gpt-5", "input_tokens": 1}
client.try_reserve(**ask, request_id="before").release()
child = os.fork()
client.try_reserve(**ask, request_id="in child" if not child else "in parent").release()
client.close()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

LEAVES = """
import sys
from bursar_client import Client

client = Client(sys.argv[1])
client.try_reserve(org="acme", model="gpt-5", input_tokens=1, request_id="left").release()
"""


def run(program: str, server: ScriptedServer) -> None:
    subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", program, server.address], timeout=30, check=True
    )


def test_a_forked_process_has_its_own_stream(server: ScriptedServer) -> None:
    run(FORKS, server)
    released = {name: each.state for name, each in server.reservations.items()}
    assert released == {f"acme/{name}": "RELEASED" for name in ("before", "in child", "in parent")}
    assert len(server.sessions.streams) == 2


def test_an_open_stream_keeps_no_process_alive(server: ScriptedServer) -> None:
    started_s = time.monotonic()
    run(LEAVES, server)
    assert time.monotonic() - started_s < WAIT_S
    assert server.only().state == "RELEASED"
