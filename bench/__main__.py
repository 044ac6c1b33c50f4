"""Measure every row and print one table.

python -m bench [--only P2,P3] [--short | --full] [--json FILE]
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    calls_rows,
    growth_rows,
    latency_rows,
    ledger_rows,
    policy_rows,
    shape_rows,
)
from bench.generator import LoadFailed
from bench.processes import NotStarted
from bench.report import Report, about_this_run, print_report, report_console
from bench.rows import Row
from bench.stage import SCALES, Scale, Stage

OnStage = Callable[[Stage], Awaitable[list[Row]]]
Alone = Callable[[Scale, Callable[[str], None]], Awaitable[list[Row]]]

# Measured in this order on one stage; what needs a world of its own comes after.
ON_STAGE: dict[str, OnStage] = {
    "P1": calls_rows.p1,
    "P2": calls_rows.p2,
    "P3": calls_rows.p3,
    "P4": calls_rows.p4,
    "P5": shape_rows.p5,
    "P6": shape_rows.p6,
    "P10": ledger_rows.p10,
    "P12": latency_rows.p12,
    "P13": latency_rows.p13,
    "P9": shape_rows.p9,
}
# P11 lies between the two measurements of P7.
ALONE: dict[str, Alone] = {"P7": growth_rows.p7_and_p11, "P8": policy_rows.p8}
TOGETHER = {"P11": "P7"}

LAST = "P9"
"""It leaves another server behind."""

SOON_S = 12.0
NOT_MEASURED = "could not be measured"


BASELINE = Path(__file__).resolve().parent / "baseline.json"
"""A short run that later ones are judged by: `python -m bench --short --json bench/baseline.json`
makes it anew."""


async def measure(scale: Scale, wanted: list[str], console: Console) -> list[Row]:
    """Measure rows.

    Args:
        scale: How much.
        wanted: Which.
        console: Where the progress is shown.
    """
    rows: list[Row] = []
    with Progress(TextColumn("{task.fields[row]:4}"), BarColumn(20), MofNCompleteColumn(),
                  TimeElapsedColumn(), TextColumn("{task.description}", style="dim"),
                  console=console) as bar:  # fmt: skip
        task = bar.add_task("", total=len(wanted), row="")

        def say(text: str) -> None:
            bar.update(task, description=text)

        waiting = [name for name in ON_STAGE if name in wanted]
        if waiting:
            async with Stage(scale, say) as stage:
                while waiting:
                    name = _following(waiting, scale)
                    waiting.remove(name)
                    bar.update(task, row=name)
                    rows += await _measured(name, ON_STAGE[name](stage))
                    bar.advance(task)
        for name in (each for each in ALONE if each in wanted):
            bar.update(task, row=name)
            rows += await _measured(name, ALONE[name](scale, say))
            bar.advance(task)
        say("")
    return sorted(rows, key=_place)


async def _measured(name: str, measuring: Awaitable[list[Row]]) -> list[Row]:
    """Return rows, or one that says why there are none: the others are measured all the same."""
    try:
        return await measuring
    except LoadFailed as error:
        return [Row(name, NOT_MEASURED, note=str(error))]


def _following(waiting: list[str], scale: Scale) -> str:
    """Return what to measure next: in order, but P12 when it need not wait long for its minute."""
    others = [name for name in waiting if name not in ("P12", LAST)]
    if "P12" in waiting and (not others or latency_rows.until_p12_s(scale) < SOON_S):
        return "P12"
    return (others or [LAST])[0]


def _place(row: Row) -> int:
    return int(row.name.split()[0].removeprefix("P"))


def main(
    only: Annotated[str, typer.Option(help="Rows to measure, such as P2,P3; all if empty.")] = "",
    short: Annotated[
        bool,
        typer.Option(
            "--short",
            help="Little of everything; exit code 1 where a row is far worse than in "
            "bench/baseline.json.",
        ),
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Everything at its full size.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the run; - for stdout.")
    ] = None,
) -> None:
    """Measure how fast Bursar is, against yardsticks that are measured in the same run."""
    known = sorted({*ON_STAGE, *ALONE, *TOGETHER}, key=lambda name: int(name[1:]))
    named = [name.strip().upper() for name in only.split(",") if name.strip()] or known
    console = Console(stderr=True)
    if unknown := set(named) - set(known):
        console.print(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        raise typer.Exit(2)
    wanted = list(dict.fromkeys(TOGETHER.get(name, name) for name in named))
    scale = SCALES["short" if short else "full" if full else "usual"]
    begin_s, busy = time.monotonic(), os.getloadavg()[0]
    try:
        rows = asyncio.run(measure(scale, wanted, console))
    except NotStarted as error:
        console.print(str(error))
        raise typer.Exit(1) from None
    report = Report(about_this_run(scale.name, time.monotonic() - begin_s, busy), tuple(rows))
    if json_file == Path("-"):
        sys.stdout.write(report.to_json())
    else:
        if json_file is not None:
            json_file.write_text(report.to_json(), encoding="utf-8")
        print_report(report_console(), report)
    far_off = _far_off(rows) if short else []
    for row in far_off:
        console.print(f"{row.name} is far worse than in {BASELINE.name}: {row.what}")
    if far_off or any(row.what == NOT_MEASURED for row in rows):
        raise typer.Exit(1)


def _far_off(rows: list[Row]) -> list[Row]:
    usual = {row.name: row for row in Report.read(BASELINE).rows}
    return [row for row in rows if row.name in usual and row.is_far_off(usual[row.name])]


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
