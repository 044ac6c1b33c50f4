"""Kills of the demo's server, of its Redis, of the demo itself and of `bursar serve`.

Goal: whatever dies, acknowledged commits are there once, holds end at their TTL, and the demo's
recount says so; where a counter is wrong, the recount says that too.
Method: real processes and `kill -9`; what must be so is read from the demo's own files and through
the client. The last tests are the negative control: they change Redis behind the demo's back.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from bursar_processes import is_running, pid_in, processes_of, running, serving
from rich.console import Console

from bursar.cli.commit_log import ATTEMPT, BOOKED, CommitLog
from bursar.cli.demo import EXAMPLES, HOLD_TTL_S, DemoServer
from bursar.cli.demo_folder import DemoFolder
from bursar.cli.leftovers import SWEEP_S, check_leftovers
from bursar.cli.recount import Committed
from bursar_client import (
    Client,
    CommitOperation,
    Reservation,
    Settlement,
    Subject,
    Target,
    Unavailable,
    Usage,
)
from polling import eventually
from postgres_data import make_postgres_data

POLICY = EXAMPLES / "acme.yaml"
DEMO_ENDS_WITHIN_S = 60.0
CHECKS = 8

SERVER_PID = Path("server.pid")
REDIS_PID = Path("redis/redis.pid")
POSTGRES_PID = Path("postgres/postgres.pid")


def booked(data: Path) -> set[str]:
    """Return the request ids of the commits that a demo's callers saw acknowledged."""
    try:
        lines = (data / "commits.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {row["request_id"] for row in rows if row["what"] == BOOKED}


def wait_until_booked(data: Path, count: int) -> None:
    eventually(lambda: len(booked(data)) >= count, 30)


@contextmanager
def redis_of(data: Path) -> Iterator[redis.Redis]:
    """Connect to a demo's Redis."""
    conf = (data / "redis" / "redis.conf").read_text(encoding="utf-8")
    found = re.search(r'^unixsocket "(.*)"$', conf, re.MULTILINE)
    assert found is not None
    with redis.Redis(unix_socket_path=found[1]) as connection:
        yield connection


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        pytest.param(SERVER_PID, "Started again: the server 1 time", id="server"),
        pytest.param(REDIS_PID, "Started again: its Redis 1 time", id="redis"),
        pytest.param(POSTGRES_PID, "Started again: its PostgreSQL 1 time", id="postgres"),
    ],
)
def test_the_demo_goes_on_where_something_dies(tmp_path: Path, victim: Path, says: str) -> None:
    """Goal: callers go on and everything adds up. Method: kill -9 in the middle."""
    data = tmp_path / "demo"
    arguments = ("demo", "--requests", "300", "--concurrency", "8", "--data-dir", data)
    with running(*arguments, folder=tmp_path) as demo:
        wait_until_booked(data, 50)
        first = pid_in(data / victim)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: pid_in(data / victim) != first and is_running(pid_in(data / victim)), 30)
        assert len(booked(data)) < 300, "it was to die in the middle"
        code = demo.wait(DEMO_ENDS_WITHIN_S)
        assert code == 0, demo.output + demo.errors
        assert says in demo.output
        assert "FAIL" not in demo.output
        assert demo.output.count("  ok   ") == CHECKS
    assert not data.exists()


def test_a_demo_that_was_killed_with_everything_is_checked_by_the_next(tmp_path: Path) -> None:
    """Goal: what was acknowledged outlives everything, and the next demo says so.

    Method: kill -9 of server, Redis and demo in the middle; the next demo counts what the killed
    one had noted, waits for its holds, and then runs through.
    """
    data = tmp_path / "demo"
    arguments = ("demo", "--concurrency", "8", "--data-dir", data)
    with running(*arguments, "--requests", "600", folder=tmp_path) as demo:
        wait_until_booked(data, 100)
        for victim in (pid_in(data / SERVER_PID), pid_in(data / REDIS_PID), demo.process.pid):
            os.kill(victim, signal.SIGKILL)
        demo.wait()
        acknowledged = len(booked(data))
        attempted = len(CommitLog.read(data / "commits.jsonl"))
    with running(*arguments, "--requests", "60", folder=tmp_path) as demo:
        code = demo.wait(DEMO_ENDS_WITHIN_S)
        assert code == 0, demo.output + demo.errors
        assert "a demo was cut off here" in demo.output
        assert (
            f"ok   {acknowledged} acknowledged commits all there, and nothing beyond the "
            f"{attempted} attempted" in demo.output
        )
        ended = demo.wait_for(r"ok   of its callers' holds (\d+) still ran and ended within (.*) s")
        assert int(ended[1]) >= 1
        assert float(ended[2]) <= HOLD_TTL_S + SWEEP_S
        assert "FAIL" not in demo.output
        assert demo.output.count("  ok   ") == 3 + CHECKS
    assert acknowledged >= 100
    assert attempted < 600, "it was to die in the middle"
    assert not data.exists()


