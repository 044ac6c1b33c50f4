"""A Redis that sentinels watch: they say which server is the master now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from bursar.engine.redis_node import Command, Node
from bursar.engine.redis_servers import FAILURES, Unit, exchange_with

LOOK_INTERVAL_S = 1.0
"""Longest time that a master is used after sentinels have chosen another one, which it may not
have heard of."""

Place = tuple[str, int]
"""Host and port."""


class Sentinels:
    """The master of one name."""

    mode = "standalone"

    def __init__(
        self, sentinels: Sequence[Node], name: str, make: Callable[[str, int], Node]
    ) -> None:
        """Asks nobody yet.

        Args:
            sentinels: Whom to ask, at least one.
            name: What they call the master.
            make: Makes the server at a host and a port.
        """
        self._sentinels = list(sentinels)
        self._name = name
        self._make = make
        self._place: Place | None = None
        self._node: Node | None = None
        self._looked_s = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def exchange(
        self, units: Sequence[Unit], closing: Command | None = None
    ) -> list[list[Any]]:
        """Send units to the master; where it is none any more, look for the new one."""
        try:
            node = await self._master()
        except FAILURES as error:
            return [[error] * (len(unit.commands) + (closing is not None)) for unit in units]
        answers = await exchange_with(node, units, closing)
        if any(_is_no_master(reply) for replies in answers for reply in replies):
            await self._leave(node)
        elif time.monotonic() - self._looked_s > LOOK_INTERVAL_S:
            self._look_meanwhile()
        return answers

    async def primaries(self) -> list[Node]:
        """Return the master."""
        return [await self._master()]

    async def owner(self, key: str) -> Node:
        """Return the master."""
        return await self._master()

    def place(self, key: str) -> str:
        """Return the name of the master."""
        return self._name

    def run(self, key: str) -> str:
        """Return the run of the master, as far as is known."""
        return "" if self._node is None else self._node.run

    async def close(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for node in (*self._sentinels, *([self._node] if self._node else [])):
            await node.close()

    async def _master(self) -> Node:
        if self._node is None:
            await self._look()
        assert self._node is not None
        return self._node

    async def _leave(self, node: Node) -> None:
        if self._node is node:
            self._node = self._place = None
            await node.close()

    def _look_meanwhile(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_quietly())

    async def _look_quietly(self) -> None:
        with suppress(*FAILURES):
            await self._look()

    async def _look(self) -> None:
        """Learn who is the master, from the first sentinel that says it.

        Raises:
            RedisError: None does, or whom they name says that it is no master.
        """
        self._looked_s = time.monotonic()
        last: Exception = RedisConnectionError("no sentinel answers")
        for sentinel in list(self._sentinels):
            try:
                place = await self._ask(sentinel)
                await self._adopt(place)
            except FAILURES as error:
                last = error
                continue
            # Whoever answered is asked first from here on.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return
        raise last

    async def _ask(self, sentinel: Node) -> Place:
        [reply] = await sentinel.exchange([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)])
        if isinstance(reply, ResponseError):
            raise reply
        if not reply:
            raise RedisConnectionError("the sentinel knows no master of this name")
        host, port = reply
        return host.decode(), int(port)

    async def _adopt(self, place: Place) -> None:
        if place == self._place:
            return
        node = self._make(*place)
        # A server that was master and comes back is one until it hears of the new one; a sentinel
        # may name one that is not promoted yet.
        [role] = await node.exchange([("ROLE",)])
        if isinstance(role, RedisError) or role[0] != b"master":
            await node.close()
            raise role if isinstance(role, RedisError) else RedisConnectionError("no master")
        before, self._place, self._node = self._node, place, node
        if before is not None:
            await before.close()


def _is_no_master(reply: Any) -> bool:  # noqa: ANN401 - as Redis replied
    if isinstance(reply, ResponseError):
        return isinstance(reply, ReadOnlyError) or "READONLY" in str(reply)
    return isinstance(reply, FAILURES)
