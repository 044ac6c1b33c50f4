"""Tells of alert thresholds, once for each budget, window and threshold: in log and metric."""

from __future__ import annotations

import structlog

from bursar.domain.alert import crossings
from bursar.domain.answer import SettleAnswer
from bursar.domain.directive import format_amount
from bursar.service.metrics import count_crossing

_log = structlog.get_logger(__name__)


def tell_crossings(answer: SettleAnswer) -> None:
    """Tell of the thresholds that a settlement crossed; a repeated call tells nothing."""
    if answer.replayed:
        return
    for crossing in crossings(answer.counters):
        counter = crossing.status.counter
        budget = counter.budget
        count_crossing(crossing.percent)
        _log.warning(
            "budget_threshold_crossed",
            org=counter.org,
            budget=budget.name,
            partition=dict(zip(budget.per, counter.partition, strict=True)),
            percent=crossing.percent,
            committed=format_amount(crossing.status.values.committed, budget.meter),
            limit=format_amount(budget.limit or 0, budget.meter),
            window_start_ms=counter.instance.start_ms,
        )
