"""`bursar serve` as operators start, stop and misconfigure it.

Goal: it serves, or says in one line per fault why not and leaves nothing behind.
Method: the command as a process of its own, with real signals and a real Redis.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from bursar_processes import (
    environment,
    is_running,
    parent_of,
    pid_in,
    processes_of,
    run_bursar,
    running,
    serving,
)

from bursar.embedded.redis_process import EmbeddedRedis
from bursar_client import Client, CounterStatus, Denial, PermissionDenied, Reservation

POLICY = """\
org: acme
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - {name: tokens, limit: {tokens: 1000}, window: month}
  - {name: money, limit: {usd: 1}, window: year}
"""
REDIS_PID = Path("data/redis/redis.pid")
EXIT_CANNOT, EXIT_WRONG = 1, 2


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file without faults."""
    return written(tmp_path / "policy.yaml", POLICY)


def written(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def refused(folder: Path, *arguments: str | Path, expect: int, **env: str) -> str:
    """Start a server that must not start, and return what it says on stderr."""
    ended = run_bursar("serve", *arguments, env=environment(**env))
    assert ended.returncode == expect, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert not processes_of(folder)
    return ended.stderr


def balances(address: str, org: str = "acme") -> list[CounterStatus]:
    with Client(address) as client:
        return list(client.get_balances(org=org))


def spend(address: str, org: str = "acme") -> str:
    """Commit 60 tokens and hold 150 more; return the reservation that is left open."""
    with Client(address) as client:
        with client.reserve(org=org, model="m", input_tokens=50, max_output_tokens=50) as call:
            call.commit(input_tokens=50, output_tokens=10)
        left = client.try_reserve(org=org, model="m", input_tokens=100, max_output_tokens=50)
        assert isinstance(left, Reservation)
        return left.reservation_id


BUDGET = "{name: a, limit: {usd: 1}, window: month}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("org: [", ["line 1"], id="no YAML"),
        pytest.param("org: acme\nbudgets: []\nbudgtes: []", ["budgtes: "], id="unknown key"),
        pytest.param(f"org: a\norg: b\nbudgets: [{BUDGET}]", ["'org' is given twice"], id="twice"),
        pytest.param(
            "org: a\nbudgets: [{name: a, limit: {usd: -1}, window: fortnight}]",
            ["budgets[0].limit.usd", "budgets[0].window"],
            id="two faults",
        ),
    ],
)
def test_a_bad_policy_is_refused_with_each_fault(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    """Goal: each fault has its path, and nothing was started. Method: one document each."""
    file = written(tmp_path / "bad.yaml", text)
    data = tmp_path / "data"
    errors = refused(
        tmp_path, "--policy", file, "--data-dir", data, "--listen", "127.0.0.1:0", expect=1
    )
    assert f"the policy in {file} is refused" in errors
    for each in says:
        assert each in errors
    assert not data.exists()


def no_file(folder: Path) -> Path:
    return folder / "nowhere.yaml"


def no_text(folder: Path) -> Path:
    (folder / "latin.yaml").write_bytes(b"org: \xff")
    return folder / "latin.yaml"


@pytest.mark.parametrize("make", [no_file, no_text])
def test_a_policy_that_cannot_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """Goal: the message has the file and the reason. Method: no file, no UTF-8."""
    file = make(tmp_path)
    errors = refused(tmp_path, "--policy", file, "--data-dir", tmp_path / "data", expect=1)
    assert f"the policy in {file} is refused" in errors
    assert "cannot be read" in errors


def test_two_policies_of_one_org_are_refused(tmp_path: Path, policy: Path) -> None:
    """Goal: no policy replaces another silently. Method: the same org in two files."""
    second = written(tmp_path / "second.yaml", POLICY)
    errors = refused(tmp_path, "--policy", policy, "--policy", second, expect=1)
    assert str(second) in errors
    assert "org: 'acme' has a policy already" in errors


@pytest.mark.parametrize(
    ("env", "says"),
    [
        pytest.param(
            {"BURSAR_LISTEN_ADRESS": "127.0.0.1:1", "BURSAR_NOTHING_LIKE_IT": "1"},
            [
                "BURSAR_LISTEN_ADRESS is no setting; did you mean BURSAR_LISTEN_ADDRESS?",
                "BURSAR_NOTHING_LIKE_IT is no setting",
            ],
            id="unknown",
        ),
        pytest.param(
            {
                "BURSAR_REDIS_TIMEOUT_MS": "soon",
                "BURSAR_SHARD_COUNT": "0",
                "BURSAR_LISTEN_ADDRESS": "here",
                "BURSAR_REDIS_URL": "http://u:s3cret@h",
                "BURSAR_LOG_LEVEL": "loud",
            },
            [
                "BURSAR_REDIS_TIMEOUT_MS: ",
                "BURSAR_SHARD_COUNT: ",
                "BURSAR_LISTEN_ADDRESS: ",
                "BURSAR_REDIS_URL: ",
                "BURSAR_LOG_LEVEL: ",
            ],
            id="type, range, form",
        ),
        pytest.param({"BURSAR_DEFAULT_TTL_MS": "86400001"}, ["BURSAR_DEFAULT_TTL_MS"], id="pair"),
    ],
)
def test_wrong_settings_are_all_named(
    tmp_path: Path, policy: Path, env: dict[str, str], says: list[str]
) -> None:
    """Goal: a line for each fault, never with its value, and nothing started.

    Method: each kind of fault in the environment.
    """
    data = tmp_path / "data"
    errors = refused(tmp_path, "--policy", policy, "--data-dir", data, expect=EXIT_WRONG, **env)
    for each in says:
        assert each in errors
    assert len(errors.splitlines()) == len(says)
    assert "s3cret" not in errors
    assert not data.exists()


def test_wrong_options_are_named_as_options(tmp_path: Path, policy: Path) -> None:
    """Goal: whoever gave an option is not told of a variable. Method: a bad address."""
    errors = refused(tmp_path, "--policy", policy, "--listen", "here", expect=EXIT_WRONG)
    assert errors == "--listen: must be host:port, [IPv6]:port or unix:/path\n"


def test_the_address_of_the_clients_is_no_fault(tmp_path: Path, policy: Path) -> None:
    """Goal: one environment serves server and clients. Method: BURSAR_ADDRESS is set."""
    with serving(policy, tmp_path, BURSAR_ADDRESS="127.0.0.1:4500") as (_, address):
        assert balances(address)


def test_a_port_in_use_is_said(tmp_path: Path, policy: Path) -> None:
    """Goal: no second server shares a port, and its Redis does not stay. Method: a taken port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        data = tmp_path / "data"
        errors = refused(
            tmp_path, "--policy", policy, "--data-dir", data, "--listen", address, expect=1
        )
    assert errors.splitlines()[-1] == f"cannot listen on {address}; is it in use?"


@pytest.mark.parametrize("place", ["/proc/bursar", "{file}"])
def test_a_data_folder_that_cannot_be_made_is_said(
    tmp_path: Path, policy: Path, place: str
) -> None:
    """Goal: the folder is named. Method: places where nobody can make one, root included."""
    data = place.format(file=policy)
    errors = refused(
        tmp_path, "--policy", policy, "--data-dir", data, "--listen", "127.0.0.1:0", expect=1
    )
    [line] = errors.splitlines()
    assert line.startswith(f"the folder {data}/redis cannot be made private")


def test_a_data_folder_in_use_is_said(tmp_path: Path, policy: Path) -> None:
    """Goal: two servers never write the same files. Method: a second one on the same folder."""
    with serving(policy, tmp_path) as (server, address):
        ended = run_bursar(
            "serve", "--policy", policy, "--data-dir", tmp_path / "data", env=environment()
        )
        assert ended.returncode == EXIT_CANNOT
        assert f"is in use by process {server.process.pid}" in ended.stderr
        assert balances(address), "the first one goes on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, policy: Path, number: signal.Signals) -> None:
    """Goal: exit code 0 and nothing left, for a supervisor and for Ctrl-C alike.

    Method: a signal to the whole process group, as a terminal sends it.
    """
    with serving(policy, tmp_path) as (server, _):
        its_redis = pid_in(tmp_path / REDIS_PID)
        os.killpg(server.process.pid, number)
        assert server.wait() == 0
        assert not is_running(its_redis)
        assert not processes_of(tmp_path)
        assert '"stopped"' in server.errors


def test_a_restart_has_the_same_balances(tmp_path: Path, policy: Path) -> None:
    """Goal: nothing is lost or added. Method: committed and held before and after SIGTERM."""
    with serving(policy, tmp_path, make_data=False) as (server, address):
        left = spend(address)
        before = balances(address)
        assert server.end() == 0
    with serving(policy, tmp_path) as (_, address):
        assert balances(address) == before
        assert [(each.committed, each.held) for each in before] == [
            (60, 150),
            (50 * 1_000 + 10 * 10_000, 100 * 1_000 + 50 * 10_000),
        ]
        with Client(address) as client:
            [hold] = client.list_holds(org="acme")
        assert hold.reservation_id == left


def test_an_orphaned_redis_is_ended_by_the_next_start(tmp_path: Path, policy: Path) -> None:
    """Goal: never two redis-servers on one folder, and its data is there.

    Method: kill -9 of the watcher and of the server leaves Redis alone; then a new start.
    """
    with serving(policy, tmp_path) as (server, address):
        spend(address)
        before = balances(address)
        orphan = pid_in(tmp_path / REDIS_PID)
        os.kill(parent_of(orphan), signal.SIGKILL)
        server.end(signal.SIGKILL)
        assert is_running(orphan)
        with serving(policy, tmp_path) as (_, again):
            assert not is_running(orphan)
            assert processes_of(tmp_path, "redis-server") == [pid_in(tmp_path / REDIS_PID)]
            assert balances(again) == before


def test_two_orgs_by_two_policies(tmp_path: Path, policy: Path) -> None:
    """Goal: each org has its own budgets, and others are refused. Method: two policy files."""
    other = written(tmp_path / "other.yaml", POLICY.replace("acme", "other").replace("1000", "100"))
    with serving(policy, tmp_path, "--policy", other) as (_, address), Client(address) as client:
        spend(address)
        assert [each.held for each in client.get_balances(org="other")] == [0, 0]
        answer = client.try_reserve(org="other", model="m", input_tokens=100, max_output_tokens=1)
        assert isinstance(answer, Denial)
        assert answer.binding is not None
        assert answer.binding.limit == 100
        with pytest.raises(PermissionDenied):
            list(client.get_balances(org="third"))


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedRedis:
    """A Redis of the test's own, not yet started, whose address is known."""
    own = EmbeddedRedis(tmp_path_factory.mktemp("own"))
    with own:
        assert own.url == own_url(own), "the address is to be the same each time"
    return own


def own_url(own: EmbeddedRedis) -> str:
    return f"unix://{own.data_dir}/redis.sock"


def test_a_redis_given_by_url_is_used_and_left_alone(
    tmp_path: Path, policy: Path, own_redis: EmbeddedRedis
) -> None:
    """Goal: no private Redis beside it, and it is not ended. Method: a Redis of the test's own."""
    with own_redis:
        with serving(policy, tmp_path, BURSAR_REDIS_URL=own_redis.url) as (server, address):
            spend(address)
            before = balances(address)
            assert server.end() == 0
        assert not (tmp_path / "data" / "redis").exists()
        with serving(policy, tmp_path, BURSAR_REDIS_URL=own_redis.url) as (_, address):
            assert balances(address) == before


def test_it_waits_for_its_redis(tmp_path: Path, policy: Path, own_redis: EmbeddedRedis) -> None:
    """Goal: the order of starts does not matter. Method: Redis comes after the server."""
    env = environment(BURSAR_REDIS_URL=own_url(own_redis))
    arguments = ("serve", "--policy", policy, "--listen", "127.0.0.1:0")
    with running(*arguments, folder=tmp_path, env=env) as server:
        server.wait_for_error('"waiting_for_redis"')
        assert server.lines == []
        with own_redis:
            assert balances(server.wait_for(r"^bursar serves on (.*)$")[1])
            assert server.end() == 0


def test_a_signal_ends_the_wait_for_redis(
    tmp_path: Path, policy: Path, own_redis: EmbeddedRedis
) -> None:
    """Goal: a supervisor can end a server that has not begun. Method: SIGTERM while it waits."""
    env = environment(BURSAR_REDIS_URL=own_url(own_redis))
    arguments = ("serve", "--policy", policy, "--listen", "127.0.0.1:0")
    with running(*arguments, folder=tmp_path, env=env) as server:
        server.wait_for_error('"waiting_for_redis"')
        server.process.terminate()
        assert server.wait(5) == 0
        assert server.lines == []


IMPATIENT = """
from bursar.service import process

process.STORE_WAIT_S = 1.5
from bursar.cli.main import run

run()
"""


def test_it_gives_up_waiting_for_redis(
    tmp_path: Path, policy: Path, own_redis: EmbeddedRedis
) -> None:
    """Goal: the wait has an end and a clear last line. Method: a shorter bound, and no Redis."""
    ended = run_bursar(
        "serve",
        *("--policy", policy, "--listen", "127.0.0.1:0"),
        env=environment(BURSAR_REDIS_URL=own_url(own_redis)),
        program=(sys.executable, "-c", IMPATIENT),
    )
    assert ended.returncode == EXIT_CANNOT
    assert ended.stderr.splitlines()[-1] == (
        "Redis did not answer within 1.5 s: start it, or correct BURSAR_REDIS_URL"
    )
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
