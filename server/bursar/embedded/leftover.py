"""Find and end a server that an earlier owner of a data folder left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

POLL_S = 0.02


def read_pid(pid_file: Path) -> int | None:
    """Return the process id in the first line of pid_file, or None where there is none."""
    try:
        pid = int(pid_file.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None


def runs_with(pid: int, mark: str | Path) -> bool:
    """Say whether process pid is a server that was started with mark as an argument.

    The mark names the data folder or a file in it, and the server keeps its command line
    (`set-proc-title no` for redis), so no unrelated process that got the same pid can match.
    """
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        # A zombie's command line is empty: it has ended.
        return os.fsencode(mark) in command.split(b"\0")
    listed = subprocess.run(  # noqa: S603 - fixed command, numeric argument
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return os.fsencode(mark) in listed.stdout


def _pidfd(pid: int) -> int | None:
    """Return a descriptor of process pid, or None where the system has no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _signal(pid: int, mark: str | Path, number: signal.Signals) -> bool:
    """Send a signal to pid where it is the server with mark; say whether it was."""
    # The descriptor is opened before the look, so the signal reaches what was looked at.
    descriptor = _pidfd(pid)
    try:
        if not runs_with(pid, mark):
            return False
        with contextlib.suppress(ProcessLookupError):
            if descriptor is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        return True
    finally:
        if descriptor is not None:
            os.close(descriptor)


def end_leftover(
    pid_file: Path, mark: str | Path, grace_ms: int, stop_signal: signal.Signals = signal.SIGTERM
) -> bool:
    """End the server with mark that pid_file names, if it still runs.

    Args:
        pid_file: Where its process id was written.
        mark: An argument that it was started with; any other process is spared.
        grace_ms: How long it may take to shut down, in ms, before it is killed.
        stop_signal: What makes it shut down.

    Returns:
        Whether the data is free: False where the server is there even after the kill.
    """
    pid = read_pid(pid_file)
    if pid is None:
        return True
    for number in (stop_signal, signal.SIGKILL):
        if not _signal(pid, mark, number):
            return True
        deadline_s = time.monotonic() + grace_ms / 1_000
        while time.monotonic() < deadline_s:
            if not runs_with(pid, mark):
                return True
            time.sleep(POLL_S)
    return not runs_with(pid, mark)
