"""What the server counts, by the OpenTelemetry API. Labels have few values, never a subject's."""

from __future__ import annotations

from opentelemetry import metrics

from bursar.domain.answer import ReserveAnswer
from bursar.domain.decision import exceeded

_meter = metrics.get_meter("bursar")

_decisions = _meter.create_counter(
    "bursar.decisions", unit="{decision}", description="Decisions by kind and, if denied, by why."
)
_exceeded = _meter.create_counter(
    "bursar.budgets.exceeded",
    unit="{decision}",
    description="Grants that a budget in mode warn or observe would have denied, by budget.",
)
_errors = _meter.create_counter(
    "bursar.errors", unit="{call}", description="Calls that failed, by method and reason."
)
_expired = _meter.create_counter(
    "bursar.holds.expired", unit="{hold}", description="Holds that nobody settled in time."
)
_charged = _meter.create_counter(
    "bursar.holds.charged",
    unit="{counter}",
    description="Counters on which an expired hold was booked as spent.",
)
_replayed = _meter.create_counter(
    "bursar.replays", unit="{call}", description="Calls that had been carried out before."
)
_crossed = _meter.create_counter(
    "bursar.thresholds.crossed",
    unit="{threshold}",
    description="Alert thresholds that a budget's committed amount reached.",
)


def count_crossing(percent: int) -> None:
    """Count a threshold that was reached."""
    _crossed.add(1, {"percent": percent})


def count_decision(answer: ReserveAnswer) -> None:
    """Count a decision; a repeated one was counted when it was made."""
    if answer.replayed:
        return
    kind = str(answer.denial.kind) if answer.denial else ""
    _decisions.add(
        1,
        {"decision": str(answer.decision), "kind": kind, "unbudgeted": answer.unbudgeted},
    )
    if answer.denial is not None:
        return
    for status in exceeded(answer.counters):
        budget = status.counter.budget
        _exceeded.add(
            1, {"org": status.counter.org, "budget": budget.name, "mode": str(budget.mode)}
        )


def count_replay(method: str, replayed: bool) -> None:
    """Count a call that had been carried out before, if it had."""
    if replayed:
        _replayed.add(1, {"method": method})


def count_error(method: str, reason: str) -> None:
    """Count a failed call."""
    _errors.add(1, {"method": method, "reason": reason})


def count_expired(holds: int, charged: int) -> None:
    """Count what a sweep ended."""
    _expired.add(holds)
    _charged.add(charged)
