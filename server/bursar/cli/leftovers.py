"""What a demo that was killed has left behind, and whether it is as it should be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console

from bursar.cli.callers import read_counters
from bursar.cli.commit_log import CommitLog
from bursar.cli.demo_folder import DemoFolder
from bursar.cli.demo_server import DemoServer
from bursar.cli.printing import plural, print_plain
from bursar.cli.recount import Recount
from bursar.cli.render import counter_name
from bursar.cli.replayer import WATCH_INTERVAL_S, open_holds, subjects_of, while_away
from bursar.cli.summary import Check, first_of, print_checks
from bursar_client import AsyncClient

SWEEP_S = 4.0
"""What a sweep may add to a TTL: its interval is 1 s, the rest is for a slow machine."""


async def check_leftovers(
    console: Console, folder: DemoFolder, policy: Path, org: str, ttl_s: float
) -> bool:
    """Check what a killed demo left behind.

    Its acknowledged commits must all be there, with nothing beyond what was attempted; the holds
    of its callers must end at their TTL.

    Args:
        console: Where to say it.
        folder: With its data.
        policy: What the demo's server enforces.
        org: Whose counters.
        ttl_s: How long its holds last.

    Returns:
        Whether all is as it should be.
    """
    print_plain(console, "a demo was cut off here; checking what it left behind ...", "yellow")
    commits = CommitLog.read(folder.commits_file) if folder.commits_file.exists() else []
    server = DemoServer(folder.path, policy)
    await asyncio.to_thread(server.start)
    try:
        async with AsyncClient(server.address) as client:
            began_s = time.monotonic()
            first, left = await _holds_ended(client, org, began_s + ttl_s + SWEEP_S)
            waited_s = time.monotonic() - began_s
            subjects = subjects_of([commit.subject for commit in commits])
            counters = await while_away(lambda: read_counters(client, org, subjects))
    finally:
        await asyncio.to_thread(server.stop)
    mismatches = Recount(policy).mismatches(commits, {}, counters)
    acknowledged = sum(commit.certain for commit in commits)
    held = [f"{counter_name(each)} holds {each.held}" for each in counters if each.held]
    ended = f"of its callers' holds {first - left:,} still ran and ended within {waited_s:.1f} s"
    passed = print_checks(
        console,
        [
            Check(
                f"{plural(acknowledged, 'acknowledged commit')} all there, and nothing beyond "
                f"the {len(commits):,} attempted",
                first_of([str(each) for each in mismatches]),
            ),
            Check(ended if first else "no hold of its callers was left", f"{left}" if left else ""),
            Check("nothing is held on any counter", first_of(held)),
        ],
    )
    console.print()
    return passed


async def _holds_ended(client: AsyncClient, org: str, deadline_s: float) -> tuple[int, int]:
    """Return how many holds there were, and how many are left at the deadline."""
    first = left = len(await while_away(lambda: open_holds(client, org)))
    while left and time.monotonic() < deadline_s:
        await asyncio.sleep(WATCH_INTERVAL_S)
        left = len(await while_away(lambda: open_holds(client, org)))
    return first, left
