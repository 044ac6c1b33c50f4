"""What callers are answered, as values. The service encodes these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bursar.domain.budget import CounterStatus
from bursar.domain.subject import Subject, Target


class Decision(StrEnum):
    """The answer to "may this call be made"."""

    GRANTED = "granted"
    GRANTED_DEGRADED = "granted_degraded"
    DENIED = "denied"


class DenialKind(StrEnum):
    """When a denied request could pass."""

    HELD = "held"
    SPENT = "spent"
    NEVER = "never"
    UNPRICED = "unpriced"
    UNBUDGETED = "unbudgeted"


class NoticeKind(StrEnum):
    """Why a budget speaks without changing the request."""

    RUNG = "rung"
    EXCEEDED = "exceeded"
    UNPRICED = "unpriced"
    UNBUDGETED = "unbudgeted"
    NOT_ENFORCED = "not_enforced"


class HoldState(StrEnum):
    """Where a reservation stands."""

    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a budget wants said."""

    budget: str
    kind: NoticeKind
    message: str


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Call another model."""

    origin: Target
    to: Target
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shorten:
    """Fewer tokens, of output or of input, than wanted."""

    tokens: int
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Queue the request, for at most this long."""

    max_wait_ms: int
    budgets: tuple[str, ...]


class Directive(NamedTuple):
    """What the caller should do; every field that is set applies, and names the budgets behind it.

    Attributes:
        switch_model: Another model to call.
        shorten_output: Output tokens at the most.
        truncate_input: Input tokens at the most.
        finish: Budgets that ask to wrap up.
        serve_cached: Budgets that ask for a cached answer.
        queue: How long waiting makes sense.
        deny: Budgets that leave nothing but the message.
        message: For an end user; empty where nothing needs to be said.
        notices: What budgets want said besides.
    """

    switch_model: SwitchTo | None = None
    shorten_output: Shorten | None = None
    truncate_input: Shorten | None = None
    finish: tuple[str, ...] = ()
    serve_cached: tuple[str, ...] = ()
    queue: Wait | None = None
    deny: tuple[str, ...] = ()
    message: str = ""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class CounterOffer:
    """One offer that did not fit, and what it lacked."""

    target: Target
    affordable_output_tokens: int
    binding_budget: str
    kind: DenialKind
    retry_after_ms: int | None


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request was denied and what would pass.

    Attributes:
        kind: When it could pass.
        binding: The counter that binds, or None where no counter does.
        affordable_output_tokens: Would fit right now with the binding offer's target.
        affordable_input_tokens: What a per-request cap allows, where one binds.
        retry_after_ms: How long to wait, or None where waiting does not help.
        counter_offers: Each offer that was tried.
        explanation: For a developer.
    """

    kind: DenialKind
    binding: CounterStatus | None
    affordable_output_tokens: int
    affordable_input_tokens: int | None
    retry_after_ms: int | None
    counter_offers: tuple[CounterOffer, ...]
    explanation: str


class ReserveAnswer(NamedTuple):
    """The decision on a request.

    Attributes:
        decision: Whether it may be made.
        policy_version: What decided.
        reservation_id: Of its hold, or of the one that it would have; empty where none was asked
            for.
        target: What to call.
        max_output_tokens: Output tokens at the most.
        max_input_tokens: Input tokens at the most, where a cap binds.
        directive: What to do differently.
        expire_ms: When the hold ends; None where nothing is held.
        ttl_ms: The same as a time.
        counters: Every counter that applied, tightest first.
        denial: Why it was denied, or None.
        unbudgeted: No budget applies.
        unpriced: The model has no known price.
        replayed: It had been decided before.
        not_enforced: Reason of the error that kept the counters from being asked, where it was
            granted all the same; empty where they were asked.
    """

    decision: Decision
    policy_version: str
    reservation_id: str = ""
    target: Target | None = None
    max_output_tokens: int = 0
    max_input_tokens: int | None = None
    directive: Directive = Directive()
    expire_ms: int | None = None
    ttl_ms: int | None = None
    counters: tuple[CounterStatus, ...] = ()
    denial: Denial | None = None
    unbudgeted: bool = False
    unpriced: bool = False
    replayed: bool = False
    not_enforced: str = ""

    def held_as(self, reservation_id: str, expire_ms: int, ttl_ms: int) -> ReserveAnswer:
        """Return the answer with its reservation."""
        return self._replace(reservation_id=reservation_id, expire_ms=expire_ms, ttl_ms=ttl_ms)


class Charge(NamedTuple):
    """What was booked on one meter, in its unit."""

    meter: str
    amount: int
    overage: int
    estimated: bool


class SettleAnswer(NamedTuple):
    """What a commit, a release or a record did.

    Attributes:
        reservation_id: Which reservation or record.
        state: Where it stands now.
        charges: Booked by this call, by meter.
        counters: Every counter that was touched, as it stands after the call.
        directive: What the next call should do differently.
        late: The hold had expired before.
        expire_ms: When the rest ends, after a partial commit.
        unpriced: The model has no known price.
        unbudgeted: No budget applies.
        replayed: It had been done before.
    """

    reservation_id: str
    state: HoldState
    charges: tuple[Charge, ...] = ()
    counters: tuple[CounterStatus, ...] = ()
    directive: Directive = Directive()
    late: bool = False
    expire_ms: int | None = None
    unpriced: bool = False
    unbudgeted: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ExtendAnswer:
    """What a hold is after an extend."""

    reservation_id: str
    decision: Decision
    max_output_tokens: int
    expire_ms: int
    counters: tuple[CounterStatus, ...] = ()
    denial: Denial | None = None


@dataclass(frozen=True, slots=True)
class HeldAmount:
    """What a hold holds on one counter, in its meter's unit."""

    budget: str
    partition: tuple[tuple[str, str], ...]
    meter: str
    amount: int


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Who holds what, and until when."""

    reservation_id: str
    request_id: str
    subject: Subject
    target: Target
    create_ms: int
    expire_ms: int
    amounts: tuple[HeldAmount, ...]
