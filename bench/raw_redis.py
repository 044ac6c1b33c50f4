"""What Redis itself costs: scripts that return at once, with a server's own keys and arguments."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle, islice
from urllib.parse import urlsplit

from bench.cpu import cpu_s
from bench.load import Result, percentiles

_NO_OP = "return 1"
_LINE_BYTES_MAX = 16 * 1024 * 1024
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "\\": "\\", '"': '"'}
_OF_A_HOLD = b":h:"


def command(*parts: bytes) -> bytes:
    """Return a command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def connect(url: str) -> socket.socket:
    """Connect to a Redis on a Unix socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(urlsplit(url).path)
    return connection


@asynccontextmanager
async def captured(url: str) -> AsyncIterator[list[list[bytes]]]:
    """Collect keys and arguments of the scripts that are run on holds meanwhile.

    Yields:
        A list that has them when the block has ended: of each call what follows the script's name.
    """
    found: list[list[bytes]] = []
    lines: list[bytes] = []
    with connect(url) as connection:
        connection.sendall(command(b"MONITOR"))
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_LINE_BYTES_MAX)

        async def read() -> None:
            while line := await reader.readline():
                lines.append(line)

        reading = asyncio.create_task(read())
        try:
            yield found
        finally:
            # The last ones are still on their way.
            await asyncio.sleep(0.05)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            # While it is connected, every command costs Redis more.
            writer.close()
            await writer.wait_closed()
    for line in lines:
        words = monitored_words(line)
        if words[:1] == [b"EVALSHA"] and any(_OF_A_HOLD in word for word in words[2:-1]):
            found.append(words[2:])


def monitored_words(line: bytes) -> list[bytes]:
    """Return a command from a line of MONITOR, whose words are quoted and escaped."""
    text = line.decode("latin-1").partition("] ")[2]
    words, word, at, inside = [], bytearray(), 0, False
    while at < len(text):
        character = text[at]
        if character == '"':
            if inside:
                words.append(bytes(word))
                word.clear()
            inside = not inside
        elif character == "\\" and text[at + 1] == "x":
            word.append(int(text[at + 2 : at + 4], 16))
            at += 3
        elif character == "\\":
            word += _ESCAPES[text[at + 1]].encode("latin-1")
            at += 1
        elif inside:
            word += character.encode("latin-1")
        at += 1
    return words


class NoOp:
    """Runs a script that does nothing, as often as it can."""

    def __init__(self, url: str, captured_calls: Sequence[Sequence[bytes]]) -> None:
        """Connect, and load the script.

        Args:
            url: Of the Redis.
            captured_calls: Keys and arguments, at least one call's.
        """
        self._connection = connect(url)
        self._connection.sendall(command(b"SCRIPT", b"LOAD", _NO_OP.encode()))
        sha = self._connection.recv(256).split(b"\r\n")[1]
        self._commands = [command(b"EVALSHA", sha, *each) for each in captured_calls]

    def run(self, seconds: float, pipelined: int, watched: Mapping[str, Sequence[int]]) -> Result:
        """Run it for a time.

        Args:
            seconds: How long.
            pipelined: Calls that are sent together.
            watched: Processes whose time is counted, by name.
        """
        in_turn = cycle(self._commands)
        groups = [
            b"".join(islice(in_turn, pipelined))
            for _ in range(max(len(self._commands) // pipelined, 1))
        ]
        answer_bytes = len(b":1\r\n") * pipelined
        latencies_ms: list[float] = []
        before, begin_s = cpu_s(watched), time.perf_counter()
        while (now_s := time.perf_counter()) < begin_s + seconds:
            self._connection.sendall(groups[len(latencies_ms) % len(groups)])
            waiting = answer_bytes
            while waiting:
                waiting -= len(self._connection.recv(65_536))
            latencies_ms.append((time.perf_counter() - now_s) * 1_000)
        took_s, after = time.perf_counter() - begin_s, cpu_s(watched)
        return Result(
            took_s,
            len(latencies_ms) * pipelined,
            latency_ms=percentiles(latencies_ms),
            cpu_s={name: after[name] - before[name] for name in watched},
        )

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
