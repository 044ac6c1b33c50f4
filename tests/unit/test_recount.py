"""The recount must find what is planted: a check that cannot fail shows nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bursar.cli.recount import Committed, Recount, counter_key
from bursar_client import BudgetMode, CounterStatus, Meter, Subject, Target

POLICY = """
org: acme
budgets:
  - {name: all, limit: {usd: 1}, window: month}
  - {name: team, scope: {team: "eng*"}, limit: {tokens: 1000}, window: day}
  - {name: each-user, scope: {labels: {tier: free}}, per: [user], limit: {requests: 9}, window: day}
  - {name: rate, limit: {requests: 9}, window: {rolling: 1m}}
"""
START = datetime(2026, 3, 1, tzinfo=UTC)

COMMIT = Committed(
    Subject(org="acme", team="eng-1", user="u1", labels={"tier": "free"}),
    Target(provider="openai", model="gpt-5"),
    input_tokens=1_000,
    output_tokens=100,
    reserve_time=START + timedelta(hours=1),
)


def counter(budget: str, meter: Meter, committed: int, **partition: str) -> CounterStatus:
    """Return a counter of the first day."""
    return CounterStatus(
        budget=budget,
        partition=partition,
        meter=meter,
        custom_meter="",
        unlimited=False,
        limit=10**9,
        committed=committed,
        held=0,
        credit=0,
        remaining=0,
        ceiling=0,
        window_start_time=START,
        window_end_time=START + timedelta(days=1),
        mode=BudgetMode.ENFORCE,
        amount=0,
    )


@pytest.fixture
def recount(tmp_path: Path) -> Recount:
    """A recount by POLICY."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return Recount(file)


@pytest.mark.parametrize(
    ("right", "planted"),
    [
        pytest.param(counter("all", Meter.COST, 2_250_000), 2_250_001, id="one nano-USD too many"),
        pytest.param(counter("team", Meter.TOTAL_TOKENS, 1_100), 0, id="a commit lost"),
        pytest.param(counter("team", Meter.TOTAL_TOKENS, 1_100), 2_200, id="a commit twice"),
        pytest.param(counter("each-user", Meter.REQUESTS, 1, user="u1"), 2, id="a request twice"),
        pytest.param(
            counter("each-user", Meter.REQUESTS, 0, user="u2"), 1, id="booked on someone else"
        ),
    ],
)
def test_finds_what_is_planted(recount: Recount, right: CounterStatus, planted: int) -> None:
    """Goal: a counter that is off by anything is found.

    Method: the right amount, by hand, passes; a planted one does not.
    """
    assert recount.mismatches([COMMIT], {}, [right]) == []
    [mismatch] = recount.mismatches([COMMIT], {}, [replace(right, committed=planted)])
    assert right.budget in str(mismatch)


def test_uncertain_commits_are_an_interval(recount: Recount) -> None:
    """Goal: a commit whose outcome is unknown may be there or not, nothing else.

    Method: one unknown commit of 1,100 tokens; 0 and 1,100 pass, 1,101 does not.
    """
    unknown = replace(COMMIT, certain=False)
    for committed, found in ((0, 0), (1_100, 0), (1_101, 1)):
        status = counter("team", Meter.TOTAL_TOKENS, committed)
        assert len(recount.mismatches([unknown], {}, [status])) == found


def test_windows_and_what_was_there_before(recount: Recount) -> None:
    """Goal: commits of another window do not count, and what a counter held before does.

    Method: a commit of the next day; a counter that began with 7.
    """
    later = replace(COMMIT, reserve_time=START + timedelta(days=1))
    status = counter("team", Meter.TOTAL_TOKENS, 7)
    assert recount.mismatches([later], {counter_key(status): 7}, [status]) == []
    assert len(recount.mismatches([later], {}, [status])) == 1


def test_rolling_windows_are_left_out(recount: Recount) -> None:
    """Goal: what depends on the time of looking is not judged. Method: a wrong rolling counter."""
    assert recount.mismatches([COMMIT], {}, [counter("rate", Meter.REQUESTS, 99)]) == []
