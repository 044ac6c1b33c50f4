"""`bursar serve --workers`: one server of several processes.

Goal: calls reach every worker, a worker that dies or stands still costs nobody a call, nothing
outlives the supervisor, and what was booked adds up.
Method: real processes, real signals, callers that count what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from bursar_processes import (
    environment,
    is_running,
    pid_in,
    processes_of,
    run_bursar,
    running,
    serving,
)
from worker_processes import (
    NOT_SERVING,
    POLICY,
    SERVING,
    TOKENS,
    Load,
    Served,
    children_of,
    server_id,
    tokens,
)

from databases import drop_database, new_database
from polling import eventually, eventually_async
from postgres_data import make_postgres_data

CALLERS = 6
CHANNELS_MAX = 60
"""New connections after which each of two workers has got one, but for one time in 2^58."""

START_S = 90.0
"""Two workers start one after the other, on a machine that may do much else."""

EXIT_CANNOT = 1


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose budget is never reached."""
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return file


PATCHED = """
from bursar.service import worker_process, workers

{change}
from bursar.cli.main import run

run()
"""


def patched(change: str) -> tuple[str, ...]:
    """Return a program that is `bursar`, but for a constant."""
    return (sys.executable, "-c", PATCHED.format(change=change))


@contextmanager
def served(policy: Path, folder: Path, *, change: str = "", **env: str) -> Iterator[Served]:
    """Run a server with two workers, and see to it that none outlives the test.

    Args:
        policy: What decides.
        folder: For its data and its log.
        change: See `patched`.
        env: Further variables.
    """
    folder.mkdir(exist_ok=True)
    if "BURSAR_DATABASE_URL" not in env:
        make_postgres_data(folder / "data" / "postgres")
    arguments = ("--data-dir", folder / "data", "--listen", "127.0.0.1:0", "--workers", "2")
    with ExitStack() as stack:
        process = stack.enter_context(
            running(
                *("serve", "--policy", policy, *arguments),
                folder=folder,
                env=environment(BURSAR_HEALTH_LISTEN_ADDRESS="127.0.0.1:0", **env),
                program=patched(change),
            )
        )
        one = Served(process, "")
        stack.callback(lambda: eventually(lambda: not any(map(is_running, workers_of(one))), 30))
        stack.callback(process.close)
        one = Served(process, process.wait_for(r"^bursar serves on (.*)$", START_S)[1])
        yield one


def workers_of(server: Served) -> list[int]:
    """Return every process that was ever a worker of a server."""
    return [int(str(each["pid"])) for each in server.events("worker_started")]


@pytest.fixture(scope="module")
def server(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers over a Redis and a PostgreSQL that are their supervisor's; it drains after."""
    folder = tmp_path_factory.mktemp("workers")
    with served(policy, folder, change="workers.HUNG_S = 60.0") as one:
        yield one
        assert one.running.end() == 0
        assert not processes_of(folder)
        assert one.running.lines == [f"bursar serves on {one.address}"]


@pytest.fixture
def stores(redis_url: str, key_namespace: str, database_url: str) -> dict[str, str]:
    """Variables of servers that share a Redis and a PostgreSQL of the run."""
    return {
        "BURSAR_REDIS_URL": redis_url,
        "BURSAR_KEY_NAMESPACE": key_namespace,
        "BURSAR_DATABASE_URL": database_url,
    }


def test_calls_reach_every_worker(server: Served) -> None:
    """Goal: new connections spread. Method: one after another, until both have answered."""
    eventually(lambda: server.health("readiness") == SERVING)
    seen: set[str] = set()
    for _ in range(CHANNELS_MAX):
        seen.add(server_id(server.address))
        if len(seen) == 2:
            break
    assert len(seen) == 2
    assert {each.get("worker") for each in server.events("serving")} == {1, 2}
    assert len(children_of(server.running.process.pid)) == 4, "two workers and two stores"


async def booked(server: Served) -> int:
    """Return how many calls are booked, where nothing is held."""
    committed, held = await tokens(server.address)
    assert held == 0
    assert committed % TOKENS == 0
    return committed // TOKENS


async def test_a_killed_worker_comes_back(server: Served) -> None:
    """Goal: no call fails for good, and each counts once. Method: kill -9 of each, at load."""
    before, load = await booked(server), Load(server.address)
    async with load.running(CALLERS):
        for number in (1, 2):
            reached = load.booked + 50
            await eventually_async(partial(has_booked, load, reached), 60)
            victim = server.pid_of(number)
            os.kill(victim, signal.SIGKILL)
            await eventually_async(partial(serves_as_another, server, number, victim), 30)
        await eventually_async(partial(has_booked, load, load.booked + 50), 60)
    assert load.failed == []
    assert await booked(server) == before + load.booked
    ended = [(each["number"], each["how"]) for each in server.events("worker_ended")]
    assert ended[-2:] == [(1, "by SIGKILL"), (2, "by SIGKILL")]


async def has_booked(load: Load, count: int) -> bool:
    return load.booked >= count or bool(load.failed)


async def serves_as_another(server: Served, number: int, victim: int) -> bool:
    if server.pid_of(number) == victim:
        return False
    return await asyncio.to_thread(server.health, f"worker-{number}") == SERVING


def test_t58_a_worker_that_stands_still_is_not_ready(server: Served) -> None:
    """T58: soon it is NOT_SERVING while the others serve; it is back when it goes on.

    Method: SIGSTOP of one worker, then of both: with nobody left, nothing is ready.
    """
    both = [server.pid_of(number) for number in (1, 2)]
    eventually(lambda: healths(server) == (SERVING, SERVING, SERVING))
    try:
        os.kill(both[0], signal.SIGSTOP)
        eventually(lambda: healths(server) == (NOT_SERVING, SERVING, SERVING))
        os.kill(both[1], signal.SIGSTOP)
        eventually(lambda: healths(server) == (NOT_SERVING, NOT_SERVING, NOT_SERVING))
        assert server.health("") == NOT_SERVING
        assert server.health("liveness") == SERVING
    finally:
        for pid in both:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: healths(server) == (SERVING, SERVING, SERVING))
    assert [server.pid_of(number) for number in (1, 2)] == both, "nobody was killed"


