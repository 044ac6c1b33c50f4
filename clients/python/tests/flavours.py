"""Both clients behind one face, so that one suite tests both, and a time that tests move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

from bursar_client import AsyncClient, Client, Reservation, Settings

AnyClient: TypeAlias = Any
"""A client or reservation of either flavour: they share no type, only their names."""

MakeClient: TypeAlias = Callable[..., AnyClient]

POLL_S = 0.005
WAIT_S = 10.0

FAST = Settings(
    settle_timeout_s=0,
    settle_backoff_initial_s=0.001,
    settle_backoff_max_s=0.004,
    retry_attempts_max=1,
)
"""One attempt inline, short pauses in the background, no retries by gRPC."""

ASK: Any = {"org": "acme", "model": "gpt-5", "input_tokens": 1_200, "max_output_tokens": 500}


class FakeTime:
    """A time in which pauses take no time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.pauses_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class _AsyncBlock:
    def __init__(self, block: AnyClient) -> None:
        self._block = block

    async def __aenter__(self) -> AnyClient:
        return _adapted(await asyncio.to_thread(self._block.__enter__))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._block.__exit__, kind, error, trace)


class Threaded:
    """A sync client or reservation, called in threads."""

    _PLAIN = frozenset({"call_started", "saw_output", "settle_stats"})
    _PAGED = frozenset({"get_balances", "list_holds", "query_usage"})

    def __init__(self, inner: AnyClient) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> AnyClient:
        value = getattr(self.inner, name)
        if not callable(value) or name in self._PLAIN:
            return value
        if name == "reserve":
            return lambda **request: _AsyncBlock(value(**request))
        if name in self._PAGED:
            return lambda *args, **arguments: _listed(partial(value, *args), arguments)

        async def call(*args: AnyClient, **kwargs: AnyClient) -> AnyClient:
            return _adapted(await asyncio.to_thread(value, *args, **kwargs))

        return call

    async def __aenter__(self) -> AnyClient:
        return _adapted(await asyncio.to_thread(self.inner.__enter__))

    async def __aexit__(self, *raised: AnyClient) -> None:
        await asyncio.to_thread(self.inner.__exit__, *raised)


def _adapted(value: AnyClient) -> AnyClient:
    return Threaded(value) if isinstance(value, Reservation | Client) else value


async def _listed(read: Callable[..., Any], arguments: dict[str, Any]) -> AsyncIterator[Any]:
    for item in await asyncio.to_thread(lambda: list(read(**arguments))):
        yield item


def connect(
    flavour: str, address: str, fake: FakeTime | None = None, **options: AnyClient
) -> AnyClient:
    """Return a client of a flavour, with FAST settings unless given others."""
    # Ports are used again within a run: a connection of another test's server may not be.
    options["settings"] = replace(
        options.get("settings", FAST),
        channel_options=(("grpc.use_local_subchannel_pool", 1),),
    )
    if fake is not None:
        options["clock"] = fake.clock
        options["sleep"] = fake.sleep_async if flavour == "async" else fake.sleep
    if flavour == "async":
        return AsyncClient(address, **options)
    return Threaded(Client(address, **options))


async def until(predicate: Callable[[], object]) -> None:
    """Return as soon as predicate() is true."""
    deadline_s = time.monotonic() + WAIT_S
    while not predicate():
        assert time.monotonic() < deadline_s, "not true in time"
        await asyncio.sleep(POLL_S)
