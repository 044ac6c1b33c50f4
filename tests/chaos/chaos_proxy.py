"""A TCP proxy between any two parties, which fails on command and knows no protocol.

    async with TcpProxy(upstream) as proxy:
        proxy.cut()                     # connections are reset; new ones are welcome
        proxy.refuse()                  # connections are reset, new ones refused
        proxy.stall()                   # everything stays connected and nothing moves
        proxy.stall(requests=False)     # requests arrive, replies do not: half-open
        proxy.delay_ms = 50             # each direction, in order
        proxy.lose_replies(3)           # the next replies vanish, and their connections with them
        await proxy.heal()              # as before; what was stalled arrives now, late

Everything runs on the event loop that entered the proxy, and must be called there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

Upstream = Path | tuple[str, int]
"""A Unix socket, or host and port."""

CHUNK_BYTES = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards to one upstream until it is told to fail.

    Attributes:
        delay_ms: How long each part of the traffic is kept, in both directions.
        replies_lost: How many replies have been dropped.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[_Link] = set()
        self._requests_pass, self._replies_pass = asyncio.Event(), asyncio.Event()
        self.delay_ms = 0
        self.replies_lost = self._replies_to_lose = 0

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        tasks = [link.task for link in self._links]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; the same for as long as it lives."""
        return self._port

    async def heal(self) -> None:
        """Serve as the upstream does; what was stalled goes on now."""
        self.delay_ms = self._replies_to_lose = 0
        self._requests_pass.set()
        self._replies_pass.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are served."""
        for link in tuple(self._links):
            link.reset()

    def stall(self, *, requests: bool = True, replies: bool = True) -> None:
        """Let nothing pass in these directions; connections stay, and new ones are taken."""
        for stalled, passes in ((requests, self._requests_pass), (replies, self._replies_pass)):
            if stalled:
                passes.clear()
            else:
                passes.set()

    def lose_replies(self, count: int) -> None:
        """Drop the next replies, and reset the connections that they were to come on."""
        self._replies_to_lose = count

    def drops_reply(self) -> bool:
        """Say whether this reply is to be dropped."""
        if self._replies_to_lose <= 0:
            return False
        self._replies_to_lose -= 1
        self.replies_lost += 1
        return True

    async def may_pass(self, reply: bool) -> None:
        """Wait until traffic in a direction may pass."""
        await (self._replies_pass if reply else self._requests_pass).wait()
        if self.delay_ms:
            await asyncio.sleep(self.delay_ms / 1_000)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(self, task, reader, writer)
        self._links.add(link)
        try:
            await link.run(self._upstream)
        except asyncio.CancelledError:
            # The stream server logs a cancelled handler as an error; its end is wanted here.
            pass
        finally:
            self._links.discard(link)


class _Link:
    """A client's connection and the one behind it."""

    def __init__(
        self,
        proxy: TcpProxy,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.task = task
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]

    async def run(self, upstream: Upstream) -> None:
        """Hand on in both directions until one side is gone."""
        try:
            if isinstance(upstream, Path):
                reader, writer = await asyncio.open_unix_connection(str(upstream))
            else:
                reader, writer = await asyncio.open_connection(*upstream)
        except OSError:
            self.reset()
            return
        self._writers.append(writer)
        pumps = [
            asyncio.ensure_future(self._pump(self._reader, writer, reply=False)),
            asyncio.ensure_future(self._pump(reader, self._writers[0], reply=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in self._writers:
                each.close()

    def reset(self) -> None:
        """End both connections at once, whatever is on its way."""
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._proxy.may_pass(reply)
                if reply and self._proxy.drops_reply():
                    self.reset()
                    return
                writer.write(data)
                await writer.drain()
