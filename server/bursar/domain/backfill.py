"""What a counter that is new in the middle of its window has to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bursar.domain import meter
from bursar.domain.budget import Budget, Mode
from bursar.domain.policy import Policy
from bursar.domain.subject import Subject, Target
from bursar.domain.window import NEVER_BACKFILLED


@dataclass(frozen=True, slots=True)
class UsedBefore:
    """What one subject used of one target, as recorded, in sum.

    Attributes:
        subject: Who.
        target: What was called.
        counted: Ids of those of the new counters that have it already.
        bucket: The time bucket that it was reserved in; 0 where the window has none.
        requests: Calls.
        input_tokens: All of them.
        output_tokens: All of them.
        cost_nano_usd: As charged; 0 for models without a price.
        custom: By custom meter.
    """

    subject: Subject
    target: Target
    counted: frozenset[str]
    bucket: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int
    custom: Mapping[str, int]

    def amount(self, meter_name: str) -> int:
        """Return what it comes to on a meter."""
        match meter_name:
            case meter.TOTAL_TOKENS:
                return self.input_tokens + self.output_tokens
            case meter.INPUT_TOKENS:
                return self.input_tokens
            case meter.OUTPUT_TOKENS:
                return self.output_tokens
            case meter.COST:
                return self.cost_nano_usd
            case meter.REQUESTS:
                return self.requests
            case custom:
                return self.custom.get(custom, 0)


def counting_anew(before: Policy, after: Policy) -> tuple[str, ...]:
    """Return the budgets whose counters begin anew with another version, and that want to know.

    A counter goes on where name, meter, partition and window are the same.

    Args:
        before: The version that decided.
        after: The one that decides from then on.
    """
    return tuple(
        each.budget.name
        for each in after.budgets
        if can_backfill(each.budget) and not _goes_on(before.budget(each.budget.name), each.budget)
    )


def can_backfill(budget: Budget) -> bool:
    """Whether a budget's counters can begin with what was used before."""
    return (
        budget.backfill
        and budget.mode is not Mode.OFF
        and budget.window.kind not in NEVER_BACKFILLED
    )


def _goes_on(before: Budget | None, after: Budget) -> bool:
    return (
        before is not None
        and before.mode is not Mode.OFF
        and before.meter == after.meter
        and before.per == after.per
        and before.window.code == after.window.code
    )
