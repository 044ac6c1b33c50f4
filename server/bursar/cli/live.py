"""What a replay shows while it runs: progress, decisions, and the budgets filling up."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bursar.cli.printing import print_plain
from bursar.cli.render import counters_table, used_percent
from bursar.cli.tally import Tally
from bursar_client import CounterStatus


class LiveView:
    """A live table on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._progress = Progress(
            TextColumn("calls"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task = self._progress.add_task("calls", total=tally.total)
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._shown_tenths = -1
        self._note = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a remark above the rest, where it stays; the same one only once in a row."""
        if text != self._note:
            self._note = text
            print_plain(self._console, text, style="dim")

    def show(self, counters: Iterable[CounterStatus]) -> None:
        """Show how far the replay is and how the budgets stand."""
        tally = self._tally
        self._progress.update(self._task, completed=tally.done)
        if self._console.is_terminal:
            shown, _ = fullest_of_each(counters)
            table = counters_table("Budgets", shown, self._console.width)
            self._live.update(Group(self._progress, _decisions_grid(tally), "", table))
            return
        tenths = tally.done * 10 // max(tally.total, 1)
        if tenths != self._shown_tenths:
            self._shown_tenths = tenths
            print_plain(
                self._console,
                f"{tally.done:>6,} of {tally.total:,} calls: {tally.granted:,} granted, "
                f"{tally.degraded.total():,} degraded, {tally.denied.total():,} denied",
            )


def fullest_of_each(
    counters: Iterable[CounterStatus],
) -> tuple[list[CounterStatus], dict[str, int]]:
    """Return one counter for each budget, the fullest, and how many counters each budget has."""
    fullest: dict[str, CounterStatus] = {}
    counts: dict[str, int] = {}
    for counter in counters:
        counts[counter.budget] = counts.get(counter.budget, 0) + 1
        known = fullest.get(counter.budget)
        if known is None or used_percent(counter) > used_percent(known):
            fullest[counter.budget] = counter
    return list(fullest.values()), counts


def _decisions_grid(tally: Tally) -> Table:
    denied = [(f"{budget}: {kind}", count) for (budget, kind), count in tally.denied.most_common()]
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("[green]granted[/]", f"{tally.granted:,}", "as asked")
    grid.add_row(
        "[yellow]degraded[/]",
        f"{tally.degraded.total():,}",
        Text(_counts(tally.degraded.most_common())),
    )
    grid.add_row("[red]denied[/]", f"{tally.denied.total():,}", Text(_counts(denied)))
    return grid


def _counts(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in items)
