"""Freezes: subtrees of an org that may spend nothing, as part of the policy that decides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bursar.domain import meter
from bursar.domain.budget import Budget
from bursar.domain.policy import CompiledBudget, Condition, Policy
from bursar.domain.subject import LEVELS, Subject
from bursar.domain.window import Window, WindowKind

FREEZES_MAX = 1_000
"""Most freezes in force in one org."""

_NAME_PREFIX = "frozen_"  # No budget of a document can be called so.
_DIGEST_CHARS = 8
_SEPARATOR = "-"
_MS_PER_S = 1_000


@dataclass(frozen=True, slots=True)
class Freeze:
    """A subtree that may spend nothing.

    Attributes:
        freeze_id: Its number.
        subject: The subtree: every level that is given must match exactly.
        reason: Why.
        frozen_by: Who froze it.
        frozen_at_ms: When.
        lifted_by: Who lifted it; empty while it is in force.
        lifted_at_ms: When, or None while it is in force.
    """

    freeze_id: int
    subject: Subject
    reason: str
    frozen_by: str
    frozen_at_ms: int
    lifted_by: str = ""
    lifted_at_ms: int | None = None

    @property
    def explanation(self) -> str:
        """Who froze what, when and why, for the denial."""
        given = [(name, getattr(self.subject, name)) for name in ("org", *LEVELS)]
        what = " ".join(f"{name}={value}" for name, value in given if value)
        since = datetime.fromtimestamp(self.frozen_at_ms // _MS_PER_S, UTC)
        return f"{what} was frozen by {self.frozen_by} at {since:%Y-%m-%dT%H:%M:%SZ}: {self.reason}"


def with_freezes(policy: Policy, freezes: Sequence[Freeze]) -> Policy:
    """Return a policy under which requests in frozen subtrees are denied.

    A freeze is one more budget: no request fits into it, however small. Its version tells it from
    the policy without, so a server changes from the one to the other in one step.

    Args:
        policy: As compiled from its document.
        freezes: Those in force in its org.
    """
    if not freezes:
        return policy
    numbered = sorted(freezes, key=lambda freeze: freeze.freeze_id)
    first = len(policy.budgets)
    budgets = [_budget(first + place, freeze) for place, freeze in enumerate(numbered)]
    ids = ",".join(str(freeze.freeze_id) for freeze in numbered)
    digest = hashlib.sha256(ids.encode()).hexdigest()[:_DIGEST_CHARS]
    return policy.with_budgets(budgets, f"{policy.version}{_SEPARATOR}{digest}")


def document_version(version: str) -> str:
    """Return the version of the document alone.

    What a policy with freezes has granted, the same without them would have granted alike.
    """
    return version.partition(_SEPARATOR)[0]


def _budget(position: int, freeze: Freeze) -> CompiledBudget:
    given = {name: getattr(freeze.subject, name) for name in LEVELS}
    conditions = {name: value for name, value in given.items() if value}
    budget = Budget(
        name=f"{_NAME_PREFIX}{freeze.freeze_id}",
        meter=meter.REQUESTS,
        limit=0,
        window=Window(WindowKind.REQUEST),
        conditions=tuple((name, (value,)) for name, value in conditions.items()),
        frozen=freeze.explanation,
    )
    exact = (Condition(name, frozenset({value}), None) for name, value in conditions.items())
    return CompiledBudget(position, budget, tuple(exact))
