"""`bursar demo`: a real trace against an embedded server; callers, Redis and ledger must agree."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.callers import Pace
from bursar.cli.commit_log import CommitLog
from bursar.cli.demo_folder import DemoFolder, FolderUnusable
from bursar.cli.demo_server import DemoServer, ServerNotStarted
from bursar.cli.ledger_recount import ledger_checks
from bursar.cli.leftovers import check_leftovers
from bursar.cli.printing import console as make_console
from bursar.cli.printing import plural, print_error, print_plain
from bursar.cli.recount import PolicyUnusable, Recount
from bursar.cli.render import counter_name
from bursar.cli.replayer import Replayer, while_away
from bursar.cli.summary import (
    Check,
    answered_check,
    first_of,
    over_check,
    print_checks,
    print_summary,
    recount_check,
)
from bursar.cli.workload import Call, WorkloadError, calls, load_trace, load_workload
from bursar_client import AsyncClient, BursarError, UnsettledError

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
HOLD_TTL_S = 8.0
SERVER_START_S = 40.0
CALLS, SHORT_CALLS = 2_000, 600
CALL_S_PER_TOKEN = 0.0004

_KEEP_ALIVE_INTERVAL_S = 0.1
_EXIT_INTERRUPTED = 130


def demo(
    requests: Annotated[
        int | None,
        typer.Option(min=1, max=CALLS, help="Calls of the trace to replay; all where not given."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Callers at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Same seed, same callers.")] = 0,
    short: Annotated[bool, typer.Option("--short", help=f"Only {SHORT_CALLS} calls.")] = False,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for its data; new, empty or left by a demo.")
    ] = Path(".bursar/demo"),
) -> None:
    """Replay a real trace against an embedded server, and recount every cent.

    It ends by itself within a minute and removes its data. At the end callers, Redis and ledger
    are compared, all three. Kill the server, its Redis or its PostgreSQL meanwhile: each is started
    again and the recount still agrees. Kill the demo itself: the next one first
    checks what it left behind. Exit code 1 if a check fails.
    """
    console = make_console()
    policy = EXAMPLES / "acme.yaml"
    try:
        workload = load_workload(EXAMPLES / "acme-workload.yaml")
        most = requests or (SHORT_CALLS if short else CALLS)
        todo = list(calls(workload, load_trace(EXAMPLES / "azure_llm_2023_conv.csv", most), seed))
    except WorkloadError as error:
        print_error(f"the demo needs the examples of a checkout: {error}")
        raise typer.Exit(2) from None
    try:
        with DemoFolder(data_dir) as folder:
            passed = True
            if folder.has_leftovers():
                passed = asyncio.run(
                    check_leftovers(console, folder, policy, workload.org, HOLD_TTL_S)
                )
                folder.clear()
            passed = asyncio.run(_run(console, folder, policy, todo, concurrency)) and passed
    except FolderUnusable as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    except (ServerNotStarted, PolicyUnusable) as error:
        print_error(str(error))
        raise typer.Exit(1) from None
    except BursarError as error:
        print_error(f"{error.reason}: {error.message}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print_error("interrupted; its server is ended and its data removed")
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    if not passed:
        raise typer.Exit(1)


async def _run(
    console: Console, folder: DemoFolder, policy: Path, todo: list[Call], concurrency: int
) -> bool:
    """Run the demo once.

    Returns:
        Whether every check passed.
    """
    org = todo[0].subject.org
    server = DemoServer(folder.path, policy)
    print_plain(console, "starting a server with its own Redis and PostgreSQL ...", style="dim")
    await asyncio.to_thread(server.start)
    for line in (
        f"serving on {server.address}, process {server.pid}, redis-server {server.redis_pid}, "
        f"postgres {server.postgres_pid}",
        "kill -9 any of them, if you like: it is started again, and the recount must agree",
        f"from another terminal: bursar balances org={org} --address {server.address}",
    ):
        print_plain(console, line, style="dim")
    log = CommitLog(folder.commits_file)
    pace = Pace(
        concurrency,
        HOLD_TTL_S,
        call_s=CALL_S_PER_TOKEN,
        run_id=f"demo-{os.getpid()}-{time.time_ns()}",
    )
    client = AsyncClient(server.address)
    replayer = Replayer(console, client, todo, pace)
    unsettled: list[str] = []
    try:
        async with replayer.shown():
            keeper = asyncio.create_task(_keep_alive(server, replayer.note))
            try:
                await replayer.run(log)
                deadline_s = time.monotonic() + HOLD_TTL_S + SERVER_START_S
                await replayer.sent(deadline_s)
                left = await replayer.ended(deadline_s)
                counters = await while_away(replayer.counters)
                recorded = await ledger_checks(
                    server.address, org, replayer.tally.commits, SERVER_START_S
                )
            finally:
                keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await keeper
        redis_restarts, postgres_restarts = server.redis_restarts, server.postgres_restarts
    finally:
        try:
            await client.close()
        except UnsettledError as error:
            unsettled = [each.reservation_id for each in error.unsettled]
        log.close()
        await asyncio.to_thread(server.stop)
    print_summary(console, replayer.tally, counters)
    restarts = {
        "the server": server.restarts,
        "its Redis": redis_restarts,
        "its PostgreSQL": postgres_restarts,
    }
    if any(restarts.values()):
        what = ", ".join(f"{name} {plural(n, 'time')}" for name, n in restarts.items() if n)
        print_plain(console, f"Started again: {what}.\n")
    held = [f"{counter_name(each)} holds {each.held}" for each in counters if each.held]
    return print_checks(
        console,
        [
            answered_check(replayer.tally),
            Check("every commit reached the server", first_of(unsettled)),
            over_check(replayer.tally, replayer.over),
            recount_check(Recount(policy), replayer.tally.commits, {}, counters),
            *recorded,
            Check("every hold has ended", first_of([each.reservation_id for each in left])),
            Check("nothing is held on any counter", first_of(held)),
        ],
    )


async def _keep_alive(server: DemoServer, note: Callable[[str], None]) -> None:
    """Start the server again where it dies, as a supervisor would."""
    while True:
        try:
            if await asyncio.to_thread(server.start_again_if_dead):
                note(
                    f"the server had died; started again as process {server.pid}, "
                    f"redis-server {server.redis_pid}"
                )
        except ServerNotStarted as error:
            note(str(error))
        await asyncio.sleep(_KEEP_ALIVE_INTERVAL_S)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
