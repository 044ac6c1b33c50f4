"""Small builders for tests of the domain: policies from mappings, requests, counters, and a picker.

`pick` is the reserve script in ten lines of Python: it takes the first offer that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bursar.domain.answer import ReserveAnswer
from bursar.domain.budget import Counter, CounterStatus, CounterValues, Degradation, Priority
from bursar.domain.decision import deny, grant
from bursar.domain.errors import PolicyInvalid
from bursar.domain.meter import COUNTER_MAX, Estimate
from bursar.domain.offer import Offer, Plan, plan
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_document import PolicyDocument
from bursar.domain.policy_validation import validate_policy
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ACCEPTS = {each.value: each for each in Degradation}
ALL = tuple(ACCEPTS)
LEVELS = ("team", "feature", "agent", "user", "task", "labels")


def ms(text: str) -> int:
    """Return a time such as 2026-06-01T12:00:00Z in ms since the epoch."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


NOW = ms("2026-06-10T12:00:00Z")


def budget(name: str = "b", **settings: object) -> dict[str, Any]:
    """Return a budget of a document: 1,000 tokens a day, but for what is given."""
    return {"name": name, "limit": {"tokens": 1000}, "window": "day"} | settings


def without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def document(*budgets: dict[str, Any], **settings: object) -> PolicyDocument:
    content = {"org": "acme", "budgets": list(budgets)} | settings
    return validate_policy(content, "test")


def policy(*budgets: dict[str, Any], **settings: object) -> Policy:
    return compile_policy(document(*budgets, **settings))


def faults_of(content: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with a document: descriptions by path."""
    with pytest.raises(PolicyInvalid) as caught:
        validate_policy(content, "test")
    assert caught.value.faults
    return {fault.path: fault.description for fault in caught.value.faults}


def request(
    model: str = "m",
    provider: str = "",
    accepts: tuple[str, ...] = (),
    priority: str = "NORMAL",
    closing: bool = False,
    **given: Any,  # noqa: ANN401 - levels of the subject and parts of the estimate
) -> ReserveRequest:
    """Return a request of org acme; levels and parts of the estimate side by side."""
    who = {key: given.pop(key) for key in LEVELS if key in given}
    return ReserveRequest(
        request_id="r",
        subject=Subject(OrgId("acme"), **who),
        target=Target(provider, model),
        estimate=Estimate(**given),
        ttl_ms=60_000,
        priority=Priority[priority],
        accepts=frozenset(ACCEPTS[each] for each in accepts),
        closing=closing,
    )


def holding(
    planned: Plan, state: Mapping[str, CounterValues | tuple[int, ...]]
) -> dict[str, CounterValues]:
    """Return what the counters of a plan's offers hold, from values by budget name.

    Args:
        planned: Whose counters.
        state: (committed, held, credit), or all of it; what is left out is 0.
    """
    found = {}
    for offer in planned.offers:
        for use in offer.uses:
            if use.counts:
                given = state.get(use.counter.budget.name, (0, 0))
                values = given if isinstance(given, CounterValues) else CounterValues(*given)
                found[use.counter.id] = values
    return found


def pick(planned: Plan, values: Mapping[str, CounterValues]) -> tuple[Offer, int] | None:
    """Return the first offer that fits, and its output."""
    for offer in planned.offers:
        output, fits = offer.output_max, True
        for use in offer.uses:
            now = values[use.counter.id] if use.counts else CounterValues(0, 0)
            ceiling = COUNTER_MAX if use.ceiling is None else use.ceiling
            room = ceiling + now.credit - now.committed - now.held - use.base
            fits = fits and room >= 0
            output = min(output, room // use.slope) if use.slope else output
        if fits and output >= offer.output_min:
            return offer, output
    return None


def decide(
    policy: Policy,
    asked: ReserveRequest,
    state: Mapping[str, CounterValues | tuple[int, ...]] | None = None,
    now_ms: int = NOW,
) -> ReserveAnswer:
    """Return the answer to a request while the counters hold what is given by budget name."""
    planned = plan(asked, policy, now_ms)
    values = holding(planned, state or {})
    picked = pick(planned, values)
    if picked is None:
        return deny(planned, values)
    offer, output = picked
    after = []
    for use in offer.uses:
        if use.counts:
            now = values[use.counter.id]
            held = now.held + use.amount(output)
            after.append(CounterValues(now.committed, held, now.credit))
    return grant(planned, offer, output, after)


def status(
    given: dict[str, Any],
    committed: int = 0,
    held: int = 0,
    credit: int = 0,
    amount: int = 0,
    now_ms: int = NOW,
) -> CounterStatus:
    """Return how the counter of a budget stands."""
    compiled = policy(given, meters=["images"])
    found = compiled.budgets[0].budget
    attributes = {name: f"some {name}" for name in found.per}
    counter = compiled.counter(found, attributes, now_ms)
    assert isinstance(counter, Counter)
    ceiling = found.share(100) if found.enforced else None
    return CounterStatus(counter, CounterValues(committed, held, credit), ceiling, amount)
