"""Requests that pass while no counter can be asked.

Goal: only where every budget that could refuse is open, never past a cap on each request, and
with nothing said of counters that nobody knows. Method: rows of policies; the answer's fields.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import NOW, budget, policy, request

from bursar.domain.answer import Decision, DenialKind, NoticeKind, ReserveAnswer
from bursar.domain.offer import plan
from bursar.domain.unchecked import decide_unchecked

OPEN = {"on_unavailable": "open"}
CAP = {"name": "cap", "limit": {"output_tokens": 100}, "window": "request"}


def unchecked(*budgets: dict[str, Any], **asked: Any) -> ReserveAnswer | None:  # noqa: ANN401
    given = {"input_tokens": 10, "max_output_tokens": 50} | asked
    planned = plan(request(**given), policy(*budgets), NOW)
    return decide_unchecked(planned, "SHARD_COLD")


PASSES: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "one that is open": ([budget(**OPEN)], True),
    "one that is closed": ([budget()], False),
    "one said to be closed": ([budget(on_unavailable="closed")], False),
    "open and closed": ([budget(**OPEN), budget("c")], False),
    "two that are open": ([budget(**OPEN), budget("c", **OPEN)], True),
    "closed for others": ([budget(**OPEN), budget("c", scope={"user": "u9"})], True),
    "closed and silent": ([budget(**OPEN), budget("c", mode="warn")], True),
    "closed and unlimited": ([budget(**OPEN), budget("c", limit={"tokens": "unlimited"})], True),
    "closed and off": ([budget(**OPEN), budget("c", mode="off")], True),
    "only silent ones": ([budget(mode="observe")], False),
    "no budget": ([budget(scope={"user": "u9"}, **OPEN)], False),
    "a cap alone": ([CAP], False),
    "a cap beside": ([budget(**OPEN), CAP], True),
    "concurrency": ([{"name": "c", "limit": {"concurrency": 1}, **OPEN}], True),
}


@pytest.mark.parametrize(("budgets", "passes"), PASSES.values(), ids=PASSES)
def test_who_passes(budgets: list[dict[str, Any]], passes: bool) -> None:
    answer = unchecked(*budgets, user="u1")
    assert (answer is not None) == passes
    if answer is not None:
        assert answer.decision is Decision.GRANTED and answer.not_enforced == "SHARD_COLD"


def test_what_the_answer_says() -> None:
    """Goal: what to call, why it is not enforced, and no counter. Method: all of its fields."""
    answer = unchecked(budget(**OPEN), budget("silent", mode="observe"))
    assert answer is not None
    assert (answer.max_output_tokens, answer.counters, answer.denial) == (50, (), None)
    assert answer.target is not None and answer.target.model == "m"
    assert not answer.unbudgeted and answer.expire_ms is None and answer.ttl_ms is None
    [notice] = answer.directive.notices
    assert (notice.budget, notice.kind) == ("b", NoticeKind.NOT_ENFORCED)
    assert notice.message == (
        "This budget cannot be checked at the moment (SHARD_COLD); nothing is held."
    )


def test_a_cap_cuts_all_the_same() -> None:
    """Goal: caps on each request need no counter. Method: more than the cap, and what is asked."""
    answer = unchecked(budget(**OPEN), CAP, max_output_tokens=500)
    assert answer is not None
    assert answer.decision is Decision.GRANTED_DEGRADED
    assert answer.max_output_tokens == 100
    assert [status.counter.budget.name for status in answer.counters] == ["cap"]
    assert answer.directive.shorten_output is not None
    assert answer.directive.shorten_output.budgets == ("cap",)


def test_a_cap_denies_all_the_same() -> None:
    """Goal: what is never allowed is not allowed now. Method: input above a cap on it."""
    cap = {"name": "cap", "limit": {"input_tokens": 5}, "window": "request"}
    answer = unchecked(budget(**OPEN), cap)
    assert answer is not None and answer.denial is not None
    assert answer.decision is Decision.DENIED and not answer.not_enforced
    assert answer.denial.kind is DenialKind.NEVER
    assert answer.denial.binding is not None
    assert answer.denial.binding.counter.budget.name == "cap"
    assert [status.counter.budget.name for status in answer.counters] == ["cap"]


def test_no_rung_is_climbed_unseen() -> None:
    """Goal: a ladder acts on what is used, which nobody knows. Method: one with every rung."""
    ladder = [
        {"at": 50, "switch_model": {"from": "m", "to": "small"}},
        {"at": 80, "cap_output": 5},
        {"at": 90, "deny": True},
    ]
    answer = unchecked(budget(ladder=ladder, **OPEN), accepts=("switch_model", "shorter_output"))
    assert answer is not None and answer.decision is Decision.GRANTED
    assert (answer.target and answer.target.model, answer.max_output_tokens) == ("m", 50)
