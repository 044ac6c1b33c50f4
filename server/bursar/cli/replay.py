"""`bursar replay`: a trace against a running server."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.callers import Pace
from bursar.cli.connection import AsJson, raise_exit
from bursar.cli.printing import console as make_console
from bursar.cli.printing import plural, print_error, print_json
from bursar.cli.recount import (
    PolicyUnusable,
    Recount,
    cost_nano_usd,
    counter_key,
    held_differences,
)
from bursar.cli.replayer import Replayer, open_holds, while_away
from bursar.cli.summary import (
    Check,
    answered_check,
    first_of,
    over_check,
    print_checks,
    print_summary,
    recount_check,
)
from bursar.cli.tally import Tally
from bursar.cli.workload import CALLS_MAX, Call, WorkloadError, calls, load_trace, load_workload
from bursar_client import AsyncClient, BursarError, CounterStatus, UnsettledError

CALL_S_PER_TOKEN = 0.0004
BACKLOG_S = 30.0
"""How long commits that could not be sent may still take after the last call."""


def replay(
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="CSV with the columns ContextTokens and GeneratedTokens."
        ),
    ],
    workload: Annotated[Path, typer.Option(help="YAML file that says who makes the calls.")],
    policy: Annotated[
        Path | None, typer.Option(help="The server's policy: recount what it should hold.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, max=CALLS_MAX, help="Calls to replay at the most.")
    ] = 2_000,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Callers at once.")] = 32,
    ttl_s: Annotated[
        int, typer.Option(min=1, max=86_400, help="How long a hold lasts, in seconds.")
    ] = 60,
    seed: Annotated[int, typer.Option(help="Same seed, same callers.")] = 0,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Replay TRACE against a running server. Exit code 1 if a check fails.

    The checks suppose that nobody else uses the same org meanwhile.
    """
    console = make_console(stderr=as_json)
    try:
        todo = list(calls(load_workload(workload), load_trace(trace, requests), seed))
        recount = Recount(policy) if policy is not None else None
    except (WorkloadError, PolicyUnusable) as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    pace = Pace(
        concurrency, ttl_s, CALL_S_PER_TOKEN, run_id=f"replay-{os.getpid()}-{time.time_ns()}"
    )
    try:
        ended = asyncio.run(_replay(console, todo, pace, address, recount))
    except PolicyUnusable as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    except BursarError as error:
        raise_exit(error, address)
    if as_json:
        print_json(_report(ended))
        passed = all(check.passed for check in ended.checks)
    else:
        print_summary(console, ended.tally, ended.counters)
        passed = print_checks(console, ended.checks)
    if not passed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a replay ended."""

    tally: Tally
    counters: list[CounterStatus]
    checks: list[Check]


async def _replay(
    console: Console, todo: list[Call], pace: Pace, address: str, recount: Recount | None
) -> _Ended:
    org = todo[0].subject.org
    client = AsyncClient(address)
    replayer = Replayer(console, client, todo, pace)
    unsettled: list[str] = []
    try:
        before = {counter_key(each): each.committed for each in await replayer.counters()}
        held_before = len(await open_holds(client, org))
        async with replayer.shown():
            await replayer.run(lambda what, committed: None)
            await replayer.sent(time.monotonic() + BACKLOG_S)
        counters = await while_away(replayer.counters)
        holds = await while_away(lambda: open_holds(client, org))
    finally:
        try:
            await client.close()
        except UnsettledError as error:
            unsettled = [each.reservation_id for each in error.unsettled]
    tally = replayer.tally
    checks = [
        answered_check(tally),
        Check("every commit reached the server", first_of(unsettled)),
        over_check(tally, replayer.over),
        _holds_check(tally, held_before, len(holds)),
    ]
    if recount is not None:
        judged = [each for each in counters if recount.judges(each)]
        checks.append(recount_check(recount, tally.commits, before, counters))
        checks.append(
            Check(
                "what is held is what the open holds add up to",
                first_of(held_differences(judged, holds)),
            )
        )
    return _Ended(tally, counters, checks)


def _holds_check(tally: Tally, before: int, now: int) -> Check:
    name = "no hold is open"
    if tally.abandoned:
        # Their TTL ends them; to wait for it could take a day.
        name += f" but of {plural(tally.abandoned, 'call')} that never settled"
    return Check(name, f"{now:,} are" if now > before + tally.abandoned else "")


def _report(ended: _Ended) -> dict[str, object]:
    """Return what happened, for machines."""
    tally = ended.tally
    return {
        "calls": tally.total,
        "granted": tally.granted,
        "degraded": dict(tally.degraded),
        "denied": [
            {"budget": budget, "kind": kind, "calls": count}
            for (budget, kind), count in tally.denied.most_common()
        ],
        "directives": dict(tally.directives),
        "released": tally.released,
        "abandoned": tally.abandoned,
        "retried": tally.retried,
        "queued": tally.queued,
        "late": tally.late,
        "failed": dict(tally.failed),
        "committed": {
            "calls": len(tally.commits),
            "input_tokens": sum(each.input_tokens for each in tally.commits),
            "output_tokens": sum(each.output_tokens for each in tally.commits),
            "cost_nano_usd": sum(map(cost_nano_usd, tally.commits)),
        },
        "counters": ended.counters,
        "checks": [
            {"name": each.name, "passed": each.passed, "why": each.why} for each in ended.checks
        ],
    }


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)
