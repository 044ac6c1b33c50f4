"""A private server for one machine: started, watched and ended with its owner.

Who ends the server, and when:

- `stop()` or the end of the owner, also by `kill -9`: the watcher (`watch.py`) sees the end
  of a pipe and shuts the server down.
- The watcher is killed as well: the next start finds the server by its pid file, verifies its
  command line, and ends it.

Both ends rely on descriptors that close when a program is executed: a child that is forked
and goes on as it is keeps the owner's pipe and lock open. Workers are spawned, never forked.

Two locks in the data folder keep two servers off the same files. The owner holds
`owner.lock` for as long as it wants the server; a second owner is refused at once. The watcher
inherits `watch.lock` and so holds it until the server has ended; a start after `kill -9` of the
owner waits for it instead of opening files that are still being written.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.embedded.data_folder import (
    POLL_S,
    STOP_GRACE_MS,
    WATCH_MARGIN_MS,
    DataFolder,
    EmbeddedError,
    make_private,
)
from bursar.embedded.leftover import end_leftover, read_pid


@dataclass(frozen=True, slots=True)
class RunAs:
    """Who a server runs as, where that is not the owner's own user."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How to run a server.

    Attributes:
        command: The program and its arguments.
        cwd: Where it starts.
        run_as: Another user, where it has to be one.
        environment: Variables besides the owner's own.
        descriptors: Open files that it is handed, under the same numbers; closed here once it
            runs.
    """

    command: tuple[str, ...]
    cwd: Path
    run_as: RunAs | None = None
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


class EmbeddedServer(ABC):
    """One server of this process's own, with its data in a folder of its own.

    It listens on a Unix socket only, in a folder that only this user may enter. Its methods
    block; call them from a thread where an event loop runs. They may be called from any
    thread.

    Attributes:
        data_dir: The folder with the data, the log and the locks.
        log_file: What the server says.
    """

    program: str
    """What it is called in messages."""

    stop_signal = signal.SIGTERM
    """What makes it write down everything and end."""

    def __init__(self, folder: DataFolder, *, start_timeout_ms: int) -> None:
        self._folder = folder
        self.data_dir = folder.path
        self.log_file = folder.log_file
        self._start_timeout_ms = start_timeout_ms
        self._mutex = threading.Lock()
        self._owner_lock: int | None = None
        self._pipe_writer: int | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    @abstractmethod
    def _executable(self) -> Path:
        """Return the program to run, fit for the data that is there.

        Raises:
            EmbeddedError: There is none.
        """

    @abstractmethod
    def _choose_socket_path(self) -> Path:
        """Return where the server shall listen: in the data folder, or in a new private one."""

    @abstractmethod
    def _prepare(self, executable: Path, socket_path: Path) -> Launch:
        """Write what the server needs before it runs, and return how to run it."""

    @property
    @abstractmethod
    def _mark(self) -> str:
        """An argument that no other process was started with."""

    @abstractmethod
    def _answers(self, socket_path: Path) -> bool:
        """Say whether the server at socket_path serves."""

    @property
    def _socket_path(self) -> Path:
        if self._socket is None:
            raise EmbeddedError(f"the embedded {self.program} is not started")
        return self._socket

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None where none runs."""
        watcher = self._watcher
        return read_pid(self._folder.pid_file) if watcher and watcher.poll() is None else None

    def start(self) -> None:
        """Start the server on its data and wait until it answers.

        Raises:
            EmbeddedError: There is no program to run, another owner has the data, or the
                server did not answer in time; the message has the end of its log.
        """
        with self._mutex:
            if self._owner_lock is not None:
                return
            executable = self._executable()
            make_private(self.data_dir)
            self._owner_lock = self._folder.take_owner_lock()
            try:
                self._socket = self._choose_socket_path()
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
            EmbeddedError: It could not be started again; the next call tries again.
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

    @property
    def _has_own_socket_dir(self) -> bool:
        return not self._socket_path.is_relative_to(self.data_dir)

    def _launch(self, executable: Path) -> None:
        """Start the watcher, which starts the server, and wait until the server answers."""
        socket_path = self._socket_path
        watch_lock = self._folder.take_watch_lock()
        try:
            if not self._end_leftover():
                raise EmbeddedError(
                    f"the {self.program} of an earlier run in {self.data_dir} cannot be ended",
                    dataDir=str(self.data_dir),
                )
            # A watcher that saw its pipe end has removed a socket folder of its own.
            if self._has_own_socket_dir:
                make_private(socket_path.parent)
            socket_path.unlink(missing_ok=True)
            log_offset = self._folder.rotate_log()
            launch = self._prepare(executable, socket_path)
            try:
                self._watcher = self._spawn(launch, socket_path, watch_lock)
            finally:
                for descriptor in launch.descriptors:
                    os.close(descriptor)
        finally:
            os.close(watch_lock)
        try:
            self._wait_until_ready(socket_path, log_offset)
        except BaseException:
            self._end_watcher()
            raise

    def _spawn(self, launch: Launch, socket_path: Path, watch_lock: int) -> subprocess.Popen[bytes]:
        watch = Path(__file__).with_name("watch.py")
        own_dir = str(socket_path.parent) if self._has_own_socket_dir else ""
        run_as = f"{launch.run_as.uid}:{launch.run_as.gid}" if launch.run_as else ""
        reader, self._pipe_writer = os.pipe()
        try:
            with self.log_file.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - a program of ours, with our arguments
                    [
                        *(sys.executable, "-I", "-S", str(watch)),
                        *(str(reader), str(self._folder.pid_file), own_dir, str(STOP_GRACE_MS)),
                        *(str(int(self.stop_signal)), run_as),
                        *(",".join(map(str, launch.descriptors)), *launch.command),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=launch.cwd,
                    env={**os.environ, **launch.environment},
                    pass_fds=(reader, watch_lock, *launch.descriptors),
                    # Ctrl-C in a terminal reaches the whole process group: the server must
                    # outlive its owner's drain.
                    start_new_session=True,
                )
        finally:
            os.close(reader)

    def _wait_until_ready(self, socket_path: Path, log_offset: int) -> None:
        watcher = self._watcher
        deadline_s = time.monotonic() + self._start_timeout_ms / 1_000
        while watcher is not None and watcher.poll() is None:
            if self._answers(socket_path):
                return
            if time.monotonic() > deadline_s:
                why = f"did not answer within {self._start_timeout_ms} ms"
                break
            time.sleep(POLL_S)
        else:
            why = "ended at its start"
        tail = self._folder.log_tail(log_offset)
        raise EmbeddedError(
            f"the embedded {self.program} {why}; the end of {self.log_file}:\n{tail}",
            dataDir=str(self.data_dir),
        )

    def _end_leftover(self) -> bool:
        return end_leftover(self._folder.pid_file, self._mark, STOP_GRACE_MS, self.stop_signal)

    def _end_watcher(self) -> None:
        """End the server through its watcher, and both by force where they do not obey."""
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
        # Where the watcher was killed, the server is nobody's child now.
        self._end_leftover()

    def _release(self) -> None:
        self._end_watcher()
        self._folder.pid_file.unlink(missing_ok=True)
        if self._socket is not None and self._has_own_socket_dir:
            shutil.rmtree(self._socket.parent, ignore_errors=True)
        self._socket = None
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None
