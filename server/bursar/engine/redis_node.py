"""One Redis server: a bounded number of connections, and pipelines on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Command = Sequence[Any]
"""A command's name and arguments: texts, bytes and whole numbers."""


class Node:
    """One Redis server.

    A connection carries one pipeline at a time, and one whose replies were not all read is closed:
    so no caller ever reads the reply of another. redis-py's pipelines and pools would cost more
    than Redis itself takes, so only its connections are used.

    Attributes:
        address: For messages and logs, such as `127.0.0.1:6379`.
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
        self._make = connect
        self._timeout_s = timeout_s
        self._vacant = asyncio.Semaphore(connections_max)
        self._idle: list[Any] = []
        self._is_closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in a row on one connection, and return what each was answered.

        What Redis answers with an error is in its place, as that error.

        Raises:
            RedisError: The server does not answer; what was carried out is unknown.
            OSError: The same; TimeoutError where it takes too long.
        """
        data = b"".join(pack_command(tuple(command)) for command in commands)
        try:
            async with asyncio.timeout(self._timeout_s), self._vacant:
                return await self._send(data, len(commands))
        except RuntimeError as error:
            # A transport of uvloop that was closed meanwhile says so where asyncio's is silent.
            if "handler is closed" not in str(error):
                raise
            raise RedisConnectionError("closed meanwhile") from error

    async def close(self) -> None:
        """Close every connection: those in use when their pipelines end."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().disconnect()

    async def _send(self, data: bytes, count: int) -> list[Any]:
        connection = await self._take()
        try:
            await connection.send_packed_command(data, check_health=False)
            replies = [await _reply(connection) for _ in range(count)]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._is_closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return replies

    async def _take(self) -> Any:  # noqa: ANN401 - a connection of redis-py
        while self._idle:
            connection = self._idle.pop()
            if _is_open(connection):
                return connection
            await connection.disconnect(nowait=True)
        connection = self._make()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


async def _reply(connection: Any) -> Any:  # noqa: ANN401 - as Redis replied
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _is_open(connection: Any) -> bool:  # noqa: ANN401 - a connection of redis-py
    # Not every version of redis-py that we allow tells whether the server has hung up.
    reader = connection._reader
    return reader is not None and not reader.at_eof() and reader.exception() is None
