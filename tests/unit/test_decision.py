"""Decisions: grants, denials with what binds and what would pass, and when to come back.

Goal: every part of an answer is right for the counters as they stand. Method: rows over `decide`,
with what counters hold by budget name.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, NOW, budget, decide, holding, ms, policy, request, without

from bursar.domain.answer import Decision, Denial, DenialKind
from bursar.domain.budget import CounterValues
from bursar.domain.decision import HELD_RETRY_MS, STATUSES_MAX, deny, exceeded, grant
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.offer import plan

HOUR = 3_600_000
DAY_LEFT = ms("2026-06-11T00:00:00Z") - NOW
HELD, SPENT, NEVER = DenialKind.HELD, DenialKind.SPENT, DenialKind.NEVER
ASKED = {"input_tokens": 100, "max_output_tokens": 200}


def denied(*budgets: dict[str, Any], state: Any, **asked: Any) -> Denial:  # noqa: ANN401
    answer = decide(policy(*budgets), request(**(ASKED | asked)), state)
    assert answer.decision is Decision.DENIED
    assert answer.reservation_id == ""
    assert answer.max_output_tokens == 0
    assert answer.target is None
    assert answer.denial is not None
    return answer.denial


# What the counter holds (committed, held, credit), and kind, affordable output, retry.
KINDS: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[Any, ...]]] = {
    "held by others": ({}, (0, 701), (HELD, 199, HELD_RETRY_MS)),
    "spent": ({}, (701, 0), (SPENT, 199, DAY_LEFT)),
    "spent and held": ({}, (701, 150), (SPENT, 49, DAY_LEFT)),
    "a little spent, the rest held": ({}, (700, 1), (HELD, 199, HELD_RETRY_MS)),
    "nothing left": ({}, (1_000, 0), (SPENT, 0, DAY_LEFT)),
    "not even the input fits": ({}, (901, 0), (SPENT, 0, DAY_LEFT)),
    "over the limit": ({}, (5_000, 0), (SPENT, 0, DAY_LEFT)),
    "larger than the limit": ({"limit": {"tokens": 299}}, (0, 0), (NEVER, 199, None)),
    "larger than the limit, which is held": (
        {"limit": {"tokens": 299}}, (0, 50), (NEVER, 149, None)),
    "a limit of nothing": ({"limit": {"tokens": 0}}, (0, 0), (NEVER, 0, None)),
    "credit makes room": ({"limit": {"tokens": 299}}, (2, 0, 2), (SPENT, 199, DAY_LEFT)),
    "overdraft makes room": (
        {"limit": {"tokens": 299}, "overdraft": {"tokens": 1}}, (1, 0), (SPENT, 199, DAY_LEFT)),
    "past a rung": ({"ladder": [{"at": 50, "deny": True}]}, (201, 0), (SPENT, 199, DAY_LEFT)),
    "more than a rung ever allows": (
        {"ladder": [{"at": 20, "deny": True}]}, (0, 0), (NEVER, 100, None)),
    "a task has no known end": (
        {"window": "task", "per": ["task"]}, (900, 0), (SPENT, 0, None)),
    "an hour": ({"window": "hour"}, (900, 0), (SPENT, 0, HOUR)),
    "a fixed window": (
        {"window": {"from": "2026-01-01T00:00:00Z", "until": "2026-06-10T13:00:00Z"}},
        (900, 0), (SPENT, 0, HOUR)),
    # A cap that is not accepted: who asks for no more than it may fill the budget further.
    "less would satisfy a rung": (
        {"ladder": [{"at": 80, "cap_output": 50}]}, (810, 0), (SPENT, 50, DAY_LEFT)),
    "less would, but there is no room": (
        {"ladder": [{"at": 80, "cap_output": 50}]}, (870, 0), (SPENT, 30, DAY_LEFT)),
    "a terminal rung is not satisfied by less": (
        {"ladder": [{"at": 80, "cap_output": 50}, {"at": 85, "deny": True}]},
        (740, 0), (SPENT, 10, DAY_LEFT)),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "state", "expected"), KINDS.values(), ids=KINDS)
def test_one_budget(
    settings: dict[str, Any], state: tuple[int, ...], expected: tuple[Any, ...]
) -> None:
    """Goal: kind, affordable output and retry of a denial. Method: a row for each. Case 35."""
    denial = denied(budget(**settings), state={"b": state}, task="t")
    found = (denial.kind, denial.affordable_output_tokens, denial.retry_after_ms)
    assert found == expected
    assert denial.binding is not None
    assert denial.binding.counter.budget.name == "b"
    assert denial.binding.values == CounterValues(*state)
    assert [each.kind for each in denial.counter_offers] == [denial.kind]


def rolled(*buckets: tuple[int, int]) -> CounterValues:
    """Return a rolling counter from (age in buckets, amount), oldest first."""
    found = tuple((NOW // 1_000 - age, amount) for age, amount in buckets)
    return CounterValues(sum(amount for _, amount in buckets), 0, 0, found)


ROLLING = {
    "one bucket": (rolled((10, 800)), 51),
    "the oldest that counts": (rolled((60, 800)), 1),
    "the newest": (rolled((0, 800)), 61),
    "as many as it takes": (rolled((40, 50), (30, 60), (20, 690)), 31),
    "not one more": (rolled((40, 100), (30, 60), (20, 640)), 21),
    "what the buckets do not explain": (CounterValues(800, 0), 60),
}


@pytest.mark.parametrize(("values", "seconds"), ROLLING.values(), ids=ROLLING)
def test_when_a_rolling_window_frees_room(values: CounterValues, seconds: int) -> None:
    """Goal: retry_after is when the bucket leaves, whole. Method: a minute in buckets of 1 s."""
    denial = denied(budget(window={"rolling": "1m"}), state={"b": values})
    assert (denial.kind, denial.retry_after_ms) == (SPENT, seconds * 1_000)


# Names, what each holds, and which binds with what kind and retry.
BINDING: dict[str, tuple[list[dict[str, Any]], dict[str, Any], tuple[Any, ...]]] = {
    "the one without room": ([budget("a"), budget("c")], {"c": (900, 0)}, ("c", SPENT, DAY_LEFT)),
    "spent before held": (
        [budget("a"), budget("c")], {"a": (0, 900), "c": (900, 0)}, ("c", SPENT, DAY_LEFT)),
    "never before spent": (
        [budget("a"), budget("c", limit={"tokens": 5})], {"a": (900, 0)}, ("c", NEVER, None)),
    "the later of two ends": (
        [budget("a"), budget("c", window="hour")],
        {"a": (900, 0), "c": (900, 0)}, ("a", SPENT, DAY_LEFT)),
    "an open end is later than any": (
        [budget("a"), budget("c", window="task", per="task")],
        {"a": (900, 0), "c": (900, 0)}, ("c", SPENT, None)),
    "a cap of each request": (
        [budget("a"), budget("c", limit={"requests": 0}, window="request")],
        {"a": (900, 0)}, ("c", NEVER, None)),
}  # fmt: skip


@pytest.mark.parametrize(("budgets", "state", "expected"), BINDING.values(), ids=BINDING)
def test_what_binds(
    budgets: list[dict[str, Any]], state: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Goal: of several budgets that refuse, the one that does longest is named. Method: rows."""
    denial = denied(*budgets, state=state, task="t")
    assert denial.binding is not None
    found = (denial.binding.counter.budget.name, denial.kind, denial.retry_after_ms)
    assert found == expected


