"""What a process does again and again, besides what it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bursar.domain.errors import BursarError

_log = structlog.get_logger(__name__)


class Background:
    """Tasks that run until the end of the process; where one fails, that is logged."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ending = False

    def run_always(
        self, name: str, interval_ms: int, action: Callable[[], Awaitable[None]]
    ) -> None:
        """Do something again and again.

        Args:
            name: For the log.
            interval_ms: Time before each, also before the first.
            action: What to do.
        """

        async def run() -> None:
            # Python 3.11 loses a cancellation that meets the end of what is waited for.
            while not self._is_ending:
                await asyncio.sleep(interval_ms / 1_000)
                try:
                    await action()
                except BursarError as error:
                    _log.warning("background_failed", task=name, reason=error.reason)
                except Exception as error:
                    _log.error("background_failed", task=name, exc_info=error)

        self._tasks.append(asyncio.create_task(run(), name=name))

    async def end(self) -> None:
        """End all of it, and wait until it has ended."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
