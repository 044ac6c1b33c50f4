"""Callers that replay a trace, what is shown of them meanwhile, and how the counters end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from rich.console import Console

from bursar.cli.callers import Pace, Record, over_limit, read_counters, run_calls
from bursar.cli.live import LiveView
from bursar.cli.printing import plural
from bursar.cli.recount import CounterKey, counter_key
from bursar.cli.tally import Tally
from bursar.cli.workload import Call
from bursar_client import AsyncClient, BursarError, CounterStatus, Hold, RetryableError, Subject

WATCH_INTERVAL_S = 0.25
READ_FOR_S = 30.0
"""How long reading goes on while the server is away."""

Answer = TypeVar("Answer")


class Replayer:
    """One replay.

    Attributes:
        tally: What the callers saw.
    """

    def __init__(
        self, console: Console, client: AsyncClient, todo: Sequence[Call], pace: Pace
    ) -> None:
        self._client = client
        self._todo = todo
        self._pace = pace
        self._org = todo[0].subject.org
        self._subjects = list({str(call.subject): call.subject for call in todo}.values())
        self._over: dict[CounterKey, CounterStatus] = {}
        self.tally = Tally(total=len(todo))
        self._view = LiveView(console, self.tally)
        self.note = self._view.note

    @property
    def over(self) -> list[CounterStatus]:
        """Counters that were seen past their limit."""
        return list(self._over.values())

    async def run(self, record: Record) -> None:
        """Make the calls; record is told of each commit."""
        await run_calls(self._client, self._todo, self._pace, self.tally, record)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show how the budgets stand as long as the block lasts."""
        with self._view:
            watcher = asyncio.create_task(self._watch())
            try:
                yield
            finally:
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher

    async def sent(self, deadline_s: float) -> None:
        """Wait until every commit has reached the server, until deadline_s at the most."""
        while time.monotonic() < deadline_s:
            if not self._client.settle_stats().backlog_count:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def ended(self, deadline_s: float) -> list[Hold]:
        """Wait until no hold is open, and return those that still are.

        Args:
            deadline_s: When to wait no longer, by the monotonic clock.
        """
        while True:
            held = await while_away(lambda: open_holds(self._client, self._org))
            if not held or time.monotonic() > deadline_s:
                return held
            self.note(
                f"waiting for {plural(len(held), 'hold')} of callers that died to end, at the TTL "
                f"of {self._pace.ttl_s:g} s"
            )
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def counters(self) -> list[CounterStatus]:
        """Read every counter that the calls could have touched."""
        counters = await read_counters(self._client, self._org, self._subjects)
        self._note_over(counters)
        return counters

    async def _watch(self) -> None:
        while True:
            fullest = {str(each): each for _, each in self.tally.fullest.values()}
            with suppress(BursarError):
                counters = await read_counters(self._client, self._org, fullest.values())
                self._note_over(counters)
                self._view.show(counters)
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _note_over(self, counters: Sequence[CounterStatus]) -> None:
        self._over.update({counter_key(counter): counter for counter in over_limit(counters)})


async def open_holds(client: AsyncClient, org: str) -> list[Hold]:
    """Return every open hold of an org."""
    return [hold async for hold in client.list_holds(org=org, page_size=500)]


async def while_away(read: Callable[[], Awaitable[Answer]]) -> Answer:
    """Read, and while the server is away again and again, for at most READ_FOR_S.

    Raises:
        BursarError: It stays away, or refuses.
    """
    deadline_s = time.monotonic() + READ_FOR_S
    while True:
        try:
            return await read()
        except RetryableError:
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(WATCH_INTERVAL_S)


def subjects_of(subjects: Sequence[Subject]) -> list[Subject]:
    """Return each subject once."""
    return list({str(subject): subject for subject in subjects}.values())
