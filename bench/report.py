"""A run as JSON and as a table.

python -m bench.report RUN.json [--markdown PAGE]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.processes import ROOT
from bench.rows import Row
from bursar.cli.render import plain_table
from bursar.embedded.redis_process import find_redis_server

_WIDTH = 132
_BUSY = 0.25
_VERDICT_STYLES = {"reached": "green", "short": "red"}


class ReportUnreadable(Exception):
    """A file is no report; the message says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """A run.

    Attributes:
        about: When, where, of which commit, and how.
        rows: In order.
    """

    about: dict[str, Any]
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Return it as a JSON text."""
        rows = [row.to_json() for row in self.rows]
        return json.dumps({"about": self.about, "rows": rows}, indent=2) + "\n"

    @classmethod
    def read(cls, file: Path) -> Report:
        """Read what `to_json` returned.

        Raises:
            ReportUnreadable: It is not that.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return cls(found["about"], tuple(map(Row.from_json, found["rows"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportUnreadable(f"{file}: {type(error).__name__}: {error}") from None


def about_this_run(scale: str, seconds: float, load_average: float) -> dict[str, Any]:
    """Return what has to be known about a run."""
    redis = find_redis_server()
    return {
        "commit": _said("git", "rev-parse", "HEAD"),
        "changed": bool(_said("git", "status", "--porcelain", "--", "server", "clients", "bench")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": scale,
        "seconds": round(seconds),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "load_average_before": round(load_average, 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "protobuf", "redis", "uvloop", "asyncpg")},
        "redis_server": _said(str(redis), "--version") if redis else "",
        "where": "server, Redis, PostgreSQL and load generator on one machine: gRPC over TCP on "
        "loopback, Redis and PostgreSQL over Unix sockets",
        "load": "one generator process; messages serialized before; closed loop except P12 and "
        "P13, which are open loop from the intended time",
    }  # fmt: skip


def _said(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, and the Redis that is measured
            command, capture_output=True, text=True, check=True, timeout=10, cwd=ROOT
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_report(console: Console, report: Report) -> None:
    """Print the table."""
    table: Table = plain_table("")
    for name in ("row", "what", "measured", "yardstick", "ratio", "reach", ""):
        table.add_column(name, justify="right" if name == "ratio" else "left")
    for row in report.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:,.2f}"
        verdict = f"[{_VERDICT_STYLES[row.verdict]}]{row.verdict}[/]" if row.verdict else "-"
        cells = (row.name, row.what, row.measured, row.yardstick, ratio, row.reach_text, verdict)
        table.add_row(*cells)
        if row.note:
            table.add_row("", f"[dim]{row.note}[/]")
    console.print(table)
    about = report.about
    console.print(
        f"commit {about['commit'][:12]}{' with changes' if about['changed'] else ''}, "
        f"{about['cores']} cores, Python {about['python']}, grpcio {about['grpcio']}, "
        f"{about['scale']} scale, {about['seconds']} s",
        style="dim",
    )
    if about["load_average_before"] > about["cores"] * _BUSY:
        console.print(
            f"others used this machine: load average {about['load_average_before']} before the run",
            style="yellow",
        )


def report_console() -> Console:
    """Return a console that is wide enough where its width is not known."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
