"""The background of the client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from bursar_client._errors import BursarError
from bursar_client._settling import Settler
from bursar_client._steps import Effect, Result, Steps, abandon, run_async


class AsyncWorker:
    """Tasks that outlive their callers: settlements under way, and one for the backlog."""

    def __init__(self, settler: Settler, perform: Callable[[Effect], Awaitable[object]]) -> None:
        self._settler = settler
        self._perform = perform
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        # True from when the event loop cancels what nobody else may cancel: it is about to end.
        self._ending = False

    async def run(self, steps: Steps[Result]) -> Result:
        """Carry out steps that end with their caller.

        Raises:
            RuntimeError: The client belongs to another event loop.
        """
        # Known from the first call on: a reservation may have to be settled from anywhere.
        self._enter_loop()
        return await run_async(steps, self._perform)

    async def run_or_undo(
        self, steps: Steps[Result], undo: Callable[[Result], Steps[object] | None]
    ) -> Result:
        """Carry out steps; where their caller is cancelled meanwhile, undo what they did.

        Args:
            steps: Not yet started.
            undo: Returns the steps that undo a result, or None where there is nothing to undo.

        Raises:
            RuntimeError: The client belongs to another event loop.
        """
        task = self._enter_loop().create_task(run_async(steps, self._perform))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                self._keep(task)
                task.add_done_callback(lambda ended: self._undo(ended, undo))
            raise

    async def run_shielded(self, steps: Steps[Result], order: asyncio.Lock) -> Result:
        """Carry out steps to their end even where the caller is cancelled.

        Args:
            steps: Not yet started.
            order: What they wait for: steps of one reservation go one after another.

        Raises:
            RuntimeError: The client belongs to another event loop, which settles it.
        """
        try:
            self._enter_loop()
        except RuntimeError as error:
            abandon(steps, error)
            raise
        self._ending = False
        return await asyncio.shield(self._start(steps, order))

    def wake(self) -> None:
        """Look at the backlog anew, and start where nobody does; from any thread."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not None and self._loop in (None, running):
            self._loop = running
            self._wake()
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def flush(self, timeout_s: float) -> None:
        """Wait until nothing is under way, at most timeout_s.

        Raises:
            RuntimeError: The client belongs to another event loop.
        """
        self._enter_loop()
        self._ending = False
        self._settler.close_soon()
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._settling or not self._settler.idle:
                    await self._wait()

    async def stop(self) -> None:
        """End every task, after the settler was ended."""
        self._ending = True
        tasks = list(self._settling)
        if self._drain is not None:
            tasks.append(self._drain)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start_anew(self) -> None:
        """Belong to no event loop, as in the beginning: those of before run elsewhere."""
        self._loop, self._drain, self._ending = None, None, False
        self._settling.clear()
        self._waiting.clear()

    def _enter_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that this client belongs to, which must be the running one."""
        running = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            # What ran on a loop that has ended will not go on.
            self.start_anew()
            self._loop = running
            self._wake()
        elif self._loop is not running:
            raise RuntimeError(
                "this AsyncClient belongs to another event loop; make one for each loop"
            )
        return running

    def _start(self, steps: Steps[Result], order: asyncio.Lock) -> asyncio.Task[Result]:
        assert self._loop is not None
        task = self._loop.create_task(self._run_in_order(steps, order))
        self._keep(task)
        task.add_done_callback(lambda ended: self._settled(ended, steps))
        return task

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Let the end of the client wait for a task."""
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _undo(
        self, task: asyncio.Task[Result], undo: Callable[[Result], Steps[object] | None]
    ) -> None:
        steps = None if task.cancelled() or task.exception() else undo(task.result())
        if steps is not None:
            self._start(steps, asyncio.Lock())
        self._wake()

    async def _run_in_order(self, steps: Steps[Result], order: asyncio.Lock) -> Result:
        async with order:
            return await run_async(steps, self._perform_to_the_end)

    async def _perform_to_the_end(self, effect: Effect) -> object:
        try:
            return await self._perform(effect)
        except asyncio.CancelledError:
            self._ending = True
            raise

    def _settled(self, task: asyncio.Task[Result], steps: Steps[Result]) -> None:
        if not task.cancelled():
            # Read, so that nobody complains where the caller was cancelled before.
            task.exception()
        elif inspect.getgeneratorstate(steps) == inspect.GEN_CREATED:
            self._ending = True
            with contextlib.suppress(BursarError):
                abandon(steps, asyncio.CancelledError())
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        idle = not len(self._settler.backlog) or self._settler.closed
        if self._drain is None and self._loop is not None and not idle and not self._ending:
            self._drain = self._loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            while not self._settler.closed:
                await run_async(self._settler.drain(), self._perform_to_the_end)
                wait_s = self._settler.wait_s()
                if wait_s is None:
                    return
                if wait_s > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._wait()
        finally:
            self._drain = None

    async def _wait(self) -> None:
        """Wait for the next call of wake."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
