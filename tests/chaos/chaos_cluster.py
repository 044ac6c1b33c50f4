"""Some `bursar serve` processes on one Redis and one PostgreSQL, with a proxy on every way.

    clients -> proxy -> server -> proxy -> Redis
                               -> proxy -> PostgreSQL

Each server has proxies of its own, so that each can be cut off by itself. A server that has died is
started again, as a supervisor would, except while a fault wants it dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos_proxy import TcpProxy
from chaos_redis_cluster import RedisClusterNode

from killable_stores import DATABASE, PostgresNode, RedisNode
from polling import eventually_async

BURSAR = (sys.executable, "-m", "bursar.cli.main")
SERVES_WITHIN_S = 60.0
ENDS_WITHIN_S = 30.0
SUPERVISE_EVERY_S = 0.1
SHARDS = 2
SWEEP_MS = 200

SETTINGS = {
    "BURSAR_SHARD_COUNT": str(SHARDS),
    "BURSAR_SWEEP_INTERVAL_MS": str(SWEEP_MS),
    "BURSAR_CLOCK_SYNC_INTERVAL_MS": "1000",
    "BURSAR_REDIS_TIMEOUT_MS": "500",
    "BURSAR_DRAIN_GRACE_MS": "2000",
    "BURSAR_LOG_FORMAT": "json",
}


class ServerNode:
    """One server.

    Attributes:
        number: From 0 on.
        from_clients, to_redis, to_postgres: The proxies around it.
        wanted: False while a fault wants it dead.
        starts: How often it was started.
        process: It, while it runs.
    """

    def __init__(self, number: int, folder: Path, redis: Any, postgres: PostgresNode) -> None:
        self.number = number
        self.folder = folder
        folder.mkdir(parents=True)
        self.from_clients = TcpProxy(folder / "grpc.sock")
        self.to_redis = TcpProxy(redis.socket)
        self.to_postgres = TcpProxy(postgres.socket)
        self.wanted = True
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._output = folder / "stdout.log"
        self.log_file = folder / "stderr.log"
        self._clock_file = folder / "clock_offset_ms"

    @property
    def proxies(self) -> tuple[TcpProxy, TcpProxy, TcpProxy]:
        """All three."""
        return self.from_clients, self.to_redis, self.to_postgres

    @property
    def role(self) -> str:
        """Who it is to PostgreSQL: so that a test can tell whose a connection is."""
        return f"s{self.number}"

    @property
    def runs(self) -> bool:
        """Whether its process has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self, policies: list[Path], settings: Mapping[str, str]) -> None:
        """Start it, and do not wait."""
        self.starts += 1
        self.step_clock(0)
        plain = {name: text for name, text in os.environ.items() if not name.startswith("BURSAR_")}
        self._output.write_text("", encoding="utf-8")
        arguments = [argument for file in policies for argument in ("--policy", str(file))]
        with self._output.open("ab") as output, self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*BURSAR, "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                env={
                    **plain,
                    **SETTINGS,
                    "BURSAR_LISTEN_ADDRESS": f"unix:{self.folder / 'grpc.sock'}",
                    "BURSAR_REDIS_URL": f"redis://127.0.0.1:{self.to_redis.port}",
                    "BURSAR_DATABASE_URL": f"postgresql://{self.role}@127.0.0.1:"
                    f"{self.to_postgres.port}/{DATABASE}?sslmode=disable",
                    "BURSAR_DATA_DIR": str(self.folder / "data"),
                    "BURSAR_TEST_CLOCK_OFFSET_FILE": str(self._clock_file),
                    **settings,
                },
            )

    def step_clock(self, offset_ms: int) -> None:
        """Let its clock be ahead by so much from now on."""
        # It reads the file at any moment.
        new = self._clock_file.with_suffix(".new")
        new.write_text(str(offset_ms), encoding="ascii")
        new.replace(self._clock_file)

    def serves(self) -> bool:
        """Say whether it has said that it serves, since it was started last."""
        return self.runs and "bursar serves on" in self._output.read_text(encoding="utf-8")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, where it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it with kill -9."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(ENDS_WITHIN_S)


