"""A Redis Cluster in the place of the one Redis of a run."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import redis

from redis_cluster import RedisCluster, redis_cluster


class RedisClusterNode:
    """Three primaries with a replica each, that servers reach without a proxy.

    Attributes:
        socket: Where nobody listens.
        running: The cluster, once it is started.
    """

    running: RedisCluster

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "none.sock"
        self._stack = ExitStack()

    @property
    def runs(self) -> bool:
        """Whether it is there: whichever of its servers has been ended."""
        return True

    @property
    def url(self) -> str:
        """What servers connect to."""
        return self.running.url

    def start(self) -> None:
        """Start it, empty, and wait until it serves."""
        self.running = self._stack.enter_context(redis_cluster(self._folder))

    def signal(self, number: signal.Signals) -> None:
        """Send its servers a signal."""
        for server in self.running.running():
            server.process.send_signal(number)

    def kill(self) -> None:
        """End it."""
        self._stack.close()

    def client(self) -> redis.RedisCluster:
        """Return a client of the test's own."""
        server = self.running.primaries()[0]
        return redis.RedisCluster(host="127.0.0.1", port=server.port)
