"""Redis servers of a test's own, with options, to be filled, frozen and turned into replicas."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bursar.embedded.redis_process import find_redis_server
from polling import eventually

PORTS = range(20_000, 45_000)
"""A cluster's bus listens 10,000 above, which must be a port as well."""


@dataclass(frozen=True)
class OwnRedis:
    """A running server: how to reach it, and its process."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def client(self) -> redis.Redis:
        """Return a client that blocks, and repeats nothing by itself."""
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, retry=retry)


@contextmanager
def own_redis(
    folder: Path,
    *options: str,
    port: int = 0,
    wait: bool = True,
    sentinel: Path | None = None,
    executable: Path | None = None,
) -> Iterator[OwnRedis]:
    """Run a redis-server without persistence on a loopback port.

    Args:
        folder: For its log and snapshot.
        options: As in its configuration, such as `--maxmemory 3mb`.
        port: A free one by default.
        wait: Until it serves.
        sentinel: Its configuration, if it is to be a sentinel.
        executable: Another one than the embedded Redis runs.
    """
    executable = executable or find_redis_server()
    assert executable is not None
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(executable), *([str(sentinel), "--sentinel"] if sentinel else [])]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--logfile", str(folder / "redis.log")]
    command += [] if sentinel else ["--save", "", "--appendonly", "no"]
    process = subprocess.Popen([*command, *options])
    own = OwnRedis(f"redis://127.0.0.1:{port}", port, process)
    try:
        if wait:
            eventually(lambda: answers(own))
        yield own
    finally:
        process.kill()
        process.wait()


def answers(own: OwnRedis) -> bool:
    """Say whether a server answers by now."""
    assert own.process.poll() is None, "redis-server has ended; its log says why"
    with own.client() as client:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


def free_port() -> int:
    """Return a port that nothing listens on, and nothing 10,000 above it."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - chance, not secrets
        if all(is_free(each) for each in (port, port + 10_000)):
            return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
