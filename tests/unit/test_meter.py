"""Meters: their names, their bounds, and what Lua can count exactly.

Goal: the constants hold what the design says of doubles and int64. Method: the figures, and one
request on every meter at its bound.
"""

from __future__ import annotations

import pytest
from domain_builders import NOW, budget, policy, request, without

from bursar.domain import meter
from bursar.domain.offer import plan


def test_amounts_stay_exact_in_doubles_and_counters_in_int64() -> None:
    """Goal: what a script computes is exact. Method: n and n+1 as a double."""
    assert float(meter.AMOUNT_MAX) == meter.AMOUNT_MAX
    assert float(meter.AMOUNT_MAX + 2) != meter.AMOUNT_MAX + 2
    assert meter.AMOUNT_MAX // meter.NANO_PER_USD == 9_007_199
    # One more amount on the fullest counter still fits.
    assert meter.COUNTER_MAX + meter.AMOUNT_MAX < 2**63


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("tokens", meter.TOTAL_TOKENS),
        ("input_tokens", meter.INPUT_TOKENS),
        ("output_tokens", meter.OUTPUT_TOKENS),
        ("usd", meter.COST),
        ("requests", meter.REQUESTS),
        ("concurrency", meter.CONCURRENCY),
        ("images", "images"),
    ],
)
def test_units_are_meters(unit: str, name: str) -> None:
    """Goal: each unit of a document counts its meter. Method: all of them. Case 89."""
    given_budget = without(budget(limit={unit: 5}), "window")
    given_budget |= {} if unit == "concurrency" else {"window": "day"}
    [compiled] = policy(given_budget, meters=["images"]).budgets
    assert compiled.budget.meter == name
    assert (name in meter.STANDARD_METERS) == (name != "images")


def test_a_request_counts_on_every_meter_that_is_limited() -> None:
    """Goal: one request, one amount on each. Method: seven budgets, one of each unit. Case 139."""
    units = {"tokens": 30, "input_tokens": 10, "output_tokens": 20, "requests": 2, "images": 7}
    budgets = [budget(unit.replace("_", "-"), limit={unit: 1_000}) for unit in units]
    rules = policy(
        *budgets,
        budget("usd", limit={"usd": 1}),
        without(budget("concurrency", limit={"concurrency": 9}), "window"),
        meters=["images"],
        models=[{"match": "m", "price": {"input": "1", "output": "2", "request": "0.1"}}],
    )
    asked = request(input_tokens=10, max_output_tokens=20, requests=2, custom_meters={"images": 7})
    [offer] = plan(asked, rules, NOW).offers
    amounts = [use.amount(20) for use in offer.uses]
    assert amounts == [*units.values(), 10 * 1_000 + 20 * 2_000 + 2 * 100_000_000, 1]
