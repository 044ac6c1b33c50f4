"""`bursar replay`: a trace against a running server."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.callers import Pace, over_limit, read_counters, run_calls, watch_counters
from bursar.cli.connection import DEFAULT_ADDRESS, Address, AsJson
from bursar.cli.live import LiveView
from bursar.cli.recount import Recount, counter_key
from bursar.cli.render import print_json
from bursar.cli.summary import print_summary
from bursar.cli.tally import Tally
from bursar.cli.workload import Call, WorkloadError, calls, load_trace, load_workload
from bursar_client import AsyncClient, BursarError, CounterStatus

WATCH_INTERVAL_S = 0.25


def replay(
    trace: Annotated[Path, typer.Argument(help="CSV with ContextTokens and GeneratedTokens.")],
    workload: Annotated[Path, typer.Option(help="Who makes the calls.")],
    policy: Annotated[
        Path | None, typer.Option(help="The server's policy: recount what it should hold.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Calls to replay.")] = 2_000,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Callers at once.")] = 32,
    ttl_s: Annotated[float, typer.Option(min=1, help="How long a hold lasts.")] = 60,
    seed: Annotated[int, typer.Option(help="Same seed, same callers.")] = 0,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Replay TRACE against a running server. Exit code 1 if a check fails.

    The checks suppose that nobody else uses the same org meanwhile.
    """
    console = Console(stderr=as_json)
    try:
        todo = list(calls(load_workload(workload), load_trace(trace, requests), seed))
    except WorkloadError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from None
    pace = Pace(concurrency, ttl_s, call_s=0.0004, run_id=f"replay-{os.getpid()}-{time.time_ns()}")
    try:
        passed = asyncio.run(_replay(console, todo, pace, address, policy, as_json))
    except BursarError as error:
        console.print(f"{error.reason}: {error.message}", style="red", markup=False)
        raise typer.Exit(1) from None
    if not passed:
        raise typer.Exit(1)


async def _replay(
    console: Console,
    todo: list[Call],
    pace: Pace,
    address: str,
    policy: Path | None,
    as_json: bool,
) -> bool:
    org = todo[0].subject.org
    subjects = list({str(call.subject): call.subject for call in todo}.values())
    tally = Tally(total=len(todo))
    over: list[CounterStatus] = []
    async with AsyncClient(address) as client:
        before = {
            counter_key(counter): counter.committed
            for counter in await read_counters(client, org, subjects)
        }
        with LiveView(console, tally) as view:

            def show(counters: list[CounterStatus]) -> None:
                over.extend(over_limit(counters))
                view.show(counters)

            watcher = asyncio.create_task(watch_counters(client, org, WATCH_INTERVAL_S, show))
            await run_calls(client, todo, pace, tally, lambda what, committed: None)
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
        counters = await read_counters(client, org, subjects)
        open_holds = len([hold async for hold in client.list_holds(org=org)])
    mismatches = (
        Recount(policy).mismatches(tally.commits, before, counters) if policy is not None else []
    )
    if as_json:
        print_json(
            {
                "tally": tally,
                "counters": counters,
                "mismatches": [str(each) for each in mismatches],
            }
        )
        return not mismatches and not tally.failed
    # Holds that callers left on purpose are still open: their TTL decides.
    expected_open = tally.abandoned
    return print_summary(
        console, tally, counters, mismatches, over, max(open_holds - expected_open, 0), 0
    )
