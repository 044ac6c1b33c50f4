"""Show what bounds Bursar as it grows.

python -m bench.scaling plan|shards|batches|leases [--report RUN.json] [--json]

The same arguments print the same: what is random is seeded, and nothing is measured here. What a
decision costs is read from a run of `python -m bench --json RUN.json`, or assumed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.report import ReportUnreadable
from bench.scaling import leases, tables
from bench.scaling.costs import Costs, read_costs
from bench.scaling.shards import Orgs

WIDTH = 100

Report = Annotated[
    Path | None, typer.Option("--report", help="JSON of a run of `python -m bench`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what is random.")]
Count = Annotated[int, typer.Option("--orgs", min=1, max=1_000_000, help="How many orgs.")]
Zipf = Annotated[
    float, typer.Option(min=0, max=3, help="Exponent of the orgs' sizes; 0: all equal.")
]
Shards = Annotated[int, typer.Option("--shards", min=1, max=4_096, help="BURSAR_SHARD_COUNT.")]
Leased = Annotated[
    int, typer.Option(min=0, max=1_000_000, help="How many of the largest orgs use leases.")
]
Lease = Annotated[int, typer.Option(min=1, max=1_000_000, help="Decisions of a lease.")]

app = typer.Typer(
    help="Show what bounds Bursar as it grows.", no_args_is_help=True, add_completion=False
)


@app.command()
def plan(  # noqa: PLR0917 - the parameters of a command are its options
    rate: Annotated[
        list[float] | None, typer.Option(min=1, max=1e9, help="Decisions a second; several times.")
    ] = None,
    orgs: Count = 10_000,
    zipf: Zipf = 1.0,
    shards: Shards = 4_096,
    leased: Leased = 10,
    lease: Lease = 100,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Say how much of everything a rate needs."""
    rates = rate or [10_000, 100_000, 1_000_000, 5_000_000]
    found = tables.plan_table(_costs(report), rates, Orgs(orgs, zipf, shards, leased, lease))
    _show([found], as_json)


@app.command()
def shards(  # noqa: PLR0917 - the parameters of a command are its options
    orgs: Count = 10_000,
    zipf: Zipf = 1.0,
    shards: Shards = 64,
    leased: Leased = 0,
    lease: Lease = 100,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Say what a Redis Cluster carries, by the number of its primaries."""
    found = tables.shard_table(_costs(report), Orgs(orgs, zipf, shards, leased, lease))
    _show([found], as_json)


@app.command()
def batches(seed: Seed = 1, report: Report = None, as_json: AsJson = False) -> None:
    """Say what it does that what waits goes together."""
    costs = _costs(report)
    _show(
        [
            tables.batch_table("server process", costs.server, costs.source, seed),
            tables.batch_table("Redis primary", costs.redis, costs.source, seed),
        ],
        as_json,
    )


@app.command(name="leases")
def show_leases(
    budget: Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests.")] = 100_000,
    rate: Annotated[float, typer.Option(min=1, max=1e7, help="Requests a second.")] = 50_000,
    servers: Annotated[int, typer.Option(min=1, max=1_000, help="That decide.")] = 16,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Say what it would do that a hot org's servers decide from leases."""
    plan = leases.Plan(budget, servers, per_s=rate, requests=budget * 11 // 10)
    _show([tables.lease_table(plan, seed)], as_json)


def _costs(report: Path | None) -> Costs:
    try:
        return read_costs(report)
    except ReportUnreadable as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None


def _show(figures: Sequence[tables.Figures], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([each.to_json() for each in figures], indent=2) + "\n")
        return
    console = Console(width=WIDTH)
    for each in figures:
        each.show(console)


if __name__ == "__main__":
    app()
