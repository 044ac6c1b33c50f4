"""A real Redis and a real PostgreSQL that can be killed, paused, and given other data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import redis

from bursar.embedded.postgres_programs import find_postgres
from bursar.embedded.redis_process import find_redis_server
from polling import eventually

STARTS_WITHIN_S = 30.0
ENDS_WITHIN_S = 30.0
DATABASE = "bursar"

REDIS_CONFIG = """\
dir {folder}
logfile {folder}/redis.log
unixsocket {folder}/redis.sock
port 0
daemonize no
databases 1
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
"""

POSTGRES_OPTIONS = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")

_AS_NOBODY = """
import os, pwd, sys
user = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
os.execv(sys.argv[1], sys.argv[1:])
"""


class _Program:
    """A program that is started, killed, paused and started again.

    Attributes:
        process: It, while it runs.
    """

    process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with kill -9, where it runs."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            # What is paused takes no other signal.
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(ENDS_WITHIN_S)
        self.process = None


class RedisNode(_Program):
    """A redis-server on a Unix socket, with an append-only file that tests may tamper with.

    Attributes:
        socket: Where it listens.
        aof_file: Its append-only file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "redis.conf"
        self._config.write_text(REDIS_CONFIG.format(folder=folder), encoding="utf-8")
        self.socket = folder / "redis.sock"
        self.aof_file = folder / "appendonly.aof"
        self._older = folder / "appendonly.older"

    def start(self) -> None:
        """Start it on the data that is there, and wait until it answers."""
        executable = find_redis_server()
        assert executable is not None
        self.process = subprocess.Popen(
            [str(executable), str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(self._answers, STARTS_WITHIN_S)

    def client(self) -> redis.Redis:
        """Return a client of the test's own, which no proxy stands before."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=False)

    def lose_everything(self) -> None:
        """Delete the data of a server that does not run."""
        self._parts_are_one_file()
        self.aof_file.unlink(missing_ok=True)

    def lose_the_end(self, share: float) -> int:
        """Cut the append-only file, of a server that does not run, and return the bytes lost."""
        self._parts_are_one_file()
        size = self.aof_file.stat().st_size
        lost = max(1, int(size * share))
        os.truncate(self.aof_file, size - lost)
        return lost

    def remember(self) -> None:
        """Copy the data as it is now."""
        self._parts_are_one_file()
        shutil.copyfile(self.aof_file, self._older)

    def go_back(self) -> None:
        """Put the copy in place of the data, of a server that does not run."""
        shutil.copyfile(self._older, self.aof_file)

    def _parts_are_one_file(self) -> None:
        assert not (self._folder / "appendonlydir").exists(), "tests tamper with Redis 6.2's file"

    def _answers(self) -> bool:
        assert self.runs, (self._folder / "redis.log").read_text(encoding="utf-8")[-2_000:]
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class PostgresNode(_Program):
    """A PostgreSQL on a Unix socket.

    Attributes:
        socket: Where it listens.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._data = folder / "data"
        found = find_postgres()
        assert found is not None
        self._programs = found.folder
        self.socket = folder / ".s.PGSQL.5432"

    @property
    def url(self) -> str:
        """What a client connects to that no proxy stands before."""
        return f"postgresql://postgres@/{DATABASE}?host={self._folder}"

    def start(self) -> None:
        """Start it on the data that is there, made if there is none, and wait until it answers."""
        if not self._data.exists():
            self._create()
        # A killed one leaves its socket's lock, which names a process id that may be used again.
        for left in self._folder.glob(".s.PGSQL.5432*"):
            left.unlink()
        with (self._folder / "postgres.log").open("ab") as log:
            self.process = self._popen(
                "postgres",
                "-D",
                str(self._data),
                "-k",
                str(self._folder),
                *POSTGRES_OPTIONS,
                out=log,
            )
        eventually(self._answers, STARTS_WITHIN_S)

    def execute(self, statements: str) -> None:
        """Execute SQL as the superuser."""
        command = [str(self._programs / "psql"), "-h", str(self._folder), "-U", "postgres", "-q"]
        done = subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1", "-c", statements, DATABASE],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Shut it down at once, as an operator would."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all of it with kill -9: the postmaster first, so that it starts nothing again."""
        children = _children(self.process.pid) if self.process is not None and self.runs else []
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        # A new one refuses to start for as long as one of them is attached to the old memory.
        eventually(lambda: not any(map(_is_running, children)), ENDS_WITHIN_S)

    def remember(self) -> None:
        """Copy the data as it is now, at a moment at which it is whole."""
        self.stop()
        shutil.rmtree(self._folder / "older", ignore_errors=True)
        self._copy(self._data, self._folder / "older")
        self.start()

    def go_back(self) -> None:
        """Put the copy in place of the data: a restore to an earlier point in time."""
        self.stop()
        shutil.rmtree(self._data)
        self._copy(self._folder / "older", self._data)
        self.start()

    def _copy(self, source: Path, target: Path) -> None:
        # -a keeps the owner, which PostgreSQL insists on.
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    def _create(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody")
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        done = self._popen("initdb", "-D", str(self._data), *options, out=subprocess.DEVNULL)
        assert done.wait(STARTS_WITHIN_S) == 0
        made = self._popen(
            *("postgres", "--single", "-D", str(self._data), "postgres"),
            out=subprocess.DEVNULL,
            text=f"CREATE DATABASE {DATABASE}\n",
        )
        assert made.wait(STARTS_WITHIN_S) == 0

    def _popen(
        self, program: str, *arguments: str, out: object, text: str = ""
    ) -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root. It is not Popen that changes the user: for that it
            # would fork a process in which gRPC's threads run, and the child may die of it.
            command = [sys.executable, "-I", "-S", "-c", _AS_NOBODY, *command]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self._folder,
        )
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.close()
        return process

    def _answers(self) -> bool:
        assert self.runs, (self._folder / "postgres.log").read_text(encoding="utf-8")[-2_000:]
        done = subprocess.run(
            [str(self._programs / "pg_isready"), "-h", str(self._folder), "-q"], check=False
        )
        return done.returncode == 0


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _is_running(pid: int) -> bool:
    """Say whether a process has not ended; one that nobody has waited for has."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
