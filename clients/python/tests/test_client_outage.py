"""Goal: a server that is away is neither stormed nor waited for in vain, and nothing is lost.

Method: many settlements wait for a server that fails; what arrives there meanwhile is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from flavours import ASK, WAIT_S, AnyClient, FakeTime, MakeClient, until
from scripted_server import UNAVAILABLE, Failure, Gate, ScriptedServer, grpc

from bursar_client import Settings, Unsettled, UnsettledError

REST_S = 0.2
SETTINGS = Settings(
    settle_timeout_s=0,
    settle_backoff_initial_s=REST_S,
    settle_backoff_max_s=REST_S,
    retry_attempts_max=1,
)
SLOW = replace(SETTINGS, settle_backoff_initial_s=600, settle_backoff_max_s=600)
COUNT = 150
CHANGED = Failure(grpc.StatusCode.ABORTED, "CONCURRENT_CHANGE")


async def waiting(client: AnyClient, server: ScriptedServer, count: int) -> None:
    """Let so many commits wait in the background for a server that is away."""
    reservations = [await client.try_reserve(**ASK) for _ in range(count)]
    server.chaos = lambda name: UNAVAILABLE
    await asyncio.gather(*(r.commit(input_tokens=1, output_tokens=1) for r in reservations))
    assert client.settle_stats().queued_count == count


def attempt_now(client: AnyClient, now_s: float | None = None) -> None:
    """Make what waits due, but not what rests."""
    settler = getattr(client, "inner", client)._settler
    settler.backlog.hurry(time.monotonic() if now_s is None else now_s)
    settler.changed()


async def test_all_that_waits_rests_together(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: one call for each pause, however many wait. Method: the times of what arrives."""
    client = make(settings=SETTINGS, random=lambda: 0.0)
    times_s: list[float] = []

    def away(name: str) -> Failure:
        times_s.append(time.monotonic())
        return UNAVAILABLE

    await waiting(client, server, COUNT)
    server.chaos = away
    await until(lambda: len(times_s) >= 5)
    pauses_s = [later - earlier for earlier, later in pairwise(times_s)]
    # Random parts are at their least: half of the pause.
    assert min(pauses_s) >= REST_S / 2 - 0.02
    server.chaos = lambda name: None
    await client.close()
    assert all(each.tokens() == (1, 1) for each in server.reservations.values())


async def test_what_waits_is_sent_as_soon_as_the_server_is_back(
    make: MakeClient, server: ScriptedServer
) -> None:
    """Goal: no long pause after the end of an outage. Method: a success frees all that rest."""
    client = make(settings=SLOW)
    first, last = [await client.try_reserve(**ASK) for _ in range(2)]
    server.script["Commit"].append(UNAVAILABLE)
    await first.commit(input_tokens=1, output_tokens=1)
    server.script["Commit"].append(UNAVAILABLE)
    attempt_now(client)
    await until(lambda: server.names().count("Commit") == 2)
    await last.commit(input_tokens=1, output_tokens=1)
    await until(lambda: client.settle_stats().backlog_count == 0)
    assert [each.tokens() for each in server.reservations.values()] == [(1, 1), (1, 1)]


async def test_one_that_fails_alone_lets_the_others_go(
    make: MakeClient, server: ScriptedServer
) -> None:
    """Goal: what concerns one settlement does not hold up the rest.

    Method: one waits that others change each time; a rest would be longer than the test.
    """
    client = make(settings=SLOW)
    server.script["Commit"].extend([CHANGED, CHANGED])
    reservation = await client.try_reserve(**ASK)
    assert (await reservation.commit(input_tokens=1, output_tokens=1)).queued
    attempt_now(client)
    await until(lambda: server.names().count("Commit") == 2)
    other = await client.try_reserve(**ASK)
    server.script["Commit"].append(UNAVAILABLE)
    assert (await other.commit(input_tokens=1, output_tokens=1)).queued
    attempt_now(client)
    await until(lambda: client.settle_stats().backlog_count == 0)
    assert client.settle_stats().failed_count == 0


async def test_callers_do_not_retry_while_others_rest(
    make: MakeClient, server: ScriptedServer
) -> None:
    """Goal: an outage makes no more calls than there are settlements.

    Method: with one waiting and resting, each further commit makes one attempt and then waits
    too, however long it might have tried.
    """
    fake = FakeTime()
    settings = Settings(
        settle_timeout_s=5,
        settle_backoff_initial_s=60,
        settle_backoff_max_s=60,
        retry_attempts_max=1,
    )
    client = make(settings=settings, fake=fake)
    reservations = [await client.try_reserve(**ASK) for _ in range(6)]
    server.chaos = lambda name: UNAVAILABLE
    first, *others = reservations
    assert (await first.commit(input_tokens=1, output_tokens=1)).queued
    tried = server.names().count("Commit")
    assert tried > 3, "the first one was to be retried"
    attempt_now(client, fake.now_s)
    inner = getattr(client, "inner", client)
    await until(lambda: server.names().count("Commit") == tried + 1)
    await until(inner._settler.wait_s)
    for reservation in others:
        assert (await reservation.commit(input_tokens=1, output_tokens=1)).queued
    assert server.names().count("Commit") == tried + 1 + len(others)
    server.chaos = lambda name: None
    await client.close()
    assert all(each.tokens() == (1, 1) for each in server.reservations.values())


async def test_a_settlement_under_way_at_close_is_told_once(
    make: MakeClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: what is lost is counted and logged once. Method: close while a commit is held back."""
    gate = Gate()
    server.script["Commit"].append(gate)
    failed: list[Unsettled] = []
    client = make(on_settle_failed=failed.append)
    reservation = await client.try_reserve(**ASK)
    commit = asyncio.create_task(reservation.commit(input_tokens=10, output_tokens=2))
    assert await asyncio.to_thread(gate.arrived.wait, WAIT_S)
    with caplog.at_level(logging.ERROR), pytest.raises(UnsettledError) as raised:
        await client.close(timeout_s=0)
    gate.opened.set()
    with pytest.raises((UnsettledError, asyncio.CancelledError)):
        await commit
    assert len(raised.value.unsettled) == 1
    assert client.settle_stats().failed_count == 1
    assert [each.message.split()[0] for each in caplog.records] == ["settle_abandoned"]
    assert failed == []


async def test_what_ended_the_block_is_not_hidden(make: MakeClient, server: ScriptedServer) -> None:
    """Goal: a client's end with settlements undone does not replace the caller's own error.

    Method: an exception inside the client's block while a commit waits.
    """
    client = make(settings=SLOW)
    inner = getattr(client, "inner", client)
    close = inner.close
    inner.close = lambda: close(timeout_s=0)
    with pytest.raises(KeyError) as raised:
        async with client:
            await waiting(client, server, 1)
            raise KeyError("mine")
    del inner.close
    [note] = raised.value.__notes__
    assert "1 settlements did not reach the server" in note
