"""Wait for something to become true, with a deadline, instead of sleeping for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01


def eventually(predicate: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Return as soon as predicate() is true; fail where it is not within timeout_s."""
    deadline_s = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not true within {timeout_s} s: {predicate}")
        time.sleep(POLL_S)


async def eventually_async(
    predicate: Callable[[], Awaitable[object]], timeout_s: float = 10.0
) -> None:
    """Return as soon as await predicate() is true; fail where it is not within timeout_s."""
    deadline_s = time.monotonic() + timeout_s
    while not await predicate():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not true within {timeout_s} s: {predicate}")
        await asyncio.sleep(POLL_S)
