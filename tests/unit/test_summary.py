"""What a replay has counted and how it is told.

Method: a tally and counters by hand, and the text they make.
"""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from bursar.cli.live import LiveView, fullest_of_each
from bursar.cli.recount import Committed, Recount, held_differences
from bursar.cli.summary import (
    Check,
    answered_check,
    first_of,
    over_check,
    print_checks,
    print_summary,
    recount_check,
)
from bursar.cli.tally import MESSAGES_MAX, NO_BUDGET, Tally
from bursar_client import (
    BudgetMode,
    CounterStatus,
    Decision,
    Denial,
    DenialKind,
    Directive,
    Finish,
    Grant,
    HeldAmount,
    Hold,
    HoldState,
    Meter,
    Queue,
    ServeCached,
    Settlement,
    ShortenOutput,
    Subject,
    SwitchModel,
    Target,
)

WIDTH = 110
LARGE, SMALL = Target("gpt-5", "openai"), Target("gpt-5-mini", "openai")


def counter(budget: str, used: int = 0, **partition: str) -> CounterStatus:
    """Return a counter of at most 100 tokens."""
    return CounterStatus(
        budget=budget,
        partition=partition,
        meter=Meter.TOTAL_TOKENS,
        custom_meter="",
        unlimited=False,
        limit=100,
        committed=used,
        held=0,
        credit=0,
        remaining=100 - used,
        ceiling=100,
        window_start_time=None,
        window_end_time=None,
        mode=BudgetMode.ENFORCE,
        amount=0,
    )


def grant(directive: Directive, *counters: CounterStatus) -> Grant:
    return Grant(
        reservation_id="acme.r",
        decision=Decision.GRANTED,
        target=LARGE,
        max_output_tokens=10,
        max_input_tokens=None,
        directive=directive,
        expire_time=None,
        ttl=None,
        counters=counters,
        unbudgeted=False,
        unpriced=False,
        policy_version="1",
    )


def denial(directive: Directive, kind: DenialKind, binding: CounterStatus | None) -> Denial:
    return Denial(
        kind=kind,
        binding=binding,
        affordable_output_tokens=0,
        affordable_input_tokens=None,
        retry_after=None,
        counter_offers=(),
        explanation="",
        directive=directive,
        counters=(binding,) if binding else (),
        policy_version="1",
    )


def committed(team: str, user: str = "", target: Target = SMALL) -> Committed:
    return Committed(
        subject=Subject(org="acme", team=team, user=user),
        target=target,
        input_tokens=1_000,
        output_tokens=100,
        reserve_time=datetime(2026, 3, 1, tzinfo=UTC),
    )


def settlement(*, late: bool = False, queued: bool = False) -> Settlement:
    return Settlement(
        reservation_id="acme.r",
        state=HoldState.COMMITTED,
        charges=(),
        counters=(),
        directive=Directive(),
        late=late,
        queued=queued,
    )


def text_of(tally: Tally, *counters: CounterStatus) -> str:
    out = io.StringIO()
    print_summary(Console(file=out, width=WIDTH), tally, counters)
    return "\n".join(" ".join(line.split()) for line in out.getvalue().splitlines())


U1 = Subject(org="acme", user="u1")
QUEUE = Directive(queue=Queue(timedelta(minutes=15), ("money",)), message="Later.")


