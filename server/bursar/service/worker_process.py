"""One worker, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from bursar.service.settings import Settings
from bursar.service.worker_link import Assignment, State, Word

COMMAND = (sys.executable, "-P", "-m", "bursar.service.worker")
"""Not from the folder that the server was started in: another package may be in it."""

_REAP_S = 5.0

_log = structlog.get_logger(__name__)


class WorkerProcess:
    """A place for a worker: one process after another runs in it.

    Attributes:
        number: Its own, from 1.
        started: Set when a process in it served for the first time.
        has_spoken: Whether the newest process has said anything.
        fault: Why the newest process could not start, or "".
        end: How the newest process ended, for people.
    """

    def __init__(self, number: int, changed: Callable[[], Awaitable[None]]) -> None:
        """Run nothing yet.

        Args:
            number: Its own, from 1.
            changed: Called whenever a process in it is in another state than before.
        """
        self.number = number
        self._changed = changed
        self.started = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._begin()

    def _begin(self) -> None:
        self._state = State.STARTING
        self._heard_s = time.monotonic()
        self._ready_since_s: float | None = None
        self._is_killed = False
        self.has_spoken = False
        self.fault = ""
        self.end = ""

    @property
    def ready_s(self) -> float:
        """How long the newest process has been ready, until it was last heard."""
        return 0.0 if self._ready_since_s is None else self._heard_s - self._ready_since_s

    def silent_s(self, now_s: float) -> float:
        """Return for how long the process that runs has said nothing; 0 where none runs."""
        return 0.0 if self._process is None else now_s - self._heard_s

    def is_ready(self, now_s: float, silent_s_max: float) -> bool:
        """Say whether calls should be sent to the process."""
        return self._state is State.READY and self.silent_s(now_s) <= silent_s_max

    def forgive(self, pause_s: float) -> None:
        """Count a time in which nobody listened as one in which it spoke."""
        self._heard_s += pause_s

    async def run(self, settings: Settings, policy_files: Sequence[tuple[str, str]]) -> None:
        """Run a process until it ends."""
        self._begin()
        ours, theirs = socket.socketpair()
        try:
            self._process = _spawn(theirs)
        except OSError as error:
            ours.close()
            self.end, self.fault = "it did not begin", str(error)
            return
        finally:
            theirs.close()
        _log.info("worker_started", number=self.number, pid=self._process.pid)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        # Whoever ends before it has read all of it is seen by the end of the link.
        writer.write(Assignment(self.number, settings, policy_files).to_line())
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                await self._hear(line)
        await self._enter(State.STARTING)
        code = await asyncio.to_thread(_reap, self._process)
        self._process = None
        writer.close()
        self.end = _how(code)

    def terminate(self) -> None:
        """Tell the process to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self, why: str) -> None:
        """End the process by force."""
        if self._process is not None and not self._is_killed:
            _log.error("worker_killed", number=self.number, why=why)
            self._is_killed = True
            self._process.kill()

    async def _enter(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            await self._changed()

    async def _hear(self, line: bytes) -> None:
        word = Word.from_line(line)
        self._heard_s, self.has_spoken = time.monotonic(), True
        self.fault = word.fault or self.fault
        await self._enter(word.state)
        if word.state is State.READY and self._ready_since_s is None:
            self._ready_since_s = self._heard_s
        if word.state is not State.STARTING:
            self.started.set()


def _spawn(link: socket.socket) -> subprocess.Popen[bytes]:
    """Start a fresh program: a copy of a process that has used gRPC would hang."""
    return subprocess.Popen(  # noqa: S603 - a program of ours, with our arguments
        [*COMMAND, str(link.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=(link.fileno(),),
        # Ctrl-C in a terminal reaches the whole group: only the supervisor is to tell them.
        start_new_session=True,
    )


def _how(code: int) -> str:
    """Return how a process ended, for people."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process whose end of the link is closed."""
    try:
        return process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
