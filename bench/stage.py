"""Where rows are measured: servers on one Redis and one PostgreSQL, a yardstick, a generator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from bench.channel import RawChannel
from bench.generator import Generator, LoadFailed
from bench.load import How, Load, Result
from bench.processes import Program, World
from bench.workload import (
    CALENDAR_MINUTE,
    DEPTH_MAX,
    calls,
    depth_policy,
    scarce_policy,
    workload_policy,
)

_FAILED_SHARE = 0.02
"""Where more fail, it is not the cost of answers that is measured."""

HOT, SCARCE, CLOCK = "acme", "scarce", "clock"
MANY = tuple(f"org-{number:02}" for number in range(64))


def depth_org(depth: int) -> str:
    """Return the org whose requests have so many counters."""
    return f"depth-{depth}"


def shared_policies() -> dict[str, str]:
    """Return the policies of all orgs of the rows that share a server."""
    return {
        **{org: workload_policy(org) for org in (HOT, *MANY)},
        CLOCK: workload_policy(CLOCK, CALENDAR_MINUTE),
        SCARCE: scarce_policy(SCARCE),
        **{depth_org(depth): depth_policy(depth_org(depth), depth)
           for depth in range(1, DEPTH_MAX + 1)},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        name: `short`, `usual` or `full`.
        time: Factor of how long each row is measured.
        counters: Live counters of the rows that need many.
        budgets: Budgets of the org that has many.
        overload_s: How long the overload lasts.
    """

    name: str
    time: float
    counters: int
    budgets: int
    overload_s: float

    @property
    def rounds(self) -> int:
        """How often what is compared takes turns."""
        return 1 if self.name == "short" else 3


SCALES = {
    "short": Scale("short", 0.4, 20_000, 1_000, 4.0),
    "usual": Scale("usual", 1.0, 200_000, 10_000, 15.0),
    "full": Scale("full", 3.0, 1_000_000, 10_000, 60.0),
}


class Stage:
    """A world in which rows are measured; it starts when it is entered.

    Attributes:
        world: Its stores.
        server: The server.
        scale: How much is measured.
        say: Told what is going on.
    """

    def __init__(
        self,
        scale: Scale,
        say: Callable[[str], None],
        policies: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            scale: How much is measured.
            say: Told what is going on.
            policies: Documents by org, where not those that most rows share.
        """
        self._policies = shared_policies() if policies is None else policies
        self.scale = scale
        self.say = say
        self._stack = AsyncExitStack()
        self._peaks: dict[str, Result] = {}
        self._echo: Program | None = None
        self.generator = Generator()
        self.world: World
        self.server: Program

    async def __aenter__(self) -> Self:
        self.say("starting Redis, PostgreSQL and a server")
        try:
            self.world = await self._stack.enter_async_context(World(self._policies))
            self._stack.push_async_callback(self.generator.close)
            self.server = await self.world.serve()
            await self.generator.start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def serve_anew(self, *options: str) -> Program:
        """Start the server again, with other options."""
        await asyncio.to_thread(self.server.stop)
        self.server = await self.world.serve(*options)
        return self.server

    async def load(self, how: How, seconds: float, **more: Any) -> Result:  # noqa: ANN401 - of Load
        """Make a load on the server.

        Args:
            how: As in `Load`.
            seconds: At the usual scale.
            **more: Other attributes of `Load`.
        """
        self.say(f"{how}, {', '.join(f'{name} {value}' for name, value in more.items())}"[:70])
        load = Load(how, self.server.address, seconds * self.scale.time, **more)
        result = await self.generator.make(load, self.world.watched(self.server))
        if sum(result.failed.values()) > _FAILED_SHARE * result.answered:
            raise LoadFailed(f"{how} load: too many failed: {result.failed}")
        return result

    async def echo(self, seconds: float, callers: int) -> Result:
        """Make unary calls of the server that answers at once."""
        if self._echo is None:
            self._echo = await self.world.echo(await self.answer())
        self.say(f"yardstick: echo, callers {callers}")
        load = Load("unary", self._echo.address, seconds * self.scale.time, callers=callers,
                    settles=False)  # fmt: skip
        return await self.generator.make(load, self.world.watched(self._echo))

    async def answer(self) -> bytes:
        """Return what the server answers to a Reserve of the workload."""
        channel = RawChannel(self.server.address)
        reserve = channel.unary("Reserve")
        answer = await reserve(calls([HOT])[0].reserve_as("typical"), timeout=10)
        await channel.close()
        assert isinstance(answer, bytes)
        return answer

    async def peak(self, how: How) -> Result:
        """Return the most that the server answers to 64 callers, measured once in a run."""
        if how not in self._peaks:
            self._peaks[how] = await self.load(how, 4)
        return self._peaks[how]

    async def has_session(self) -> bool:
        """Say whether the server knows sessions."""
        channel = RawChannel(self.server.address)
        stream = channel.session(timeout_s=5)
        try:
            await stream.done_writing()
            await stream.read()
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.UNIMPLEMENTED
        finally:
            await channel.close()
        return True

    async def batched(self) -> How:
        """Return the densest way to ask that the server knows."""
        return "session" if await self.has_session() else "batch"
