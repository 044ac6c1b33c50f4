"""T29, T32: real servers whose machines' clocks are wrong, and one that is stopped for a while.

The policy has a window for every two seconds, so that a boundary is never far.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Iterator

import pytest
from engine_processes import ServerProcess, connected, running_servers

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar.pb import types_pb2 as types
from polling import eventually_async

WINDOW_S, WINDOWS = 2, 60
SKEWS_MS = (0, 30_000, -30_000)
BOUND_S = 0.5
"""How far a decision's time may be from this machine's clock: a reading of it over loopback."""


def text_of(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def policy(first_second: int) -> str:
    """Return a policy whose budgets follow each other every two seconds."""
    budgets = []
    for number in range(WINDOWS):
        start = first_second + number * WINDOW_S
        window = f"{{from: {text_of(start)}, until: {text_of(start + WINDOW_S)}}}"
        budgets.append(f"  - {{name: w{number}, limit: {{tokens: 1000000}}, window: {window}}}")
    return "\n".join(["org: acme", "budgets:", *budgets])


@pytest.fixture(scope="module")
def first_second() -> int:
    return int(time.time()) // WINDOW_S * WINDOW_S


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, first_second: int
) -> Iterator[list[ServerProcess]]:
    folder, namespace = tmp_path_factory.mktemp("servers"), "w" + secrets.token_hex(4)
    policies = {"acme": policy(first_second)}
    with running_servers(folder, redis_url, namespace, policies, *SKEWS_MS) as running:
        yield running


def request() -> pb.ReserveRequest:
    return pb.ReserveRequest(
        request_id=secrets.token_hex(8),
        subject=types.Subject(org="acme"),
        target=types.Target(model="m"),
        estimate=types.Estimate(input_tokens=1, max_output_tokens=1),
    )


async def call(stub: pb_grpc.BudgetAuthorityServiceStub) -> pb.ReserveResponse:
    answer: pb.ReserveResponse = await stub.Reserve(request(), timeout=20)
    return answer


def window_of(answer: pb.ReserveResponse) -> float:
    """Return when the window begins that a grant was counted in."""
    assert answer.decision == types.DECISION_GRANTED
    [counter] = answer.counters
    return counter.window_start_time.seconds


def window_at(second: float) -> int:
    return int(second) // WINDOW_S * WINDOW_S


async def test_t29_servers_whose_clocks_are_wrong(servers: list[ServerProcess]) -> None:
    """T29. Goal: servers whose machines are 30 s ahead and behind decide in the same window.

    Their logs say that the clock is wrong.

    Method: reserves on all three over more than one boundary; the time of each decision, as its
    expiry tells it, and its window are those of this machine's clock, which is Redis's as well.
    """
    starts = set()
    async with connected(servers) as stubs:

        async def two_windows() -> bool:
            for stub in stubs:
                before = time.time()
                answer = await call(stub)
                after = time.time()
                decided = (
                    answer.expire_time.ToNanoseconds() / 1e9 - answer.ttl.ToNanoseconds() / 1e9
                )
                assert before - BOUND_S <= decided <= after + BOUND_S
                assert window_of(answer) == window_at(decided)
                starts.add(window_of(answer))
            return len(starts) >= 2

        await eventually_async(two_windows)
    for server, skew_ms in zip(servers, SKEWS_MS, strict=True):
        warned = "clock_differs_from_redis" in server.log_file.read_text(encoding="utf-8")
        assert warned is (skew_ms != 0)


async def test_t32_a_stopped_server_decides_in_the_new_window(servers: list[ServerProcess]) -> None:
    """T32. Goal: after a stop over a boundary, the first decision is in the window that runs then.

    Method: SIGSTOP in one window, a reserve sent meanwhile, SIGCONT in a later one, after another
    server has decided there. The waiting call and a new one are both counted in a window that ran
    between SIGCONT and their answers.
    """
    async with connected(servers[:2]) as (stopped, other):
        before = window_of(await call(stopped))
        servers[0].signal(signal.SIGSTOP)
        try:
            waiting = asyncio.ensure_future(call(stopped))

            async def later() -> bool:
                return time.time() > before + WINDOW_S + BOUND_S

            await eventually_async(later)
            assert window_of(await call(other)) > before
        finally:
            resumed = time.time()
            servers[0].signal(signal.SIGCONT)
        for answer in (await waiting, await call(stopped)):
            assert (
                window_at(resumed - BOUND_S)
                <= window_of(answer)
                <= window_at(time.time() + BOUND_S)
            )
            assert window_of(answer) > before
