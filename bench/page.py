"""What a page says of a run: the table, and a guide to sizes that is worked out from it.

python -m bench.page RUN.json [PAGE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.report import Report, ReportUnreadable, print_report, report_console

_S_A_MONTH = 30 * 24 * 3_600
_CALLS_PER_S = 100
_OPERATIONS = 2
"""A call of a model is a Reserve and a Commit."""

_GB = 1_000_000_000


def table(report: Report) -> str:
    """Return the rows as a table, with what has to be known about the run."""
    lines = [
        "| Row | What | Measured | Yardstick | Ratio | Reach | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:,.2f}"
        what = f"{row.what} ({row.note})" if row.note else row.what
        cells = (row.name, what, row.measured, row.yardstick, ratio, row.reach_text, row.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    about = report.about
    lines += [
        "",
        f"Commit `{about['commit'][:12]}`, {about['time'][:10]}, {about['cores']} cores of "
        f"{about['processor']}, Python {about['python']}, grpcio {about['grpcio']}, "
        f"{about['scale']} scale, {about['seconds']} s in all.",
    ]
    return "\n".join(lines)


def sizing(report: Report) -> str:
    """Return what one processor, one hold and one month take, as the rows of a run say."""
    figures = {row.name: row.figures for row in report.rows}
    lines = ["| What | Takes | So |", "| --- | --- | --- |"]
    for what, row, name, process in (
        ("server, unary calls", "P3", "unary_server_cpu_us", "server"),
        ("server, a session", "P3", "server_cpu_us", "server"),
        ("Redis, unary calls", "P3", "unary_redis_cpu_us", "Redis"),
        ("Redis, a session", "P3", "redis_cpu_us", "Redis"),
        ("PostgreSQL, a session", "P3", "postgres_cpu_us", "PostgreSQL"),
    ):
        us = _figure(figures, row, name)
        so = f"{1e6 / us:,.0f} operations/s on a core of {process}" if us else ""
        lines.append(f"| {what} | {us:.0f} us of CPU an operation | {so} |")
    for what, name in (("counter", "redis_bytes_a_counter"), ("hold", "redis_bytes_an_open_hold")):
        size = _figure(figures, "P7", name)
        so = f"{size * 1e6 / _GB:.2f} GB of Redis for a million"
        lines.append(f"| {'an open' if what == 'hold' else 'a'} {what} | {size:.0f} bytes | {so} |")
    size = _figure(figures, "P10", "ledger_entries_bytes_an_operation")
    month = size * _CALLS_PER_S * _OPERATIONS * _S_A_MONTH / _GB
    so = f"{month:,.0f} GB of PostgreSQL a month at {_CALLS_PER_S} calls/s, until parts are dropped"
    lines.append(f"| a ledger entry, indexes included | {size:.0f} bytes | {so} |")
    return "\n".join(lines)


def _figure(figures: Mapping[str, Mapping[str, Any]], row: str, name: str) -> float:
    try:
        return float(figures[row][name])
    except KeyError:
        raise ReportUnreadable(f"the run has no {name} of {row}: measure all rows") from None


PARTS: Mapping[str, Callable[[Report], str]] = {"measured": table, "sizing": sizing}


def filled(page: str, report: Report) -> str:
    """Return a page with what a run says between its marks.

    Raises:
        ReportUnreadable: A mark is missing, or the run lacks what belongs there.
    """
    for name, text in PARTS.items():
        begin, end = marks(name)
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ReportUnreadable(f"the page has no {begin} ... {end}")
        page = f"{before}{begin}\n\n{text(report)}\n\n{end}{after}"
    return page


def marks(name: str) -> tuple[str, str]:
    """Return the lines between which a part stands."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def main(
    run: Annotated[Path, typer.Argument(help="JSON of a run.")],
    page: Annotated[Path | None, typer.Argument(help="Page to put it into.")] = None,
) -> None:
    """Print the table of a run again, or put it into a page between its marks."""
    try:
        report = Report.read(run)
        if page is None:
            print_report(report_console(), report)
            return
        page.write_text(filled(page.read_text(encoding="utf-8"), report), encoding="utf-8")
    except ReportUnreadable as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
