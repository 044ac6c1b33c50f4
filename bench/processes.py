"""The real processes that are measured: Redis, PostgreSQL, servers. None outlives the run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.embedded import watch
from bursar.embedded.leftover import read_pid
from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.ledger.schema import migrate

ROOT = Path(__file__).resolve().parent.parent

STOP_GRACE_MS = 25_000
_LOG_TAIL_LINES = 8

SETTINGS = {
    # Else each row would be measured on the memory that all rows before it have filled.
    "BURSAR_TOMBSTONE_MS": "60000",
    # Nothing is compared in the middle of a measurement.
    "BURSAR_VERIFY_INTERVAL_MS": "86400000",
    "BURSAR_LOG_LEVEL": "warning",
    "BURSAR_LOG_FORMAT": "json",
}


class NotStarted(RuntimeError):
    """A process did not start; the message has the end of its log."""


class Program:
    """A Python program of ours that says on stdout where it serves, under a watcher.

    Attributes:
        address: Where it serves.
        pid: Its process id.
    """

    def __init__(self, folder: Path, arguments: Sequence[str], settings: Mapping[str, str]) -> None:
        """Start it and wait until it serves.

        Args:
            folder: Of its own.
            arguments: What Python is started with.
            settings: More of the environment.

        Raises:
            NotStarted: It did not start.
        """
        folder.mkdir(parents=True)
        pid_file, log_file = folder / "pid", folder / "log"
        reader, self._pipe_writer = os.pipe()
        plain = {name: text for name, text in os.environ.items() if not name.startswith("BURSAR_")}
        with log_file.open("ab") as log:
            self._watcher = subprocess.Popen(  # noqa: S603 - a program of ours
                [
                    *(sys.executable, "-I", "-S", watch.__file__, str(reader), str(pid_file), ""),
                    *(str(STOP_GRACE_MS), str(int(signal.SIGTERM)), "", ""),
                    *(sys.executable, *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=(reader,),
                cwd=ROOT,
                env={**plain, **settings},
                start_new_session=True,
            )
        os.close(reader)
        assert self._watcher.stdout is not None
        line = self._watcher.stdout.readline()
        _, found, self.address = line.strip().partition(" serves on ")
        if not found:
            self.stop()
            tail = log_file.read_text(encoding="utf-8").splitlines()[-_LOG_TAIL_LINES:]
            name = " ".join(arguments[:3])
            raise NotStarted(f"python {name} did not start:\n" + "\n".join(tail))
        pid = read_pid(pid_file)
        assert pid is not None
        self.pid = pid

    def stop(self) -> None:
        """Let it end, and wait for that."""
        if self._pipe_writer >= 0:
            os.close(self._pipe_writer)
            self._pipe_writer = -1
        self._watcher.wait()
        assert self._watcher.stdout is not None
        self._watcher.stdout.close()


class World:
    """One Redis and one PostgreSQL, and servers on them; leave it and nothing is left.

    Attributes:
        redis: The Redis.
        postgres: The PostgreSQL.
    """

    def __init__(self, policies: Mapping[str, str]) -> None:
        """Start nothing yet.

        Args:
            policies: Documents by org.
        """
        self._policies = dict(policies)
        self._stack = ExitStack()
        self._started = 0
        self._folder = Path()
        self.redis: EmbeddedRedis
        self.postgres: EmbeddedPostgres

    async def __aenter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(prefix="bursar-bench-", ignore_cleanup_errors=True)
        try:
            self._folder = Path(self._stack.enter_context(folder))
            # PostgreSQL may run as a user of its own, and has to find its data here.
            self._folder.chmod(0o711)
            for org, text in self._policies.items():
                (self._folder / f"{org}.yaml").write_text(text, encoding="utf-8")
            self.redis = EmbeddedRedis(self._folder / "redis")
            self.postgres = EmbeddedPostgres(self._folder / "postgres")
            for store in (self.redis, self.postgres):
                await asyncio.to_thread(store.start)
                self._stack.callback(store.stop)
            await asyncio.to_thread(migrate, self.postgres.url)
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._stack.close)

    async def serve(self, *options: str, **settings: str) -> Program:
        """Start a `bursar serve`.

        Args:
            *options: More of the command line.
            **settings: Variables of the environment that differ.
        """
        policies = [
            argument
            for org in self._policies
            for argument in ("--policy", str(self._folder / f"{org}.yaml"))
        ]
        stores = {
            "BURSAR_REDIS_URL": self.redis.url,
            "BURSAR_DATABASE_URL": self.postgres.url,
            "BURSAR_DATA_DIR": str(self._folder / "data"),
        }
        listen = ("--listen", "127.0.0.1:0")
        return await self._start(
            ["-m", "bursar.cli.main", "serve", *listen, *policies, *options],
            {**SETTINGS, **stores, **settings},
        )

    async def echo(self, answer: bytes) -> Program:
        """Start the server that answers at once, always the same."""
        return await self._start(["-m", "bench.echo", answer.hex()], {})

    async def _start(self, arguments: Sequence[str], settings: Mapping[str, str]) -> Program:
        self._started += 1
        folder = self._folder / f"p{self._started}"
        program = await asyncio.to_thread(Program, folder, arguments, settings)
        self._stack.callback(program.stop)
        return program

    def watched(self, server: Program) -> dict[str, list[int]]:
        """Return the processes whose time is counted, by name."""
        stores = {"redis": self.redis.pid, "postgres": self.postgres.pid}
        return {"server": [server.pid], **{name: [pid] for name, pid in stores.items() if pid}}
