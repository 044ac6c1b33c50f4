"""The tables: each is rows of figures, which are printed or written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from rich.console import Console

from bench.scaling import batches, leases, shards
from bench.scaling.costs import Cost, Costs
from bursar.cli.render import plain_table

BUSY = 0.7
"""How much of a core's most to plan for: beyond it waits grow fast, and peaks find no room."""

PRIMARIES = (1, 2, 4, 8, 16, 32, 64)
LOADS = (0.1, 0.2, 0.5, 0.7, 0.9, 0.95)
LEASES = (10, 100, 1_000)
MESSAGE = 32
"""Operations that go together where there is much to do."""

_OPERATIONS = 30_000

Value = str | float | None
"""What is in a table; None is printed as a dash."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One table.

    Attributes:
        title: What it shows.
        notes: What has to be known about it.
        columns: Names, with how their numbers are printed.
        rows: Values.
    """

    title: str
    notes: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Value, ...], ...]

    def show(self, console: Console) -> None:
        """Print it."""
        console.print(self.title, style="bold", soft_wrap=True)
        table = plain_table("")
        table.title = None
        for name, _ in self.columns:
            table.add_column(name, justify="right")
        for row in self.rows:
            named = zip(row, self.columns, strict=True)
            table.add_row(*(_printed(value, form) for value, (_, form) in named))
        console.print(table)
        for note in self.notes:
            console.print(note, style="dim", soft_wrap=True)
        console.print()

    def to_json(self) -> dict[str, Any]:
        """Return it as a mapping."""
        names = [name for name, _ in self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in self.rows]
        return {"title": self.title, "notes": list(self.notes), "rows": rows}


def _printed(value: Value, form: str) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:{form}}"


def shard_table(costs: Costs, orgs: shards.Orgs) -> Figures:
    """Show what a cluster carries before its fullest primary has enough."""
    sizes = orgs.shares
    cluster = orgs.cluster(with_leases=True)
    operation_us = costs.redis.each(MESSAGE)
    placed = [cluster.on(primaries) for primaries in PRIMARIES if primaries <= orgs.shard_count]
    leases_too = f"; the {orgs.leased:,} largest with leases of {orgs.lease:,}"
    return Figures(
        f"{orgs}{leases_too if orgs.leased else ''}",
        (
            f"largest org {sizes[0]:.1%} of all, ten largest {sum(sizes[:10]):.1%}",
            f"a decision takes {operation_us:.1f} us of a primary ({costs.source}); the fullest is "
            f"{BUSY:.0%} busy",
        ),
        (
            ("primaries", "d"),
            ("fullest sees", ".1%"),
            ("evenness", ".0%"),
            ("decisions/s", ",.0f"),
            ("idle", "d"),
        ),
        tuple(
            (
                each.primaries,
                each.fullest,
                each.evenness,
                each.most_per_s(operation_us, BUSY),
                each.idle,
            )
            for each in placed
        ),
    )


def batch_table(name: str, cost: Cost, source: str, seed: int) -> Figures:
    """Show what going together does to throughput and latency."""
    most = cost.most_per_s(MESSAGE)
    rows = list[tuple[Value, ...]]()
    for load in LOADS:
        per_s = load * most
        alone: tuple[Value, ...] = (None, None)
        if per_s < cost.most_per_s(1):
            found = batches.simulate(cost, per_s, 1, _OPERATIONS, _seeded(seed))
            alone = (found.mean_us / 1_000, found.p99_us / 1_000)
        found = batches.simulate(cost, per_s, MESSAGE, _OPERATIONS, _seeded(seed))
        together = (found.mean_us / 1_000, found.p99_us / 1_000, found.mean_batch, found.busy)
        rows.append((load, per_s, *alone, *together))
    return Figures(
        f"one {name}: one by one, and what waits together, at most {MESSAGE}",
        (
            f"{cost.call_us:g} us a call and {cost.operation_us:g} us an operation ({source}): at "
            f"most {cost.most_per_s(1):,.0f}/s one by one, {most:,.0f}/s together",
            "times in ms from arrival to end; - is more than it can",
        ),
        (
            ("load", ".0%"),
            ("decisions/s", ",.0f"),
            ("alone mean", ".2f"),
            ("alone p99", ".2f"),
            ("mean", ".2f"),
            ("p99", ".2f"),
            ("together", ".1f"),
            ("busy", ".0%"),
        ),
        tuple(rows),
    )


def lease_table(plan: leases.Plan, seed: int) -> Figures:
    """Show what leases of several sizes cost and bound."""
    rows: list[tuple[Value, ...]] = [("none", plan.per_s, 1.0, 1.0, 0, 0)]
    for shrinking in (False, True):
        for lease in LEASES:
            this = replace(plan, lease=lease, shrinking=shrinking)
            found = leases.simulate(this, _seeded(seed))
            rows.append(
                (
                    f"{lease:,}{' shrinking' if shrinking else ''}",
                    found.calls_per_s,
                    found.waited / max(found.first_refusal_used, 1),
                    found.first_refusal_used / plan.budget,
                    found.refused_with_room,
                    found.outstanding,
                )
            )
    return Figures(
        f"a budget of {plan.budget:,} requests, {plan.per_s:,.0f}/s at {plan.servers} servers",
        (
            "waited: for an answer of the shard; used: of the budget at the first refusal",
            "refused early: while others still had some; at stake: most that was out on leases",
            "Bursar has no leases yet",
        ),
        (
            ("lease", ""),
            ("calls/s", ",.0f"),
            ("waited", ".1%"),
            ("used", ".1%"),
            ("refused early", ",d"),
            ("at stake", ",d"),
        ),
        tuple(rows),
    )


def plan_table(costs: Costs, rates: Sequence[float], orgs: shards.Orgs) -> Figures:
    """Show how much of everything a rate needs."""
    clusters = [orgs.cluster(with_leases=each) for each in (False, True)]
    server_us, redis_us = costs.server.each(MESSAGE), costs.redis.each(MESSAGE)
    rows = list[tuple[Value, ...]]()
    for per_s in rates:
        found = [cluster.fewest(per_s, redis_us, BUSY) for cluster in clusters]
        rows.append(
            (
                per_s,
                _rounded_up(per_s * server_us / 1e6 / BUSY),
                *(None if each is None else each.primaries for each in found),
                _rounded_up(per_s / costs.ledger_per_s),
                per_s * costs.ledger_bytes * 86_400 / 1e12,
            )
        )
    return Figures(
        f"what a rate needs: {orgs}",
        (
            f"{costs.source}: a decision takes {server_us:.1f} us of a server and {redis_us:.1f} "
            f"us of Redis; of a core's most {BUSY:.0%} are used",
            f"one PostgreSQL records {costs.ledger_per_s:,.0f}/s, {costs.ledger_bytes:,.0f} bytes "
            "each",
            f"with leases: {orgs.lease:,} decisions each for the {orgs.leased:,} largest orgs; "
            "Bursar has no leases yet",
            "- where one org alone is more than a primary can",
        ),
        (
            ("decisions/s", ",.0f"),
            ("server cores", ",d"),
            ("primaries", ",d"),
            ("with leases", ",d"),
            ("PostgreSQLs", ",d"),
            ("TB a day", ",.2f"),
        ),
        tuple(rows),
    )


def _rounded_up(number: float) -> int:
    return -int(-number // 1)


def _seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a run that can be repeated needs a seed
