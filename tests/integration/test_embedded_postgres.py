"""The private PostgreSQL: it keeps its data, and it never outlives its owner.

Method: real processes and real signals. The owner that is killed is a process of its own.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from embedded_processes import POSTGRES, is_running, owner_process, watcher_of
from postgres_books import book, booked, postgres_pid

from bursar.embedded import postgres_cluster, postgres_programs
from bursar.embedded.data_folder import EmbeddedError
from bursar.embedded.postgres_process import SOCKET_NAME, EmbeddedPostgres
from bursar.embedded.postgres_programs import Programs, user_for
from bursar.ledger.schema import migrate
from databases import fetch, run_apart
from polling import eventually
from postgres_data import make_postgres_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data already, for tests that are not about a first start."""
    return make_postgres_data(tmp_path)


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def test_data_survives_stop_and_start(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data") as postgres:
        book(postgres.url)
        pid = postgres_pid(postgres)
    assert not is_running(pid)
    with EmbeddedPostgres(tmp_path / "data") as postgres:
        assert booked(postgres.url) == [42]


def test_one_object_starts_and_stops_again(folder: Path) -> None:
    postgres = EmbeddedPostgres(folder)
    with pytest.raises(EmbeddedError, match="not started"):
        _ = postgres.url
    assert postgres.restart_if_dead() is False
    for count in (1, 2):
        postgres.start()
        postgres.start()
        book(postgres.url)
        assert booked(postgres.url) == [42] * count
        postgres.stop()
        postgres.stop()
        assert postgres.pid is None
        assert postgres.restart_if_dead() is False


def test_it_has_a_socket_only_and_nobody_else_may_enter(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with EmbeddedPostgres(tmp_path / "data") as postgres:
        folder = socket_folder(postgres.url)
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / SOCKET_NAME).stat().st_mode) == 0o700
        inodes = {str(link.readlink()) for link in Path(f"/proc/{postgres.pid}/fd").iterdir()}
        assert any(inode.startswith("socket:") for inode in inodes)
        tables = [Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        used = {line.split()[9] for table in tables for line in table.splitlines()[1:]}
        assert not inodes & {f"socket:[{inode}]" for inode in used}


def test_it_runs_with_safe_settings(tmp_path: Path) -> None:
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }
    with EmbeddedPostgres(tmp_path) as postgres:
        query = "SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS name"
        found = {row["name"]: row["value"] for row in fetch(postgres.url, query, list(wanted))}
        (row,) = fetch(
            postgres.url, "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        )
    assert found == wanted
    assert row["datcollate"] == "C"


def test_variables_for_other_postgresqls_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6543", "PGDATA": "/nowhere", "PGHOST": "h.invalid"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    with EmbeddedPostgres(tmp_path) as postgres:
        book(postgres.url)
        assert booked(postgres.url) == [42]
        assert migrate(postgres.url)


def test_a_killed_postgresql_is_started_again_with_its_data(folder: Path) -> None:
    with EmbeddedPostgres(folder) as postgres:
        url = postgres.url
        book(url)
        assert postgres.restart_if_dead() is False
        os.kill(postgres_pid(postgres), signal.SIGKILL)
        eventually(postgres.restart_if_dead)
        assert postgres.url == url
        assert booked(url) == [42]
        assert postgres.restart_if_dead() is False


def test_it_waits_for_processes_of_a_killed_one(folder: Path) -> None:
    """Goal: a backend that goes on after its postmaster never meets a second one on the files."""

    async def die_while_working(postgres: EmbeddedPostgres) -> None:
        connection = await asyncpg.connect(postgres.url)
        backend = connection.get_server_pid()
        await connection.execute("SET statement_timeout = 0")
        os.kill(backend, signal.SIGSTOP)
        try:
            os.kill(postgres_pid(postgres), signal.SIGKILL)
            timer = threading.Timer(0.5, os.kill, (backend, signal.SIGCONT))
            timer.start()
            eventually(postgres.restart_if_dead)
            timer.join()
            assert not is_running(backend)
        finally:
            if is_running(backend):
                os.kill(backend, signal.SIGCONT)
            connection.terminate()

    with EmbeddedPostgres(folder) as postgres:
        book(postgres.url)
        run_apart(die_while_working(postgres))
        assert "shared memory block" in postgres.log_file.read_text(encoding="utf-8")
        assert booked(postgres.url) == [42]


def test_a_killed_watcher_is_replaced_and_its_postgresql_too(folder: Path) -> None:
    with EmbeddedPostgres(folder) as postgres:
        book(postgres.url)
        pid = postgres_pid(postgres)
        os.kill(watcher_of(pid), signal.SIGKILL)
        eventually(postgres.restart_if_dead)
        assert not is_running(pid)
        assert booked(postgres.url) == [42]


def test_postgresql_ends_by_itself_after_its_owner_is_killed(folder: Path) -> None:
    with owner_process(POSTGRES, folder) as (owner, pid, url):
        book(url)
        owner.kill()
        owner.wait()
        eventually(lambda: not is_running(pid), timeout_s=15)
    with EmbeddedPostgres(folder) as postgres:
        assert booked(postgres.url) == [42]


def test_an_open_connection_does_not_keep_it_alive(folder: Path) -> None:
    async def hold() -> None:
        with owner_process(POSTGRES, folder) as (owner, pid, url):
            connection = await asyncpg.connect(url)
            owner.kill()
            owner.wait()
            eventually(lambda: not is_running(pid), timeout_s=15)
            connection.terminate()

    run_apart(hold())


def test_a_start_right_after_the_owner_was_killed_has_the_data(folder: Path) -> None:
    for count in range(1, 4):
        with owner_process(POSTGRES, folder) as (owner, pid, url):
            book(url, count)
            owner.kill()
            owner.wait()
            with EmbeddedPostgres(folder) as postgres:
                assert not is_running(pid)
                assert booked(postgres.url) == list(range(1, count + 1))


@pytest.mark.parametrize("pid_file_too", [False, True])
def test_one_that_lost_its_watcher_and_owner_is_ended_at_the_next_start(
    folder: Path, pid_file_too: bool
) -> None:
    with owner_process(POSTGRES, folder) as (owner, pid, url):
        book(url)
        os.kill(watcher_of(pid), signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert is_running(pid)
        if pid_file_too:
            (folder / "postgres.pid").unlink()
        with EmbeddedPostgres(folder) as postgres:
            assert not is_running(pid)
            assert booked(postgres.url) == [42]


def test_a_start_after_everything_was_killed_has_the_data(folder: Path) -> None:
    with owner_process(POSTGRES, folder) as (owner, pid, url):
        book(url)
        for victim in (watcher_of(pid), *children_of(pid), pid, owner.pid):
            os.kill(victim, signal.SIGKILL)
        owner.wait()
    with EmbeddedPostgres(folder) as postgres:
        assert booked(postgres.url) == [42]


def test_another_process_with_the_id_of_the_last_one_is_no_obstacle(folder: Path) -> None:
    """Goal: after a restart of a container the same few process ids come back."""
    user = user_for(folder)
    with owner_process(POSTGRES, folder) as (owner, pid, url):
        book(url)
        for victim in (watcher_of(pid), pid, owner.pid):
            os.kill(victim, signal.SIGKILL)
        owner.wait()
    as_user = postgres_programs.popen_user(user)
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", **as_user) as other:  # type: ignore[call-overload]
        file = folder / "data" / "postmaster.pid"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text(f"{other.pid}\n" + "".join(lines[1:]), encoding="utf-8")
        (folder / "postgres.pid").write_text(f"{other.pid}\n", encoding="utf-8")
        with EmbeddedPostgres(folder) as postgres:
            assert booked(postgres.url) == [42]
        assert other.poll() is None
        other.kill()


def test_an_owner_that_ends_normally_leaves_nothing(tmp_path: Path) -> None:
    with owner_process(POSTGRES, tmp_path) as (owner, pid, _url):
        watcher = watcher_of(pid)
        owner.communicate("")
        assert owner.returncode == 0
        assert not is_running(pid)
        assert not is_running(watcher)


def test_a_second_owner_is_refused_while_the_first_lives(folder: Path) -> None:
    with EmbeddedPostgres(folder) as postgres:
        book(postgres.url)
        with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
            EmbeddedPostgres(folder).start()
        assert booked(postgres.url) == [42]


def test_many_starts_at_once_have_one_owner(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def start(postgres: EmbeddedPostgres) -> bool:
        together.wait(timeout=10)
        try:
            postgres.start()
        except EmbeddedError:
            return False
        return True

    candidates = [EmbeddedPostgres(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(max_workers=4) as threads:
        started = list(threads.map(start, candidates))
    assert sorted(started) == [False, False, False, True]
    owner = candidates[started.index(True)]
    book(owner.url)
    owner.stop()


def test_data_that_was_not_finished_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a crash in the middle of the first start leaves nothing that is taken for data."""

    def fail(_cluster: postgres_cluster.Cluster, _programs: Programs) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(postgres_cluster.Cluster, "fill", fail)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedPostgres(tmp_path).start()
    (tmp_path / "partial-of-a-killed-one").mkdir()
    (tmp_path / "partial-of-a-killed-one" / "PG_VERSION").write_text("18\n", encoding="ascii")
    with EmbeddedPostgres(tmp_path) as postgres:
        book(postgres.url)
    assert not list(tmp_path.glob("partial-*"))


def test_a_failed_start_says_the_end_of_the_log(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path, settings={"shared_buffers": "1kB"})
    with pytest.raises(EmbeddedError, match=r"(?s)ended at its start.*shared_buffers"):
        postgres.start()
    assert postgres.pid is None
    with EmbeddedPostgres(tmp_path) as postgres:
        book(postgres.url)


@pytest.mark.parametrize("name", ["d" * 100, "a,b", "percent%2Fäß #&?="])
def test_any_name_of_a_folder_will_do(tmp_path: Path, name: str) -> None:
    with EmbeddedPostgres(tmp_path / name) as postgres:
        url, folder = postgres.url, socket_folder(postgres.url)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert migrate(url) != []
        book(url)
        os.kill(postgres_pid(postgres), signal.SIGKILL)
        eventually(postgres.restart_if_dead)
        assert postgres.url == url
        assert booked(url) == [42]
    assert folder.exists() == folder.is_relative_to(tmp_path)


def test_the_socket_folder_of_a_killed_owner_is_removed(tmp_path: Path) -> None:
    long = make_postgres_data(tmp_path / ("d" * 100))
    with owner_process(POSTGRES, long) as (owner, _pid, url):
        folder = socket_folder(url)
        assert folder.exists()
        owner.kill()
        owner.wait()
        eventually(lambda: not folder.exists(), timeout_s=15)
