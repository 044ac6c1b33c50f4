"""Directives: what a caller should do, whose wish it is, and what an end user reads.

Goal: a directive names the budgets that asked, the strictest of each kind wins, every message is
filled, and a grant is degraded exactly where something was changed. Method: rows over `decide` and
`next_directive` with counters by budget name.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, budget, decide, policy, request

from bursar.domain.answer import Decision, Directive, Notice, NoticeKind, Shorten, SwitchTo, Wait
from bursar.domain.subject import Target

ASKED = {"input_tokens": 10, "max_output_tokens": 90}
MINI = {"switch_model": {"from": "m", "to": "mini"}}
NANO = {"switch_model": {"from": "m*", "to": "nano"}}
FINISH = {"finish": True}
CACHED = {"serve_cached": True}
DENY = {"deny": True}
M, MINI_TARGET, NANO_TARGET = Target("", "m"), Target("", "mini"), Target("", "nano")


def at(percent: int, rung: dict[str, Any], message: str = "") -> dict[str, Any]:
    return {"at": percent, **rung} | ({"message": message} if message else {})


def cap(tokens: int) -> dict[str, Any]:
    return {"cap_output": tokens}


def queue(wait: str) -> dict[str, Any]:
    return {"queue": {"max_wait": wait}}


def directive(*budgets: dict[str, Any], state: Any, **asked: Any) -> tuple[Decision, Directive]:  # noqa: ANN401
    given = {"accepts": ALL} | ASKED | asked
    answer = decide(policy(*budgets), request(**given), state)
    return answer.decision, answer.directive


def ladder(name: str, *rungs: dict[str, Any], **settings: Any) -> dict[str, Any]:  # noqa: ANN401
    return budget(name, ladder=list(rungs), **settings)


# Budgets, what they hold, and the directive of the grant.
GRANTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], Directive]] = {
    "as asked": ([ladder("a", at(80, MINI, "x"))], {"a": (700, 0)}, Directive()),
    "a switch": (
        [ladder("a", at(80, MINI, "Using {model} ({percent} %)."))],
        {"a": (701, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)), message="Using mini (80 %).")),
    "a cap": (
        [ladder("a", at(80, cap(50), "At most {affordable_output_tokens} tokens."))],
        {"a": (800, 0)},
        Directive(shorten_output=Shorten(50, ("a",)), message="At most 50 tokens.")),
    "a finish": ([ladder("a", at(80, FINISH))], {"a": (800, 0)}, Directive(finish=("a",))),
    # Only those are named that were in need of it, whoever declares the same.
    "the second budget asks": (
        [ladder("a", at(60, MINI, "from a")), ladder("b", at(80, MINI, "from b"))],
        {"b": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("b",)), message="from b")),
    "not the one that would just have fitted": (
        [ladder("a", at(80, MINI, "from a")), ladder("b", at(80, MINI, "from b"))],
        {"a": (700, 0), "b": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("b",)), message="from b")),
    "the first budget asks": (
        [ladder("a", at(80, MINI, "from a")), ladder("b", at(60, MINI, "from b"))],
        {"a": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)), message="from a")),
    "both ask": (
        [ladder("a", at(60, MINI, "from a")), ladder("b", at(80, MINI, "from b"))],
        {"a": (800, 0), "b": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a", "b")), message="from b")),
    "each its own": (
        [ladder("a", at(80, MINI)), ladder("b", at(80, cap(50))), ladder("c", at(80, FINISH))],
        {"a": (800, 0), "b": (800, 0), "c": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)), Shorten(50, ("b",)), finish=("c",))),
    "one of three": (
        [ladder("a", at(80, MINI)), ladder("b", at(80, cap(50))), ladder("c", at(80, FINISH))],
        {"b": (800, 0)},
        Directive(shorten_output=Shorten(50, ("b",)))),
    "the tighter cap wins": (
        [ladder("a", at(80, cap(50), "a")), ladder("b", at(80, cap(40), "b"))],
        {"a": (800, 0), "b": (800, 0)},
        Directive(shorten_output=Shorten(40, ("b",)), message="b")),
    "two caps alike": (
        [ladder("a", at(80, cap(40))), ladder("b", at(80, cap(40)))],
        {"a": (800, 0), "b": (800, 0)},
        Directive(shorten_output=Shorten(40, ("a", "b")))),
    "a chain of one budget": (
        [ladder("a", at(60, MINI), at(80, NANO), at(90, cap(50)))],
        {"a": (900, 0)},
        Directive(SwitchTo(M, NANO_TARGET, ("a",)), Shorten(50, ("a",)))),
    "the highest rung speaks": (
        [ladder("a", at(60, MINI, "low"), at(80, cap(50), "high"))],
        {"a": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)), Shorten(50, ("a",)), message="high")),
    "a cap that shortens nothing is silent": (
        [ladder("a", at(60, cap(90), "x"), at(80, MINI))],
        {"a": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)))),
    # The budget of the model asked for has no counter in what is granted.
    "a budget of the model alone": (
        [ladder("a", at(80, MINI, "gone"), scope={"model": "m"}), budget("b")],
        {"a": (800, 0)},
        Directive(SwitchTo(M, MINI_TARGET, ("a",)))),
}  # fmt: skip


@pytest.mark.parametrize(("budgets", "state", "expected"), GRANTS.values(), ids=GRANTS)
def test_grants(budgets: list[dict[str, Any]], state: dict[str, Any], expected: Directive) -> None:
    """Goal: what a grant changes and who asked for it; degraded exactly where something is.

    Method: rows. Case 142.
    """
    decision, found = directive(*budgets, state=state)
    assert found == expected
    changed = found.switch_model or found.shorten_output or found.finish
    assert (decision is Decision.GRANTED_DEGRADED) == bool(changed)


SHORT: dict[str, tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...]]] = {
    "the fullest": ([budget("a"), budget("b")], {"b": (940, 0)}, ("b",)),
    "both alike": ([budget("a"), budget("b")], {"a": (940, 0), "b": (900, 40)}, ("a", "b")),
    "money by its own measure": (
        [budget("a"), budget("usd", limit={"usd": "0.00001"})], {"usd": (9_500, 0)}, ("usd",)),
    "not what needs no output": (
        [budget("a"), budget("i", limit={"input_tokens": 10})], {"a": (940, 0)}, ("a",)),
    "a cap of each request": (
        [budget("a"), budget("c", limit={"output_tokens": 50}, window="request")], {}, ("c",)),
    "a budget before its cap": (
        [ladder("a", at(90, cap(50)))], {"a": (840, 0)}, ("a",)),
}  # fmt: skip


@pytest.mark.parametrize(("budgets", "state", "names"), SHORT.values(), ids=SHORT)
def test_who_shortens(
    budgets: list[dict[str, Any]], state: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Goal: an output between minimum and wanted names the budgets that left no more.

    Method: rows; 50 tokens are granted in each.
    """
    models = [{"match": "m", "price": {"input": "0", "output": "0.01"}}]
    asked = request(**ASKED, min_output_tokens=20)
    answer = decide(policy(*budgets, models=models), asked, state)
    assert answer.decision is Decision.GRANTED_DEGRADED
    assert answer.directive.shorten_output == Shorten(50, names)


