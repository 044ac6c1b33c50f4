"""Ladders: which rungs a caller can climb, in which order they combine, and what ceilings they set.

Goal: ADR 3 and the rules of rungs, row by row. Method: tables over `plan`, whose offers show what
was climbed and how far each may fill the budget.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, NOW, budget, decide, policy, request

from bursar.domain.ladder import COMBINATIONS_MAX
from bursar.domain.offer import OFFERS_MAX, Offer, plan

MINI = {"switch_model": {"from": "gpt-5*", "to": "gpt-5-mini"}}
NANO = {"switch_model": {"from": "gpt-5*", "to": "gpt-5-nano"}}
CAP = {"cap_output": 100}
FINISH = {"finish": True}
DENY = {"deny": True}
QUEUE = {"queue": {"max_wait": "1m"}}
CACHED = {"serve_cached": True}
NOTIFY = {"notify": True, "message": "nearly"}


def at(percent: int, rung: dict[str, Any]) -> dict[str, Any]:
    return {"at": percent, **rung}


def offers(*ladders: list[dict[str, Any]], **asked: Any) -> tuple[Offer, ...]:  # noqa: ANN401
    """Return the offers for a request of 10 input and 200 output tokens of gpt-5."""
    names = "abcdefghij"
    rules = policy(
        *(budget(name, ladder=ladder) for name, ladder in zip(names, ladders, strict=False))
    )
    given = {"input_tokens": 10, "max_output_tokens": 200, "accepts": ALL} | asked
    return plan(request("gpt-5", **given), rules, NOW).offers


def seen(found: tuple[Offer, ...]) -> list[tuple[Any, ...]]:
    """Return of each offer: model, most output, finishing, and ceilings in the policy's order."""
    return [
        (
            offer.target.model,
            offer.output_max,
            offer.finishing,
            *(use.ceiling for use in offer.uses),
        )
        for offer in found
    ]


ROWS = {
    "no ladder": ([[]], [("gpt-5", 200, False, 1000)]),
    "a switch": (
        [[at(80, MINI)]],
        [("gpt-5", 200, False, 800), ("gpt-5-mini", 200, False, 1000)],
    ),
    "a cap": ([[at(80, CAP)]], [("gpt-5", 200, False, 800), ("gpt-5", 100, False, 1000)]),
    "a finish": ([[at(70, FINISH)]], [("gpt-5", 200, False, 700), ("gpt-5", 200, True, 1000)]),
    "a chain, sorted by its thresholds": (
        [[at(90, CAP), at(80, MINI)]],
        [
            ("gpt-5", 200, False, 800),
            ("gpt-5-mini", 200, False, 900),
            ("gpt-5-mini", 100, False, 1000),
        ],
    ),
    "a terminal rung is the ceiling of all": (
        [[at(80, MINI), at(90, DENY)]],
        [("gpt-5", 200, False, 800), ("gpt-5-mini", 200, False, 900)],
    ),
    "rungs past a terminal one are not climbed": (
        [[at(80, QUEUE), at(90, MINI)]],
        [("gpt-5", 200, False, 800)],
    ),
    "a terminal rung alone": ([[at(60, CACHED)]], [("gpt-5", 200, False, 600)]),
    "notify changes nothing": ([[at(10, NOTIFY)]], [("gpt-5", 200, False, 1000)]),
    "a switch of another model changes nothing": (
        [[at(80, {"switch_model": {"from": "gpt-4*", "to": "gpt-5-mini"}})]],
        [("gpt-5", 200, False, 1000)],
    ),
    "a switch in any case": (
        [[at(80, {"switch_model": {"from": "GPT-5*", "to": "gpt-5-mini"}})]],
        [("gpt-5", 200, False, 800), ("gpt-5-mini", 200, False, 1000)],
    ),
    "a switch that leads on": (
        [[at(60, MINI), at(80, {"switch_model": {"from": "gpt-5-mini", "to": "gpt-5-nano"}})]],
        [
            ("gpt-5", 200, False, 600),
            ("gpt-5-mini", 200, False, 800),
            ("gpt-5-nano", 200, False, 1000),
        ],
    ),
    "a cap that is no cap": (
        [[at(80, {"cap_output": 200})]],
        [("gpt-5", 200, False, 1000), ("gpt-5", 200, False, 1000)],
    ),
    # Two budgets: the combinations, by highest threshold and then by number.
    "two ladders combine": (
        [[at(80, MINI)], [at(90, CAP)]],
        [
            ("gpt-5", 200, False, 800, 900),
            ("gpt-5-mini", 200, False, 1000, 900),
            ("gpt-5", 100, False, 800, 1000),
            ("gpt-5-mini", 100, False, 1000, 1000),
        ],
    ),
    "what comes to the same is offered once": (
        [[at(80, MINI)], [at(90, MINI)]],
        [("gpt-5", 200, False, 800, 900), ("gpt-5-mini", 200, False, 1000, 1000)],
    ),
    "of two caps the tighter counts": (
        [[at(80, CAP)], [at(90, {"cap_output": 50})]],
        [
            ("gpt-5", 200, False, 800, 900),
            ("gpt-5", 100, False, 1000, 900),
            ("gpt-5", 50, False, 1000, 1000),
        ],
    ),
    "two switches lead on from one another": (
        [[at(50, MINI)], [at(60, NANO)]],
        [
            ("gpt-5", 200, False, 500, 600),
            ("gpt-5-mini", 200, False, 1000, 600),
            ("gpt-5-nano", 200, False, 500, 1000),
            ("gpt-5-nano", 200, False, 1000, 1000),
        ],
    ),
    "a switch satisfies the same one elsewhere, further up too": (
        [
            [at(60, MINI), at(80, {"switch_model": {"from": "gpt-5-mini", "to": "gpt-5-nano"}})],
            [at(70, MINI)],
        ],
        [
            ("gpt-5", 200, False, 600, 700),
            ("gpt-5-mini", 200, False, 800, 1000),
            ("gpt-5-nano", 200, False, 1000, 1000),
        ],
    ),
}


