"""A Redis Cluster of the tests' own: three primaries, each with a replica, on loopback.

It is put together by commands, as redis-cli does it, since not every redis-server comes with one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import redis.asyncio as asyncio_redis
from redis.crc import key_slot

from engine_redis import OwnRedis, answers, own_redis
from polling import eventually

SLOTS = 16_384
PRIMARIES = 3
TIMEOUT_S = 60.0

OPTIONS = (
    "--cluster-enabled", "yes",
    "--cluster-config-file", "nodes.conf",
    "--cluster-node-timeout", "1000",
    "--cluster-require-full-coverage", "no",
    "--cluster-replica-validity-factor", "0",
    "--repl-diskless-sync", "yes",
    "--repl-diskless-sync-delay", "0",
)  # fmt: skip


@dataclass
class RedisCluster:
    """A running cluster.

    Attributes:
        servers: All of them; the first ones were primaries at the beginning.
    """

    servers: list[OwnRedis]
    _clients: dict[int, redis.Redis] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """For a server of ours: any of the first primaries tells of the others."""
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.servers[:PRIMARIES])
        return f"redis+cluster://{places}"

    def ask(self, server: OwnRedis, *command: Any) -> Any:  # noqa: ANN401 - as Redis replied
        """Send a command to one server."""
        if server.port not in self._clients:
            self._clients[server.port] = server.client()
        return self._clients[server.port].execute_command(*command)

    def names(self) -> dict[str, OwnRedis]:
        """Return all servers by what the cluster calls them."""
        return {self.name(each): each for each in self.servers}

    def name(self, server: OwnRedis) -> str:
        """Return what the cluster calls a server."""
        found: bytes = self.ask(server, "CLUSTER", "MYID")
        return found.decode()

    def running(self) -> list[OwnRedis]:
        """Return the servers that have not been ended."""
        return [each for each in self.servers if each.process.poll() is None]

    def primaries(self) -> list[OwnRedis]:
        """Return the servers that say that they are primaries."""
        return [each for each in self.running() if self.ask(each, "ROLE")[0] == b"master"]

    def owner(self, key: str) -> OwnRedis:
        """Return the server that has a key's slot, as the first one that runs sees it."""
        slot = key_slot(key.encode())
        [port] = [
            primary[1]
            for low, high, primary, *_ in self.ask(self.running()[0], "CLUSTER", "SLOTS")
            if low <= slot <= high
        ]
        return next(each for each in self.servers if each.port == port)

    def replica_of(self, server: OwnRedis) -> OwnRedis:
        """Return the replica of a primary."""
        for each in self.running():
            role = self.ask(each, "ROLE")
            if role[0] == b"slave" and role[2] == server.port:
                return each
        raise AssertionError("it has no replica")

    def begin_move(self, key: str, target: OwnRedis) -> None:
        """Begin to move a key's slot to another primary."""
        source, slot = self.owner(key), key_slot(key.encode())
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.name(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.name(target))

    def move_keys(self, source: OwnRedis, target: OwnRedis, names: Sequence[str | bytes]) -> None:
        """Move some keys of a slot that is being moved."""
        self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)

    def end_move(self, key: str, target: OwnRedis) -> None:
        """Give a slot to the server that has its keys by now."""
        slot, name = key_slot(key.encode()), self.name(target)
        # The target first: were it the source, nobody would have the slot for a moment.
        for each in (target, *(other for other in self.primaries() if other is not target)):
            self.ask(each, "CLUSTER", "SETSLOT", slot, "NODE", name)

    def move(self, key: str, target: OwnRedis, *, page: int) -> Iterator[int]:
        """Move a key's slot to another primary, so many keys at a time.

        Yields:
            How many keys have moved by now; at the end the target has the slot.
        """
        source, slot, moved = self.owner(key), key_slot(key.encode()), 0
        self.begin_move(key, target)
        yield moved
        while names := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, page):
            self.move_keys(source, target, names)
            moved += len(names)
            yield moved
        self.end_move(key, target)

    def fail(self, server: OwnRedis) -> OwnRedis:
        """Kill a primary, wait until its replica has taken over, and return that."""
        replica = self.replica_of(server)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        eventually(lambda: self.ask(replica, "ROLE")[0] == b"master", TIMEOUT_S)
        eventually(lambda: all(map(self.is_ok, self.running())), TIMEOUT_S)
        return replica

    def is_ok(self, server: OwnRedis) -> bool:
        """Say whether a server finds all slots served."""
        found: bytes = self.ask(server, "CLUSTER", "INFO")
        return b"cluster_state:ok" in found

    def close(self) -> None:
        """Close what the tests asked with."""
        for client in self._clients.values():
            client.close()


@contextmanager
def redis_cluster(folder: Path, *options: str) -> Iterator[RedisCluster]:
    """Run a cluster of three primaries with a replica each.

    Args:
        folder: For logs and snapshots.
        options: Of every server, as in its configuration.
    """
    with ExitStack() as stack:
        servers = [
            stack.enter_context(own_redis(folder / f"n{number}", *OPTIONS, *options, wait=False))
            for number in range(2 * PRIMARIES)
        ]
        cluster = RedisCluster(servers)
        stack.callback(cluster.close)
        for server in servers:
            eventually(lambda server=server: answers(server))
        _join(cluster)
        yield cluster


def _join(cluster: RedisCluster) -> None:
    first, *others = cluster.servers
    bounds = [number * SLOTS // PRIMARIES for number in range(PRIMARIES + 1)]
    for number, server in enumerate(cluster.servers):
        cluster.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for server, low, high in zip(cluster.servers, bounds, bounds[1:], strict=False):
        cluster.ask(server, "CLUSTER", "ADDSLOTS", *range(low, high))
    for server in others:
        cluster.ask(server, "CLUSTER", "MEET", "127.0.0.1", first.port)
    names = set(cluster.names())
    for server in cluster.servers:
        eventually(lambda server=server: _known(cluster, server) == names, TIMEOUT_S)
    for primary, replica in zip(
        cluster.servers[:PRIMARIES], cluster.servers[PRIMARIES:], strict=True
    ):
        cluster.ask(replica, "CLUSTER", "REPLICATE", cluster.name(primary))
    for replica in cluster.servers[PRIMARIES:]:
        eventually(lambda replica=replica: _is_in_step(cluster, replica), TIMEOUT_S)
    eventually(lambda: all(map(cluster.is_ok, cluster.servers)), TIMEOUT_S)


def _known(cluster: RedisCluster, server: OwnRedis) -> set[str]:
    found: bytes = cluster.ask(server, "CLUSTER", "NODES")
    lines = found.decode().removeprefix("txt:").splitlines()
    return {line.split()[0] for line in lines if line and "handshake" not in line}


def _is_in_step(cluster: RedisCluster, replica: OwnRedis) -> bool:
    role = cluster.ask(replica, "ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


def client_of(url: str) -> Any:  # noqa: ANN401 - redis-py has no type for either
    """Return a client of the tests' own for a Redis or a cluster."""
    scheme, _, places = url.partition("://")
    if scheme != "redis+cluster":
        return asyncio_redis.Redis.from_url(url)
    host, _, port = places.split(",")[0].partition(":")
    return asyncio_redis.RedisCluster(host=host, port=int(port))
