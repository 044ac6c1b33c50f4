"""Owners of private servers as processes of their own, to be killed, and looks at processes."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bursar

OWNER = """\
import sys
from importlib import import_module
from pathlib import Path

module, name = sys.argv[1].split(":")
server = getattr(import_module(module), name)(Path(sys.argv[2]))
server.start()
print(server.pid, server.url, flush=True)
sys.stdin.read()
server.stop()
"""

# For a Python that is not this environment's.
MODULES = os.pathsep.join([str(Path(bursar.__file__).parents[1]), sysconfig.get_path("purelib")])
REDIS = "bursar.embedded.redis_process:EmbeddedRedis"
POSTGRES = "bursar.embedded.postgres_process:EmbeddedPostgres"


def is_running(pid: int) -> bool:
    """Say whether pid is a process that has not ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def watcher_of(pid: int) -> int:
    """Return the parent of pid."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def user_of(pid: int) -> int:
    """Return the number of the user that pid runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


@contextmanager
def owner_process(
    server: str,
    data_dir: Path,
    *,
    python: str = sys.executable,
    user: tuple[int, int] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Run an owner in a process of its own.

    Args:
        server: REDIS or POSTGRES.
        data_dir: Of the server.
        python: What runs the owner and its watcher, with the modules of this process.
        user: The owner's user and group, where they are others than this process's.

    Yields:
        It, its server's process id and its server's URL.
    """
    with subprocess.Popen(
        [python, "-c", OWNER, server, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": MODULES},
        user=user[0] if user else None,
        group=user[1] if user else None,
        extra_groups=[] if user else None,
    ) as owner:
        assert owner.stdout is not None
        try:
            pid, url = owner.stdout.readline().split()
            yield owner, int(pid), url
        finally:
            owner.kill()