@pytest.mark.parametrize(("ladders", "expected"), ROWS.values(), ids=ROWS)
def test_offers_of_ladders(
    ladders: list[list[dict[str, Any]]], expected: list[tuple[Any, ...]]
) -> None:
    """Goal: the offers of ladders, mildest first. Method: a row for each rule."""
    assert seen(offers(*ladders)) == expected


ACCEPTED = {
    "nothing": ((), {}, [("gpt-5", 200, False, 600)]),
    "only the switch": (
        ("switch_model",),
        {},
        [("gpt-5", 200, False, 600), ("gpt-5-mini", 200, False, 700)],
    ),
    "switch and shorter": (
        ("switch_model", "shorter_output"),
        {},
        [
            ("gpt-5", 200, False, 600),
            ("gpt-5-mini", 200, False, 700),
            ("gpt-5-mini", 100, False, 800),
        ],
    ),
    "a minimum accepts shorter": (
        ("switch_model",),
        {"min_output_tokens": 50},
        [
            ("gpt-5", 200, False, 600),
            ("gpt-5-mini", 200, False, 700),
            ("gpt-5-mini", 100, False, 800),
        ],
    ),
    "a minimum above the cap is not offered less": (
        ("switch_model", "finish"),
        {"min_output_tokens": 150},
        [("gpt-5", 200, False, 600), ("gpt-5-mini", 200, False, 700)],
    ),
    "no shorter than the cap needs no consent": (
        ("switch_model",),
        {"max_output_tokens": 100},
        [
            ("gpt-5", 100, False, 600),
            ("gpt-5-mini", 100, False, 800),
            ("gpt-5-mini", 100, False, 800),
        ],
    ),
    "one more than the cap does": (
        ("switch_model",),
        {"max_output_tokens": 101},
        [("gpt-5", 101, False, 600), ("gpt-5-mini", 101, False, 700)],
    ),
    "everything": (
        ALL,
        {},
        [
            ("gpt-5", 200, False, 600),
            ("gpt-5-mini", 200, False, 700),
            ("gpt-5-mini", 100, False, 800),
            ("gpt-5-mini", 100, True, 1000),
        ],
    ),
    "finish without the rungs below it is out of reach": (
        ("finish",),
        {},
        [("gpt-5", 200, False, 600)],
    ),
    "a closing answer needs no consent to finish": (
        ("switch_model", "shorter_output"),
        {"closing": True},
        [
            ("gpt-5", 200, True, 600),
            ("gpt-5-mini", 200, True, 700),
            ("gpt-5-mini", 100, True, 1000),
        ],
    ),
}


