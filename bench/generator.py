"""The load generator: a process of its own that makes the loads it is told of, one after another.

    python -m bench.generator

Each line of its input is a load, each line of its output what came of it, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import count
from typing import Any

import uvloop

from bench import by_client, open_session, session, unary
from bench.load import Load, Result
from bench.processes import ROOT
from bench.tally import Tally
from bench.workload import Call, calls

_LINE_BYTES_MAX = 64 * 1024 * 1024

Driver = Callable[[Load, list[Call], unary.Ids, Tally], Awaitable[None]]

_DRIVERS: dict[str, Driver] = {
    "unary": unary.callers,
    "open": unary.at_their_times,
    "open_session": open_session.at_their_times,
    "session": session.slots,
    "batch": session.batches,
    "client": by_client.callers,
}
_made = cache(calls)


async def make(load: Load, watched: Mapping[str, Sequence[int]], number: int) -> Result:
    """Make one load."""
    feed = _made(load.orgs, load.users)
    ids = (f"{os.getpid()}-{number}-{each}" for each in count())
    tally = Tally()
    driving = asyncio.ensure_future(_DRIVERS[load.how](load, feed, ids, tally))
    measuring = asyncio.ensure_future(tally.measure(load, {**watched, "load": [os.getpid()]}))
    # Where the load breaks there is nothing to measure.
    done, _ = await asyncio.wait((driving, measuring), return_when=asyncio.FIRST_COMPLETED)
    if driving in done:
        measuring.cancel()
        driving.result()
    result = await measuring
    await driving
    return result


async def serve() -> None:
    """Make loads until there is no more input, all on one event loop: grpc knows no second one."""
    for number in count():
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        order = json.loads(line)
        load = Load(**{**order["load"], "orgs": tuple(order["load"]["orgs"])})
        answer: dict[str, Any] = {}
        try:
            # Messages are made before anything is sent.
            _made(load.orgs, load.users)
            if load.seconds:
                answer = (await make(load, order["watched"], number)).to_json()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class LoadFailed(RuntimeError):
    """The load could not be made; the message says why."""


class Generator:
    """The generator's process, from outside."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, so that the first load is not late."""
        await self._ask(Load("unary", "", 0), {})

    async def make(self, load: Load, watched: Mapping[str, Sequence[int]]) -> Result:
        """Make a load, and return what came of it.

        Args:
            load: Which.
            watched: Processes whose time is counted, by name.

        Raises:
            LoadFailed: It broke.
        """
        result = Result.from_json(await self._ask(load, watched))
        if not result.answered and not load.how.startswith("open"):
            raise LoadFailed(f"{load.how} load: nothing was answered; failures: {result.failed}")
        return result

    async def _ask(self, load: Load, watched: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.generator"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = json.dumps({"load": asdict(load), "watched": watched})
        self._process.stdin.write(order.encode() + b"\n")
        line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the generator ended"}
        if "error" in answer:
            raise LoadFailed(f"{load.how} load on {load.address}: {answer['error']}")
        return answer

    async def close(self) -> None:
        """End it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()


if __name__ == "__main__":
    uvloop.run(serve())
