"""Real server processes on one Redis, and how to ask them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc.aio

from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from databases import own_database

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15

PROGRAM = """\
import time
true_ns = time.time_ns
time.time_ns = lambda: true_ns() + {skew_ms} * 1_000_000
from bursar.engine.journal import Journal
async def keep(*_): return True
Journal.trim = keep
from bursar.cli.main import run
run()
"""
"""A server whose machine's clock may be wrong, and that drops nothing of the journal when it is
recorded: the books of a test are read from the whole of it."""


class ServerProcess:
    """One `bursar serve`.

    Attributes:
        address: Where it serves.
        log_file: What it says.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        policies: Mapping[str, str],
        environment: Mapping[str, str],
        skew_ms: int = 0,
    ) -> None:
        """Start it and wait until it serves.

        Args:
            folder: For its policies and its log.
            name: Of its log.
            policies: Documents by org.
            environment: Its settings.
            skew_ms: How far its machine's clock is ahead.
        """
        self.log_file = folder / f"{name}.log"
        program = PROGRAM.format(skew_ms=skew_ms)
        command = [sys.executable, "-c", program, "serve", "--listen", "127.0.0.1:0"]
        for org, text in policies.items():
            file = folder / f"{org}.yaml"
            file.write_text(text, encoding="utf-8")
            command += ["--policy", str(file)]
        inherited = {name: value for name, value in os.environ.items() if "BURSAR_" not in name}
        with self.log_file.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**inherited, **environment},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "serves on" not in line:
            self.stop()
            raise AssertionError(f"no server: {self.log_file.read_text(encoding='utf-8')}")
        self.address = line.split()[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running_servers(
    folder: Path,
    redis_url: str,
    key_namespace: str,
    policies: Mapping[str, str],
    *skews_ms: int,
    settings: Mapping[str, str] | None = None,
) -> Iterator[list[ServerProcess]]:
    """Run one server for each skew, on one Redis and database, started at the same time."""
    with own_database() as database_url:
        shared = {"BURSAR_DATABASE_URL": database_url, **(settings or {})}
        with _started(folder, redis_url, key_namespace, policies, skews_ms, shared) as servers:
            yield servers


@contextmanager
def _started(
    folder: Path,
    redis_url: str,
    key_namespace: str,
    policies: Mapping[str, str],
    skews_ms: Sequence[int],
    settings: Mapping[str, str],
) -> Iterator[list[ServerProcess]]:
    environment = {
        "BURSAR_REDIS_URL": redis_url,
        "BURSAR_KEY_NAMESPACE": key_namespace,
        "BURSAR_SHARD_COUNT": "4",
        "BURSAR_REDIS_TIMEOUT_MS": "10000",
        "BURSAR_DRAIN_GRACE_MS": "1000",
        **settings,
    }
    with ThreadPoolExecutor(len(skews_ms)) as pool:
        starting = [
            pool.submit(ServerProcess, folder, f"server{number}", policies, environment, skew_ms)
            for number, skew_ms in enumerate(skews_ms)
        ]
        failures = [each.exception(START_TIMEOUT_S) for each in starting]
        servers = [each.result() for each in starting if each.exception() is None]
        try:
            for failure in failures:
                if failure is not None:
                    raise failure
            yield servers
        finally:
            list(pool.map(ServerProcess.stop, servers))


@asynccontextmanager
async def connected(
    servers: list[ServerProcess],
) -> AsyncIterator[list[pb_grpc.BudgetAuthorityServiceStub]]:
    """Connect to every server."""
    async with AsyncExitStack() as stack:
        yield [
            pb_grpc.BudgetAuthorityServiceStub(
                await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            )
            for server in servers
        ]
