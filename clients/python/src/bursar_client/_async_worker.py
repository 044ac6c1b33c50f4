"""The background of the client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from bursar_client._settling import Settler
from bursar_client._steps import Effect, Result, Steps, abandon, run_async


class AsyncWorker:
    """Tasks that outlive their callers: settlements under way, and one for the backlog."""

    def __init__(self, settler: Settler, perform: Callable[[Effect], Awaitable[object]]) -> None:
        self._settler = settler
        self._perform = perform
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[object]] = set()

    async def run(self, steps: Steps[Result]) -> Result:
        """Carry out steps that end with their caller."""
        return await run_async(steps, self._perform)

    async def run_shielded(self, steps: Steps[Result], order: asyncio.Lock) -> Result:
        """Carry out steps to their end even where the caller is cancelled.

        Args:
            steps: Not yet started.
            order: What they wait for: steps of one reservation go one after another.
        """
        self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(self._run_in_order(steps, order))
        self._settling.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    def wake(self) -> None:
        """Look at the backlog anew, and start where nobody does; from any thread."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if self._loop is None or loop is self._loop:
            self._loop = loop
            self._wake()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def flush(self, timeout_s: float) -> None:
        """Wait until nothing is under way, at most timeout_s."""
        self._loop = asyncio.get_running_loop()
        self._settler.closing = True
        self._settler.hurry()
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._settling or not self._settler.idle:
                    await asyncio.sleep(0)
                    await self._wait()

    async def stop(self) -> None:
        """End every task, after the settler was ended."""
        tasks = [*self._settling, *([self._drain] if self._drain is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
