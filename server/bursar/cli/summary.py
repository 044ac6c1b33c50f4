"""How a replay ended: decisions, spend by level, and whether every check passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from bursar.cli.recount import Committed, Mismatch, cost_nano_usd
from bursar.cli.render import amount_text, counters_table, plain_table
from bursar.cli.tally import Tally
from bursar_client import CounterStatus, Meter

_SPENDERS_SHOWN = 3


def print_summary(
    console: Console,
    tally: Tally,
    counters: Sequence[CounterStatus],
    mismatches: Sequence[Mismatch],
    over: Sequence[CounterStatus],
    open_holds: int,
    restarts: int,
) -> bool:
    """Print what happened and what was checked.

    Args:
        console: Where to.
        tally: What the callers saw.
        counters: How every counter stands at the end.
        mismatches: Counters that differ from the recount.
        over: Counters that were seen past their limit.
        open_holds: Holds that are still open.
        restarts: How often the server had to be started again.

    Returns:
        Whether every check passed.
    """
    console.print(_decision_table(tally))
    console.print(_spend_table(tally.commits))
    shared = [counter for counter in counters if not counter.partition]
    console.print(counters_table("Budgets at the end", shared))
    if tally.messages:
        console.print("What users were told:", style="bold")
        for budget, message in tally.messages.items():
            console.print(f"  {budget}: {message}", highlight=False, markup=False, soft_wrap=True)
    if tally.retried or restarts:
        console.print(
            f"The server was started again {restarts} times; callers repeated {tally.retried} "
            "calls with the same request id.",
            highlight=False,
        )
    return _print_checks(console, tally, counters, mismatches, over, open_holds)


def _decision_table(tally: Tally) -> Table:
    table = plain_table("Decisions")
    table.add_column("decision")
    table.add_column("how or why", overflow="fold")
    table.add_column("calls", justify="right")
    table.add_row("[green]granted[/]", "as asked", f"{tally.granted:,}")
    for change, count in tally.degraded.most_common():
        table.add_row("[yellow]degraded[/]", change, f"{count:,}")
    for (budget, kind), count in tally.denied.most_common():
        table.add_row("[red]denied[/]", f"{budget}: {kind}", f"{count:,}")
    for directive, count in tally.directives.most_common():
        table.add_row("", f"told to: {directive}", f"{count:,}")
    if tally.released:
        table.add_row("released", "failed before the model was called", f"{tally.released:,}")
    if tally.abandoned:
        table.add_row("abandoned", "never settled; the hold expired", f"{tally.abandoned:,}")
    for reason, count in tally.failed.most_common():
        table.add_row("[red]failed[/]", reason, f"{count:,}")
    return table


def _spend_table(commits: Sequence[Committed]) -> Table:
    table = plain_table("Spent, by level (calls, tokens, dollars)")
    for name in ("level", "who"):
        table.add_column(name, no_wrap=True)
    for name in ("calls", "input", "output", "dollars"):
        table.add_column(name, justify="right")
    levels: dict[str, Callable[[Committed], str]] = {
        "organization": lambda commit: commit.subject.org,
        "team": lambda commit: commit.subject.team,
        "feature": lambda commit: commit.subject.feature,
        "model": lambda commit: commit.target.model,
        "user": lambda commit: commit.subject.user,
        "task": lambda commit: commit.subject.task,
    }
    for level, key in levels.items():
        groups: dict[str, list[Committed]] = {}
        for commit in commits:
            if name := key(commit):
                groups.setdefault(name, []).append(commit)
        spenders = sorted(groups.items(), key=lambda item: -_cost(item[1]))
        for name, group in spenders[:_SPENDERS_SHOWN]:
            table.add_row(level, name, *_amounts(group))
        rest = [commit for _, group in spenders[_SPENDERS_SHOWN:] for commit in group]
        if rest:
            count = len(spenders) - _SPENDERS_SHOWN
            others = f"{count} other{'s' if count > 1 else ''}"
            table.add_row(level, f"[dim]{others}[/]", *_amounts(rest))
    return table


def _cost(commits: Iterable[Committed]) -> int:
    return sum(cost_nano_usd(commit) for commit in commits)


def _amounts(commits: Sequence[Committed]) -> list[str]:
    return [
        f"{len(commits):,}",
        f"{sum(commit.input_tokens for commit in commits):,}",
        f"{sum(commit.output_tokens for commit in commits):,}",
        amount_text(_cost(commits), Meter.COST),
    ]


def _print_checks(
    console: Console,
    tally: Tally,
    counters: Sequence[CounterStatus],
    mismatches: Sequence[Mismatch],
    over: Sequence[CounterStatus],
    open_holds: int,
) -> bool:
    held = [counter for counter in counters if counter.held != 0]
    checks = [
        (
            "every call ended with an answer",
            not tally.failed,
            f"{sum(tally.failed.values())} did not",
        ),
        (
            "no budget was ever seen past its limit",
            not over,
            ", ".join(sorted({counter.budget for counter in over})),
        ),
        (
            f"{len(counters)} counters hold exactly what {len(tally.commits)} commits add up to",
            not mismatches,
            "; ".join(str(each) for each in mismatches[:3]),
        ),
        ("no hold is left", open_holds == 0, f"{open_holds} are"),
        ("nothing is held", not held, ", ".join(counter.budget for counter in held[:5])),
    ]
    console.print("Checks", style="bold")
    for name, passed, why in checks:
        mark = "[green]ok[/]  " if passed else "[red]FAIL[/]"
        console.print(f"  {mark} {name}{'' if passed else ': ' + why}", highlight=False)
    return all(passed for _, passed, _ in checks)
