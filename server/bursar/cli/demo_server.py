"""The embedded server as a process of its own: it never outlives its owner, nor is left dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from bursar.embedded import watch
from bursar.embedded.leftover import end_leftover, read_pid

STOP_GRACE_MS = 25_000
"""More than the server takes to drain and to end its redis-server."""

_LOG_TAIL_LINES = 5
_ANNOUNCEMENT = "bursar serves on "


class ServerNotStarted(RuntimeError):
    """The server did not start; the message has the end of its log."""


class DemoServer:
    """`bursar serve` under a watcher; started again where it dies. Any thread may use it.

    The watcher ends the server when this process ends, also by `kill -9`. Where the watcher was
    killed too, the next start finds the server by its pid file and ends it.

    Attributes:
        address: Where it serves.
        restarts: How often it had to be started again.
    """

    def __init__(self, data_dir: Path, policy: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._policy = policy
        self._listen = "127.0.0.1:0"
        self._pid_file = self._data_dir / "server.pid"
        self._log_file = self._data_dir / "server.log"
        self._watcher: subprocess.Popen[str] | None = None
        self._pipe_writer: int | None = None
        self._mutex = threading.Lock()
        self.restarts = 0
        self.address = ""

    @property
    def pid(self) -> int:
        """Process id of the server, for those who want to kill it."""
        pid = read_pid(self._pid_file)
        assert pid is not None
        return pid

    @property
    def redis_pid(self) -> int | None:
        """Process id of its redis-server, or None where none runs."""
        return read_pid(self._data_dir / "redis" / "redis.pid")

    @property
    def postgres_pid(self) -> int | None:
        """Process id of its PostgreSQL, or None where none runs."""
        return read_pid(self._data_dir / "postgres" / "postgres.pid")

    @property
    def redis_restarts(self) -> int:
        """How often the server had to start its redis-server again."""
        return self._log_file.read_text(encoding="utf-8").count('"redis_restarted"')

    @property
    def postgres_restarts(self) -> int:
        """How often the server had to start its PostgreSQL again."""
        return self._log_file.read_text(encoding="utf-8").count('"postgresql_restarted"')

    def start(self) -> str:
        """Start it.

        Returns:
            Its address.

        Raises:
            ServerNotStarted: It did not start.
        """
        with self._mutex:
            self._launch()
        return self.address

    def has_died(self) -> bool:
        """Say whether it was started and runs no more."""
        return self._watcher is not None and self._watcher.poll() is not None

    def start_again_if_dead(self) -> bool:
        """Start it again on the same address where it has died, and say whether it had.

        Raises:
            ServerNotStarted: It did not start; the next call tries again.
        """
        with self._mutex:
            if not self.has_died():
                return False
            self._launch()
            self.restarts += 1
            return True

    def stop(self) -> None:
        """Let it drain and end."""
        with self._mutex:
            self._end()

    def _launch(self) -> None:
        self._end()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        if not end_leftover(self._pid_file, self._data_dir, STOP_GRACE_MS):
            raise ServerNotStarted(f"the server of an earlier run in {self._data_dir} does not end")
        with self._log_file.open("a", encoding="utf-8") as log:
            self._watcher = self._spawn(log)
        assert self._watcher.stdout is not None
        line = self._watcher.stdout.readline()
        if not line.startswith(_ANNOUNCEMENT):
            self._end()
            tail = self._log_file.read_text(encoding="utf-8").splitlines()[-_LOG_TAIL_LINES:]
            raise ServerNotStarted(
                f"the server did not start; the end of {self._log_file}:\n" + "\n".join(tail)
            )
        self.address = self._listen = line.removeprefix(_ANNOUNCEMENT).strip()

    def _spawn(self, log: IO[str]) -> subprocess.Popen[str]:
        server = [sys.executable, "-m", "bursar.cli.main", "serve", "--listen", self._listen]
        server += ["--policy", str(self._policy), "--data-dir", str(self._data_dir)]
        reader, self._pipe_writer = os.pipe()
        try:
            return subprocess.Popen(  # noqa: S603 - a program of ours, with our arguments
                [
                    *(sys.executable, "-I", "-S", watch.__file__),
                    *(str(reader), str(self._pid_file), "", str(STOP_GRACE_MS)),
                    *(str(int(signal.SIGTERM)), "", ""),
                    *server,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=(reader,),
                # The settings of a server that the user runs are not those of this one.
                env={
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith("BURSAR_")
                },
                # Ctrl-C in a terminal reaches the whole process group: the server must outlive
                # the callers.
                start_new_session=True,
            )
        finally:
            os.close(reader)

    def _end(self) -> None:
        if self._pipe_writer is not None:
            os.close(self._pipe_writer)
            self._pipe_writer = None
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        # The watcher kills the server after the grace time, so this ends.
        watcher.wait()
        if watcher.stdout is not None:
            watcher.stdout.close()
