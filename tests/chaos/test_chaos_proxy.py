"""The proxy between the parties does what each fault needs.

Method: a server that answers each line with the same line, a client, and the proxy between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from chaos_proxy import TcpProxy

from polling import eventually_async

SHORT_S = 0.1


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[tuple[TcpProxy, list[bytes]]]:
    """Yield a proxy before a server on a Unix socket, and the lines that reached the server."""
    arrived: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                arrived.append(line)
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    path = folder / "s"
    server = await asyncio.start_unix_server(answer, str(path))
    async with TcpProxy(path) as proxy:
        yield proxy, arrived
    server.close()
    await server.wait_closed()


class Line:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, proxy: TcpProxy) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, text: bytes) -> bytes:
        self.writer.write(text)
        return await self.reader.readline()

    async def is_silent(self, text: bytes) -> bool:
        try:
            await asyncio.wait_for(self.ask(text), SHORT_S)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self.writer.transport.abort()


async def test_it_hands_on_and_cuts(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (proxy, _):
        line = await Line.open(proxy)
        assert await line.ask(b"a\n") == b"a\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await line.reader.readline()
        line.close()
        again = await Line.open(proxy)
        assert await again.ask(b"b\n") == b"b\n"
        again.close()


async def test_it_refuses_until_it_is_healed_on_the_same_port(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (proxy, _):
        port = proxy.port
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await Line.open(proxy)
        await proxy.heal()
        assert proxy.port == port
        line = await Line.open(proxy)
        assert await line.ask(b"a\n") == b"a\n"
        line.close()


@pytest.mark.parametrize("requests", [True, False])
async def test_it_stalls_and_what_was_on_its_way_arrives_late(
    tmp_path: Path, requests: bool
) -> None:
    """Goal: also half-open. Method: whether the request reached the server while it was stalled."""
    async with proxied(tmp_path) as (proxy, arrived):
        line = await Line.open(proxy)
        assert await line.ask(b"a\n") == b"a\n"
        proxy.stall(requests=requests)
        assert await line.is_silent(b"b\n")
        assert (b"b\n" in arrived) is not requests
        await proxy.heal()
        assert await line.reader.readline() == b"b\n"
        line.close()


async def test_it_is_slow(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (proxy, _):
        line = await Line.open(proxy)
        proxy.delay_ms = 30
        started_s = time.monotonic()
        assert await line.ask(b"a\n") == b"a\n"
        assert time.monotonic() - started_s >= 0.06
        line.close()


async def test_it_loses_replies_to_what_was_carried_out(tmp_path: Path) -> None:
    async with proxied(tmp_path) as (proxy, arrived):
        line = await Line.open(proxy)
        proxy.lose_replies(1)
        with pytest.raises(ConnectionResetError):
            await line.ask(b"a\n")
        line.close()
        assert arrived == [b"a\n"]
        assert proxy.replies_lost == 1
        again = await Line.open(proxy)
        assert await again.ask(b"b\n") == b"b\n"
        again.close()


async def test_a_server_that_is_away_resets_the_client(tmp_path: Path) -> None:
    async with TcpProxy(tmp_path / "nobody") as proxy:
        line = await Line.open(proxy)

        async def is_over() -> bool:
            try:
                return await asyncio.wait_for(line.reader.read(1), SHORT_S) == b""
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True

        await eventually_async(is_over)
        line.close()
