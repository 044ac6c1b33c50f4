"""Run one server program and end it when its owner ends, however the owner ends.

The owner starts this file as a program of its own and holds the write end of a pipe whose
read end is here. The kernel closes the write end when the owner ends, also after `kill -9`,
so the end of the pipe is the one signal that cannot be missed. It is a separate process
because a killed owner can run nothing, and because PR_SET_PDEATHSIG follows the *thread*
that forked (a worker thread's end would end the server) and needs a preexec function, which
is unsafe in a process with threads. It imports no other module of Bursar, so that it starts
in the time of a bare interpreter.

    watch.py PIPE_FD PID_FILE SOCKET_DIR GRACE_MS STOP_SIGNAL USER FDS COMMAND...

SOCKET_DIR is removed when the owner is gone; "" removes nothing. STOP_SIGNAL is the number of
the signal that makes the server end. The server runs as USER (`uid:gid`), or as this program's
own user where that is "", and is handed the open files FDS, separated by commas. What the
command writes goes where this program's own output goes. Exits with the status of the command.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType


def write_pid(pid_file: Path, pid: int) -> None:
    """Write pid to pid_file in one step, so that a reader never sees half of it."""
    partial = pid_file.with_suffix(".partial")
    partial.write_text(f"{pid}\n", encoding="ascii")
    partial.replace(pid_file)


def wake_on_signals() -> int:
    """Return a descriptor that is readable after SIGCHLD, SIGTERM or SIGINT."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        """Do nothing here: the signal's number arrives through the descriptor."""

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return reader


def wait_for_end(server: subprocess.Popen[bytes], pipe_fd: int, signals_fd: int) -> bool:
    """Wait until the server ends or is to be ended; return True where the owner is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe_fd, selectors.EVENT_READ)
        selector.register(signals_fd, selectors.EVENT_READ)
        while server.poll() is None:
            ready = {key.fd for key, _ in selector.select()}
            if pipe_fd in ready:
                return True
            # Whoever ends this process wants the server to end; a SIGCHLD shows in poll().
            if set(os.read(signals_fd, 64)) & {signal.SIGTERM, signal.SIGINT}:
                return False
    return False


def start(command: list[str], user: str, descriptors: list[int]) -> subprocess.Popen[bytes]:
    """Run command in this program's folder, as user where one is given."""
    uid, gid = (int(part) for part in user.split(":")) if user else (None, None)
    return subprocess.Popen(  # noqa: S603 - our owner's own command
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        user=uid,
        group=gid,
        extra_groups=[] if user else None,
    )


def end(server: subprocess.Popen[bytes], stop_signal: int, grace_ms: int) -> int:
    """Ask the server to shut down, kill it after grace_ms, and return its exit status."""
    # One thread only: the server is not reaped between the look and the signal, so its pid
    # cannot have become another process's.
    if server.poll() is None:
        server.send_signal(stop_signal)
    try:
        return server.wait(timeout=grace_ms / 1_000)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def remove_socket_dir(socket_dir: Path) -> None:
    """Remove a private socket folder and what is in it."""
    with contextlib.suppress(OSError):
        for path in socket_dir.iterdir():
            path.unlink()
        socket_dir.rmdir()


def owner_is_gone(pipe_fd: int) -> bool:
    """Say whether the write end of the pipe is closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe_fd, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def main(arguments: list[str]) -> int:
    """Run the server until it or its owner ends."""
    pid_file, socket_dir = arguments[1:3]
    pipe_fd, grace_ms, stop_signal = (int(arguments[at]) for at in (0, 3, 4))
    user, command = arguments[5], arguments[7:]
    descriptors = [int(word) for word in arguments[6].split(",") if word]
    signals_fd = wake_on_signals()
    if owner_is_gone(pipe_fd):
        return 0
    started_s = time.monotonic()
    server = start(command, user, descriptors)
    write_pid(Path(pid_file), server.pid)
    owner_gone = wait_for_end(server, pipe_fd, signals_fd)
    status = end(server, stop_signal, grace_ms)
    lived_s = time.monotonic() - started_s
    name = Path(command[0]).name
    sys.stderr.write(f"{name} {server.pid} ended: {status} after {lived_s:.1f} s\n")
    # Where only the server died, its owner starts it again at the same address.
    if owner_gone and socket_dir:
        remove_socket_dir(Path(socket_dir))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
