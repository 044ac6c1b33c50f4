"""Goal: whatever becomes of a stream, every operation is booked once and its caller is answered.

Method: streams that break in the middle, drain, hang or are refused, with each code that servers
and proxies refuse them with.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace

import grpc
import pytest
from flavours import ASK, FAST, WAIT_S, AnyClient, MakeClient, connect, until
from scripted_server import UNAVAILABLE, Failure, Gate, ScriptedServer

from bursar_client import BursarError, InternalError, Settings, Unavailable, _session_rules

CODE = grpc.StatusCode
DRAINING = Failure(CODE.UNAVAILABLE, "DRAINING", retry_after_ms=0)
COUNT = 50
WORKERS, TURNS = 5, 20
DISTURBED_EVERY = 10
"""Operations that arrive between two ends of streams."""
SILENCE_S = 0.05


async def ready(client: AnyClient) -> None:
    await (await client.try_reserve(**ASK)).release()


@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.CANCELLED, CODE.OK])
async def test_a_stream_that_breaks_is_replaced_and_nothing_booked_twice(
    make: MakeClient, server: ScriptedServer, code: grpc.StatusCode
) -> None:
    client = make()
    reservation = await client.try_reserve(**ASK)
    server.sessions.script.append(code)
    settled = await reservation.commit(input_tokens=10, output_tokens=2)
    assert not settled.queued
    first, again = server.requests("Commit")
    assert first == again and server.only().tokens() == (10, 2)
    assert len(server.sessions.streams) == 2


async def test_all_that_is_in_flight_on_a_broken_stream_is_sent_again(
    server: ScriptedServer,
) -> None:
    """Goal: booked once each. Method: the stream breaks while 50 are held back half-way."""
    async with connect("async", server.address) as client:
        await ready(client)
        opened = threading.Event()
        server.script["Reserve"].extend(Gate(opened=opened) for _ in range(COUNT))
        tasks = [
            asyncio.create_task(client.try_reserve(**ASK, request_id=f"r{number}"))
            for number in range(COUNT)
        ]
        await until(lambda: server.names().count("Reserve") == COUNT + 1)
        server.sessions.streams[0].end(CODE.UNAVAILABLE)
        granted = await asyncio.gather(*tasks)
        opened.set()
    assert [each.request_id for each in granted] == [f"r{number}" for number in range(COUNT)]
    assert len(server.reservations) == COUNT + 1
    assert server.names().count("Reserve") == 2 * COUNT + 1
    _, second = server.sessions.streams
    assert len(second.messages) == 1, "they went together again"


async def test_an_operation_that_ends_every_stream_fails_alone(
    make: MakeClient, server: ScriptedServer
) -> None:
    """Goal: others are answered. Method: the server fails at one operation, stream and all."""
    client = make()
    await ready(client)
    opened = threading.Event()
    server.script["Reserve"].append(Gate(opened=opened))
    other = asyncio.create_task(client.try_reserve(**ASK, request_id="other"))
    await until(lambda: server.names().count("Reserve") == 2)
    server.sessions.script.append(CODE.UNKNOWN)
    server.script["Reserve"].extend(
        [Failure(CODE.INTERNAL, "INTERNAL"), Failure(CODE.INTERNAL, "INTERNAL")]
    )
    results = await asyncio.gather(client.try_reserve(**ASK), other, return_exceptions=True)
    opened.set()
    failed = [each for each in results if isinstance(each, BaseException)]
    assert [type(each) for each in failed] == [InternalError]
    await ready(client)
    assert len(server.sessions.streams) == 2


async def test_a_draining_server_is_left(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: what is in flight is answered there, what comes goes elsewhere, and nothing fails.

    Method: the server drains while one is held back.
    """
    client = make()
    await ready(client)
    gate = Gate()
    server.script["Reserve"].append(gate)
    slow = asyncio.create_task(client.try_reserve(**ASK, request_id="slow"))
    assert await asyncio.to_thread(gate.arrived.wait, WAIT_S)
    (old,) = server.sessions.streams
    old.drain()
    await until(lambda: _streams_of(client) == [True])
    await client.try_reserve(**ASK, request_id="next")
    _, new = server.sessions.streams
    assert new.messages and not slow.done() and not old.closed.is_set()
    gate.opened.set()
    assert (await slow).request_id == "slow"
    assert await asyncio.to_thread(old.closed.wait, WAIT_S)
    assert server.names().count("Reserve") == 3, "nothing was sent again"


def _streams_of(client: AnyClient) -> list[bool]:
    """Return of each open stream whether it is retired."""
    session = getattr(client, "inner", client)._transport._session
    return [each.retired for each in list(session._streams.open)]


async def test_draining_is_sent_again_at_once(make: MakeClient, server: ScriptedServer) -> None:
    client = make()
    server.script["Reserve"].append(DRAINING)
    await client.try_reserve(**ASK)
    server.always["Reserve"] = DRAINING
    with pytest.raises(Unavailable) as raised:
        await client.try_reserve(**ASK)
    assert raised.value.reason == "DRAINING"
    assert server.names().count("Reserve") == 4


@pytest.mark.parametrize("session", [True, False], ids=["session", "unary"])
async def test_unavailable_is_retried_as_often_as_by_unary_calls(
    make: MakeClient, server: ScriptedServer, session: bool
) -> None:
    client = make(settings=Settings(session=session))
    server.script["Reserve"].extend([UNAVAILABLE] * 3)
    await client.try_reserve(**ASK)
    assert server.names().count("Reserve") == 4
    server.always["Reserve"] = UNAVAILABLE
    with pytest.raises(Unavailable) as raised:
        await client.try_reserve(**ASK)
    assert raised.value.reason == "STORE_UNAVAILABLE"
    # Throttled: three of ten tokens were spent above, and more than five have to be left.
    assert server.names().count("Reserve") == 4 + 3