def test_affordable_is_what_every_budget_has_room_for() -> None:
    """Goal: the tightest budget decides what would fit, in its own unit. Method: three meters."""
    rules = policy(
        budget("tokens"),
        budget("output", limit={"output_tokens": 100}),
        budget("usd", limit={"usd": "0.001"}),
        models=[{"match": "m", "price": {"input": "1", "output": "10"}}],
    )
    # 100,000 nano-USD of input, 10,000 a token of output: 90 tokens are left of a milli-dollar.
    for state, expected in (({}, 90), ({"output": (15, 0)}, 85), ({"tokens": (820, 0)}, 80)):
        answer = decide(rules, request(**ASKED), state)
        assert answer.denial is not None
        assert answer.denial.affordable_output_tokens == expected
        assert decide(rules, request(input_tokens=100, max_output_tokens=expected), state).target


def test_the_offer_that_passes_soonest_is_told() -> None:
    """Goal: of several offers the denial speaks of the one that could pass first.

    Method: a switch to a model whose own budget is only held, and then to one that is spent.
    """
    to_small = [{"at": 50, "switch_model": {"from": "m", "to": "small"}}]
    budgets = (
        budget("all", ladder=to_small),
        budget("small", scope={"model": "small"}, limit={"tokens": 400}),
    )
    held = {"all": (600, 0), "small": (0, 200)}
    denial = denied(*budgets, state=held, accepts=ALL)
    assert denial.binding is not None
    assert (denial.binding.counter.budget.name, denial.kind) == ("small", HELD)
    seen = [
        (each.target.model, each.binding_budget, each.kind, each.affordable_output_tokens)
        for each in denial.counter_offers
    ]
    assert seen == [("m", "all", SPENT, 0), ("small", "small", HELD, 100)]
    spent = {"all": (600, 0), "small": (200, 0)}
    denial = denied(*budgets, state=spent, accepts=ALL)
    assert denial.binding is not None
    # Both pass at the end of the day: the more modest one is told.
    assert denial.binding.counter.budget.name == "small"
    assert [each.retry_after_ms for each in denial.counter_offers] == [DAY_LEFT, DAY_LEFT]


