"""What a replay shows while it runs: progress, decisions, and the budgets filling up."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from bursar.cli.render import counters_table
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
        """Show a remark; the same one only once in a row."""
        if text == self._note:
            return
        self._note = text
        if not self._console.is_terminal:
            self._console.print(text, style="dim", highlight=False)

    def show(self, counters: list[CounterStatus]) -> None:
        """Show how far the replay is and how the budgets stand."""
        tally = self._tally
        self._progress.update(self._task, completed=tally.done)
        if self._console.is_terminal:
            line = Text(_decisions(tally))
            table = counters_table("Budgets", counters)
            self._live.update(Group(self._progress, line, table, Text(self._note, style="dim")))
            return
        tenths = tally.done * 10 // max(tally.total, 1)
        if tenths != self._shown_tenths:
            self._shown_tenths = tenths
            self._console.print(
                f"{tally.done:>6} of {tally.total} calls: {_decisions(tally)}", highlight=False
            )


def _decisions(tally: Tally) -> str:
    return (
        f"{tally.granted} granted, {tally.degraded_calls} degraded, "
        f"{sum(tally.denied.values())} denied"
    )