CERTAIN = [
    CODE.UNIMPLEMENTED,
    CODE.INTERNAL,
    CODE.UNKNOWN,
    CODE.RESOURCE_EXHAUSTED,
    CODE.PERMISSION_DENIED,
    CODE.UNAUTHENTICATED,
    CODE.DEADLINE_EXCEEDED,
]


@pytest.mark.parametrize(
    ("code", "streams"),
    [*((code, 1) for code in CERTAIN), (CODE.UNAVAILABLE, 2), (CODE.CANCELLED, 2)],
)
async def test_where_streams_are_refused_all_goes_by_unary_calls(
    make: MakeClient, server: ScriptedServer, code: grpc.StatusCode, streams: int
) -> None:
    """Goal: no call fails. Method: every stream ends at once, as at a proxy or an older server."""
    server.sessions.refuse = code
    client = make()
    for _ in range(4):
        await client.try_reserve(**ASK)
    assert server.names().count("Reserve") == 4
    assert len(server.sessions.streams) == streams


@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.CANCELLED, CODE.UNIMPLEMENTED])
async def test_an_end_that_a_message_meets_is_not_taken_for_a_refusal(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode
) -> None:
    """Goal: where gRPC tells INTERNAL in place of what the server said, nobody believes it.

    Method: the event loop stands still until the server has ended the stream; then it writes.
    """
    sessions, met = server.sessions, 0
    write = grpc.aio._call.StreamStreamCall.write

    async def write_late(call: grpc.aio.StreamStreamCall, message: object) -> None:
        nonlocal met
        await call.wait_for_connection()
        assert sessions.refused.wait(WAIT_S)
        sessions.refused.clear()
        try:
            await write(call, message)
        except grpc.aio.AioRpcError as error:
            met += error.code() is CODE.INTERNAL
            raise

    monkeypatch.setattr(grpc.aio._call.StreamStreamCall, "write", write_late)
    sessions.refuse, sessions.refuse_unread = code, True
    async with asyncio.timeout(WAIT_S):
        while not met:
            sessions.streams.clear()
            async with connect("async", server.address) as client:
                for _ in range(3):
                    await client.try_reserve(**ASK)
    assert len(sessions.streams) == 2


async def test_streams_that_are_held_back_are_not_waited_for(
    make: MakeClient, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: no call fails behind a proxy that passes a request on at its end only.

    Method: streams take what they are sent and stay silent.
    """
    monkeypatch.setattr(_session_rules, "SILENCE_S_MAX", SILENCE_S)
    server.sessions.silent = True
    client = make()
    for _ in range(4):
        await client.try_reserve(**ASK)
    assert len(server.sessions.streams) == 2
    for stream in server.sessions.streams:
        assert await asyncio.to_thread(stream.closed.wait, WAIT_S)


async def test_streams_are_tried_again(make: MakeClient, server: ScriptedServer) -> None:
    server.sessions.refuse = CODE.UNIMPLEMENTED
    client = make(settings=replace(FAST, session_retry_interval_s=0.05))
    await client.try_reserve(**ASK)
    server.sessions.refuse = None

    async def over_a_stream() -> bool:
        await client.try_reserve(**ASK)
        return bool(server.sessions.messages)

    async with asyncio.timeout(WAIT_S):
        while not await over_a_stream():
            pass
    assert len(server.sessions.streams) == 2


async def test_a_server_that_comes_later(flavour: str) -> None:
    """Goal: an outage at the start does not keep a client from its session afterwards."""
    first = ScriptedServer()
    first.stop()
    async with connect(flavour, first.address) as client:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.try_reserve(**ASK)
        server = ScriptedServer(first.address)

        async def answered() -> bool:
            try:
                await client.try_reserve(**ASK)
            except BursarError:
                return False
            return bool(server.sessions.messages)

        try:
            async with asyncio.timeout(WAIT_S):
                while not await answered():
                    pass
        finally:
            server.stop()


async def test_streams_that_end_all_the_time(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: no operation is lost or stuck, and none booked twice.

    Method: callers reserve and commit while streams drain and break, one after another.
    """
    client = make(settings=replace(FAST, retry_attempts_max=5, retry_throttle_tokens=1_000))
    await ready(client)
    unwell = True

    async def disturb() -> None:
        for code in itertools.cycle([None, CODE.UNAVAILABLE, None, CODE.CANCELLED, CODE.OK]):
            stream, arrived = server.sessions.streams[-1], len(server.names())
            if code is None:
                stream.drain()
            else:
                stream.end(code)
            while len(server.names()) < arrived + DISTURBED_EVERY:
                if not unwell:
                    return
                await asyncio.sleep(0)

    async def work(number: int) -> None:
        for turn in range(TURNS):
            async with client.reserve(**ASK, request_id=f"{number}-{turn}") as r:
                settled = await r.commit(input_tokens=number, output_tokens=turn)
                assert not settled.recorded and not settled.queued

    disturbing = asyncio.create_task(disturb())
    await asyncio.gather(*(work(number) for number in range(WORKERS)))
    unwell = False
    await disturbing
    await client.close()
    assert len(server.reservations) == WORKERS * TURNS + 1
    booked = [each for each in server.reservations.values() if each.state == "COMMITTED"]
    assert sorted(each.tokens() for each in booked) == sorted(
        (number, turn) for number in range(WORKERS) for turn in range(TURNS)
    )
    assert len(server.sessions.streams) > 2 * WORKERS * TURNS / DISTURBED_EVERY / 2
