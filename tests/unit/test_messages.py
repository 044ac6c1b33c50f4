"""What people read: filled messages and amounts.

Goal: every placeholder is filled, nothing a caller sends is a template, and no amount is rounded
so that it says something else. Method: rows, and one message with every placeholder in it.
"""

from __future__ import annotations

from typing import Any

import pytest
from domain_builders import ALL, NOW, budget, decide, policy, request, status

from bursar.domain.directive import fill_message, format_amount
from bursar.domain.policy_values import PLACEHOLDERS

ASKED = {"input_tokens": 10, "max_output_tokens": 90}


def denying(message: str) -> dict[str, Any]:
    return budget("a", ladder=[{"at": 90, "deny": True, "message": message}])


def test_every_placeholder_is_filled() -> None:
    """Goal: no placeholder stays empty. Method: all of them in one message, in a denial."""
    template = "|".join(f"{name}={{{name}}}" for name in sorted(PLACEHOLDERS))
    answer = decide(policy(denying(template)), request(**ASKED, accepts=ALL), {"a": (850, 0)})
    assert answer.directive.message == (
        "affordable_output_tokens=40|budget=a|limit=1,000 tokens|model=m|percent=85|"
        "remaining=150 tokens|resets_in=in 12 h"
    )


@pytest.mark.parametrize("model", ["{budget}", "{0}", "{", "}}", "%s"])
def test_braces_of_callers_are_only_text(model: str) -> None:
    """Goal: what a caller sends is never read as a template. Method: a model's name."""
    rules = policy(denying("{{{model}}} {budget}"))
    answer = decide(rules, request(model, **ASKED), {"a": (900, 0)})
    assert answer.directive.message == "{" + model + "} a"


def test_message_of_a_window_without_end() -> None:
    """Goal: where nobody knows the end, the message still reads. Method: a rolling window."""
    found = fill_message("try again {resets_in}", status(budget(window={"rolling": "1h"})), NOW)
    assert found == "try again later"


LEFT = {
    "money in whole cents": ({"usd": 5}, 1_234_567_891, 0, "$3.76"),
    "a cent": ({"usd": 5}, 4_990_000_000, 0, "$0.01"),
    "less than a cent is not nothing": ({"usd": 5}, 4_999_999_999, 0, "$0.000000001"),
    "nothing": ({"usd": 5}, 5_000_000_000, 0, "$0.00"),
    "never below nothing": ({"usd": 5}, 9_000_000_000, 0, "$0.00"),
    "credit": ({"usd": 5}, 5_000_000_000, 10**9, "$1.00"),
    "tokens": ({"tokens": 5_000}, 1, 0, "4,999 tokens"),
}


@pytest.mark.parametrize(("limit", "committed", "credit", "text"), LEFT.values(), ids=LEFT)
def test_what_is_left(limit: dict[str, Any], committed: int, credit: int, text: str) -> None:
    """Goal: nobody is told of more than there is, nor of nothing while something is left.

    Method: rows.
    """
    stands = status(budget(limit=limit), committed, credit=credit)
    assert fill_message("{remaining}", stands, NOW) == text


AMOUNTS = {
    "nothing": (0, "cost", "$0.00"),
    "whole dollars": (12_000_000_000, "cost", "$12.00"),
    "cents": (12_340_000_000, "cost", "$12.34"),
    "parts of a cent": (12_345_600_000, "cost", "$12.3456"),
    "almost the limit": (9_999_999_999, "cost", "$9.999999999"),
    "a nano-USD": (1, "cost", "$0.000000001"),
    "ten cents": (100_000_000, "cost", "$0.10"),
    "thousands": (1_234_567_000_000_000, "cost", "$1,234,567.00"),
    "the most there is": (2**53 - 1, "cost", "$9,007,199.254740991"),
    "beyond a double": (2**60 + 1, "cost", "$1,152,921,504.606846977"),
    "below nothing": (-5_250_000_000, "cost", "-$5.25"),
    "a little below nothing": (-1, "cost", "-$0.000000001"),
    "tokens": (1_234_567, "total_tokens", "1,234,567 tokens"),
    "input": (5, "input_tokens", "5 input tokens"),
    "a custom meter": (5, "gpu_seconds", "5 gpu seconds"),
    "a custom meter of a like name": (5, "subtotal_pages", "5 subtotal pages"),
    "tokens below nothing": (-1_000, "output_tokens", "-1,000 output tokens"),
}


@pytest.mark.parametrize(("amount", "unit", "text"), AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_for_people(amount: int, unit: str, text: str) -> None:
    """Goal: amounts are shown exactly, whatever their size. Method: rows. Case 91."""
    assert format_amount(amount, unit) == text
