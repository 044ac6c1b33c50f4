"""What the server counts, read in its own process."""

from __future__ import annotations

from collections import Counter
from functools import cache

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

Point = tuple[str, tuple[tuple[str, object], ...]]
"""A metric's name and its attributes, sorted."""


@cache
def _reader() -> InMemoryMetricReader:
    """Begin to count: a process has one provider for good."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return reader


class Counts:
    """What was counted since it was made."""

    def __init__(self) -> None:
        self._before = _points()

    def of(self, name: str, *attributes: str) -> dict[object, int]:
        """Return one metric's counts by the values of some of its attributes.

        Args:
            name: Of the metric.
            attributes: One: keys are its values; several: keys are tuples; none: the key is ().
        """
        found: Counter[object] = Counter()
        for (metric, point), count in (_points() - self._before).items():
            if metric == name:
                values = tuple(dict(point)[attribute] for attribute in attributes)
                found[values[0] if len(values) == 1 else values] += count
        return dict(found)

    def attributes(self) -> set[object]:
        """Return every value of every attribute that was counted."""
        return {value for _, point in _points() - self._before for _, value in point}


def _points() -> Counter[Point]:
    data = _reader().get_metrics_data()
    found: Counter[Point] = Counter()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    key = (metric.name, tuple(sorted((point.attributes or {}).items())))
                    found[key] += int(point.value)  # type: ignore[union-attr]
    return found
