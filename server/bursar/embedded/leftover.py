"""Find and end a redis-server that an earlier owner of a data folder left behind."""

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
    """Return the process id in pid_file, or None where there is none."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None


def runs_config(pid: int, config_file: Path) -> bool:
    """Say whether process pid is a server started with config_file.

    The configuration lies in the data folder and the server keeps its command line
    (`set-proc-title no`), so no unrelated process that got the same pid can match.
    """
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        # A zombie's command line is empty: it has ended.
        return os.fsencode(config_file) in command.split(b"\0")
    listed = subprocess.run(  # noqa: S603 - fixed command, numeric argument
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return os.fsencode(config_file) in listed.stdout


def _pidfd(pid: int) -> int | None:
    """Return a descriptor of process pid, or None where the system has no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _signal(pid: int, config_file: Path, number: signal.Signals) -> bool:
    """Send a signal to pid where it is the server of config_file; say whether it was."""
    # The descriptor is opened before the look, so the signal reaches what was looked at.
    descriptor = _pidfd(pid)
    try:
        if not runs_config(pid, config_file):
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


def end_leftover(pid_file: Path, config_file: Path, grace_ms: int) -> bool:
    """End the server of config_file that pid_file names, if it still runs.

    Args:
        pid_file: Where its process id was written.
        config_file: The configuration that it was started with; any other process is spared.
        grace_ms: How long it may take to shut down, in ms, before it is killed.

    Returns:
        Whether the data is free: False where the server is there even after the kill.
    """
    pid = read_pid(pid_file)
    if pid is None:
        return True
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signal(pid, config_file, number):
            return True
        deadline_s = time.monotonic() + grace_ms / 1_000
        while time.monotonic() < deadline_s:
            if not runs_config(pid, config_file):
                return True
            time.sleep(POLL_S)
    return not runs_config(pid, config_file)
