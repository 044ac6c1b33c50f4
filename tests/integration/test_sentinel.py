"""A Redis that sentinels watch: its master is found, and the next one when it fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from engine_calls import MODELS, ask, granted, used
from engine_world import open_world

from bursar.domain.answer import Decision
from bursar.domain.errors import ShardCold, StoreUnavailable
from bursar.engine.store import Store
from engine_redis import OwnRedis, free_port, own_redis
from polling import eventually, eventually_async
from shards import look_at_new_runs

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day}}
{MODELS}
"""
NAME = "main"
PASSWORD = "s3ntinel"  # noqa: S105


@dataclass(frozen=True)
class Watched:
    """A master, its replica, and the sentinels that watch them."""

    master: OwnRedis
    replica: OwnRedis
    sentinels: list[OwnRedis]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{places}/{NAME}/0"

    def role(self, server: OwnRedis) -> str:
        """Return what a server says that it is; empty while it closes its connections."""
        with server.client() as client:
            try:
                found: bytes = client.execute_command("ROLE")[0]
            except redis.exceptions.ConnectionError:
                return ""
            return found.decode()


@pytest.fixture
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_redis(tmp_path_factory.mktemp("watched")) as running:
        yield running


@contextmanager
def watched_redis(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        sync = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        master = stack.enter_context(own_redis(folder / "master", *sync))
        follows = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(own_redis(folder / "replica", *sync, *follows))
        with replica.client() as client:
            eventually(lambda: client.execute_command("ROLE")[3] == b"connected")
        sentinels = [
            stack.enter_context(_sentinel(folder / f"sentinel{number}", master.port))
            for number in range(3)
        ]
        for each in sentinels:
            with each.client() as client:
                eventually(lambda client=client: _sees(client, others=2), 30)
        yield Watched(master, replica, sentinels)


@contextmanager
def _sentinel(folder: Path, port: int) -> Iterator[OwnRedis]:
    folder.mkdir(parents=True)
    config = folder / "sentinel.conf"
    config.write_text(
        f"sentinel monitor {NAME} 127.0.0.1 {port} 2\n"
        f"sentinel down-after-milliseconds {NAME} 500\n"
        f"sentinel failover-timeout {NAME} 3000\n"
    )
    with own_redis(folder, sentinel=config) as running:
        yield running


def _sees(client: object, others: int) -> bool:
    flat = client.execute_command("SENTINEL", "MASTER", NAME)  # type: ignore[attr-defined]
    found = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    texts = {_text(name): _text(value) for name, value in found.items()}
    return texts["num-other-sentinels"] == str(others) and texts["num-slaves"] == "1"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def test_the_next_master_is_found(watched: Watched, key_namespace: str) -> None:
    """Goal: servers go on with the master that sentinels choose, without being restarted.

    Method: a master that is in step with its replica is killed; then a sentinel too.
    """
    async with open_world(watched.master.url, key_namespace, POLICY) as world:
        world.redis_ends = world.lossy = True
        server = await world.server(url=watched.url, timeout_ms=500)
        assert server.store.place("any") == NAME
        await granted(server.authority, ask("a", input_tokens=99))
        with watched.master.client() as client:
            assert client.execute_command("WAIT", 1, 5_000) == 1
        watched.master.process.send_signal(signal.SIGKILL)
        watched.sentinels[0].process.send_signal(signal.SIGKILL)

        async def served() -> bool:
            try:
                await look_at_new_runs(server.engine)
                answer = await server.authority.reserve(ask("b", input_tokens=99))
            except StoreUnavailable:
                return False
            return answer.decision is Decision.GRANTED

        await eventually_async(served, 30)
        assert watched.role(watched.replica) == "master"
        assert (await granted(server.authority, ask("a", input_tokens=99))).replayed
        assert await used(server.authority, "day") == (0, 200)


async def test_a_master_that_was_replaced_is_left(watched: Watched, key_namespace: str) -> None:
    """Goal: a master that became a replica is left for the new one.

    Method: sentinels are told to fail over while the old master lives on.
    """
    async with open_world(watched.master.url, key_namespace, POLICY) as world:
        world.redis_ends = world.lossy = True
        server = await world.server(url=watched.url, timeout_ms=1_000)
        await granted(server.authority, ask("a", input_tokens=99))
        with watched.master.client() as client:
            assert client.execute_command("WAIT", 1, 5_000) == 1
        with watched.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)
        eventually(lambda: watched.role(watched.master) == "slave", 30)

        async def served() -> bool:
            try:
                await look_at_new_runs(server.engine)
                answer = await server.authority.reserve(ask("b", input_tokens=99))
            except (StoreUnavailable, ShardCold):
                return False
            return answer.decision is Decision.GRANTED

        await eventually_async(served, 30)
        with watched.replica.client() as client:
            assert client.hget(world.keys.meta(0), "epoch") == b"first"
        assert await used(server.authority, "day") == (0, 200)


async def test_nobody_to_ask(tmp_path: Path) -> None:
    """Goal: an unknown name, a wrong password and no sentinel at all are StoreUnavailable at once.

    Method: one of each, and one that finds its master; nothing of the password is told.
    """
    with own_redis(tmp_path / "m") as master, _sentinel(tmp_path / "s", master.port) as sentinel:
        place = f"redis+sentinel://127.0.0.1:{sentinel.port}"
        nobody = f"redis+sentinel://127.0.0.1:{free_port()}"
        store = Store(f"{nobody},127.0.0.1:{sentinel.port}/{NAME}")
        assert await store.time_ms() > 0
        await store.close()
        for url in (
            f"{place}/unknown",
            f"{place}/{NAME}?sentinel_password={PASSWORD}",
            f"{nobody}/{NAME}",
        ):
            store = Store(url)
            with pytest.raises(StoreUnavailable) as caught:
                await store.time_ms()
            assert PASSWORD not in caught.value.message
            await store.close()
