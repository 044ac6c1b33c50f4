"""Compare two runs: what got better, what got worse, beyond noise.

    python -m bench.compare BEFORE.json AFTER.json

Ratios are compared, not figures: two runs may be of two machines, or of one that was busy.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from bench.report import Report, ReportUnreadable, report_console
from bench.rows import Row
from bursar.cli.render import plain_table

NOISE = 1.25
"""Ratios of two runs of the same code were seen to differ by less."""

EXIT_WORSE = 1

Change = Literal["better", "worse", "same", "new", "gone", ""]
_STYLES = {"better": "green", "worse": "red"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A row in both runs.

    Attributes:
        name: Of the row.
        what: Of the row.
        before, after: Its ratios, or None where a run has none.
        change: In words.
    """

    name: str
    what: str
    before: float | None
    after: float | None
    change: Change


def differences(before: Report, after: Report, noise: float = NOISE) -> list[Difference]:
    """Return every row of either run.

    Args:
        before: One run.
        after: Another one.
        noise: Factor by which a ratio may differ without meaning anything, above 1.
    """
    old, new = ({row.name: row for row in each.rows} for each in (before, after))
    found = []
    for name in dict.fromkeys((*old, *new)):
        row = new.get(name) or old[name]
        was, now = _ratio(old.get(name)), _ratio(new.get(name))
        found.append(Difference(name, row.what, was, now, _change(was, now, row, noise)))
    return found


def _ratio(row: Row | None) -> float | None:
    return None if row is None else row.ratio


def _change(before: float | None, after: float | None, row: Row, noise: float) -> Change:
    if before is None or after is None:
        return "" if before == after else "new" if before is None else "gone"
    worse, better = (after, before) if row.side == "most" else (before, after)
    if worse > better * noise:
        return "worse"
    return "better" if better > worse * noise else "same"


def print_differences(console: Console, found: list[Difference]) -> None:
    """Print a table."""
    table = plain_table("")
    for name in ("row", "what", "before", "after", "change"):
        table.add_column(name, justify="right" if name in ("before", "after") else "left")
    for each in found:
        ratios = ("" if ratio is None else f"{ratio:,.2f}" for ratio in (each.before, each.after))
        style = _STYLES.get(each.change, "dim")
        table.add_row(each.name, each.what, *ratios, f"[{style}]{each.change}[/]")
    console.print(table)


def main(
    before: Annotated[Path, typer.Argument(help="JSON of a run.")],
    after: Annotated[Path, typer.Argument(help="JSON of a later run.")],
    noise: Annotated[float, typer.Option(min=1.0, help="Factor that is no difference.")] = NOISE,
) -> None:
    """Say what differs between two runs; exit code 1 where a row got worse."""
    try:
        found = differences(Report.read(before), Report.read(after), noise)
    except ReportUnreadable as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None
    print_differences(report_console(), found)
    if any(each.change == "worse" for each in found):
        raise typer.Exit(EXIT_WORSE)


if __name__ == "__main__":
    typer.run(main)