def test_decisions_by_kind_add_up() -> None:
    """Goal: each decision is counted once, by what changed or why. Method: one of each kind."""
    tally = Tally(total=8)
    switch = SwitchModel(LARGE, SMALL, ("money",))
    shorter = ShortenOutput(10, ("money", "rate"))
    tally.count_grant(grant(Directive()), U1)
    tally.count_grant(grant(Directive(switch_model=switch)), U1)
    tally.count_grant(grant(Directive(switch_model=switch, shorten_output=shorter)), U1)
    tally.count_grant(grant(Directive(finish=Finish(("task",)))), U1)
    tally.count_denial(denial(QUEUE, DenialKind.SPENT, counter("money")), U1)
    tally.count_denial(
        denial(Directive(serve_cached=ServeCached(("money",))), DenialKind.HELD, counter("money")),
        U1,
    )
    tally.count_denial(denial(Directive(), DenialKind.UNBUDGETED, None), U1)
    tally.failed["INTERNAL"] += 1
    tally.released, tally.abandoned, tally.retried = 1, 1, 2
    tally.count_commit(committed("a"), settlement(queued=True))
    tally.count_commit(committed("a"), settlement(late=True))
    text = text_of(tally)
    for line in (
        "granted as asked 1",
        "degraded switch model (money) 1",
        "degraded switch model (money) + shorten output (money, rate) 1",
        "degraded finish (task) 1",
        "denied money: spent 1",
        "denied money: held 1",
        f"denied {NO_BUDGET}: unbudgeted 1",
        "no answer 1",
        "in all 8",
        "The denied were told to: queue 1, answer from a cache 1, refuse 1.",
        "Of 4 grants: 2 committed, 1 released (failed before the model was called), "
        "1 never settled (the TTL ends the hold).",
        "While the server was away: 2 reserves repeated with the same request id, "
        "1 commit sent later by the client.",
        "money (spent): Later.",
    ):
        assert line in text.splitlines()
    assert tally.late == 1


def test_messages_are_bounded() -> None:
    """Goal: many budgets do not fill the screen. Method: one more than fit."""
    tally = Tally(total=MESSAGES_MAX + 1)
    for number in range(MESSAGES_MAX + 1):
        binding = counter(f"b{number}")
        tally.count_denial(denial(QUEUE, DenialKind.HELD, binding), U1)
    assert len(tally.messages) == MESSAGES_MAX


@pytest.mark.parametrize(
    ("teams", "rows"),
    [
        pytest.param(1, ["team t0 2 2,000 200 $0.0009"], id="one"),
        pytest.param(4, [f"team t{number} 2 2,000 200 $0.0009" for number in range(4)], id="four"),
        pytest.param(5, ["team 2 others 4 4,000 400 $0.0018"], id="five"),
    ],
)
def test_spend_by_level(teams: int, rows: list[str]) -> None:
    """Goal: tokens and dollars by level; what is not shown is summed, and never "1 other".

    Method: two commits of each team; 1,000 tokens in and 100 out cost $0.00045 at gpt-5-mini.
    """
    tally = Tally(total=2 * teams)
    for number in range(2 * teams):
        tally.count_commit(committed(f"t{number % teams}"), settlement())
    lines = text_of(tally).splitlines()
    assert {*rows} <= {*lines}
    assert not [line for line in lines if " 1 other" in line]
    assert f"model gpt-5-mini {2 * teams} {2_000 * teams:,}" in text_of(tally)


def test_budgets_at_the_end_show_the_fullest() -> None:
    """Goal: a budget with many counters is one row, and says so. Method: three users."""
    users = [counter("each", used, user=f"u{used}") for used in (10, 70, 30)]
    shown, counts = fullest_of_each([counter("all", 5), *users])
    assert [(each.budget, each.committed) for each in shown] == [("all", 5), ("each", 70)]
    assert counts == {"all": 1, "each": 3}
    text = text_of(Tally(total=0), counter("all", 5), *users)
    assert "each [user=u70] tokens, fullest of 3 ███████··· 70 70 0 100" in text
    assert "all tokens ··········  5" not in text
    assert "all tokens ·········· 5 5 0 100" in text


def test_the_fullest_counters_are_followed() -> None:
    """Goal: the live table knows whose counters to read. Method: answers with growing use."""
    tally = Tally(total=3)
    u2 = Subject(org="acme", user="u2")
    tally.count_grant(grant(Directive(), counter("each", 50, user="u1"), counter("all", 99)), U1)
    tally.count_grant(grant(Directive(), counter("each", 40, user="u2")), u2)
    assert tally.fullest == {"each": (50, U1)}
    tally.count_denial(denial(QUEUE, DenialKind.HELD, counter("each", 60, user="u2")), u2)
    assert tally.fullest == {"each": (60, u2)}


def test_the_live_view_without_a_terminal() -> None:
    """Goal: a line now and then, none twice. Method: show the same and more progress."""
    out = io.StringIO()
    tally = Tally(total=100)
    with LiveView(Console(file=out, width=WIDTH), tally) as view:
        view.show([counter("all")])
        view.show([counter("all")])
        view.note("something happened")
        view.note("something happened")
        tally.done, tally.granted = 55, 56
        view.show([counter("all")])
    assert out.getvalue().splitlines() == [
        "     0 of 100 calls: 0 granted, 0 degraded, 0 denied",
        "something happened",
        "    55 of 100 calls: 56 granted, 0 degraded, 0 denied",
    ]


