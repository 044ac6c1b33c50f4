"""Tells of alert thresholds in log and metric, for each budget, window and threshold."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from bursar.domain.alert import Crossing, crossings
from bursar.domain.answer import SettleAnswer
from bursar.domain.directive import format_amount
from bursar.service.metrics import count_crossing

TOLD_MAX = 10_000
"""Crossings that are remembered."""

_log = structlog.get_logger(__name__)


class Alerts:
    """Tells of every crossing once, as far as this process knows.

    Exactly one settlement of a window crosses a threshold, and its answer shows that however
    often it is repeated. A repeated answer is told of only where the first one was not: Redis had
    booked it, but its reply was lost on the way here. Where the first one was told of by another
    server, listeners hear of the same budget, window and threshold twice: better than never.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def tell(self, answer: SettleAnswer) -> None:
        """Tell of the thresholds that a settlement crossed."""
        for crossing in crossings(answer.counters):
            name = (answer.reservation_id, crossing.status.counter.id, crossing.percent)
            if answer.replayed and name in self._told:
                continue
            self._told[name] = None
            if len(self._told) > TOLD_MAX:
                self._told.popitem(last=False)
            _tell(crossing)


def _tell(crossing: Crossing) -> None:
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
