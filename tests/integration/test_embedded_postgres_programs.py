"""Which PostgreSQL is run, and as whom: never as root.

Method: real processes; programs that only say their version show the order of the search.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from embedded_processes import POSTGRES, owner_process, user_of
from postgres_books import book, booked, postgres_pid

from bursar.embedded import postgres_process, postgres_programs
from bursar.embedded.data_folder import EmbeddedError
from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.postgres_programs import Programs, find_postgres, user_for
from bursar.ledger.schema import migrate
from databases import fetch

AS_ROOT = os.geteuid() == 0


@pytest.mark.skipif(not AS_ROOT, reason="needs root, who may become somebody else")
def test_for_root_it_runs_as_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "data") as postgres:
        user = user_of(postgres_pid(postgres))
        assert user != 0
        assert (tmp_path / "data" / "data").stat().st_uid == user
        assert user_for(tmp_path / "data" / "data") == postgres_programs.RunAs(
            user, (tmp_path / "data" / "data").stat().st_gid
        )
        groups = Path(f"/proc/{postgres.pid}/status").read_text(encoding="ascii")
        assert re.search(r"^Groups:\s*$", groups, re.MULTILINE)


def python_for(user: tuple[int, int]) -> str:
    """Return a Python that user can run; this one may be in a folder of root's."""
    enough = ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            command = [python, *enough]
            options = postgres_programs.popen_user(postgres_programs.RunAs(*user))
            if subprocess.run(command, check=False, cwd="/", **options).returncode == 0:  # type: ignore[call-overload]
                return python
    pytest.skip("there is no Python 3.11 that another user can run")


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    entry = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="bursar-test-"))
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not AS_ROOT, reason="needs root; every other test here shows it without")
def test_for_another_user_it_runs_as_that_user_and_root_goes_on_with_the_data(
    folder_of_nobody: Path,
) -> None:
    entry = pwd.getpwnam("nobody")
    nobody = (entry.pw_uid, entry.pw_gid)
    with owner_process(
        POSTGRES, folder_of_nobody / "pg", python=python_for(nobody), user=nobody
    ) as (owner, pid, url):
        assert user_of(pid) == entry.pw_uid
        book(url)
        owner.communicate("")
    with EmbeddedPostgres(folder_of_nobody / "pg") as postgres:
        assert user_of(postgres_pid(postgres)) == entry.pw_uid
        assert booked(postgres.url) == [42]


@pytest.mark.skipif(not AS_ROOT, reason="needs root, who may become somebody else")
def test_without_a_user_to_become_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_programs, "USERS_FOR_ROOT", ("no-such-user",))
    with pytest.raises(EmbeddedError, match=r"does not run as root.*BURSAR_DATABASE_URL"):
        EmbeddedPostgres(tmp_path).start()


def fake_postgres(folder: Path, version: str) -> Path:
    """Put programs that only know their version into folder."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_wheel_comes_first_then_path_then_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_postgres()
    assert found is not None
    on_path = fake_postgres(tmp_path / "bin", "15.3")
    monkeypatch.setenv("PATH", str(on_path))
    assert find_postgres() == found
    monkeypatch.setattr(postgres_programs, "WHEEL", "no_such_module")
    assert find_postgres() == Programs(on_path, 15)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(postgres_programs, "SYSTEM_FOLDERS", tmp_path / "lib")
    assert find_postgres() is None
    for version in ("9.6", "15", "14", "16"):
        fake_postgres(tmp_path / "lib" / version / "bin", f"{version}.1")
    assert find_postgres() == Programs(tmp_path / "lib" / "16" / "bin", 16)
    assert find_postgres(14) == Programs(tmp_path / "lib" / "14" / "bin", 14)
    assert find_postgres(13) is None


def test_one_of_the_system_will_do_and_goes_on_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: older versions look at folders in other ways; data stays with its version."""
    with monkeypatch.context() as patch:
        patch.setattr(postgres_programs, "WHEEL", "no_such_module")
        programs = find_postgres(None, user_for(tmp_path / "data"))
        if programs is None:
            pytest.skip("there is no PostgreSQL but that of the wheel")
        with EmbeddedPostgres(tmp_path) as postgres:
            book(postgres.url)
            assert migrate(postgres.url) != []
    with EmbeddedPostgres(tmp_path) as postgres:
        assert booked(postgres.url) == [42]
        (row,) = fetch(postgres.url, "SELECT current_setting('server_version_num')::int AS number")
    assert row["number"] // 10_000 == programs.major_version


def test_without_any_postgresql_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_process, "find_postgres", lambda *_: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'bursar\[embedded\]'") as caught:
        EmbeddedPostgres(tmp_path).start()
    assert "\n" not in str(caught.value)


def test_data_of_another_version_names_it(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        book(postgres.url)
    version_file = tmp_path / "data" / "PG_VERSION"
    version_file.write_text("99\n", encoding="ascii")
    with pytest.raises(EmbeddedError, match=r"written by PostgreSQL 99.*postgresql-99"):
        EmbeddedPostgres(tmp_path).start()
