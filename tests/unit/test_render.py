"""What the command line shows is true, and its JSON is exact.

Method: tables of values and their text, by hand.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from bursar.cli.printing import WIDTH_WITHOUT_TERMINAL, console, plural, print_plain, to_json
from bursar.cli.render import (
    BAR_CELLS,
    NARROW,
    amount_text,
    bar,
    counter_name,
    counters_table,
    money_text,
    used_percent,
)
from bursar_client import BudgetMode, CounterStatus, Meter

USD = 1_000_000_000

COUNTER = CounterStatus(
    budget="free-users",
    partition={"user": "u1", "labels.tier": "free"},
    meter=Meter.TOTAL_TOKENS,
    custom_meter="",
    unlimited=False,
    limit=100_000,
    committed=20_000,
    held=30_000,
    credit=0,
    remaining=50_000,
    ceiling=100_000,
    window_start_time=None,
    window_end_time=datetime(2026, 3, 1, tzinfo=UTC),
    mode=BudgetMode.ENFORCE,
    amount=0,
)


@pytest.mark.parametrize(
    ("amount_nano_usd", "text"),
    [
        pytest.param(0, "$0", id="nothing"),
        pytest.param(1, "<$0.0001", id="never shown as nothing"),
        pytest.param(50_000, "<$0.0001", id="half of the last digit"),
        pytest.param(50_001, "$0.0001", id="more than half"),
        pytest.param(-1, "-<$0.0001", id="hardly below"),
        pytest.param(-USD // 2, "-$0.5000", id="below"),
        pytest.param(USD, "$1.0000", id="one"),
        pytest.param(USD - 1, "$1.0000", id="rounded"),
        pytest.param(99 * USD, "$99.0000", id="below a hundred"),
        pytest.param(50_000 * USD, "$50,000.00", id="thousands"),
        pytest.param(2**53, "$9,007,199.25", id="the largest"),
    ],
)
def test_money(amount_nano_usd: int, text: str) -> None:
    assert money_text(amount_nano_usd) == text


@pytest.mark.parametrize(
    ("amount", "meter", "custom", "text"),
    [
        (1, Meter.TOTAL_TOKENS, "", "1 token"),
        (1_234, Meter.TOTAL_TOKENS, "", "1,234 tokens"),
        (0, Meter.INPUT_TOKENS, "", "0 input tokens"),
        (2, Meter.OUTPUT_TOKENS, "", "2 output tokens"),
        (1, Meter.REQUESTS, "", "1 request"),
        (3, Meter.CONCURRENCY, "", "3 at once"),
        (7, Meter.CUSTOM, "pages", "7 pages"),
        (7, Meter.UNKNOWN, "", "7"),
        (USD, Meter.COST, "", "$1.0000"),
    ],
)
def test_amounts_have_their_unit(amount: int, meter: Meter, custom: str, text: str) -> None:
    assert amount_text(amount, meter, custom) == text


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("hold",), "0 holds"),
        (1, ("hold",), "1 hold"),
        (1_200, ("hold",), "1,200 holds"),
        (2, ("person", "people"), "2 people"),
    ],
)
def test_nouns_agree_with_their_number(count: int, words: tuple[str, ...], text: str) -> None:
    assert plural(count, *words) == text


@pytest.mark.parametrize(
    ("committed", "held", "limit", "credit", "percent", "cells"),
    [
        pytest.param(0, 0, 100, 0, 0, "··········", id="empty"),
        pytest.param(20, 30, 100, 0, 50, "██▒▒▒·····", id="half of it held"),
        pytest.param(99, 0, 100, 0, 99, "█████████·", id="never full too early"),
        pytest.param(100, 0, 100, 0, 100, "██████████", id="full"),
        pytest.param(90, 60, 100, 0, 150, "█████████▒", id="over"),
        pytest.param(50, 0, 100, 100, 25, "██········", id="credit"),
        pytest.param(0, 0, 0, 0, 100, "··········", id="nothing allowed"),
        pytest.param(1, 0, 0, 0, 100, "██████████", id="nothing allowed and used"),
    ],
)
def test_percent_and_bar(
    committed: int, held: int, limit: int, credit: int, percent: int, cells: str
) -> None:
    status = replace(COUNTER, committed=committed, held=held, limit=limit, credit=credit)
    assert used_percent(status) == percent
    assert bar(status).plain == cells
    assert len(cells) == BAR_CELLS


def test_unlimited_is_said_in_words() -> None:
    status = replace(COUNTER, unlimited=True, limit=0)
    assert bar(status).plain == "unlimited"
    assert "unlimited" in shown(status, WIDTH_WITHOUT_TERMINAL)


def shown(status: CounterStatus, width: int, remarks: Mapping[str, str] | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(counters_table("Title", [status], width, remarks))
    return out.getvalue()


def test_a_row_has_everything() -> None:
    """Goal: committed, held, limit, credit, unit, remark and reset. Method: one row."""
    status = replace(COUNTER, credit=5, partition={"user": "u1", "task": "t"})
    text = shown(status, 120, {"free-users": "fullest"})
    name = "free-users [task=t, user=u1] tokens, fullest"
    for part in ("Title", name, "20,000", "30,000", "100,000 + 5", "49", "resets"):
        assert part in text


@pytest.mark.parametrize("width", [NARROW - 18, NARROW - 1, NARROW, WIDTH_WITHOUT_TERMINAL])
def test_no_width_cuts_anything(width: int) -> None:
    """Goal: a narrow table has fewer columns, not cut ones. Method: large amounts at each width."""
    status = replace(COUNTER, meter=Meter.COST, limit=50_000 * USD, committed=12_345 * USD)
    text = shown(status, width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("$50,000.00", "$12,345.00", "free-users"):
        assert part in text
    assert "…" not in text
    assert ("resets" in text) is (width >= NARROW)


def test_names_are_no_markup() -> None:
    """Goal: what users named is shown as it is. Method: a name that looks like markup."""
    status = replace(COUNTER, budget="[red]", partition={"user": "[/]:smile:"})
    assert counter_name(status) == "[red] [user=[/]:smile:]"
    assert "[red] [user=[/]:smile:]" in shown(status, WIDTH_WITHOUT_TERMINAL)
    out = io.StringIO()
    print_plain(Console(file=out, width=10), "[red]a long [/]:smile: line", ("[b]", "bold"))
    assert out.getvalue() == "[red]a long [/]:smile: line[b]\n"


def test_width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a file gets whole lines, unless COLUMNS says how wide. Method: with it and without."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console(stderr=True).width == WIDTH_WITHOUT_TERMINAL or console(stderr=True).is_terminal
    monkeypatch.setenv("COLUMNS", "61")
    assert console().width == 61


@dataclass(frozen=True)
class Answer:
    """Of every kind that a client's answers have."""

    ttl: timedelta | None
    wait: timedelta | None
    time: datetime
    meter: Meter
    amount: int
    usd: Decimal
    of: Mapping[str, tuple[int, ...]]


def test_json_is_exact() -> None:
    """Goal: no float, and a duration says its unit even where there is none. Method: one each."""
    answer = Answer(
        ttl=timedelta(seconds=1.5),
        wait=None,
        time=datetime(2026, 3, 1, tzinfo=UTC),
        meter=Meter.COST,
        amount=2**53 + 1,
        usd=Decimal("0.000000001"),
        of={"a": (1, 2)},
    )
    assert to_json([answer]) == [
        {
            "ttl_ms": 1_500,
            "wait_ms": None,
            "time": "2026-03-01T00:00:00+00:00",
            "meter": "cost",
            "amount": 2**53 + 1,
            "usd": "1E-9",
            "of": {"a": [1, 2]},
        }
    ]
