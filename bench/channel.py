"""Connections to a server whose methods take and give bytes: all was serialized before."""

from __future__ import annotations

from typing import Any

import grpc.aio

from bench.workload import SERVICE


class RawChannel:
    """One connection of its own."""

    def __init__(self, address: str) -> None:
        # Channels with equal arguments would share a connection.
        options = (("grpc.use_local_subchannel_pool", 1),)
        # What has no serializers is bytes; the types of grpc do not know that.
        self._channel: Any = grpc.aio.insecure_channel(address, options)

    def unary(self, name: str) -> Any:  # noqa: ANN401 - grpc's own, of bytes
        """Return a method that answers once."""
        return self._channel.unary_unary(f"/{SERVICE}/{name}")

    def session(self, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - grpc's own, of bytes
        """Open a session."""
        return self._channel.stream_stream(f"/{SERVICE}/Session")(timeout=timeout_s)

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()


class Connections:
    """Several of them, in turn."""

    def __init__(self, address: str, number: int) -> None:
        self.channels = [RawChannel(address) for _ in range(number)]
        self._next = 0

    def unary(self, *names: str) -> list[Any]:
        """Return methods on the next connection in turn."""
        channel = self.channels[self._next % len(self.channels)]
        self._next += 1
        return [channel.unary(name) for name in names]

    async def close(self) -> None:
        """Close all."""
        for channel in self.channels:
            await channel.close()