def test_a_killed_demo_takes_its_server_along(tmp_path: Path) -> None:
    """Goal: nothing runs on without its owner. Method: kill -9 of the demo alone."""
    data = tmp_path / "demo"
    with running("demo", "--data-dir", data, folder=tmp_path) as demo:
        wait_until_booked(data, 10)
        server, its_redis = pid_in(data / SERVER_PID), pid_in(data / REDIS_PID)
        demo.end(signal.SIGKILL)
        eventually(lambda: not is_running(server) and not is_running(its_redis), 30)
        eventually(lambda: not processes_of(tmp_path), 30)
    assert len(booked(data)) >= 10, "what it noted is there for the next one"


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Goal: whoever has seen enough has nothing to clean up. Method: SIGINT to the whole group."""
    data = tmp_path / "demo"
    with running("demo", "--data-dir", data, folder=tmp_path) as demo:
        wait_until_booked(data, 10)
        os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.wait() == 130
        assert "Traceback" not in demo.errors
        assert "interrupted" in demo.errors
        assert not processes_of(tmp_path)
    assert not data.exists()


def test_a_server_without_its_watcher_is_ended_by_the_next_start(tmp_path: Path) -> None:
    """Goal: never two servers on one folder. Method: kill -9 of the watcher, and a new start."""
    make_postgres_data(tmp_path / "postgres")
    first = DemoServer(tmp_path, POLICY)
    first.start()
    orphan = first.pid
    watcher = first._watcher
    assert watcher is not None
    os.kill(watcher.pid, signal.SIGKILL)
    eventually(first.has_died)
    assert is_running(orphan)
    second = DemoServer(tmp_path, POLICY)
    second.start()
    assert not is_running(orphan)
    assert len(processes_of(tmp_path, "redis-server")) == 1
    second.stop()
    first.stop()


SERVE_POLICY = """
org: acme
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - {name: tokens, limit: {tokens: 1000}, window: day}
  - {name: money, limit: {usd: 1}, window: month}