def test_truncated_input_names_its_cap() -> None:
    """Goal: who cuts the input is named. Method: two caps, one tighter."""
    caps = [
        budget(name, limit={"input_tokens": tokens}, window="request")
        for name, tokens in (("a", 9), ("b", 5), ("c", 5))
    ]
    decision, found = directive(*caps, state={})
    assert decision is Decision.GRANTED_DEGRADED
    assert found == Directive(truncate_input=Shorten(5, ("b", "c")))


def test_a_closing_answer_is_not_told_to_finish() -> None:
    """Goal: what the caller does already is no change. Method: closing, with and without a cap."""
    rungs = [at(70, FINISH), at(90, cap(50))]
    decision, found = directive(ladder("a", *rungs), state={"a": (750, 0)}, closing=True)
    assert (decision, found) == (Decision.GRANTED, Directive())
    decision, found = directive(ladder("a", *rungs), state={"a": (900, 0)}, closing=True)
    assert decision is Decision.GRANTED_DEGRADED
    assert found == Directive(shorten_output=Shorten(50, ("a",)))


NOTIFY = {"notify": True, "message": "{budget} is at {percent} %"}
NOTICES: dict[str, tuple[dict[str, Any], tuple[int, int], list[Notice]]] = {
    "below": (ladder("a", at(80, NOTIFY)), (699, 0), []),
    "at the threshold": (
        ladder("a", at(80, NOTIFY)), (600, 100), [Notice("a", NoticeKind.RUNG, "a is at 80 %")]),
    "in warn mode": (
        ladder("a", at(80, NOTIFY), mode="warn"), (700, 0),
        [Notice("a", NoticeKind.RUNG, "a is at 80 %")]),
    "over a limit that warns": (
        budget("a", mode="warn"), (901, 0),
        [Notice("a", NoticeKind.EXCEEDED, "a is over its limit: 100 % used")]),
    "at a limit that warns": (budget("a", mode="warn"), (900, 0), []),
    "observe is silent": (ladder("a", at(1, NOTIFY), mode="observe"), (5_000, 0), []),
    "an action that notifies": (
        ladder("a", at(80, MINI | NOTIFY)), (700, 0),
        [Notice("a", NoticeKind.RUNG, "a is at 80 %")]),
    "unlimited is silent": (budget("a", limit={"tokens": "unlimited"}), (5_000, 0), []),
}  # fmt: skip


@pytest.mark.parametrize(("given_budget", "state", "expected"), NOTICES.values(), ids=NOTICES)
def test_notices(
    given_budget: dict[str, Any], state: tuple[int, int], expected: list[Notice]
) -> None:
    """Goal: budgets say what they want said and change nothing by it. Method: rows."""
    decision, found = directive(given_budget, state={"a": state})
    assert list(found.notices) == expected
    assert decision is Decision.GRANTED


