"""One Redis server: a bounded number of connections, and pipelines on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Command = Sequence[Any]
"""A command's name and arguments: texts, bytes and whole numbers."""

_ASK_RUN: Command = ("INFO", "server")
_RUN_FIELD = b"run_id:"


class RunCommand(tuple[Any, ...]):
    """A command that ends with the run of Redis that it reaches; whoever sends it puts that in."""

    __slots__ = ()


class _Connection(NamedTuple):
    """A connection of redis-py, and the run of Redis at its other end, which it cannot outlive."""

    link: Any
    run: str


class Node:
    """One Redis server.

    A connection carries one pipeline at a time, and one whose replies were not all read is closed:
    so no caller ever reads the reply of another. redis-py's pipelines and pools would cost more
    than Redis itself takes, so only its connections are used.

    Attributes:
        address: For messages and logs, such as `127.0.0.1:6379`.
        run: The name that it gave itself at its last start, as far as is known; empty where it
            has none.
    """

    def __init__(
        self, address: str, connect: Callable[[], Any], *, connections_max: int, timeout_s: float
    ) -> None:
        """Connects when first asked.

        Args:
            address: For messages and logs.
            connect: Makes a connection of redis-py that is not open yet.
            connections_max: At the most, 1 or more; further pipelines wait.
            timeout_s: For one pipeline, with all that it waits for.
        """
        self.address = address
        self.run = ""
        self._make = connect
        self._timeout_s = timeout_s
        self._vacant = asyncio.Semaphore(connections_max)
        self._idle: list[_Connection] = []
        self._is_closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in a row on one connection, and return what each was answered.

        What Redis answers with an error is in its place, as that error.

        Raises:
            RedisError: The server does not answer; what was carried out is unknown.
            OSError: The same; TimeoutError where it takes too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._vacant:
                return await self._send(commands)
        except RuntimeError as error:
            # A transport of uvloop that was closed meanwhile says so where asyncio's is silent.
            if "handler is closed" not in str(error):
                raise
            raise RedisConnectionError("closed meanwhile") from error

    async def close(self) -> None:
        """Close every connection: those in use when their pipelines end."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().link.disconnect()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        connection = await self._take()
        link, run = connection
        try:
            packed = [
                pack_command((*command, run) if isinstance(command, RunCommand) else tuple(command))
                for command in commands
            ]
            await link.send_packed_command(b"".join(packed), check_health=False)
            replies = [await _reply(link) for _ in commands]
        except BaseException:
            await link.disconnect(nowait=True)
            raise
        if self._is_closed:
            await link.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return replies

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            # Where another server has taken over an address, the one before may live on.
            if _is_open(connection.link) and connection.run == self.run:
                return connection
            await connection.link.disconnect(nowait=True)
        link = self._make()
        try:
            await link.connect()
            self.run = await _run(link)
        except BaseException:
            await link.disconnect(nowait=True)
            raise
        return _Connection(link, self.run)


async def _run(link: Any) -> str:  # noqa: ANN401 - a connection of redis-py
    """Ask a server for the name that it gave itself when it was started."""
    await link.send_packed_command(pack_command(tuple(_ASK_RUN)), check_health=False)
    reply = await _reply(link)
    # One that does not say it, or not to this user, is taken to be the same at all times.
    lines = [] if isinstance(reply, ResponseError) else reply.splitlines()
    return next(
        (line[len(_RUN_FIELD) :].decode() for line in lines if line.startswith(_RUN_FIELD)), ""
    )


async def _reply(link: Any) -> Any:  # noqa: ANN401 - as Redis replied
    try:
        return await link.read_response()
    except ResponseError as error:
        return error


def _is_open(link: Any) -> bool:  # noqa: ANN401 - a connection of redis-py
    # Not every version of redis-py that we allow tells whether the server has hung up.
    reader = link._reader
    return reader is not None and not reader.at_eof() and reader.exception() is None
