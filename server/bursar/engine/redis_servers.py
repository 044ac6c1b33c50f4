"""Which Redis server gets which commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.exceptions import RedisError

from bursar.engine.redis_node import Command, Node

FAILURES = (RedisError, OSError)
"""What an exchange with a server raises where the server is the reason."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Commands of one slot that go in a row on one connection.

    Attributes:
        key: Any of their keys, which says where they go.
        commands: In order.
        is_whole: Whether they may touch keys that they do not name. Such a unit is never taken to
            a server that is only just receiving its slot: what has not arrived there yet would
            look as if there were none.
    """

    key: str | bytes
    commands: tuple[Command, ...]
    is_whole: bool = False


class Servers(Protocol):
    """The Redis servers behind one URL.

    Attributes:
        mode: What each of them says that it runs as.
    """

    mode: str

    async def exchange(
        self, units: Sequence[Unit], closing: Command | None = None
    ) -> list[list[Any]]:
        """Send units to where their keys are, and return what the commands of each were answered.

        Those of one server go as one pipeline. A server that fails fails its own units: each of
        their replies is the exception.

        Args:
            units: What to send.
            closing: Sent on each connection after its units; its reply is the last one of each
                unit.
        """
        ...

    async def primaries(self) -> list[Node]:
        """Return the servers that take writes, always in the same order.

        Raises:
            RedisError: It cannot be known at the moment.
            OSError: The same.
        """
        ...

    async def owner(self, key: str) -> Node:
        """Return the server that a key is on.

        Raises:
            RedisError: It cannot be known at the moment.
            OSError: The same.
        """
        ...

    def place(self, key: str) -> str:
        """Return a name of the server that a key is on, as far as is known."""
        ...

    def run(self, key: str) -> str:
        """Return the run of the server that a key is on, as far as is known: see `Node.run`."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


async def exchange_with(
    node: Node, units: Sequence[Unit], closing: Command | None
) -> list[list[Any]]:
    """Send units to one server; where it fails, each reply is the exception."""
    commands = [command for unit in units for command in unit.commands]
    if closing is not None:
        commands.append(closing)
    try:
        replies = await node.exchange(commands)
    except FAILURES as error:
        replies = [error] * len(commands)
    last = [] if closing is None else replies[-1:]
    answers, at = [], 0
    for unit in units:
        answers.append(replies[at : at + len(unit.commands)] + last)
        at += len(unit.commands)
    return answers


class OneServer:
    """A server at a fixed address."""

    mode = "standalone"

    def __init__(self, node: Node) -> None:
        self._node = node

    async def exchange(
        self, units: Sequence[Unit], closing: Command | None = None
    ) -> list[list[Any]]:
        """Send units to the server."""
        return await exchange_with(self._node, units, closing)

    async def primaries(self) -> list[Node]:
        """Return the server."""
        return [self._node]

    async def owner(self, key: str) -> Node:
        """Return the server."""
        return self._node

    def place(self, key: str) -> str:
        """Return the server's name."""
        return self._node.address

    def run(self, key: str) -> str:
        """Return the server's run."""
        return self._node.run

    async def close(self) -> None:
        """Close every connection."""
        await self._node.close()