class Cluster:
    """Servers and stores; enter it and everything runs, leave it and nothing is left.

    Attributes:
        folder: Where all of it is.
        restarts: How often a server was started again because it had died by itself.
    """

    def __init__(
        self,
        folder: Path,
        *,
        servers: int,
        settings: Mapping[str, str],
        policies: Mapping[str, str],
        on_redis_cluster: bool = False,
    ) -> None:
        """Starts nothing yet.

        Args:
            folder: An empty one, with a short path: Unix sockets are in it.
            servers: How many.
            settings: Variables of the environment that differ.
            policies: Documents by org.
            on_redis_cluster: With a Redis Cluster, which no proxy stands before.
        """
        self.folder = folder
        # PostgreSQL runs as a user of its own, and has to find its data here.
        folder.chmod(0o711)
        kind = RedisClusterNode if on_redis_cluster else RedisNode
        self.redis: Any = kind(folder / "redis")
        self.postgres = PostgresNode(folder / "postgres")
        self.servers = [
            ServerNode(number, folder / f"s{number}", self.redis, self.postgres)
            for number in range(servers)
        ]
        self.restarts = 0
        self._settings = dict(settings)
        self._policies = self._write(policies)
        self._stack = AsyncExitStack()
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(
                asyncio.to_thread(self.redis.start), asyncio.to_thread(self.postgres.start)
            )
            if isinstance(self.redis, RedisClusterNode):
                self._settings["BURSAR_REDIS_URL"] = self.redis.url
            for server in self.servers:
                for proxy in server.proxies:
                    await self._stack.enter_async_context(proxy)
            await asyncio.to_thread(self._prepare_database)
            # The first one brings the policies along; that all do so at once is a test of its own.
            for servers in (self.servers[:1], self.servers[1:]):
                for server in servers:
                    self.start(server)
                for server in servers:
                    await self.until_serves(server)
        except BaseException:
            await self._end()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    def start(self, server: ServerNode, **settings: str) -> None:
        """Start a server, with settings for this one start."""
        server.wanted = True
        server.start(self._policies, {**self._settings, **settings})

    async def until_serves(self, server: ServerNode, timeout_s: float = SERVES_WITHIN_S) -> None:
        """Wait until a server serves; one that has died instead is an error."""

        async def serves() -> bool:
            return server.serves() or (not server.runs and self._supervisor is None)

        await eventually_async(serves, timeout_s)
        if not server.serves():
            raise AssertionError(
                f"it ended: {server.log_file.read_text(encoding='utf-8')[-3_000:]}"
            )

    async def heal(self) -> None:
        """End every fault: all run, all proxies pass, and every server serves."""
        for server in self.servers:
            for proxy in server.proxies:
                await proxy.heal()
            server.signal(signal.SIGCONT)
            server.step_clock(0)
        for store in (self.redis, self.postgres):
            if store.runs:
                store.signal(signal.SIGCONT)
            else:
                await asyncio.to_thread(store.start)
        for server in self.servers:
            server.wanted = True
            await self.until_serves(server)

    @property
    def client_ports(self) -> list[int]:
        """Where clients find the servers."""
        return [server.from_clients.port for server in self.servers]

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(SUPERVISE_EVERY_S)
            for server in self.servers:
                if server.wanted and not server.runs:
                    self.restarts += 1
                    self.start(server)

    async def _end(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        for server in self.servers:
            server.kill()
        self.redis.kill()
        self.postgres.kill()
        await self._stack.aclose()

    def _prepare_database(self) -> None:
        roles = "".join(f"CREATE ROLE {each.role} SUPERUSER LOGIN;" for each in self.servers)
        self.postgres.execute(roles)
        done = subprocess.run(
            [*BURSAR, "migrate", "--database-url", self.postgres.url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _write(self, policies: Mapping[str, str]) -> list[Path]:
        files = []
        for org, text in policies.items():
            file = self.folder / f"{org}.yaml"
            file.write_text(text, encoding="utf-8")
            files.append(file)
        return files
