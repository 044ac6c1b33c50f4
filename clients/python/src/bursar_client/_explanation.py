"""What Explain answers: for every budget whether it applies, why, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from bursar_client._answers import CounterStatus
from bursar_client._values import Target, usd


@dataclass(frozen=True, slots=True, kw_only=True)
class RungExplanation:
    """One rung of a budget's ladder.

    Attributes:
        at_percent: The threshold in percent of the limit, 1 to 100.
        action: What it does, in words.
        reached: Whether use is at or above the threshold now.
    """

    at_percent: int
    action: str
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExplanation:
    """One budget seen from one request.

    Attributes:
        budget: The budget's name.
        applies: Whether it applies.
        reason: Why, in one sentence.
        status: How it stands, or None where it does not apply or has no counter.
        rungs: Its ladder, lowest rung first.
        resets_in: How long until the window ends, or None where that is not known.
    """

    budget: str
    applies: bool
    reason: str
    status: CounterStatus | None
    rungs: tuple[RungExplanation, ...]
    resets_in: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceExplanation:
    """How a target is priced.

    Attributes:
        target: The target with its provider found and its alias resolved.
        priced: False where no price is known.
        source: Where the price comes from: `policy`, `fallback` or `genai-prices`.
        input_nano_usd_per_million_tokens: Price of a million input tokens.
        output_nano_usd_per_million_tokens: Price of a million output tokens.
    """

    target: Target
    priced: bool
    source: str
    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int

    @property
    def input_usd_per_million_tokens(self) -> Decimal:
        """Price of a million input tokens in USD."""
        return usd(self.input_nano_usd_per_million_tokens)

    @property
    def output_usd_per_million_tokens(self) -> Decimal:
        """Price of a million output tokens in USD."""
        return usd(self.output_nano_usd_per_million_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request would be decided as it would be.

    Attributes:
        budgets: Every budget of the org in the policy's order.
        price: How the target is priced.
        policy_version: The version of the policy that was used.
    """

    budgets: tuple[BudgetExplanation, ...]
    price: PriceExplanation
    policy_version: str