"""
TTL_S, LONG_TTL_S = 5, 600


def reserved(client: Client, output_tokens: int, ttl_s: int) -> str:
    """Return the reservation of 100 input tokens and so many output tokens."""
    grant = client.try_reserve(
        org="acme",
        model="m",
        input_tokens=100,
        max_output_tokens=output_tokens,
        ttl=timedelta(seconds=ttl_s),
    )
    assert isinstance(grant, Reservation)
    return grant.reservation_id


def test_a_caller_and_its_server_die_between_reserve_and_commit(tmp_path: Path) -> None:
    """Goal: a hold outlives the server, ends at its TTL, and a late commit counts once.

    Method: kill -9 of the server after two Reserves; after the restart the hold that lasts longer
    than any restart is still there and still counts; nobody settles the other one until it has
    ended; then its commit comes late, twice.
    """
    policy = tmp_path / "policy.yaml"
    policy.write_text(SERVE_POLICY, encoding="utf-8")
    with serving(policy, tmp_path) as (server, address), Client(address) as client:
        lasting = reserved(client, 300, LONG_TTL_S)
        reserved_s = time.monotonic()
        ending = reserved(client, 500, TTL_S)
        server.end(signal.SIGKILL)
        with pytest.raises(Unavailable):
            list(client.get_balances(org="acme"))
    with serving(policy, tmp_path) as (server, address), Client(address) as client:

        def tokens() -> tuple[int, int]:
            [counter] = [
                each for each in client.get_balances(org="acme") if each.budget == "tokens"
            ]
            return counter.committed, counter.held

        def held() -> list[str]:
            return [hold.reservation_id for hold in client.list_holds(org="acme")]

        assert lasting in held()
        assert tokens() in ((0, 1_000), (0, 400))
        eventually(lambda: tokens() == (0, 400), TTL_S + 5)
        assert time.monotonic() >= reserved_s + TTL_S, "the hold ended before its time"
        assert held() == [lasting]
        late = CommitOperation(
            reservation_id=ending,
            usage=Usage(input_tokens=100, output_tokens=40),
            target=Target(model="m"),
        )
        [settled] = client.batch([late])
        [again] = client.batch([late])
        assert isinstance(settled, Settlement)
        assert settled.late
        assert settled == again
        assert tokens() == (140, 400)


def one_too_many(data: Path, _client: Client) -> None:
    """Add one nano-USD to what the org has committed."""
    wait_until_booked(data, 5)
    with redis_of(data) as connection:
        [counter] = connection.scan_iter("*:c:acme:org-monthly:*")
        connection.hincrby(counter, "c", 1)


def hold_of_nobody(connection: redis.Redis, client: Client) -> bytes:
    """Reserve, and return the key of the hold, which no caller of the demo settles."""
    reserved = client.try_reserve(org="acme", model="gpt-5-mini", input_tokens=1_000)
    assert isinstance(reserved, Reservation)
    [key] = connection.scan_iter(f"*:h:acme:{reserved.reservation_id.rpartition('.')[2]}")
    return bytes(key)


def hold_without_end(data: Path, client: Client) -> None:
    """Take a hold out of the set that ends holds."""
    with redis_of(data) as connection:
        hold = hold_of_nobody(connection, client)
        assert sum(connection.zrem(each, hold) for each in connection.scan_iter("*:x")) == 1


def hold_deleted(data: Path, client: Client) -> None:
    """Delete a hold, so that nobody knows what to give back."""
    with redis_of(data) as connection:
        assert connection.delete(hold_of_nobody(connection, client)) == 1


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        pytest.param(
            one_too_many,
            r"org-monthly: committed (\d+), callers say (\d+)$",
            id="counter",
        ),
        pytest.param(
            hold_without_end, r"nothing is held on any counter: org-monthly holds \d+", id="expiry"
        ),
        pytest.param(
            hold_deleted, r"nothing is held on any counter: org-monthly holds \d+", id="hold"
        ),
    ],
)
def test_the_demo_fails_where_something_is_wrong(
    tmp_path: Path, tamper: Callable[[Path, Client], None], says: str
) -> None:
    """Goal: the checks can fail, and name the counter. Method: one wrong thing in its Redis."""
    data = tmp_path / "demo"
    arguments = ("demo", "--requests", "100", "--concurrency", "4", "--data-dir", data)
    with running(*arguments, folder=tmp_path) as demo:
        with Client(demo.wait_for(r"serving on (\S+), process")[1]) as client:
            tamper(data, client)
        assert demo.wait(DEMO_ENDS_WITHIN_S) == 1, demo.output
        failed = [line for line in demo.lines if "FAIL" in line]
        # The ledger was not changed, so it says so as well.
        assert any("the ledger agrees" in line for line in failed), failed
        found = next(filter(None, (re.search(says, line) for line in failed)), None)
        assert found is not None, failed
        if found.groups():
            assert int(found[1]) - int(found[2]) == 1


@pytest.mark.parametrize("acknowledged", [False, True], ids=["on the way", "acknowledged"])
async def test_a_lost_commit_is_found_by_the_next_demo(tmp_path: Path, acknowledged: bool) -> None:
    """Goal: the check of leftovers can fail. Method: a commit that only the demo's notes know."""
    out = io.StringIO()
    with DemoFolder(tmp_path / "demo") as folder:
        make_postgres_data(folder.path / "postgres")
        log = CommitLog(folder.commits_file)
        lost = Committed(
            subject=Subject(org="acme", team="engineering"),
            target=Target(provider="openai", model="gpt-5"),
            input_tokens=1_000,
            output_tokens=100,
            reserve_time=datetime.now(UTC),
            request_id="lost",
        )
        log(ATTEMPT, lost)
        if acknowledged:
            log(BOOKED, lost)
        log.close()
        console = Console(file=out, width=200)
        passed = await check_leftovers(console, folder, POLICY, "acme", HOLD_TTL_S)
    assert passed is not acknowledged
    said = "FAIL 1 acknowledged commit all there" in out.getvalue()
    assert said is acknowledged
    assert ("org-monthly: committed 0, callers say 2250000" in out.getvalue()) is acknowledged
