"""A TCP proxy before a real Redis that fails on command, and counts what passes.

    async with FaultProxy(redis_url) as proxy:
        ...  # a program that was told proxy.url
        proxy.counts["EVALSHA"]           # commands that went on to Redis, by name
        proxy.refuse()                    # connections are reset and refused
        proxy.cut()                       # connections are reset; new ones are welcome
        proxy.stall()                     # everything stays connected and nothing moves
        proxy.stall(commands=False)       # commands arrive, replies do not
        proxy.lose_replies("EVALSHA", 1)  # Redis carries out the next one, nobody hears of it
        await proxy.heal()                # serve again; what was stalled arrives now, late

A command that was stalled still arrives after its client has gone, as it would on a network.
Everything runs on the event loop that entered the proxy, and must be called there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CommandNames:
    """Finds the names of commands in what a client sends, however it is cut into parts."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._arguments = 0
        self._bulk_bytes = -1
        self._name = ""

    def feed(self, data: bytes) -> list[str]:
        """Take the next part, and return the names of the commands that it completes."""
        self._rest += data
        names: list[str] = []
        while (part := self._next_part()) is not None:
            if self._bulk_bytes >= 0:
                self._name = self._name or part.decode().upper()
                self._bulk_bytes = -1
                self._arguments -= 1
                if self._arguments == 0:
                    names.append(self._name)
            elif part[:1] == b"*":
                self._arguments, self._name = int(part[1:]), ""
            else:
                self._bulk_bytes = int(part[1:])
        return names

    def _next_part(self) -> bytes | None:
        """Take a line, or the bytes that the line before announced, off what is left."""
        end = self._bulk_bytes if self._bulk_bytes >= 0 else self._rest.find(b"\r\n")
        if end < 0 or len(self._rest) < end + 2:
            return None
        part = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return part


class Side(asyncio.Protocol):
    """One end of a link: hands on what it receives, and is written to by the other."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None
        self.waiting = bytearray()
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass.
        self.transport = cast("asyncio.Transport", transport)
        self.link.proxy.opened(self)
        self.link.move()

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        self.link.move()

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.proxy.closed(self)
        self.gone = True
        self.link.move()

    def reset(self) -> None:
        """End the connection at once, whatever is on its way."""
        self.gone = True
        self.waiting.clear()
        if self.transport is not None and not self.transport.is_closing():
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()


class Link:
    """A client's connection and the one to Redis behind it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.client, self.store = Side(self), Side(self)
        self.names = CommandNames()
        self.deaf = False
        self.cut_at_reply = False

    def move(self) -> None:
        """Hand on what may pass, and end what is over."""
        client, store = self.client, self.store
        if client.waiting and store.transport and not self.proxy.commands_stalled:
            for name in self.names.feed(client.waiting):
                self.proxy.passed(self, name)
            store.transport.write(bytes(client.waiting))
            client.waiting.clear()
        if store.waiting and client.transport and not self.proxy.replies_stalled:
            if self.cut_at_reply:
                self.reset()
            elif not self.deaf:
                client.transport.write(bytes(store.waiting))
            store.waiting.clear()
        for side, other in ((client, store), (store, client)):
            if side.gone and not side.waiting and other.transport is not None:
                other.transport.close()

    def reset(self) -> None:
        """End both connections at once."""
        self.client.reset()
        self.store.reset()


class FaultProxy:
    """Forwards to Redis until it is told to fail.

    Attributes:
        counts: Commands that went on to Redis, by name in capitals.
        links_made: Connections taken since the start.
        links_open_max: Most connections that clients had open at the same time.
        commands_stalled, replies_stalled: What does not move at the moment.
    """

    def __init__(self, redis_url: str) -> None:
        """Connects to Redis whenever a client connects.

        Args:
            redis_url: `unix://path` or `redis://host:port`, as redis-py reads it.
        """
        self._upstream = urlsplit(redis_url)
        if self._upstream.scheme not in ("redis", "unix"):
            raise ValueError(f"cannot forward to {self._upstream.scheme}://")
        self.counts: Counter[str] = Counter()
        self.links_made = self.links_open_max = 0
        self.commands_stalled = self.replies_stalled = False
        self._open: set[Side] = set()
        self._all_closed = asyncio.Event()
        self._port = 0
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._lose: Counter[str] = Counter()
        self._cut_at_reply = False

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
        await asyncio.gather(*self._connecting)
        for side in tuple(self._open):
            side.reset()
        if self._open:
            await self._all_closed.wait()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that clients connect to."""
        return "127.0.0.1", self._port

    @property
    def url(self) -> str:
        """What clients connect to, with the user, password and database of the URL behind it."""
        credentials, at, _ = self._upstream.netloc.rpartition("@")
        path = self._upstream.path if self._upstream.scheme == "redis" else ""
        return f"redis://{credentials}{at}127.0.0.1:{self._port}{path}"

    @property
    def links_open(self) -> int:
        """Connections that clients have open now."""
        self._links = {link for link in self._links if not (link.client.gone and link.store.gone)}
        return sum(not link.client.gone for link in self._links)

    async def heal(self) -> None:
        """Serve as Redis does; what was stalled arrives now."""
        self._lose.clear()
        self.commands_stalled = self.replies_stalled = False
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._take, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]
        for link in tuple(self._links):
            link.move()

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
        self._links.clear()

    def stall(self, *, commands: bool = True, replies: bool = True) -> None:
        """Let nothing pass in these directions; connections stay, and new ones are taken."""
        self.commands_stalled, self.replies_stalled = commands, replies

    def lose_replies(self, command: str, times: int, *, cut: bool = False) -> None:
        """Let Redis carry out the next such commands, and drop what it answers.

        Args:
            command: Name in capitals.
            times: How many; each makes its connection deaf for good.
            cut: Reset the connection when the answer comes, instead of staying silent.
        """
        self._lose[command] = times
        self._cut_at_reply = cut

    def opened(self, side: Side) -> None:
        """Note an end of a link that is open from now on."""
        self._open.add(side)
        self._all_closed.clear()

    def closed(self, side: Side) -> None:
        """Note an end of a link that is closed."""
        self._open.discard(side)
        if not self._open:
            self._all_closed.set()

    def passed(self, link: Link, name: str) -> None:
        """Note a command that goes on to Redis."""
        self.counts[name] += 1
        if self._lose[name] > 0:
            self._lose[name] -= 1
            link.deaf, link.cut_at_reply = True, self._cut_at_reply

    def _take(self) -> Side:
        link = Link(self)
        self._links.add(link)
        self.links_made += 1
        self.links_open_max = max(self.links_open_max, self.links_open)
        task = asyncio.get_running_loop().create_task(self._connect(link))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return link.client

    async def _connect(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._upstream.scheme == "unix":
                await loop.create_unix_connection(lambda: link.store, self._upstream.path)
            else:
                host, port = self._upstream.hostname or "127.0.0.1", self._upstream.port or 6379
                await loop.create_connection(lambda: link.store, host, port)
        except OSError:
            link.reset()
            return
        if link.client.gone:
            link.reset()
