"""The life of a process: it starts, serves until it is told to end, and drains."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from typing import Protocol

_GC_THRESHOLDS = (20_000, 20, 50)


class Runs(Protocol):
    """What can be started and stopped."""

    address: str

    async def start(self) -> None:
        """Start everything, until it serves on its address."""

    async def stop(self) -> None:
        """Drain, then end everything."""

    async def close(self) -> None:
        """End what a start that did not come to its end has begun."""


async def run_until_told(
    process: Runs, started: Callable[[str], None], told: asyncio.Event
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a signal ends a start that waits, too.

    Args:
        process: What serves.
        started: Called once with the address.
        told: Set by the signals; whoever sets it ends the process in the same way.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        if not await _start_unless(told, process):
            await process.close()
            return
    except BaseException:
        await process.close()
        raise
    _collect_less()
    started(process.address)
    await told.wait()
    await process.stop()


def _collect_less() -> None:
    """Look for garbage in circles less often, and not among what the start has made.

    Each request makes hundreds of objects that reference counts free at once; with the defaults
    they are looked through every few requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _start_unless(told: asyncio.Event, process: Runs) -> bool:
    """Start a process, and say whether it did before it was told to stop."""
    starting = asyncio.create_task(process.start())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True
