"""What the server counts, by the OpenTelemetry API. Labels have few values, never a subject's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from bursar.domain.answer import ReserveAnswer
from bursar.domain.decision import exceeded
from bursar.ledger.ledger import Figures

_meter = metrics.get_meter("bursar")

_decisions = _meter.create_counter(
    "bursar.decisions", unit="{decision}", description="Decisions by kind and, if denied, by why."
)
_exceeded = _meter.create_counter(
    "bursar.budgets.exceeded",
    unit="{decision}",
    description="Grants that a budget in mode warn or observe would have denied, by budget.",
)
_not_enforced = _meter.create_counter(
    "bursar.grants.not_enforced",
    unit="{decision}",
    description="Grants without a check, because nothing could be decided and every budget in the "
    "way was open, by reason.",
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

_refused = _meter.create_counter(
    "bursar.load.refused",
    unit="{refusal}",
    description="Calls and operations that were refused because of load: `share` is `org` where an "
    "org had its part, `all` where everything was taken.",
)


def count_crossing(percent: int) -> None:
    """Count a threshold that was reached."""
    _crossed.add(1, {"percent": percent})


def count_decision(answer: ReserveAnswer) -> None:
    """Count a decision; a repeated one was counted when it was made."""
    if answer.replayed:
        return
    kind = answer.denial.kind.value if answer.denial else ""
    labels = {"decision": answer.decision.value, "kind": kind, "unbudgeted": answer.unbudgeted}
    _decisions.add(1, labels)
    if answer.denial is not None:
        return
    if answer.not_enforced:
        _not_enforced.add(1, {"reason": answer.not_enforced})
    for status in exceeded(answer.counters):
        budget = status.counter.budget
        _exceeded.add(
            1, {"org": status.counter.org, "budget": budget.name, "mode": str(budget.mode)}
        )


def count_replay(method: str, replayed: bool) -> None:
    """Count a call that had been carried out before, if it had."""
    if replayed:
        _replayed.add(1, {"method": method})


def count_error(method: str, reason: str, calls: int = 1) -> None:
    """Count a failed call, or several that failed alike."""
    _errors.add(calls, {"method": method, "reason": reason})


def count_expired(holds: int, charged: int) -> None:
    """Count what a sweep ended."""
    _expired.add(holds)
    _charged.add(charged)


def count_refused(what: str, share: str, refused: int) -> None:
    """Count what was refused because of load.

    Args:
        what: `calls` or `operations`.
        share: `org` or `all`: whose bound it met.
        refused: How many were refused together.
    """
    _refused.add(refused, {"of": what, "share": share})


class InProgress(Protocol):
    """Knows how much of something is in progress."""

    what: str
    in_progress: int


_watched: WeakSet[InProgress] = WeakSet()


def watch_in_progress(admission: InProgress) -> None:
    """Measure what is in progress whenever metrics are read, as long as it is used."""
    _watched.add(admission)


def _observe_in_progress(_: CallbackOptions) -> Iterable[Observation]:
    found: dict[str, int] = {}
    for each in list(_watched):
        found[each.what] = found.get(each.what, 0) + each.in_progress
    return [Observation(count, {"of": what}) for what, count in found.items()]


_meter.create_observable_gauge(
    "bursar.load.in_progress",
    [_observe_in_progress],
    unit="{number}",
    description="Calls and operations in progress.",
)


_FIGURES = (
    ("bursar.ledger.lag", "ms", "Age of the oldest call that is not recorded."),
    ("bursar.ledger.drift", "{number}", "Numbers in Redis that differ from the record."),
    ("bursar.shards.refused", "{shard}", "Shards that can be neither recorded nor rebuilt."),
    ("bursar.shards.kept", "{shard}", "Shards that this server records."),
    ("bursar.shards.cold", "{shard}", "Shards that cannot decide."),
)


def watch_ledger(figures: Callable[[], Figures]) -> None:
    """Measure the record whenever metrics are read.

    Args:
        figures: Returns how it stands now.
    """
    fields = ("lag_ms", "drift", "refused_shards", "kept_shards", "cold_shards")
    for field, (name, unit, description) in zip(fields, _FIGURES, strict=True):

        def observe(_: CallbackOptions, field: str = field) -> Iterable[Observation]:
            return [Observation(getattr(figures(), field))]

        _meter.create_observable_gauge(name, [observe], unit=unit, description=description)
