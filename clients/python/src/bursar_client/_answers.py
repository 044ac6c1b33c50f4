"""What the server answers, as values.

Amounts are integers in the unit of their meter: tokens, calls, or nano-USD where the meter is
`Meter.COST`; properties ending in `_usd` give money as exact decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from bursar_client._directive import Directive
from bursar_client._values import Meter, Subject, Target, usd


class Decision(StrEnum):
    """The answer to "may this call be made"."""

    GRANTED = "granted"
    GRANTED_DEGRADED = "granted_degraded"
    DENIED = "denied"
    UNKNOWN = "unknown"
    """A decision that this version of the client does not know."""


class DenialKind(StrEnum):
    """When a denied request could pass."""

    HELD = "held"
    """Other reservations hold the room; it may come free at any moment."""
    SPENT = "spent"
    """The room comes back when the window ends or rolls on."""
    NEVER = "never"
    """The request alone is more than the budget ever allows."""
    UNPRICED = "unpriced"
    """The model has no known price and the policy refuses such models."""
    UNBUDGETED = "unbudgeted"
    """No budget applies and the policy refuses such requests."""
    UNKNOWN = "unknown"
    """A kind that this version of the client does not know."""


class BudgetMode(StrEnum):
    """What a budget does when it is exceeded."""

    ENFORCE = "enforce"
    WARN = "warn"
    OBSERVE = "observe"
    OFF = "off"
    UNKNOWN = "unknown"
    """A mode that this version of the client does not know."""


class HoldState(StrEnum):
    """Where a reservation stands."""

    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    """A state that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterStatus:
    """One counter: a budget, for one value of what it partitions by, in one window.

    Attributes:
        budget: The budget's name.
        partition: What the budget partitions by and the value here.
        meter: What is counted.
        custom_meter: The meter's name where meter is CUSTOM.
        unlimited: True where there is no limit; limit, remaining and ceiling then mean nothing.
        limit: The limit; 0 means that nothing may be spent.
        committed: Booked for good in this window.
        held: Held by open reservations.
        credit: Temporary addition to the limit.
        remaining: What is left; below 0 after an overage.
        ceiling: How far this request might fill the counter.
        window_start_time: When the window began, or None without a window.
        window_end_time: When the counter starts anew, or None where that is not known.
        mode: Whether the budget refuses or only counts.
        amount: Of this call on this counter; 0 in balances.
    """

    budget: str
    partition: Mapping[str, str]
    meter: Meter
    custom_meter: str
    unlimited: bool
    limit: int
    committed: int
    held: int
    credit: int
    remaining: int
    ceiling: int
    window_start_time: datetime | None
    window_end_time: datetime | None
    mode: BudgetMode
    amount: int

    @property
    def limit_usd(self) -> Decimal | None:
        """The limit in USD, or None where the meter is not money."""
        return usd(self.limit) if self.meter is Meter.COST else None

    @property
    def committed_usd(self) -> Decimal | None:
        """What is booked in USD, or None where the meter is not money."""
        return usd(self.committed) if self.meter is Meter.COST else None

    @property
    def held_usd(self) -> Decimal | None:
        """What is held in USD, or None where the meter is not money."""
        return usd(self.held) if self.meter is Meter.COST else None

    @property
    def remaining_usd(self) -> Decimal | None:
        """What is left in USD, or None where the meter is not money."""
        return usd(self.remaining) if self.meter is Meter.COST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterOffer:
    """One offer that was tried for a denied request and did not fit.

    Attributes:
        target: What it would have called.
        affordable_output_tokens: Output tokens that would fit right now; 0 where none would.
        binding_budget: The budget that binds.
        kind: When it could pass.
        retry_after: How long to wait, or None where waiting does not help.
    """

    target: Target
    affordable_output_tokens: int
    binding_budget: str
    kind: DenialKind
    retry_after: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The call may not be made; nothing is held.

    Attributes:
        kind: When it could pass.
        binding: The counter that binds, or None for UNPRICED and UNBUDGETED.
        affordable_output_tokens: Output tokens that would fit right now; 0 where none would.
        affordable_input_tokens: Input tokens that a cap allows, or None where none binds.
        retry_after: How long to wait before a retry makes sense, or None where it never does.
        counter_offers: Each offer that was tried, in order.
        explanation: One sentence for a developer.
        directive: What to do instead.
        counters: Every counter that applied, tightest first.
        policy_version: The version of the policy that decided.
    """

    kind: DenialKind
    binding: CounterStatus | None
    affordable_output_tokens: int
    affordable_input_tokens: int | None
    retry_after: timedelta | None
    counter_offers: tuple[CounterOffer, ...]
    explanation: str
    directive: Directive
    counters: tuple[CounterStatus, ...]
    policy_version: str

    @property
    def decision(self) -> Decision:
        """Always DENIED."""
        return Decision.DENIED

    @property
    def granted(self) -> bool:
        """Always False."""
        return False

    @property
    def message(self) -> str:
        """What an end user may read; never empty."""
        return self.directive.message or _USER_MESSAGES[self.kind]


_USER_MESSAGES = {
    DenialKind.HELD: "The budget is fully in use at this moment. Please try again shortly.",
    DenialKind.SPENT: "The budget is used up. Please try again later.",
    DenialKind.NEVER: "This request is larger than the budget allows.",
    DenialKind.UNPRICED: "This model is not available.",
    DenialKind.UNBUDGETED: "This request is not covered by a budget.",
    DenialKind.UNKNOWN: "The budget does not allow this request.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The call may be made.

    Attributes:
        reservation_id: Names the hold, or the one that there would be; empty in the answer of a
            check.
        decision: GRANTED, or GRANTED_DEGRADED where the directive changes the request.
        target: What to call.
        max_output_tokens: Output tokens to ask the model for at the most.
        max_input_tokens: Input tokens to send at the most, or None where no cap binds.
        directive: What to do differently.
        expire_time: When the hold ends if nobody settles it, or None where nothing is held.
        ttl: The same as a time from the decision on.
        counters: Every counter that applied, tightest first.
        unbudgeted: True where no budget applies.
        unpriced: True where the model has no known price.
        policy_version: The version of the policy that decided.
        not_enforced: True where the budgets could not be checked and let the call pass: nothing
            is held. A commit is then booked as a record.
    """

    reservation_id: str
    decision: Decision
    target: Target
    max_output_tokens: int
    max_input_tokens: int | None
    directive: Directive
    expire_time: datetime | None
    ttl: timedelta | None
    counters: tuple[CounterStatus, ...]
    unbudgeted: bool
    unpriced: bool
    policy_version: str
    not_enforced: bool = False

    @property
    def granted(self) -> bool:
        """Always True."""
        return True

    @property
    def degraded(self) -> bool:
        """True where the directive changes the request."""
        return self.decision is Decision.GRANTED_DEGRADED


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What was booked on one meter.

    Attributes:
        meter: What is counted.
        custom_meter: The meter's name where meter is CUSTOM.
        amount: Booked by this call, in the meter's unit.
        overage: The part of it above what was held, 0 or more.
        estimated: True where the amount rests on an estimate.
    """

    meter: Meter
    custom_meter: str
    amount: int
    overage: int
    estimated: bool

    @property
    def amount_usd(self) -> Decimal | None:
        """The amount in USD, or None where the meter is not money."""
        return usd(self.amount) if self.meter is Meter.COST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a commit, release or record did.

    Attributes:
        reservation_id: The reservation, or the name of a record in the ledger.
        state: Where the reservation stands.
        charges: Booked by this call, one for each meter.
        counters: Every counter that was touched, as it stands after the call.
        directive: What the next call should do differently.
        late: True where the hold had expired before.
        expire_time: When the rest of the hold ends; only after a partial commit.
        unpriced: True where the model has no known price.
        unbudgeted: True where no budget applies; only of a record.
        recorded: True where the usage was booked without its reservation, because the server no
            longer knew it.
        queued: True where the server could not be reached: nothing is known to be booked yet,
            and the client goes on trying.
    """

    reservation_id: str
    state: HoldState
    charges: tuple[Charge, ...]
    counters: tuple[CounterStatus, ...]
    directive: Directive
    late: bool = False
    expire_time: datetime | None = None
    unpriced: bool = False
    unbudgeted: bool = False
    recorded: bool = False
    queued: bool = False

    @property
    def cost_usd(self) -> Decimal | None:
        """The money booked by this call in USD, or None where no money was counted."""
        for charge in self.charges:
            if charge.meter is Meter.COST:
                return charge.amount_usd
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What an extended hold is now.

    Attributes:
        reservation_id: The reservation.
        max_output_tokens: Output tokens at the most for the whole reservation.
        expire_time: When the hold ends if nobody settles it.
        counters: Every counter of the hold, tightest first.
    """

    reservation_id: str
    max_output_tokens: int
    expire_time: datetime | None
    counters: tuple[CounterStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAmount:
    """What a hold holds on one counter.

    Attributes:
        budget: The budget's name.
        partition: What the budget partitions by and the value here.
        meter: What is counted.
        custom_meter: The meter's name where meter is CUSTOM.
        amount: Held, in the meter's unit.
    """

    budget: str
    partition: Mapping[str, str]
    meter: Meter
    custom_meter: str
    amount: int

    @property
    def amount_usd(self) -> Decimal | None:
        """The amount in USD, or None where the meter is not money."""
        return usd(self.amount) if self.meter is Meter.COST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What one open reservation holds.

    Attributes:
        reservation_id: The reservation.
        request_id: The request that made it.
        subject: Who spends.
        target: The granted target.
        create_time: When it was made.
        expire_time: When it ends if nobody settles it.
        amounts: What it holds, counter by counter.
    """

    reservation_id: str
    request_id: str
    subject: Subject
    target: Target
    create_time: datetime | None
    expire_time: datetime | None
    amounts: tuple[HeldAmount, ...]