def test_input_that_would_fit_is_told() -> None:
    """Goal: a cap on input says how much may be sent. Method: with and without consent to cut."""
    cap = budget("cap", limit={"input_tokens": 60}, window="request")
    denial = denied(cap, state={})
    assert denial.affordable_input_tokens == 60
    assert "cut the input to 60 tokens" in denial.explanation
    denial = denied(cap, budget(), state={"b": (950, 0)}, accepts=("truncate_input",))
    assert denial.affordable_input_tokens is None


EXPLANATIONS = {
    "spent": (
        {}, (800, 0),
        "budget b has no room: limit 1,000 tokens, committed 800 tokens, held 0 tokens; needed "
        "300 tokens; 100 output tokens would fit; room comes back in 12 h"),
    "held": (
        {}, (0, 900),
        "budget b has no room: limit 1,000 tokens, committed 0 tokens, held 900 tokens; needed "
        "300 tokens; others hold the room; it may come free at any moment"),
    "never": (
        {"limit": {"tokens": 200}}, (0, 0),
        "budget b has no room: limit 200 tokens, committed 0 tokens, held 0 tokens; needed 300 "
        "tokens; 100 output tokens would fit; it can never fit"),
    "a rung": (
        {"ladder": [{"at": 50, "deny": True}], "window": "task", "per": "task"}, (401, 0),
        "budget b has no room: limit 1,000 tokens, committed 401 tokens, held 0 tokens; this "
        "request may fill it to 500 tokens; needed 300 tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "state", "text"), EXPLANATIONS.values(), ids=EXPLANATIONS)
def test_explanation(settings: dict[str, Any], state: tuple[int, ...], text: str) -> None:
    """Goal: a developer reads budget, limit, spent, held and what would pass. Cases 26 and 74."""
    assert denied(budget(**settings), state={"b": state}, task="t").explanation == text


def test_grant_shows_counters_after_it_tightest_first() -> None:
    """Goal: a grant shows every counter with its own amount, least left in parts first.

    Method: budgets of several sizes, an unlimited one, a cap, and one that only warns.
    """
    rules = policy(
        budget("wide", limit={"tokens": 10_000}),
        budget("free", limit={"tokens": "unlimited"}),
        budget("tight"),
        budget("over", mode="warn", limit={"tokens": 100}),
        budget("none", mode="observe", limit={"tokens": 0}),
        budget("cap", window="request"),
    )
    answer = decide(rules, request(**ASKED), {"tight": (600, 0), "wide": (10, 20)})
    seen = [
        (each.counter.budget.name, each.values.held, each.remaining) for each in answer.counters
    ]
    assert seen == [
        ("none", 300, -300),
        ("over", 300, -200),
        ("tight", 300, 100),
        ("cap", 300, 700),
        ("wide", 320, 9_670),
        ("free", 300, None),
    ]
    assert {each.amount for each in answer.counters} == {300}
    assert [each.counter.budget.name for each in exceeded(answer.counters)] == ["none", "over"]


def test_denial_shows_counters_as_they_are() -> None:
    """Goal: nothing is booked by a denial, and every counter of any offer is shown once."""
    rules = policy(
        budget("all", ladder=[{"at": 50, "switch_model": {"from": "m", "to": "small"}}]),
        budget("small", scope={"model": "small"}, limit={"tokens": 5_000}),
        budget("cap", window="request", limit={"requests": 9}),
    )
    answer = decide(rules, request(**ASKED, accepts=ALL), {"all": (900, 1), "small": (7, 0)})
    seen = [(each.counter.budget.name, each.values, each.amount) for each in answer.counters]
    assert seen == [
        ("all", CounterValues(900, 1), 0),
        ("small", CounterValues(7, 0), 0),
        ("cap", CounterValues(0, 0), 0),
    ]


def test_counters_of_an_answer_are_bounded() -> None:
    """Goal: an answer lists at most 64 counters, the tightest. Method: n+1 of them."""
    budgets = [budget(f"b{number}", limit={"tokens": 1_000 + number}) for number in range(65)]
    answer = decide(policy(*budgets), request(**ASKED))
    assert len(answer.counters) == STATUSES_MAX
    assert "b64" not in {each.counter.budget.name for each in answer.counters}


def test_counter_that_is_full_beyond_measure() -> None:
    """Goal: even an unlimited counter has an end, and its denial is told. Method: 2^62."""
    rules = policy(without(budget(limit={"tokens": "unlimited"}, window="task", per="task")))
    asked = request(**ASKED, task="t")
    assert decide(rules, asked, {"b": (COUNTER_MAX - 300, 0)}).denial is None
    answer = decide(rules, asked, {"b": (COUNTER_MAX - 299, 0)})
    assert answer.denial is not None
    assert (answer.denial.kind, answer.denial.affordable_output_tokens) == (SPENT, 199)


def test_a_counter_that_is_not_in_the_store_holds_nothing() -> None:
    """Goal: a denial without values of a counter reads them as 0. Method: an empty answer."""
    planned = plan(request(**ASKED), policy(budget("a", limit={"tokens": 5}), budget("c")), NOW)
    answer = deny(planned, {})
    assert [each.values for each in answer.counters] == [CounterValues(0, 0)] * 2


def test_a_refusal_needs_a_reason() -> None:
    """Goal: an offer that fits is never denied. Method: it is an error of the program."""
    planned = plan(request(**ASKED), policy(budget()), NOW)
    with pytest.raises(AssertionError, match="has a counter that blocks it"):
        deny(planned, holding(planned, {}))


def test_answer_with_its_reservation() -> None:
    """Goal: a grant becomes a reservation without another change. Method: compare the rest."""
    planned = plan(request(**ASKED), policy(budget()), NOW)
    answer = grant(planned, planned.offers[0], 200, [CounterValues(0, 300)])
    held = answer.held_as("acme.x", NOW + 5, 5)
    assert (held.reservation_id, held.expire_ms, held.ttl_ms) == ("acme.x", NOW + 5, 5)
    assert (answer.decision, answer.policy_version) == (Decision.GRANTED, planned.policy.version)
    assert held.counters == answer.counters
