"""P8: how long it takes to find the budgets of a request among many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bench.rows import Row
from bench.stage import Scale
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_validation import validate_policy

MATCHING = 10
_FEATURES = 10
_DECISIONS = 4_000


def many_budgets(budgets: int) -> Policy:
    """Return a policy in which MATCHING budgets apply to each request.

    Each team and feature has that many: half of them for each user. So no one attribute alone
    says which.
    """
    windows = ("month", "day", "hour", "week", "quarter")
    documents = []
    for number in range(budgets):
        place = number // MATCHING
        team, feature = place // _FEATURES, place % _FEATURES
        documents.append(
            {
                "name": f"b{number}",
                "scope": {"team": f"team-{team}", "feature": f"feature-{feature}"},
                "per": ["user"] if number % 2 else [],
                "limit": {"usd": 1_000},
                "window": windows[number % len(windows)],
            }
        )
    return compile_policy(validate_policy({"org": "acme", "budgets": documents}, "many"))


async def p8(scale: Scale, say: Callable[[str], None]) -> list[Row]:
    """Measure the matching alone, in this process."""
    say(f"compiling {scale.budgets:,} budgets")
    return await asyncio.to_thread(_measured, scale, say)


def _measured(scale: Scale, say: Callable[[str], None]) -> list[Row]:
    begin_s = time.perf_counter()
    policy = many_budgets(scale.budgets)
    compile_s = time.perf_counter() - begin_s
    say("matching")
    many_us = _match_us(policy, scale.budgets)
    few_us = _match_us(many_budgets(MATCHING), MATCHING)
    return [
        Row(
            "P8",
            f"{scale.budgets:,} budgets in one org, {MATCHING} match: us of a decision",
            f"{many_us:.1f} us",
            ratio=many_us,
            reach=20,
            note=f"{MATCHING} budgets in all: {few_us:.1f} us",
            figures={"match_us": round(many_us, 2), "few_match_us": round(few_us, 2),
                     "compile_s": round(compile_s, 2)},
        )
    ]  # fmt: skip


def _match_us(policy: Policy, budgets: int) -> float:
    """Return processor time of finding the budgets of a request that is not remembered."""
    places = budgets // MATCHING
    subjects = [
        {
            "org": "acme",
            "team": f"team-{place // _FEATURES}",
            "feature": f"feature-{place % _FEATURES}",
            "user": f"user-{number % 1_000}",
            "task": f"task-{number % 5_000}",
            "provider": "openai",
            "model": "gpt-5",
        }
        for number in range(_DECISIONS)
        for place in (number * 7 % places,)
    ]
    assert len(policy.matching(subjects[0])) == MATCHING
    best_us = float("inf")
    # The least of some rounds: what is more is of other processes.
    for _ in range(5):
        begin_s = time.thread_time()
        for subject in subjects:
            policy.matching(subject)
        best_us = min(best_us, (time.thread_time() - begin_s) * 1e6 / _DECISIONS)
    return best_us
