"""Goal: clients in forked processes and on several event loops lose nothing and send nothing twice.

Method: processes that fork while a settlement waits, and event loops one after another or at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest
from flavours import ASK, FAST, until
from scripted_server import UNAVAILABLE, ScriptedServer

from bursar_client import AsyncClient, AsyncReservation, Settlement

FORKS = """
import os, sys, time
from bursar_client import Client, Settings

settings = Settings(
    settle_timeout_s=0, settle_backoff_initial_s=0.05, settle_backoff_max_s=0.1,
    retry_attempts_max=1,
)
client = Client(sys.argv[1], settings=settings)

def commit(number):
    reservation = client.try_reserve(org="acme", model="gpt-5", input_tokens=1)
    assert reservation.commit(input_tokens=number, output_tokens=0).queued
    assert client.settle_stats().backlog_count == 1

commit(1)
child = os.fork()
if not child:
    assert client.settle_stats().backlog_count == 0
    commit(2)
    print("forked", flush=True)
    client.close()
    os._exit(0)
client.close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_settles_its_own_and_no_others(server: ScriptedServer) -> None:
    """Goal: each process sends what is its own, once. Method: a fork while a commit waits."""
    server.always["Commit"] = server.always["Batch"] = UNAVAILABLE
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", FORKS, server.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n", parent.communicate()
        server.always.clear()
        _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 0, errors
    assert "settle_forgotten" not in errors
    booked = sorted(each.tokens() for each in server.reservations.values())
    assert booked == [(1, 0), (2, 0)]
    settled = [request.reservation_id for request in server.requests("Commit")]
    assert len({*settled}) == 2


def on_new_loop(work: Callable[[], Awaitable[object]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 10))


def test_a_client_outlives_its_event_loop(server: ScriptedServer) -> None:
    """Goal: one client serves one event loop after another, with what still waits.

    Method: a commit that waits when its loop ends is sent on the next one.
    """
    client = AsyncClient(server.address, settings=FAST)

    async def first() -> None:
        server.always["Commit"] = server.always["Batch"] = UNAVAILABLE
        async with client.reserve(**ASK) as r:
            assert (await r.commit(input_tokens=10, output_tokens=2)).queued

    async def second() -> None:
        server.always.clear()
        await client.check(**ASK)
        await until(lambda: server.only().state == "COMMITTED")
        await client.close()

    on_new_loop(first)
    on_new_loop(second)
    assert server.only().tokens() == (10, 2)


def test_a_second_event_loop_at_once_is_refused(server: ScriptedServer) -> None:
    """Goal: a client in the wrong loop says so, and its settlement is made by its own.

    Method: calls from a loop of another thread while the first one runs.
    """
    refused: list[BaseException] = []

    def elsewhere(reservation: AsyncReservation, client: AsyncClient) -> None:
        async def attempt(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(RuntimeError, match="belongs to another event loop") as raised:
                await call()
            refused.append(raised.value)

        async def all_of_them() -> None:
            await attempt(lambda: client.check(**ASK))
            await attempt(lambda: client.try_reserve(**ASK))
            await attempt(client.close)

            async def commit() -> Settlement:
                return await reservation.commit(input_tokens=10, output_tokens=2)

            await attempt(commit)

        on_new_loop(all_of_them)

    async def main() -> None:
        async with AsyncClient(server.address, settings=FAST) as client:
            reservation = await client.try_reserve(**ASK)
            assert isinstance(reservation, AsyncReservation)
            thread = threading.Thread(target=elsewhere, args=(reservation, client))
            thread.start()
            await until(lambda: not thread.is_alive())
            await until(lambda: server.only().state == "COMMITTED")

    on_new_loop(main)
    assert len(refused) == 4
    assert server.only().tokens() == (10, 2)
