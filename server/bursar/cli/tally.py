"""What a replay has seen so far: decisions, amounts, and every commit for the recount."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bursar.cli.recount import Committed
from bursar_client import Denial, Directive, Grant


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
        messages: What denied users were told, once each, at most 20.
        released: Given back before the call.
        abandoned: Never settled: their holds expire.
        retried: Calls that were repeated because the server was away.
        failed: Calls that ended with an error, by its reason.
        commits: What the callers committed.
    """

    total: int
    done: int = 0
    granted: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    degraded_calls: int = 0
    denied: Counter[tuple[str, str]] = field(default_factory=Counter)
    directives: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    released: int = 0
    abandoned: int = 0
    retried: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    commits: list[Committed] = field(default_factory=list)

    def count_grant(self, grant: Grant) -> None:
        """Count a grant and what it changed."""
        changes = changes_of(grant.directive)
        if not changes:
            self.granted += 1
            return
        self.degraded_calls += 1
        self.degraded[" + ".join(changes)] += 1

    def count_denial(self, denial: Denial) -> None:
        """Count a denial, why, and what its caller was told."""
        budget = denial.binding.budget if denial.binding else ""
        self.denied[budget, denial.kind.value] += 1
        directive = denial.directive
        if directive.serve_cached:
            self.directives["serve cached"] += 1
        elif directive.queue:
            self.directives["queue"] += 1
        else:
            self.directives["deny"] += 1
        if len(self.messages) < _MESSAGES_MAX and directive.message:
            self.messages.setdefault(f"{budget} ({denial.kind.value})", directive.message)


_MESSAGES_MAX = 20


def changes_of(directive: Directive) -> list[str]:
    """Return what a directive of a grant changes, in words."""
    changes = []
    if directive.switch_model:
        changes.append("switch model")
    if directive.shorten_output:
        changes.append("shorten output")
    if directive.truncate_input:
        changes.append("truncate input")
    if directive.finish:
        changes.append("finish")
    return changes
