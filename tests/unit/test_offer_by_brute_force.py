"""Offers against brute force: what is granted, what would be, and when.

Goal: no combination of budgets, ladders, caps, priorities and requests is decided otherwise than
the rules say. Method: hypothesis draws small policies, requests and counters; `brute_offers` tries
everything with integers; the plan's offers go through a picker of ten lines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brute_offers import MODELS, Ask, State, asks, budgets, granted, states
from domain_builders import NOW, decide, policy, request
from hypothesis import event, given, settings
from hypothesis import strategies as st

from bursar.domain.answer import Decision, Denial, DenialKind, ReserveAnswer
from bursar.domain.budget import CounterValues
from bursar.domain.policy import Policy
from bursar.domain.request import ReserveRequest

NAMES = ("a", "b", "c")
World = tuple[list[dict[str, Any]], State]
DAY_MS = 86_400_000
DAY_END = NOW - NOW % DAY_MS + DAY_MS


@st.composite
def policies(
    draw: st.DrawFn, windows: tuple[Any, ...] = ("day", "day", "request")
) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 3))
    return [draw(budgets(name, windows)) for name in NAMES[:count]]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[dict[str, Any]], State]:
    found = draw(policies())
    return found, draw(states(found))


def compiled(given_budgets: list[dict[str, Any]]) -> Policy:
    return policy(*given_budgets, models=MODELS)


def asking(ask: Ask, **changes: Any) -> ReserveRequest:  # noqa: ANN401 - parts of an estimate
    estimate = {
        "input_tokens": ask.input_tokens,
        "max_output_tokens": ask.max_output_tokens,
        "min_output_tokens": ask.min_output_tokens,
    } | changes
    return request(accepts=ask.accepts, priority=ask.priority, closing=ask.closing, **estimate)


def denial_of(answer: ReserveAnswer) -> Denial:
    assert answer.denial is not None
    return answer.denial


@settings(max_examples=400, deadline=None)
@given(world=worlds(), ask=asks())
def test_what_is_granted(world: World, ask: Ask) -> None:
    """Goal: model, output, input and finish are the first that fit, and each change is said.

    Method: brute force; of ways with equal rank either may be granted.
    """
    given_budgets, state = world
    answer = decide(compiled(given_budgets), asking(ask), state)
    possible = granted(given_budgets, ask, state)
    event(f"{answer.decision}")
    if not possible:
        assert answer.decision is Decision.DENIED
        return
    assert answer.target is not None
    directive = answer.directive
    cut = directive.truncate_input
    found = (
        answer.target.model,
        answer.max_output_tokens,
        cut.tokens if cut else ask.input_tokens,
        bool(directive.finish),
    )
    assert found in possible
    producible = 15 if answer.target.model == "m" else 20
    changed = (
        answer.target.model != "m"
        or answer.max_output_tokens < min(ask.max_output_tokens, producible)
        or cut is not None
        or bool(directive.finish)
    )
    assert (answer.decision is Decision.GRANTED_DEGRADED) == changed
    # What was not accepted is never given.
    assert answer.target.model == "m" or "switch_model" in ask.accepts
    if not any(each["window"] == "request" for each in given_budgets):
        shorter = answer.max_output_tokens < min(ask.max_output_tokens, producible)
        assert not shorter or "shorter_output" in ask.accepts or ask.min_output_tokens is not None
    assert not cut or "truncate_input" in ask.accepts
    assert not directive.finish or "finish" in ask.accepts


@settings(max_examples=300, deadline=None)
@given(world=worlds(), ask=asks())
def test_what_would_be_affordable(world: World, ask: Ask) -> None:
    """Goal: what a denial says would fit is granted when asked for, and no token more is.

    Method: ask again for each output there is and see what passes. Who consents to less is told
    of every offer; who does not might reach further rungs with less, which is not promised.
    """
    given_budgets, state = world
    rules = compiled(given_budgets)
    answer = decide(rules, asking(ask, min_output_tokens=None), state)
    if answer.denial is None:
        return
    passing = []
    for output in range(1, ask.max_output_tokens + 1):
        again = decide(rules, asking(ask, max_output_tokens=output, min_output_tokens=None), state)
        if again.max_output_tokens == output:
            passing.append(output)
    offers = answer.denial.counter_offers
    affordable = {each.affordable_output_tokens for each in offers}
    event(f"affordable: {max(affordable) > 0}")
    assert answer.denial.affordable_output_tokens in affordable
    assert affordable <= {0, *passing}
    if "shorter_output" in ask.accepts or not {"switch_model", "finish"} & {*ask.accepts}:
        assert max(affordable) == max(passing, default=0)


@settings(max_examples=300, deadline=None)
@given(world=worlds(), ask=asks())
def test_kind_of_denial(world: World, ask: Ask) -> None:
    """Goal: held, spent and never mean what they say.

    Method: decide again with no holds, and with nothing spent.
    """
    given_budgets, state = world
    rules = compiled(given_budgets)
    answer = decide(rules, asking(ask), state)
    if answer.denial is None:
        return
    without_holds = {name: (spent, 0, credit) for name, (spent, _, credit) in state.items()}
    with_credit = {name: (0, 0, credit) for name, (_, _, credit) in state.items()}
    if decide(rules, asking(ask), without_holds).denial is None:
        expected = DenialKind.HELD
    elif decide(rules, asking(ask), with_credit).denial is None:
        expected = DenialKind.SPENT
    else:
        expected = DenialKind.NEVER
    event(f"{expected}")
    assert answer.denial.kind is expected
    retry = answer.denial.retry_after_ms
    assert (retry is None) == (expected is DenialKind.NEVER)
    assert expected is not DenialKind.SPENT or retry == DAY_END - NOW


def in_buckets(buckets: list[tuple[int, int]], bucket_ms: int, now_ms: int) -> int:
    """Return what counts at a time: the buckets that the last 60 and this one touch."""
    return sum(amount for index, amount in buckets if index >= now_ms // bucket_ms - 60)


rolling = st.sampled_from([({"rolling": "1m"}, 1_000), ({"rolling": "1h"}, 60_000)])


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    ask=asks(),
    lengths=st.lists(rolling, min_size=3, max_size=3),
)
def test_retry_of_rolling_windows(
    data: st.DataObject, ask: Ask, lengths: list[tuple[dict[str, str], int]]
) -> None:
    """Goal: at retry_after the room is there, and a millisecond before it is not.

    Method: counters are lists of buckets; the request is decided again at both instants.
    """
    given_budgets = data.draw(policies(("x",)))
    spent = {}
    for each, (window, bucket_ms) in zip(given_budgets, lengths, strict=False):
        each["window"] = window
        ages = st.tuples(st.integers(0, 60), st.integers(1, 30))
        amounts: dict[int, int] = {}
        for age, amount in data.draw(st.lists(ages, max_size=5)):
            index = NOW // bucket_ms - age
            amounts[index] = amounts.get(index, 0) + amount
        spent[each["name"]] = (sorted(amounts.items()), bucket_ms)
    rules = compiled(given_budgets)

    def at(now_ms: int) -> ReserveAnswer:
        state = {}
        for name, (buckets, bucket_ms) in spent.items():
            count = in_buckets(buckets, bucket_ms, now_ms)
            live = tuple(each for each in buckets if each[0] >= now_ms // bucket_ms - 60)
            state[name] = CounterValues(count, 0, 0, live)
        return decide(rules, asking(ask), state, now_ms)

    answer = at(NOW)
    if answer.denial is None or answer.denial.kind is DenialKind.NEVER:
        return
    assert answer.denial.kind is DenialKind.SPENT
    retry = answer.denial.retry_after_ms
    assert retry is not None
    event("waits")
    assert at(NOW + retry).denial is None
    assert denial_of(at(NOW + retry - 1)).kind is DenialKind.SPENT


@settings(max_examples=200, deadline=None)
@given(world=worlds(), ask=asks())
def test_less_is_never_worse(world: World, ask: Ask) -> None:
    """Goal: who asks for less input, or accepts more, is never denied what was granted before.

    Method: a granted request again with fewer input tokens, and with everything accepted.
    """
    given_budgets, state = world
    rules = compiled(given_budgets)
    if decide(rules, asking(ask), state).denial is not None:
        return
    assert decide(rules, asking(ask, input_tokens=0), state).denial is None
    willing = replace(ask, accepts=("switch_model", "shorter_output", "truncate_input", "finish"))
    assert decide(rules, asking(willing), state).denial is None