def healths(server: Served) -> tuple[int, int, int]:
    """Return how both workers are, and whether calls should be sent to the server."""
    one, other, ready = map(server.health, ("worker-1", "worker-2", "readiness"))
    return one, other, ready


async def test_the_supervisor_keeps_its_redis_running(server: Served) -> None:
    """Goal: the private stores outlive a crash of theirs. Method: kill -9 of redis-server."""
    before = await booked(server)
    [redis] = [int(f.read_text()) for f in data_of(server).glob("redis/redis.pid")]
    os.kill(redis, signal.SIGKILL)
    eventually(lambda: server.events("redis_restarted"))
    assert pid_in(data_of(server) / "redis/redis.pid") != redis
    load = Load(server.address)
    async with load.running(1):
        await eventually_async(partial(counts, load), 30)
    assert await booked(server) == before + load.booked


async def counts(load: Load) -> bool:
    return load.booked > 0


def data_of(server: Served) -> Path:
    return server.running.stderr_file.parent / "data"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_servers_on_one_port_are_refused(
    server: Served, policy: Path, stores: dict[str, str], workers: str
) -> None:
    """Goal: a port that is taken by mistake is said. Method: a second server, of either kind."""
    ended = run_bursar(
        *("serve", "--policy", policy, "--listen", server.address, "--workers", workers),
        env=environment(**stores),
    )
    assert ended.returncode == EXIT_CANNOT
    assert ended.stderr.splitlines()[-1] == f"cannot listen on {server.address}; is it in use?"
    assert ended.stdout == ""


async def test_t53_a_server_drains_and_nothing_outlives_a_killed_one(
    policy: Path, stores: dict[str, str], tmp_path: Path
) -> None:
    """T53: SIGTERM at load costs no call, and what was booked adds up.

    Method: two servers, callers that know both. Then kill -9 of the other one's supervisor, which
    takes its workers along: the control, in which calls do fail.
    """
    load = Load("")
    with (
        served(policy, tmp_path / "a", **stores, BURSAR_DRAIN_DELAY_MS="1000") as first,
        served(policy, tmp_path / "b", **stores) as second,
    ):
        load.address = f"{first.address},{second.address}"
        async with load.running(CALLERS):
            await eventually_async(partial(has_booked, load, 50), 60)
            first.running.process.terminate()
            await eventually_async(partial(says, first, NOT_SERVING))
            assert await asyncio.to_thread(first.running.wait) == 0
            assert len(first.events("stopped")) == 2, "each worker drained"
            assert not first.events("worker_killed")
            await eventually_async(partial(has_booked, load, load.booked + 50), 60)
            assert load.failed == []
        assert await tokens(second.address) == (load.booked * TOKENS, 0)
        await control_without_a_server(second)


async def control_without_a_server(server: Served) -> None:
    """Kill the last server, so that a call that fails for good is seen to be counted.

    Its supervisor is killed alone: nothing may serve on without it, and its port is free.
    """
    workers = workers_of(server)
    assert len(workers) == 2
    assert all(map(is_running, workers))
    server.running.end(signal.SIGKILL)
    eventually(lambda: not any(map(is_running, workers)), 5)
    load = Load(server.address)
    async with load.running(1):
        await eventually_async(partial(has_failed, load), 30)
    host, _, port = server.address.rpartition(":")
    with socket.create_server((host, int(port))):
        pass


