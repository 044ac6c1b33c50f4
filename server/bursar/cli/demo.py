"""`bursar demo`: a real trace against an embedded server, and a recount that must agree."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.callers import Pace, over_limit, read_counters, run_calls, watch_counters
from bursar.cli.live import LiveView
from bursar.cli.recount import Committed, Mismatch, Recount
from bursar.cli.summary import print_summary
from bursar.cli.tally import Tally
from bursar.cli.workload import Call, WorkloadError, calls, load_trace, load_workload
from bursar_client import AsyncClient, BursarError, CounterStatus, Subject, Target

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
HOLD_TTL_S = 8.0
START_TIMEOUT_S = 40.0
SHORT_CALLS = 600

_WATCH_INTERVAL_S = 0.25


class DemoServer:
    """The embedded server as a process of its own; started again where it dies."""

    def __init__(self, data_dir: Path, policy: Path) -> None:
        self._data_dir = data_dir
        self._policy = policy
        self._listen = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None
        self.restarts = -1
        self.address = ""

    @property
    def pid(self) -> int:
        """Process id, for those who want to kill it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """Start it, or start it again on the same port.

        Returns:
            Its address.

        Raises:
            RuntimeError: It did not start; its log says why.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        log_file = self._data_dir / "server.log"
        command = [sys.executable, "-m", "bursar.cli.main", "serve", "--listen", self._listen]
        command += ["--policy", str(self._policy), "--data-dir", str(self._data_dir)]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")
        }
        with log_file.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "serves on" not in line:
            self._process.wait()
            tail = "\n".join(log_file.read_text(encoding="utf-8").splitlines()[-5:])
            raise RuntimeError(f"the server did not start; the end of {log_file}:\n{tail}")
        self.restarts += 1
        self.address = self._listen = line.strip().rpartition(" ")[2]
        return self.address

    def has_died(self) -> bool:
        """Say whether it was started and runs no more."""
        return self._process is not None and self._process.poll() is not None

    def start_again_if_dead(self) -> bool:
        """Start it again where it has died, and say whether it had."""
        if not self.has_died():
            return False
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.start()
        return True

    def stop(self) -> None:
        """Let it drain and end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class CommitLog:
    """What the callers committed, line by line on disk, so that it outlives a killed demo."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream = file.open("a", encoding="utf-8", buffering=1)

    def __call__(self, what: str, committed: Committed) -> None:
        """Note an attempt, or that it was acknowledged."""
        row = asdict(committed) | {"what": what, "reserve_time": committed.reserve_time.isoformat()}
        self._stream.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    @staticmethod
    def read(file: Path) -> list[Committed]:
        """Return every commit; those without an acknowledgement are uncertain."""
        attempts: dict[str, Committed] = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # The line that was being written when the demo was killed.
            what = row.pop("what")
            key = json.dumps([row["subject"], row["reserve_time"]])
            attempts[key] = Committed(
                subject=Subject(**row["subject"]),
                target=Target(**row["target"]),
                input_tokens=row["input_tokens"],
                output_tokens=row["output_tokens"],
                reserve_time=datetime.fromisoformat(row["reserve_time"]),
                certain=what == "booked",
            )
        return list(attempts.values())


def demo(
    requests: Annotated[int, typer.Option(min=1, help="Calls of the trace to replay.")] = 2_000,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Callers at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Same seed, same callers.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="Fewer calls.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where its data goes.")] = Path(".bursar/demo"),
) -> None:
    """Replay a real trace against an embedded server, and recount. Exit code 1 if a check fails."""
    console = Console()
    policy = EXAMPLES / "acme.yaml"
    try:
        workload = load_workload(EXAMPLES / "acme-workload.yaml")
        most = SHORT_CALLS if short else requests
        sizes = load_trace(EXAMPLES / "azure_llm_2023_conv.csv", most)
    except WorkloadError as error:
        console.print(f"the demo needs the examples of a checkout: {error}", style="red")
        raise typer.Exit(2) from None
    todo = list(calls(workload, sizes, seed))
    passed = True
    if (data_dir / "commits.jsonl").exists():
        passed = asyncio.run(_check_leftovers(console, data_dir, policy))
    shutil.rmtree(data_dir, ignore_errors=True)
    passed = asyncio.run(_run(console, data_dir, policy, todo, concurrency)) and passed
    shutil.rmtree(data_dir, ignore_errors=True)
    if not passed:
        raise typer.Exit(1)


async def _run(
    console: Console, data_dir: Path, policy: Path, todo: list[Call], concurrency: int
) -> bool:
    """Run the demo once.

    Returns:
        Whether every check passed.
    """
    org = todo[0].subject.org
    server = DemoServer(data_dir, policy)
    console.print("starting a server with its own Redis ...", style="dim")
    address = await asyncio.to_thread(server.start)
    console.print(f"serving on {address}, process {server.pid}", style="dim", highlight=False)
    log = CommitLog(data_dir / "commits.jsonl")
    tally = Tally(total=len(todo))
    pace = Pace(
        concurrency, HOLD_TTL_S, call_s=0.0004, run_id=f"demo-{os.getpid()}-{time.time_ns()}"
    )
    over: list[CounterStatus] = []
    try:
        async with AsyncClient(address) as client:
            with LiveView(console, tally) as view:

                def show(counters: list[CounterStatus]) -> None:
                    over.extend(over_limit(counters))
                    view.show(counters)

                watcher = asyncio.create_task(watch_counters(client, org, _WATCH_INTERVAL_S, show))
                keeper = asyncio.create_task(_keep_alive(server, view.note))
                await run_calls(client, todo, pace, tally, log)
                await _wait_for_expiry(client, org, view.note)
                watcher.cancel()
                keeper.cancel()
            subjects = {str(call.subject): call.subject for call in todo}
            counters = await read_counters(client, org, subjects.values())
            open_holds = [hold async for hold in client.list_holds(org=org)]
    finally:
        log.close()
        await asyncio.to_thread(server.stop)
    mismatches = Recount(policy).mismatches(tally.commits, {}, counters)
    return print_summary(
        console, tally, counters, mismatches, over, len(open_holds), server.restarts
    )


async def _keep_alive(server: DemoServer, note: Callable[[str], None]) -> None:
    """Start the server again where it dies, as a supervisor would."""
    while True:
        if await asyncio.to_thread(server.start_again_if_dead):
            note(f"the server had died; started again as process {server.pid}")
        await asyncio.sleep(0.1)


async def _wait_for_expiry(client: AsyncClient, org: str, note: Callable[[str], None]) -> None:
    """Wait until the holds of callers that died have ended."""
    deadline = time.monotonic() + HOLD_TTL_S + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            count = len([hold async for hold in client.list_holds(org=org)])
        except BursarError:
            count = -1
        if count == 0:
            return
        if count > 0:
            note(f"{count} holds of callers that died end at their TTL ({HOLD_TTL_S:g} s)")
        await asyncio.sleep(_WATCH_INTERVAL_S)


async def _check_leftovers(console: Console, data_dir: Path, policy: Path) -> bool:
    """Check what a killed demo left behind: its acknowledged commits must all be there.

    Returns:
        Whether they are.
    """
    console.print("a demo was cut off here; checking what it left behind", style="yellow")
    commits = CommitLog.read(data_dir / "commits.jsonl")
    server = DemoServer(data_dir, policy)
    address = await asyncio.to_thread(server.start)
    notes: list[str] = []
    try:
        async with AsyncClient(address) as client:
            org = (
                commits[0].subject.org
                if commits
                else load_workload(EXAMPLES / "acme-workload.yaml").org
            )
            await _wait_for_expiry(client, org, notes.append)
            counters = await read_counters(
                client, org, {str(each.subject): each.subject for each in commits}.values()
            )
    finally:
        await asyncio.to_thread(server.stop)
    mismatches: list[Mismatch] = Recount(policy).mismatches(commits, {}, counters)
    held = [counter for counter in counters if counter.held != 0]
    certain = sum(commit.certain for commit in commits)
    for mismatch in mismatches:
        console.print(f"[red]differs[/] {mismatch}", highlight=False)
    for counter in held:
        console.print(f"[red]still held[/] {counter.budget}: {counter.held}", highlight=False)
    passed = not mismatches and not held
    verdict = "[green]all there[/]" if passed else "[red]not as it should be[/]"
    console.print(
        f"{certain} acknowledged commits {verdict}; {len(commits) - certain} were on the way; "
        f"{notes[0] if notes else 'no holds were left'}",
        highlight=False,
    )
    return passed
