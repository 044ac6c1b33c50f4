"""How a replay ended: decisions, spend by level, and whether every check passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bursar.cli.live import fullest_of_each
from bursar.cli.printing import plural, print_plain
from bursar.cli.recount import Committed, CounterKey, Recount, cost_nano_usd
from bursar.cli.render import counters_table, money_text, plain_table
from bursar.cli.tally import Tally
from bursar_client import CounterStatus

_SPENDERS_SHOWN = 3
_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must be so, and why it is not; `why` is empty where it is."""

    name: str
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is so."""
        return not self.why


def print_summary(console: Console, tally: Tally, counters: Sequence[CounterStatus]) -> None:
    """Print what happened.

    Args:
        console: Where to.
        tally: What the callers saw.
        counters: How every counter stands at the end.
    """
    console.print(_decision_table(tally))
    for line in _outcome_lines(tally):
        print_plain(console, line)
    console.print()
    console.print(_spend_table(tally.commits))
    shown, counts = fullest_of_each(counters)
    remarks = {budget: f"fullest of {count:,}" for budget, count in counts.items() if count > 1}
    console.print(counters_table("Budgets at the end", shown, console.width, remarks))
    if tally.messages:
        console.print("What users were told", style="bold")
        for budget, message in tally.messages.items():
            print_plain(console, f"  {budget}: {message}")
        console.print()


def print_checks(console: Console, checks: Sequence[Check]) -> bool:
    """Print what was checked, and say whether everything passed."""
    console.print("Checks", style="bold")
    for check in checks:
        mark = ("ok  ", "green") if check.passed else ("FAIL", "red")
        why = f": {check.why}" if check.why else ""
        print_plain(console, "  ", mark, f" {check.name}{why}")
    return all(check.passed for check in checks)


def first_of(reasons: Sequence[str]) -> str:
    """Return the first few reasons, and how many more there are."""
    text = "; ".join(reasons[:_REASONS_SHOWN])
    more = len(reasons) - _REASONS_SHOWN
    return f"{text}; and {more:,} more" if more > 0 else text


def over_check(tally: Tally, over: Sequence[CounterStatus]) -> Check:
    """Return the check that no budget was seen past its limit.

    A commit after the end of its hold is always booked, also past the limit.
    """
    name = "no budget was seen past its limit"
    if over and tally.late:
        return Check(f"{name}, but by {plural(tally.late, 'late commit')}")
    return Check(name, ", ".join(sorted({counter.budget for counter in over})))


def answered_check(tally: Tally) -> Check:
    """Return the check that every call ended with an answer."""
    failed = [f"{reason} {count:,} times" for reason, count in tally.failed.most_common()]
    return Check(f"every one of {plural(tally.total, 'call')} was answered", first_of(failed))


def recount_check(
    recount: Recount,
    commits: Sequence[Committed],
    before: Mapping[CounterKey, int],
    counters: Sequence[CounterStatus],
) -> Check:
    """Return the check that counters hold exactly what the callers committed."""
    judged = sum(map(recount.judges, counters))
    what = f"the recount of {plural(len(commits), 'commit')}"
    name = f"{what} agrees exactly with {plural(judged, 'counter')}"
    if judged < len(counters):
        name += f" (of rolling windows, not judged: {len(counters) - judged:,})"
    return Check(
        name, first_of([str(each) for each in recount.mismatches(commits, before, counters)])
    )


def _decision_table(tally: Tally) -> Table:
    table = plain_table("Decisions")
    table.add_column("decision")
    table.add_column("how or why", overflow="fold")
    table.add_column("calls", justify="right")
    table.add_row("[green]granted[/]", "as asked", f"{tally.granted:,}")
    for change, count in tally.degraded.most_common():
        table.add_row("[yellow]degraded[/]", change, f"{count:,}")
    for (budget, kind), count in tally.denied.most_common():
        table.add_row("[red]denied[/]", Text(f"{budget}: {kind}"), f"{count:,}")
    # What failed after its grant is among the granted.
    unanswered = tally.total - tally.grants - tally.denied.total()
    if unanswered:
        table.add_row("[red]no answer[/]", "", f"{unanswered:,}")
    table.add_section()
    table.add_row("in all", "", f"{tally.total:,}")
    return table


def _outcome_lines(tally: Tally) -> list[str]:
    lines = []
    if tally.denied:
        told = ", ".join(f"{what} {count:,}" for what, count in tally.directives.most_common())
        lines.append(f"The denied were told to: {told}.")
        lines.append("held: others hold the room, for now; spent: it comes back with the window.")
    ends = [f"{len(tally.commits):,} committed"]
    if tally.released:
        ends.append(f"{tally.released:,} released (failed before the model was called)")
    if tally.abandoned:
        ends.append(f"{tally.abandoned:,} never settled (the TTL ends the hold)")
    lines.append(f"Of {plural(tally.grants, 'grant')}: {', '.join(ends)}.")
    away = []
    if tally.retried:
        away.append(f"{plural(tally.retried, 'reserve')} repeated with the same request id")
    if tally.queued:
        away.append(f"{plural(tally.queued, 'commit')} sent later by the client")
    if away:
        lines.append(f"While the server was away: {', '.join(away)}.")
    return lines


def _spend_table(commits: Sequence[Committed]) -> Table:
    table = plain_table("Spent, by level")
    for name in ("level", "who"):
        table.add_column(name, no_wrap=True)
    for name in ("calls", "input tokens", "output tokens", "dollars"):
        table.add_column(name, justify="right")
    levels: dict[str, Callable[[Committed], str]] = {
        "organization": lambda commit: commit.subject.org,
        "team": lambda commit: commit.subject.team,
        "feature": lambda commit: commit.subject.feature,
        "agent": lambda commit: commit.subject.agent,
        "user": lambda commit: commit.subject.user,
        "task": lambda commit: commit.subject.task,
        "model": lambda commit: commit.target.model,
    }
    for level, key in levels.items():
        groups: dict[str, list[Committed]] = {}
        for commit in commits:
            if name := key(commit):
                groups.setdefault(name, []).append(commit)
        spenders = sorted(groups.items(), key=lambda item: -_cost(item[1]))
        # One more is named rather than called "1 other".
        shown = len(spenders) if len(spenders) == _SPENDERS_SHOWN + 1 else _SPENDERS_SHOWN
        for name, group in spenders[:shown]:
            table.add_row(level, Text(name), *_amounts(group))
        if rest := [commit for _, group in spenders[shown:] for commit in group]:
            others = f"[dim]{len(spenders) - shown:,} others[/]"
            table.add_row(level, others, *_amounts(rest))
    return table


def _cost(commits: Iterable[Committed]) -> int:
    return sum(cost_nano_usd(commit) for commit in commits)


def _amounts(commits: Sequence[Committed]) -> list[str]:
    return [
        f"{len(commits):,}",
        f"{sum(commit.input_tokens for commit in commits):,}",
        f"{sum(commit.output_tokens for commit in commits):,}",
        money_text(_cost(commits)),
    ]