async def has_failed(load: Load) -> bool:
    return bool(load.failed)


async def says(server: Served, status: int) -> bool:
    return await asyncio.to_thread(server.health, "readiness") == status


def test_one_worker_has_no_supervisor(policy: Path, stores: dict[str, str], tmp_path: Path) -> None:
    """Goal: one process is the server, and its health port answers. Method: `--workers 1`."""
    env = {**stores, "BURSAR_HEALTH_LISTEN_ADDRESS": "127.0.0.1:0"}
    with serving(policy, tmp_path, "--workers", "1", **env) as (process, address):
        alone = Served(process, address)
        assert children_of(process.process.pid) == []
        assert alone.health("readiness") == SERVING
        assert alone.health("liveness") == SERVING
        assert alone.health_address != address
        assert server_id(address)
        assert process.end() == 0


def test_a_fault_at_the_start_is_said_as_by_one_process(
    policy: Path, postgres_url: str, stores: dict[str, str], tmp_path: Path
) -> None:
    """Goal: who forgot to migrate is told so, once. Method: a database without a schema."""
    empty = new_database(postgres_url, migrated=False)
    try:
        said = []
        for workers in ("1", "3"):
            ended = run_bursar(
                *("serve", "--policy", policy, "--listen", "127.0.0.1:0", "--workers", workers),
                env=environment(**{**stores, "BURSAR_DATABASE_URL": empty}),
            )
            assert ended.returncode == EXIT_CANNOT
            assert ended.stdout == ""
            assert "Traceback" not in ended.stderr
            said.append(ended.stderr.splitlines()[-1])
    finally:
        drop_database(postgres_url, empty)
    assert said[0] == said[1]
    assert "run `bursar migrate`" in said[0]


def test_a_signal_ends_a_start_that_waits(policy: Path, database_url: str, tmp_path: Path) -> None:
    """Goal: whoever stops a server that has not begun need not wait. Method: no Redis there."""
    env = environment(
        BURSAR_REDIS_URL=f"unix://{tmp_path}/nothing.sock",
        BURSAR_DATABASE_URL=database_url,
    )
    arguments = ("serve", "--policy", policy, "--listen", "127.0.0.1:0", "--workers", "2")
    with running(*arguments, folder=tmp_path, env=env) as process:
        one = Served(process, "")
        process.wait_for_error('"waiting_for_redis"')
        process.process.terminate()
        assert process.wait(10) == 0
        assert process.lines == []
        assert len(workers_of(one)) == 1, "the second one waits for the first"
        assert not any(map(is_running, workers_of(one)))


def test_it_gives_up_where_workers_end_again_and_again(
    policy: Path, stores: dict[str, str], tmp_path: Path
) -> None:
    """Goal: an end and a clear last line. Method: workers that end at their start."""
    ended = run_bursar(
        *("serve", "--policy", policy, "--listen", "127.0.0.1:0", "--workers", "2"),
        env=environment(**stores),
        program=patched(
            "import sys; worker_process.COMMAND = (sys.executable, '-c', 'raise SystemExit(3)')"
        ),
    )
    assert ended.returncode == EXIT_CANNOT
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        "worker 1 ended 5 times in a row soon after its start, the last time with exit code 3: "
        "the log says more"
    )
    assert ended.stderr.count('"worker_ended"') == 4


def test_a_worker_that_hangs_is_replaced_and_holds_no_end_up(
    policy: Path, stores: dict[str, str], tmp_path: Path
) -> None:
    """Goal: a worker that will never go on keeps neither callers nor a shutdown.

    Method: SIGSTOP of a worker until it is killed; then of another, and SIGTERM.
    """
    change = "workers.HUNG_S = 5.0; workers.STOP_MARGIN_S = 1.0"
    with served(policy, tmp_path, change=change, **stores, BURSAR_DRAIN_GRACE_MS="0") as one:
        hung = one.pid_of(2)
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: one.pid_of(2) != hung, 30)
        assert not is_running(hung)
        assert [each["why"] for each in one.events("worker_killed")] == ["it does nothing"]
        eventually(lambda: one.health("worker-2") == SERVING, 30)
        os.kill(one.pid_of(1), signal.SIGSTOP)
        assert one.running.end() == 0
        killed = [(each["number"], each["why"]) for each in one.events("worker_killed")]
        assert (1, "it did not drain in time") in killed
        assert not is_running(one.pid_of(1))
