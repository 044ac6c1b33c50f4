"""The Python client's sessions on real servers: callers that leave, and servers that do.

Goal: whoever goes in the middle, everybody else is answered, and each operation is booked once.
Method: many callers at once over one stream; what the counters say afterwards is compared with
what callers were told.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest_asyncio
from service_server import Service, serving

from bursar_client import AsyncClient, AsyncReservation, Settings
from databases import own_database
from polling import eventually_async

CALLERS = 200
WORKERS, TURNS = 20, 15
INPUT_TOKENS, OUTPUT_TOKENS = 10, 5
PATIENT = Settings(reserve_timeout_s=30, settle_attempt_timeout_s=30, settle_timeout_s=60)


@pytest_asyncio.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url) as service:
        yield service


async def tokens(client: AsyncClient, user: str) -> tuple[int, int]:
    """Return what a user has committed and holds today."""
    counters = [each async for each in client.get_balances(org="acme", user=user)]
    [day] = [each for each in counters if each.budget == "user-day"]
    return day.committed, day.held


async def reserve(client: AsyncClient, user: str, name: str) -> AsyncReservation:
    reservation = await client.try_reserve(
        org="acme",
        user=user,
        model="m",
        input_tokens=INPUT_TOKENS,
        max_output_tokens=OUTPUT_TOKENS,
        request_id=name,
    )
    assert isinstance(reservation, AsyncReservation)
    assert reservation.request_id == name
    return reservation


def streams(client: AsyncClient) -> int:
    session = client._transport._session
    assert session is not None
    return len(session._streams.open)


async def test_half_of_the_callers_leave(service: Service) -> None:  # T55
    """Every second caller is cancelled a little later than the one before it."""
    async with AsyncClient(service.process.address, settings=PATIENT) as client:
        await (await reserve(client, "first", secrets.token_hex(8))).release()
        tasks = [
            asyncio.create_task(reserve(client, "u", f"{secrets.token_hex(8)}-{number}"))
            for number in range(CALLERS)
        ]
        for task in tasks[::2]:
            await asyncio.sleep(0)
            task.cancel()
        kept = await asyncio.gather(*tasks[1::2])
        gone = await asyncio.gather(*tasks[::2], return_exceptions=True)
        assert streams(client) == 1
        settled = await asyncio.gather(
            *(each.commit(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS) for each in kept)
        )
        assert not any(each.queued or each.recorded for each in settled)
        in_time = [each for each in gone if isinstance(each, AsyncReservation)]
        for reservation in in_time:
            await reservation.release()
        held = [each async for each in client.list_holds(org="acme", user="u", page_size=1_000)]
        each_tokens = INPUT_TOKENS + OUTPUT_TOKENS
        committed, held_tokens = await tokens(client, "u")
        assert committed == len(kept) * each_tokens
        # A caller that left may have been granted; its hold ends at its TTL.
        assert held_tokens == len(held) * each_tokens <= len(gone) * each_tokens


async def test_a_server_goes_under_load(redis_url: str) -> None:  # T53, T54
    """Two servers; the one that has the stream is stopped while 20 callers reserve and commit."""
    namespace = "t" + secrets.token_hex(6)
    turns = 0

    async def work(client: AsyncClient, number: int) -> None:
        nonlocal turns
        for turn in range(TURNS):
            reservation = await reserve(client, "u", f"{namespace}-{number}-{turn}")
            settled = await reservation.commit(
                input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS
            )
            assert not settled.queued and not settled.recorded
            turns += 1

    with own_database() as database_url:
        shared = {"key_namespace": namespace, "database_url": database_url}
        async with serving(redis_url, **shared) as one, serving(redis_url, **shared) as other:
            address = f"{one.process.address},{other.process.address}"
            async with AsyncClient(address, settings=PATIENT) as client:
                working = [asyncio.create_task(work(client, number)) for number in range(WORKERS)]
                await eventually_async(lambda: _true(turns > WORKERS), 30)
                goes, stays = (one, other) if sessions(one) else (other, one)
                assert sessions(goes) == 1 and sessions(stays) == 0
                await goes.process.stop()
                await asyncio.gather(*working)
                assert sessions(stays) == 1
                expected = WORKERS * TURNS * (INPUT_TOKENS + OUTPUT_TOKENS)
                assert await tokens(client, "u") == (expected, 0)


def sessions(service: Service) -> int:
    assert service.process._server is not None
    return len(service.process._server._sessions._open)


async def _true(value: bool) -> bool:
    return value