SPENT_MESSAGE = "The limit for now is used up; please try again in 12 h."
# What is exhausted, what the caller accepts besides, and the directive of the denial.
DENIALS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...], Directive]] = {
    "nothing said": (
        [budget("a")],
        {"a": (1_000, 0)},
        ALL,
        Directive(deny=("a",), message=SPENT_MESSAGE),
    ),
    "held": (
        [budget("a")],
        {"a": (0, 1_000)},
        ALL,
        Directive(
            deny=("a",), message="Too much is going on at the moment; please try again shortly."
        ),
    ),
    "without an end": (
        [budget("a", window="task", per="task")],
        {"a": (1_000, 0)},
        ALL,
        Directive(deny=("a",), message="The limit is used up."),
    ),
    "never": (
        [ladder("a", at(50, queue("1m"), "wait"), limit={"tokens": 50})],
        {},
        ALL,
        Directive(
            deny=("a",),
            message="This request is larger than the limit allows; please make it smaller.",
        ),
    ),
    "queue": (
        [ladder("a", at(100, queue("15m"), "Busy; try again {resets_in}."))],
        {"a": (1_000, 0)},
        ALL,
        Directive(queue=Wait(900_000, ("a",)), message="Busy; try again in 12 h."),
    ),
    "cached": (
        [ladder("a", at(90, CACHED, "old"))],
        {"a": (900, 0)},
        ALL,
        Directive(serve_cached=("a",), message="old"),
    ),
    "deny": (
        [ladder("a", at(90, DENY, "No."))],
        {"a": (900, 0)},
        ALL,
        Directive(deny=("a",), message="No."),
    ),
    "not accepted": (
        [ladder("a", at(90, queue("1m"), "later"))],
        {"a": (900, 0)},
        (),
        Directive(deny=("a",), message="later"),
    ),
    "the highest reached": (
        [ladder("a", at(80, CACHED), at(100, queue("1m"), "q"))],
        {"a": (950, 0)},
        ALL,
        Directive(queue=Wait(60_000, ("a",)), message="q"),
    ),
    "the next above is not reached": (
        [ladder("a", at(80, CACHED, "c"), at(100, queue("1m"), "q"))],
        {"a": (800, 0)},
        ALL,
        Directive(serve_cached=("a",), message="c"),
    ),
    "exactly at the next is not past it": (
        [ladder("a", at(80, CACHED, "c"), at(100, queue("1m"), "q"))],
        {"a": (900, 0)},
        ALL,
        Directive(serve_cached=("a",), message="c"),
    ),
    "the highest that is accepted": (
        [ladder("a", at(80, CACHED, "c"), at(100, queue("1m"), "q"))],
        {"a": (950, 0)},
        ("serve_cached",),
        Directive(serve_cached=("a",), message="q"),
    ),
    "a rung that is not accepted leaves a denial": (
        [ladder("a", at(80, MINI, "m"), at(100, queue("1m"), "q"))],
        {"a": (800, 0)},
        ("queue",),
        Directive(deny=("a",), message=SPENT_MESSAGE),
    ),
    "each of those that refuse": (
        [ladder("a", at(100, queue("5m"), "a")), ladder("b", at(90, CACHED, "b"))],
        {"a": (1_000, 0), "b": (900, 0)},
        ALL,
        Directive(serve_cached=("b",), queue=Wait(300_000, ("a",)), message="a"),
    ),
    "the shortest wait": (
        [
            ladder("a", at(90, queue("5m"))),
            ladder("b", at(90, queue("1m"), "b")),
            ladder("c", at(90, queue("1m"))),
        ],
        {"a": (900, 0), "b": (900, 0), "c": (900, 0)},
        ALL,
        Directive(queue=Wait(60_000, ("b", "c")), message="b"),
    ),
    "not those that would grant": (
        [ladder("a", at(90, queue("5m"), "a")), ladder("b", at(90, CACHED, "b"))],
        {"a": (900, 0), "b": (100, 0)},
        ALL,
        Directive(queue=Wait(300_000, ("a",)), message="a"),
    ),
    "what is held says less than what is spent": (
        [ladder("a", at(90, queue("5m"), "a")), budget("b", window="month")],
        {"a": (900, 0), "b": (0, 950)},
        ALL,
        Directive(queue=Wait(300_000, ("a",)), message="a"),
    ),
    "the model is named": (
        [
            ladder(
                "a", at(80, MINI), at(90, DENY, "{model} of {budget}: {affordable_output_tokens}")
            )
        ],
        {"a": (840, 0)},
        ALL,
        Directive(deny=("a",), message="mini of a: 50"),
    ),
}


@pytest.mark.parametrize(("budgets", "state", "accepts", "expected"), DENIALS.values(), ids=DENIALS)
def test_denials(
    budgets: list[dict[str, Any]],
    state: dict[str, Any],
    accepts: tuple[str, ...],
    expected: Directive,
) -> None:
    """Goal: what is left when nothing can be granted, as far as the caller can do it.

    Method: rows.
    """
    decision, found = directive(*budgets, state=state, accepts=accepts, task="t")
    assert decision is Decision.DENIED
    assert found == expected
