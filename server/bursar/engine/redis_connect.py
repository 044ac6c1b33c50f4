"""Makes the servers of a URL, with connections of redis-py that repeat nothing by themselves."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bursar.engine.redis_address import Kind, RedisAddress, parse_address
from bursar.engine.redis_cluster import Cluster
from bursar.engine.redis_node import Node
from bursar.engine.redis_sentinel import Sentinels
from bursar.engine.redis_servers import OneServer, Servers


@dataclass(frozen=True, slots=True)
class Connector:
    """Makes servers that are reached in one way: user, TLS and bounds.

    Attributes:
        username: Of an ACL user, or empty.
        password: Of the user, or empty.
        database: Number.
        context: For TLS; None: plain.
        connections_max: To each server.
        timeout_s: For a pipeline.
    """

    username: str
    password: str
    database: int
    context: ssl.SSLContext | None
    connections_max: int
    timeout_s: float

    def at(self, host: str, port: int) -> Node:
        """Return the server at a host and a port."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self.context is None:
            return self._node(address, lambda: Connection(host=host, port=port, **self._options()))
        return self._node(address, lambda: self._tls(host, port))

    def on_socket(self, path: str) -> Node:
        """Return the server at a socket on this machine."""
        return self._node(path, lambda: UnixDomainSocketConnection(path=path, **self._options()))

    def _tls(self, host: str, port: int) -> Any:  # noqa: ANN401 - a connection of redis-py
        connection = SSLConnection(host=host, port=port, **self._options())
        # Otherwise each connection reads all certificates again.
        connection.ssl_context.context = self.context
        return connection

    def _node(self, address: str, make: Callable[[], Any]) -> Node:
        return Node(address, make, connections_max=self.connections_max, timeout_s=self.timeout_s)

    def _options(self) -> dict[str, Any]:
        return {
            "username": self.username or None,
            "password": self.password or None,
            "db": self.database,
            # One bound lies around everything that is sent and read.
            "socket_timeout": None,
            "socket_connect_timeout": self.timeout_s,
            "retry": Retry(NoBackoff(), 0),
            # Replies in one form, whatever the version of redis-py.
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }


def connect(url: str, *, timeout_s: float, connections_max: int) -> Servers:
    """Return the servers of a URL; each connects when it is first asked.

    Raises:
        AddressInvalid: The URL, or a file that it names, cannot be used.
    """
    address = parse_address(url)
    connector = Connector(
        address.username,
        address.password,
        address.database,
        None if address.tls is None else address.tls.context(),
        connections_max,
        timeout_s,
    )
    match address.kind:
        case Kind.CLUSTER:
            return Cluster(connector.at, address.hosts)
        case Kind.SENTINEL:
            return Sentinels(_sentinels(address, connector), address.master, connector.at)
        case _ if address.path:
            return OneServer(connector.on_socket(address.path))
        case _:
            return OneServer(connector.at(*address.hosts[0]))


def _sentinels(address: RedisAddress, connector: Connector) -> list[Node]:
    asked = replace(
        connector,
        username=address.sentinel_username,
        password=address.sentinel_password,
        database=0,
        connections_max=1,
    )
    return [asked.at(*place) for place in address.hosts]
