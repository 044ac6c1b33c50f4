"""What a replay has seen so far: decisions, amounts, and every commit for the recount."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bursar.cli.recount import Committed
from bursar.cli.render import used_percent
from bursar_client import CounterStatus, Denial, Directive, Grant, Settlement, Subject

MESSAGES_MAX = 20
NO_BUDGET = "(no budget)"


@dataclass(slots=True)
class Tally:
    """Counts of a replay.

    Attributes:
        total: Calls to make.
        done: Calls that have ended.
        granted: Granted as asked.
        degraded: Granted with changes, by what changed.
        denied: Denied, by budget and kind.
        directives: What denied callers were told to do.
        messages: What denied users were told, once each, at most MESSAGES_MAX.
        released: Given back before the call.
        abandoned: Never settled: their holds expire.
        queued: Commits that reached the server in the background, because it was away.
        late: Commits that came after their hold had expired.
        retried: Reserves that were repeated because the server was away.
        failed: Calls that ended with an error, by its reason.
        commits: What the callers committed.
        fullest: Of each partitioned budget the fullest counter seen: percent, and whose it is.
    """

    total: int
    done: int = 0
    granted: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    denied: Counter[tuple[str, str]] = field(default_factory=Counter)
    directives: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    released: int = 0
    abandoned: int = 0
    queued: int = 0
    late: int = 0
    retried: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    commits: list[Committed] = field(default_factory=list)
    fullest: dict[str, tuple[int, Subject]] = field(default_factory=dict)

    @property
    def grants(self) -> int:
        """Calls that were granted, as asked or degraded."""
        return self.granted + self.degraded.total()

    def count_grant(self, grant: Grant, subject: Subject) -> None:
        """Count a grant and what it changed."""
        self._note_fullest(grant.counters, subject)
        changes = changes_of(grant.directive)
        if changes:
            self.degraded[" + ".join(changes)] += 1
        else:
            self.granted += 1

    def count_denial(self, denial: Denial, subject: Subject) -> None:
        """Count a denial, why, and what its caller was told."""
        self._note_fullest(denial.counters, subject)
        budget = denial.binding.budget if denial.binding else NO_BUDGET
        self.denied[budget, denial.kind.value] += 1
        directive = denial.directive
        if directive.serve_cached:
            self.directives["answer from a cache"] += 1
        elif directive.queue:
            self.directives["queue"] += 1
        else:
            self.directives["refuse"] += 1
        if len(self.messages) < MESSAGES_MAX and directive.message:
            self.messages.setdefault(f"{budget} ({denial.kind.value})", directive.message)

    def count_commit(self, committed: Committed, settlement: Settlement) -> None:
        """Count a commit."""
        self.commits.append(committed)
        self.queued += settlement.queued
        self.late += settlement.late

    def _note_fullest(self, counters: Iterable[CounterStatus], subject: Subject) -> None:
        for counter in counters:
            if not counter.partition or counter.unlimited:
                continue
            percent = used_percent(counter)
            known = self.fullest.get(counter.budget)
            if known is None or percent >= known[0]:
                self.fullest[counter.budget] = percent, subject


def changes_of(directive: Directive) -> list[str]:
    """Return what a directive of a grant changes, and which budgets ask for it."""
    parts = {
        "switch model": directive.switch_model,
        "shorten output": directive.shorten_output,
        "truncate input": directive.truncate_input,
        "finish": directive.finish,
    }
    return [f"{name} ({', '.join(part.budgets)})" for name, part in parts.items() if part]
