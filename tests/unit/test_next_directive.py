"""What the next call should do differently, told after a settlement.

Goal: it is what the next reserve would answer, so an agent near its end learns of it in time.
Method: rows of counters as they stand, and the same counters asked for another call.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, NOW, budget, decide, policy, request, status
from test_directive import (
    CACHED,
    DENY,
    FINISH,
    MINI,
    MINI_TARGET,
    NANO,
    NANO_TARGET,
    NOTIFY,
    M,
    at,
    cap,
    ladder,
    queue,
)

from bursar.domain.answer import Directive, Notice, NoticeKind, Shorten, SwitchTo, Wait
from bursar.domain.directive import next_directive

Standing = list[tuple[dict[str, Any], int, int]]

ROWS: dict[str, tuple[Standing, Directive]] = {
    "nothing": ([(budget("a"), 1_000, 0)], Directive()),
    "below": ([(ladder("a", at(80, MINI)), 799, 0)], Directive()),
    "at the threshold": (
        [(ladder("a", at(80, MINI, "Now {model}.")), 700, 100)],
        Directive(SwitchTo(M, MINI_TARGET, ("a",)), message="Now mini.")),
    "another model": (
        [(ladder("a", at(80, {"switch_model": {"from": "x*", "to": "mini"}})), 900, 0)],
        Directive()),
    "the model that is called already": (
        [(ladder("a", at(80, {"switch_model": {"from": "*", "to": "m"}})), 900, 0)], Directive()),
    "a chain leads to its end": (
        [(ladder("a", at(60, MINI), at(80, {"switch_model": {"from": "mini", "to": "nano"}})),
          900, 0)],
        Directive(SwitchTo(M, NANO_TARGET, ("a",)))),
    "the lower rung first, as in a reserve": (
        [(ladder("a", at(50, MINI)), 900, 0), (ladder("b", at(80, MINI)), 900, 0),
         (ladder("c", at(60, {"switch_model": {"from": "m", "to": "nano"}})), 900, 0)],
        Directive(SwitchTo(M, MINI_TARGET, ("a", "b")))),
    "one leads on from another": (
        [(ladder("a", at(50, MINI)), 900, 0), (ladder("b", at(60, NANO)), 900, 0)],
        Directive(SwitchTo(M, NANO_TARGET, ("a", "b")))),
    "the tighter cap": (
        [(ladder("a", at(80, cap(5))), 900, 0), (ladder("b", at(80, cap(4))), 900, 0),
         (ladder("c", at(80, cap(4)), at(90, cap(9))), 900, 0)],
        Directive(shorten_output=Shorten(4, ("b", "c")))),
    "finish": (
        [(ladder("a", at(70, FINISH, "Wrap up.")), 700, 0), (ladder("b", at(70, FINISH)), 0, 900)],
        Directive(finish=("a", "b"), message="Wrap up.")),
    "the end": (
        [(ladder("a", at(100, queue("5m"), "Wait {resets_in}.")), 1_000, 0)],
        Directive(queue=Wait(300_000, ("a",)), message="Wait in 12 h.")),
    "each end": (
        [(ladder("a", at(90, CACHED)), 900, 0), (ladder("b", at(90, DENY, "b")), 900, 0)],
        Directive(serve_cached=("a",), deny=("b",), message="b")),
    "the highest end": (
        [(ladder("a", at(80, CACHED, "c"), at(90, queue("1m"))), 900, 0)],
        Directive(queue=Wait(60_000, ("a",)), message="c")),
    "the end speaks before the rest": (
        [(ladder("a", at(70, FINISH, "finish"), at(80, DENY, "no")), 900, 0)],
        Directive(finish=("a",), deny=("a",), message="no")),
    "the highest rung speaks": (
        [(ladder("a", at(70, FINISH, "finish")), 900, 0),
         (ladder("b", at(60, cap(5), "cap")), 900, 0)],
        Directive(shorten_output=Shorten(5, ("b",)), finish=("a",), message="finish")),
    "a notice": (
        [(ladder("a", at(80, NOTIFY)), 900, 0)],
        Directive(notices=(Notice("a", NoticeKind.RUNG, "a is at 90 %"),))),
    "a warning": (
        [(budget("a", mode="warn"), 1_500, 0)],
        Directive(notices=(
            Notice("a", NoticeKind.EXCEEDED, "a is over its limit: 150 % used"),))),
    "not enforced": (
        [(ladder("a", at(1, MINI), at(2, DENY), mode="observe"), 900, 0),
         (ladder("b", at(1, FINISH), mode="warn"), 900, 0)],
        Directive()),
}  # fmt: skip


@pytest.mark.parametrize(("standing", "expected"), ROWS.values(), ids=ROWS)
def test_next_directive(standing: Standing, expected: Directive) -> None:
    """Goal: what is told after a settlement. Method: rows. Cases 123 and 138."""
    statuses = [status(given, committed, held) for given, committed, held in standing]
    assert next_directive(M, statuses, NOW) == expected


@pytest.mark.parametrize("percent", [0, 60, 80, 90, 100])
@pytest.mark.parametrize(
    "rungs",
    [
        [at(60, MINI), at(80, {"switch_model": {"from": "mini", "to": "nano"}})],
        [at(60, cap(5)), at(80, MINI), at(90, FINISH)],
        [at(60, NANO), at(90, cap(3)), at(100, queue("1m"))],
        [at(60, CACHED), at(90, DENY)],
    ],
    ids=["chain", "all three", "to an end", "ends"],
)
def test_it_is_what_the_next_reserve_answers(rungs: list[dict[str, Any]], percent: int) -> None:
    """Goal: advice and decision agree. Method: the same counter, asked for a call of one token."""
    given_budget = ladder("a", *rungs)
    advice = next_directive(M, [status(given_budget, percent * 10)], NOW)
    asked = request(input_tokens=1, max_output_tokens=9, accepts=ALL)
    answer = decide(policy(given_budget), asked, {"a": (percent * 10, 0)})
    told = answer.directive
    if answer.denial is None:
        parts = (told.switch_model, told.shorten_output, told.finish)
        assert (advice.switch_model, advice.shorten_output, advice.finish) == parts
        assert not (advice.queue or advice.serve_cached or advice.deny)
    elif advice != Directive():
        ends = (told.queue, told.serve_cached)
        assert (advice.queue, advice.serve_cached) == ends