@pytest.mark.parametrize(("accepts", "asked", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_only_what_is_accepted_is_offered(
    accepts: tuple[str, ...], asked: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    """Goal: nothing is offered that the caller did not accept. Method: one ladder, more consent."""
    ladder = [at(60, MINI), at(70, CAP), at(80, FINISH)]
    assert seen(offers(ladder, accepts=accepts, **asked)) == expected


def test_default_output_below_a_cap_needs_no_consent() -> None:
    """Goal: a cap that the default keeps is no obstacle to what is accepted above it.

    Method: the request names no output; the rung above the cap is accepted, the cap is not.
    """
    rules = policy(
        budget(ladder=[at(80, {"cap_output": 300}), at(90, MINI)]), default_output_tokens=256
    )
    answer = decide(rules, request("gpt-5", accepts=("switch_model",)), {"b": (700, 0)})
    assert answer.target is not None
    assert (answer.target.model, answer.max_output_tokens) == ("gpt-5-mini", 256)


HEADROOM = {"low": 70, "normal": 95, "high": 100}
CEILINGS = {
    "high reaches the overdraft": ("HIGH", [], 1100),
    "normal stops at its headroom": ("NORMAL", [], 950),
    "low stops at its headroom": ("LOW", [], 700),
    "a rung below the headroom counts": ("NORMAL", [at(80, DENY)], 800),
    "a headroom below the rung counts": ("LOW", [at(80, DENY)], 700),
    "a terminal rung at 100 leaves the overdraft": ("HIGH", [at(100, QUEUE)], 1100),
    "a restricting rung at 100 leaves it too": ("HIGH", [at(100, MINI)], 1100),
    "a rung at 99 does not": ("HIGH", [at(99, QUEUE)], 990),
    "a rung at 1": ("HIGH", [at(1, QUEUE)], 10),
}


@pytest.mark.parametrize(("priority", "ladder", "expected"), CEILINGS.values(), ids=CEILINGS)
def test_ceilings(priority: str, ladder: list[dict[str, Any]], expected: int) -> None:
    """Goal: limit x percent, overdraft only at 100, headroom by priority. Method: rows."""
    rules = policy(budget(overdraft={"tokens": 100}, priority_headroom=HEADROOM, ladder=ladder))
    asked = request("gpt-5", max_output_tokens=1, priority=priority)
    [use] = plan(asked, rules, NOW).offers[0].uses
    assert use.ceiling == expected


@pytest.mark.parametrize(
    ("limit", "percent", "expected"),
    [(999, 80, 799), (1, 99, 0), (0, 50, 0), (2**53 - 1, 99, (2**53 - 1) * 99 // 100)],
)
def test_shares_are_rounded_down(limit: int, percent: int, expected: int) -> None:
    """Goal: a threshold never lies past its part of the limit. Method: exact integers."""
    rules = policy(budget(limit={"tokens": limit}, ladder=[at(percent, DENY)]))
    [use] = plan(request(max_output_tokens=1), rules, NOW).offers[0].uses
    assert use.ceiling == expected


@pytest.mark.parametrize("mode", ["warn", "observe"])
def test_only_enforced_budgets_restrict(mode: str) -> None:
    """Goal: a budget that only warns or observes has no ceiling and no offers. Method: both."""
    rules = policy(budget(mode=mode, ladder=[at(1, MINI)]), budget("u", limit={"usd": "unlimited"}))
    [offer] = plan(request("gpt-5", accepts=ALL), rules, NOW).offers
    assert [use.ceiling for use in offer.uses] == [None, None]


def test_offers_are_bounded_and_keep_the_most_restrictive() -> None:
    """Goal: at most 16 offers, the most restrictive among them. Method: ever more combinations."""
    caps = [{"cap_output": 190 - 10 * number} for number in range(8)]
    ladders = [
        [at(10 + number, cap) for number, cap in enumerate(caps)],
        [at(12, {"switch_model": {"from": "gpt-5", "to": "gpt-5-mini"}})],
        [at(50, FINISH)],
    ]
    found = offers(*ladders)
    assert len(found) == OFFERS_MAX
    assert seen(found)[0][:3] == ("gpt-5", 200, False)
    assert seen(found)[-1] == ("gpt-5-mini", 120, True, 1000, 1000, 1000)


def test_combinations_are_bounded_and_end_with_the_most_restrictive() -> None:
    """Goal: the walk ends although there are 4,096 combinations. Method: ten ladders.

    None but the last two changes anything alone, so that nothing distinct is found early on.
    """
    same = [at(10, {"cap_output": 150}), at(20, {"cap_output": 150})]
    ladders = [same] * 6 + [[at(30, MINI)], [at(40, FINISH)]]
    assert COMBINATIONS_MAX < 3**6 * 4
    found = offers(*ladders)
    assert seen(found)[-1][:3] == ("gpt-5-mini", 150, True)
    assert [use.ceiling for use in found[-1].uses] == [1000] * 8
    assert len({(each.target, each.output_max, each.finishing) for each in found}) == len(found)


def switch(origin: str, to: str) -> dict[str, Any]:
    return {"switch_model": {"from": origin, "to": to}}


def test_most_restrictive_offer_is_kept_where_it_comes_early() -> None:
    """Goal: where the fullest offer is among the first, the next mildest ones fill the bound.

    Method: of two budgets that switch, the one with the lower threshold counts in the end, so that
    20 offers end in the fourth; the first 16 of them are kept.
    """
    chain = [at(20, switch("gpt-5", "n1"))]
    chain += [at(20 + number, switch(f"n{number}", f"n{number + 1}")) for number in range(1, 8)]
    found = offers([at(5, switch("gpt-5", "m0"))], [at(7, FINISH)], chain)
    names = ["gpt-5", "m0", "gpt-5", "m0"]
    names += [f"n{number}" for number in range(1, 7) for _ in range(2)]
    assert len(found) == OFFERS_MAX
    assert [each.target.model for each in found] == names
    assert [each.finishing for each in found] == [False, False, True, True, *[False, True] * 6]


def test_fullest_offer_is_not_repeated_after_the_walk() -> None:
    """Goal: each result is offered once, also where the walk is cut short. Method: 1,458 ways."""
    same = [at(10, CAP), at(20, CAP)]
    found = offers([at(5, MINI)], *[same] * 6)
    assert [each[:2] for each in seen(found)] == [
        ("gpt-5", 200),
        ("gpt-5-mini", 200),
        ("gpt-5", 100),
        ("gpt-5-mini", 100),
    ]