def test_the_live_view_on_a_terminal() -> None:
    """Goal: decisions by kind, and committed, held and limit of each budget. Method: one frame."""
    out = io.StringIO()
    tally = Tally(total=100, done=40)
    tally.count_grant(grant(Directive(finish=Finish(("task",)))), U1)
    tally.count_denial(denial(QUEUE, DenialKind.HELD, counter("money")), U1)
    console = Console(file=out, width=WIDTH, height=40, force_terminal=True, color_system=None)
    with LiveView(console, tally) as view:
        view.show([replace(counter("all", 70), held=12)])
    text = " ".join(out.getvalue().split())
    for part in (
        "40/100",
        "degraded 1 finish (task) 1",
        "denied 1 money: held 1",
        "all tokens ███████▒·· 82 70 12 100",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("checks", "passed", "text"),
    [
        pytest.param([Check("all well")], True, "  ok   all well", id="passed"),
        pytest.param(
            [Check("all well"), Check("a[0]", "[1] is")], False, "  FAIL a[0]: [1] is", id="failed"
        ),
    ],
)
def test_checks(checks: list[Check], passed: bool, text: str) -> None:
    out = io.StringIO()
    assert print_checks(Console(file=out, width=20), checks) is passed
    assert text in out.getvalue().splitlines()


def test_reasons_are_bounded() -> None:
    assert first_of([]) == ""
    assert first_of(["a", "b", "c"]) == "a; b; c"
    assert first_of(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


def test_each_check_can_fail() -> None:
    """Goal: a check that cannot fail shows nothing. Method: each with and without its fault."""
    tally = Tally(total=2)
    assert answered_check(tally).passed
    tally.failed["INTERNAL"] += 2
    assert answered_check(tally) == Check("every one of 2 calls was answered", "INTERNAL 2 times")
    assert over_check(tally, []).passed
    over = over_check(tally, [counter("b", 101), counter("a", 101)])
    assert over.why == "a, b"
    tally.late = 1
    excused = over_check(tally, [counter("a", 101)])
    assert excused.passed
    assert excused.name == "no budget was seen past its limit, but by 1 late commit"


POLICY = """
org: acme
budgets:
  - {name: day, limit: {tokens: 100000}, window: day}
  - {name: rate, limit: {tokens: 100000}, window: {rolling: 1m}}
"""


def test_the_recount_says_what_it_judged(tmp_path: Path) -> None:
    """Goal: no claim on counters that were not looked at. Method: one of two cannot be judged."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY, encoding="utf-8")
    check = recount_check(
        Recount(file), [committed("a")], {}, [counter("day", 1_100), counter("rate", 77)]
    )
    assert check == Check(
        "the recount of 1 commit agrees exactly with 1 counter (of rolling windows, not judged: 1)"
    )
    wrong = recount_check(Recount(file), [committed("a")], {}, [counter("day", 1_101)])
    assert wrong.why == "day: committed 1101, callers say 1100"


def hold(budget: str, amount: int, **partition: str) -> Hold:
    return Hold(
        reservation_id="acme.r",
        request_id="r",
        subject=U1,
        target=SMALL,
        create_time=None,
        expire_time=None,
        amounts=(
            HeldAmount(
                budget=budget,
                partition=partition,
                meter=Meter.TOTAL_TOKENS,
                custom_meter="",
                amount=amount,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("held", "differs"),
    [
        pytest.param(30, [], id="right"),
        pytest.param(0, ["each [user=u1]: held 0, its holds say 30"], id="lost"),
        pytest.param(31, ["each [user=u1]: held 31, its holds say 30"], id="leaked"),
    ],
)
def test_held_is_the_sum_of_the_holds(held: int, differs: list[str]) -> None:
    """Goal: a leak and a loss are found. Method: two holds of u1, and one of another."""
    holds = [hold("each", 10, user="u1"), hold("each", 20, user="u1"), hold("each", 5, user="u2")]
    assert held_differences([replace(counter("each", user="u1"), held=held)], holds) == differs
