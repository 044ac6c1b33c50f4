"""Offers: amounts, output ranges, caps of each request, unknown prices, no budget.

Goal: what a request is offered before any counter is asked. Method: rows over `plan` and `decide`
for one or two budgets; `test_offer_by_brute_force` has their combinations.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, NOW, budget, decide, policy, request, without

from bursar.domain.answer import Decision, DenialKind, NoticeKind
from bursar.domain.errors import FieldInvalid
from bursar.domain.meter import AMOUNT_MAX
from bursar.domain.offer import Offer, plan

PRICE = {"input": "2", "output": "4", "cache_read": "1", "request": "0.000001"}
MODELS = [
    {"match": "m", "provider": "p", "price": PRICE, "max_output_tokens": 500},
    {"match": "small", "price": {"input": "1", "output": "1"}, "default_output_tokens": 50},
    {"match": "free", "price": {"input": "0", "output": "0"}},
]
USD = {"limit": {"usd": 1}}
TO_SMALL = {"at": 80, "switch_model": {"from": "*", "to": "small"}}


def first(*budgets: dict[str, Any], model: str = "m", settings: Any = None, **asked: Any) -> Offer:  # noqa: ANN401
    rules = policy(*budgets, models=MODELS, meters=["images"], **(settings or {}))
    return plan(request(model, **asked), rules, NOW).offers[0]


AMOUNTS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "total tokens": ({"limit": {"tokens": 9}}, (100, 1)),
    "input tokens": ({"limit": {"input_tokens": 9}}, (100, 0)),
    "output tokens": ({"limit": {"output_tokens": 9}}, (0, 1)),
    "requests": ({"limit": {"requests": 9}}, (3, 0)),
    "a custom meter": ({"limit": {"images": 9}}, (7, 0)),
    # 90 fresh at 2,000 nano-USD, 10 cached at 1,000, three calls at 1,000.
    "money": (USD, (90 * 2_000 + 10 * 1_000 + 3 * 1_000, 4_000)),
}


@pytest.mark.parametrize(("settings", "expected"), AMOUNTS.values(), ids=AMOUNTS)
def test_amounts(settings: dict[str, Any], expected: tuple[int, int]) -> None:
    """Goal: every meter is base + slope x output. Method: one request, a row for each meter."""
    asked = {"input_tokens": 100, "cache_read_tokens": 10, "requests": 3}
    offer = first(budget(**settings), **asked, max_output_tokens=5, custom_meters={"images": 7})
    [use] = offer.uses
    assert (use.base, use.slope) == expected
    assert use.amount(5) == expected[0] + 5 * expected[1]
    assert use.counts


def test_concurrency_counts_one_and_missing_custom_meters_count_nothing() -> None:
    """Goal: one open call is 1; a meter without an estimate needs none. Method: both."""  # case 37
    open_calls = without(budget(limit={"concurrency": 2}), "window")
    offer = first(open_calls, budget("i", limit={"images": 5}), max_output_tokens=5)
    assert [(use.base, use.slope) for use in offer.uses] == [(1, 0), (0, 0)]
    assert decide(policy(open_calls), request(), {"b": (0, 1)}).decision is Decision.GRANTED
    assert decide(policy(open_calls), request(), {"b": (0, 2)}).decision is Decision.DENIED


OUTPUT: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int, int]]] = {
    "as asked": ({}, {"max_output_tokens": 200}, (200, 200, 200)),
    "with a minimum": (
        {}, {"max_output_tokens": 200, "min_output_tokens": 50}, (50, 200, 200)),
    "as much as the model can": ({}, {"max_output_tokens": 500}, (500, 500, 500)),
    "one more is clamped": ({}, {"max_output_tokens": 501}, (500, 500, 500)),
    "a hostile size is clamped": ({}, {"max_output_tokens": 10**9}, (500, 500, 500)),
    "the policy's default": ({}, {}, (300, 300, 300)),
    "the model's default": ({}, {"model": "small"}, (50, 50, 50)),
    "a budget's default": ({"default_output_tokens": 70}, {}, (70, 70, 70)),
    "a budget's default before the model's": (
        {"default_output_tokens": 70}, {"model": "small"}, (70, 70, 70)),
    "a default is clamped too": ({"default_output_tokens": 900}, {}, (500, 500, 500)),
    "a default is no less than the minimum": ({}, {"min_output_tokens": 400}, (400, 400, 400)),
    "what is asked before any default": (
        {"default_output_tokens": 70}, {"max_output_tokens": 80}, (80, 80, 80)),
    "the context window of a listed model": (
        {}, {"model": "gpt-4", "max_output_tokens": 10**6}, (8_192, 8_192, 8_192)),
    "a model that nobody knows": (
        {}, {"model": "x", "max_output_tokens": 10**6}, (10**6, 10**6, 10**6)),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "asked", "expected"), OUTPUT.values(), ids=OUTPUT)
def test_output_range(
    settings: dict[str, Any], asked: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    """Goal: how much output is wanted, possible and needed. Method: rows."""  # case 21
    offer = first(budget(**settings), **asked, settings={"default_output_tokens": 300})
    assert (offer.output_min, offer.output_max, offer.output_wanted) == expected


def test_smallest_default_of_the_matching_budgets_counts() -> None:
    """Goal: of several defaults the smallest, of matching budgets only. Method: three budgets."""
    tight = budget("tight", default_output_tokens=5, scope={"team": "t"})
    offer = first(budget(default_output_tokens=70), budget("c", default_output_tokens=60), tight)
    assert offer.output_max == 60


def test_a_minimum_that_no_model_produces_is_the_callers_fault() -> None:
    """Goal: what can never be is said, with its field. Method: n and n+1."""
    assert first(budget(), min_output_tokens=500).output_min == 500
    with pytest.raises(FieldInvalid) as caught:
        first(budget(), min_output_tokens=501)
    [fault] = caught.value.faults
    assert fault.path == "estimate.min_output_tokens"
    assert fault.description == "is 501, but p/m produces 500 at the most"


def test_what_cannot_be_counted_is_refused() -> None:
    """Goal: no amount passes 2^53 - 1. Method: n and n+1, and a meter that is not declared."""
    images = budget(limit={"images": "unlimited"})
    assert first(images, custom_meters={"images": AMOUNT_MAX}).uses[0].base == AMOUNT_MAX
    with pytest.raises(FieldInvalid, match="on budget b, more than 9007199254740991"):
        first(budget(), input_tokens=AMOUNT_MAX, max_output_tokens=1)
    with pytest.raises(FieldInvalid, match="is no meter of the policy of acme"):
        first(images, custom_meters={"cats": 1})


def once(unit: str, amount: object, name: str = "cap", **settings: object) -> dict[str, Any]:
    return budget(name, limit={unit: amount}, window="request", **settings)


TRUNCATE = {"accepts": ("truncate_input",)}
# What is asked (of model m), and then: output, input cap, whether changed, or the kind of denial.
CAPS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], object]] = {
    "output within": ([once("output_tokens", 100)], {"max_output_tokens": 100}, (100, None, False)),
    "output above": ([once("output_tokens", 100)], {"max_output_tokens": 101}, (100, None, True)),
    "output above, with a minimum": (
        [once("output_tokens", 100)],
        {"max_output_tokens": 200, "min_output_tokens": 100}, (100, None, True)),
    "less than the minimum": (
        [once("output_tokens", 100)], {"max_output_tokens": 200, "min_output_tokens": 101}, 100),
    "no output named": ([once("output_tokens", 100)], {}, (100, None, False)),
    "one token is of use": (
        [once("output_tokens", 1)], {"max_output_tokens": 5}, (1, None, True)),
    "no output at all": ([once("output_tokens", 0)], {"max_output_tokens": 1}, 0),
    "the tighter of two": (
        [once("output_tokens", 100), once("output_tokens", 80, "c2")],
        {"max_output_tokens": 101}, (80, None, True)),
    "total within": (
        [once("tokens", 100)], {"input_tokens": 60, "max_output_tokens": 40}, (40, None, False)),
    "total above": (
        [once("tokens", 100)], {"input_tokens": 61, "max_output_tokens": 40}, (39, None, True)),
    "input alone is more than the total": (
        [once("tokens", 100)], {"input_tokens": 101, "max_output_tokens": 4}, 0),
    "input within": (
        [once("input_tokens", 50)], {"input_tokens": 50, "max_output_tokens": 4}, (4, 50, False)),
    "input above": ([once("input_tokens", 50)], {"input_tokens": 51, "max_output_tokens": 4}, 0),
    "input above, accepted": (
        [once("input_tokens", 50)],
        {"input_tokens": 51, "max_output_tokens": 4} | TRUNCATE, (4, 50, True)),
    "the tighter input": (
        [once("input_tokens", 50), once("input_tokens", 40, "c2")],
        {"input_tokens": 51, "max_output_tokens": 4} | TRUNCATE, (4, 40, True)),
    # 1,000 nano-USD for the call, 4,000 a token of output, 2,000 of input.
    "money within": ([once("usd", "0.000041")], {"max_output_tokens": 10}, (10, None, False)),
    "money above": ([once("usd", "0.000041")], {"max_output_tokens": 11}, (10, None, True)),
    "calls above": ([once("requests", 2)], {"requests": 3, "max_output_tokens": 1}, 0),
    "overdraft on top": (
        [once("output_tokens", 100, overdraft={"percent": 10})],
        {"max_output_tokens": 110}, (110, None, False)),
    "headroom by priority": (
        [once("output_tokens", 100, priority_headroom={"low": 70})],
        {"max_output_tokens": 100, "priority": "LOW"}, (70, None, True)),
    "headroom of the input": (
        [once("input_tokens", 50, priority_headroom={"low": 70})],
        {"input_tokens": 50, "max_output_tokens": 4, "priority": "LOW"} | TRUNCATE, (4, 35, True)),
    "overdraft of the input": (
        [once("input_tokens", 50, overdraft={"percent": 10})],
        {"input_tokens": 60, "max_output_tokens": 4} | TRUNCATE, (4, 55, True)),
    "warnings cap nothing": (
        [once("output_tokens", 1, mode="warn"), once("input_tokens", 1, "c2", mode="observe")],
        {"input_tokens": 9, "max_output_tokens": 9} | {"accepts": ALL}, (9, None, False)),
}  # fmt: skip


@pytest.mark.parametrize(("budgets", "asked", "expected"), CAPS.values(), ids=CAPS)
def test_caps_of_each_request(
    budgets: list[dict[str, Any]], asked: dict[str, Any], expected: object
) -> None:
    """Goal: a cap of each request cuts the output, and the input where that is accepted.

    What is left must be of use. Method: rows; a number is the output that a denial says would fit.
    """
    answer = decide(policy(*budgets, models=MODELS), request("m", **asked))
    if isinstance(expected, int):
        assert answer.denial is not None
        assert answer.denial.kind is DenialKind.NEVER
        assert answer.denial.affordable_output_tokens == expected
        assert answer.denial.binding is not None
        assert answer.denial.binding.values.held == 0
        return
    changed = answer.decision is Decision.GRANTED_DEGRADED
    assert (answer.max_output_tokens, answer.max_input_tokens, changed) == expected


def test_truncated_input_counts_as_the_dearest_that_it_may_be() -> None:
    """Goal: a cut estimate is still an upper bound. Method: cached tokens may all be cut away."""
    offer = first(
        once("input_tokens", 50),
        budget("usd", **USD),
        input_tokens=100,
        cache_read_tokens=90,
        max_output_tokens=1,
        **TRUNCATE,
    )
    assert offer.input_tokens == 50
    assert [use.base for use in offer.uses] == [50, 50 * 2_000 + 1_000]
    assert offer.input_budgets == ("cap",)


UNPRICED = {
    "deny": ("deny", {}, False),
    "allow": ("allow", {}, True),
    "a fallback": ({"fallback": {"input": "10", "output": "20"}}, {}, True),
    "no money budget": ("deny", {"limit": {"tokens": 10**6}}, True),
    "another team's money": ("deny", {"scope": {"team": "t"}}, True),
    "observed money": ("deny", {"mode": "observe"}, True),
    "money that warns": ("deny", {"mode": "warn"}, True),
    "money switched off": ("deny", {"mode": "off"}, True),
    "unlimited money": ("deny", {"limit": {"usd": "unlimited"}}, False),
}


@pytest.mark.parametrize(("unpriced", "settings", "passes"), UNPRICED.values(), ids=UNPRICED)
def test_unknown_price(unpriced: object, settings: dict[str, Any], passes: bool) -> None:
    """Goal: an unknown price is refused, counted at the fallback or flagged, never silently 0.

    Method: rows of the policy and of the budget that applies. Cases 6 and 85.
    """
    rules = policy(budget(**(USD | settings)), models=MODELS, unpriced=unpriced)
    answer = decide(rules, request("nobody-knows", input_tokens=10, max_output_tokens=1))
    assert (answer.denial is None) is passes
    counted = any(each.counter.budget.meter == "cost" for each in answer.counters)
    assert answer.unpriced is (counted or not passes)
    if answer.denial is not None:
        assert answer.denial.kind is DenialKind.UNPRICED
        assert "'nobody-knows'" in answer.denial.explanation
        assert answer.denial.retry_after_ms is None
        assert answer.directive.message
    elif counted:
        assert NoticeKind.UNPRICED in {each.kind for each in answer.directive.notices}
        fallback = 10 * 10_000 + 20_000
        expected = fallback if isinstance(unpriced, dict) else 0
        assert [each.amount for each in answer.counters] == [expected]


def test_zero_is_a_price() -> None:
    """Goal: a free model passes an exhausted money budget and is not flagged. Method: limit 0."""
    answer = decide(policy(budget(limit={"usd": 0}), models=MODELS), request("free"))
    assert answer.decision is Decision.GRANTED
    assert not answer.unpriced


def test_fallback_model_is_counted_at_its_own_price_and_budgets() -> None:
    """Goal: a cheaper model is no free ride. Method: amounts and counters of both. Case 95."""
    rules = policy(
        budget("all", ladder=[TO_SMALL], **USD),
        budget("m-only", scope={"model": "m"}),
        budget("small-only", scope={"model": "small"}),
        models=MODELS,
    )
    asked = request("m", accepts=ALL, input_tokens=10, max_output_tokens=5)
    as_asked, switched = plan(asked, rules, NOW).offers
    names = [[use.counter.budget.name for use in each.uses] for each in (as_asked, switched)]
    assert names == [["all", "m-only"], ["all", "small-only"]]
    assert [each.uses[0].slope for each in (as_asked, switched)] == [4_000, 1_000]
    answer = decide(rules, asked, {"all": (900_000_000, 0), "small-only": (1_000, 0)})
    assert answer.denial is not None
    assert answer.denial.binding is not None
    assert answer.denial.binding.counter.budget.name == "small-only"


def test_a_priced_fallback_helps_an_unpriced_model() -> None:
    """Goal: where the model asked for has no price, what has one is offered. Method: a ladder."""
    rules = policy(budget(ladder=[TO_SMALL], **USD), models=MODELS)
    answer = decide(rules, request("nobody-knows", accepts=ALL, max_output_tokens=5))
    assert answer.decision is Decision.GRANTED_DEGRADED
    assert answer.directive.switch_model is not None
    assert answer.directive.switch_model.budgets == ("b",)
    assert not answer.unpriced
    refused = decide(rules, request("nobody-knows", max_output_tokens=5))
    assert refused.denial is not None
    assert refused.denial.kind is DenialKind.UNPRICED


def test_a_fallback_that_no_budget_counts_is_flagged() -> None:
    """Goal: unpriced as asked and unbudgeted as granted are two things. Method: a narrow budget."""
    rules = policy(budget(ladder=[TO_SMALL], scope={"model": "nobody*"}, **USD), models=MODELS)
    answer = decide(rules, request("nobody-knows", accepts=ALL, max_output_tokens=5))
    assert answer.decision is Decision.GRANTED_DEGRADED
    assert (answer.unbudgeted, answer.unpriced) == (True, False)


@pytest.mark.parametrize("unbudgeted", ["allow", "deny"])
@pytest.mark.parametrize("budgets", [[], [budget(mode="off")], [budget(scope={"team": "t"})]])
def test_no_budget(unbudgeted: str, budgets: list[dict[str, Any]]) -> None:
    """Goal: without a budget the policy decides, and the answer says so. Method: all ways."""
    rules = policy(*budgets, unbudgeted=unbudgeted)
    answer = decide(rules, request(max_output_tokens=5))
    assert answer.unbudgeted
    assert not answer.unpriced
    assert answer.counters == ()
    if unbudgeted == "allow":
        assert answer.decision is Decision.GRANTED
        assert [each.kind for each in answer.directive.notices] == [NoticeKind.UNBUDGETED]
    else:
        assert answer.denial is not None
        assert answer.denial.kind is DenialKind.UNBUDGETED
        assert "unbudgeted: deny" in answer.denial.explanation


def test_an_unlimited_budget_is_a_budget() -> None:
    """Goal: unlimited is not absent. Method: the stricter policy lets it pass and counts it."""
    rules = policy(budget(limit={"tokens": "unlimited"}), unbudgeted="deny")
    answer = decide(rules, request(max_output_tokens=5), {"b": (10**15, 0)})
    assert answer.decision is Decision.GRANTED
    assert not answer.unbudgeted
    assert [each.amount for each in answer.counters] == [5]
