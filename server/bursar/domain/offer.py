"""From a request and a policy to an ordered list of offers.

Offer 0 is the request as asked. Every restricting rung that a matching budget declares, and the
caller accepts, can be applied on top; the offers are the combinations of how far each budget's
ladder is climbed, least restrictive first (docs/adr/0003). The engine grants the first one that
fits every counter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from bursar.domain import meter
from bursar.domain.budget import Counter, Degradation, Mode, Rung
from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.ladder import (
    AppliedRung,
    Variant,
    as_asked,
    ceiling,
    headroom_percent,
    variants,
)
from bursar.domain.meter import Estimate
from bursar.domain.policy import Policy
from bursar.domain.price import Rates
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import Target

OFFERS_MAX = 16
"""Most offers for a request; the most restrictive one is always among them."""


class Use(NamedTuple):
    """What an offer does to one counter: `amount = base + slope * output tokens`.

    Attributes:
        counter: Which counter.
        base: Amount without output, in the meter's unit.
        slope: Amount for each output token.
        ceiling: What the counter may hold after it, without credit; None where nothing binds.
        rung: The rung whose threshold the ceiling is, or None.
    """

    counter: Counter
    base: int
    slope: int
    ceiling: int | None
    rung: Rung | None = None

    @property
    def counts(self) -> bool:
        """Whether it has a counter in the store: a per-request cap has none."""
        return self.counter.budget.counts

    def amount(self, output_tokens: int) -> int:
        """Return the amount with that output."""
        return self.base + self.slope * output_tokens


class Offer(NamedTuple):
    """One way to grant a request.

    Attributes:
        target: What would be called.
        output_min: Fewest output tokens that the caller takes.
        output_max: Most output tokens that it may get.
        output_wanted: What it asked for, or the default.
        input_tokens: What the amounts are computed for.
        input_cap: Input tokens to send at the most, where a cap binds.
        input_budgets: Budgets whose cap cut the input.
        output_budgets: Budgets whose per-request cap cut the output.
        applied: Rungs that it carries out.
        uses: What it does to each counter, in the policy's order.
        unpriced: The target has no known price and is let pass uncharged or at the fallback.
        switched: Every target that a rung switched to on the way to it, in order.
        finishing: It is a closing answer.
    """

    target: Target
    output_min: int
    output_max: int
    output_wanted: int
    input_tokens: int
    input_cap: int | None
    input_budgets: tuple[str, ...]
    output_budgets: tuple[str, ...]
    applied: tuple[AppliedRung, ...]
    uses: tuple[Use, ...]
    unpriced: bool
    switched: tuple[Target, ...] = ()
    finishing: bool = False


class Plan(NamedTuple):
    """All that is decided before the counters are asked.

    Attributes:
        request: What was asked, with its provider found.
        policy: The version that decides.
        now_ms: When.
        offers: In order of preference; empty where the policy refuses outright.
        unpriced_model: Set where a money budget applies and no offer's model has a price.
    """

    request: ReserveRequest
    policy: Policy
    now_ms: int
    offers: tuple[Offer, ...]
    unpriced_model: str | None

    @property
    def unbudgeted(self) -> bool:
        """Whether no budget applies."""
        return not any(offer.uses for offer in self.offers) and self.unpriced_model is None


def plan(request: ReserveRequest, policy: Policy, now_ms: int) -> Plan:
    """List the ways in which a request could be granted.

    Args:
        request: What was asked.
        policy: The org's policy.
        now_ms: Since the epoch; decides the windows.

    Raises:
        FieldInvalid: The estimate names an unknown meter, or comes to more than can be counted.
    """
    policy.check_meters("estimate.custom_meters", request.estimate.custom_meters)
    target = policy.price_book.resolve(request.target)
    if target != request.target:
        request = replace(request, target=target)
    asked = policy.counters(request.subject, request.target, now_ms)
    first = _offer(request, policy, as_asked(request), asked, now_ms)
    unpriced_model = request.target.model if first is None else None
    offers = [] if first is None else [first]
    fullest = None
    for variant in variants(request, asked, first.output_max if first else None):
        counters = asked
        if variant.target != request.target:
            counters = policy.counters(request.subject, variant.target, now_ms)
        offer = _offer(request, policy, variant, counters, now_ms)
        if offer is not None and offer.output_min <= offer.output_max:
            offers.append(offer)
            fullest = offer if variant.fullest else fullest
    if len(offers) > OFFERS_MAX:
        kept, rest = offers[: OFFERS_MAX - 1], offers[OFFERS_MAX - 1 :]
        offers = [*kept, next((each for each in rest if each is fullest), rest[0])]
    if not any(offer.uses for offer in offers) and not policy.unbudgeted_allowed:
        offers = []
    return Plan(request, policy, now_ms, tuple(offers), None if offers else unpriced_model)


def _offer(
    request: ReserveRequest,
    policy: Policy,
    variant: Variant,
    counters: list[Counter],
    now_ms: int,
) -> Offer | None:
    """Return the offer of a variant, or None where its model has no price and needs one.

    A budget that only warns or observes never refuses, so it does not need one.
    """
    rates, unpriced = None, False
    modes = {counter.budget.mode for counter in counters if counter.budget.meter == meter.COST}
    if modes:
        rates = policy.rates(variant.target, request.estimate.input_tokens, now_ms)
        unpriced = rates is None or rates.source == "fallback"
        if rates is None and Mode.ENFORCE in modes and not policy.unpriced_allowed:
            return None
    estimate, cap, cutting = _cut_input(request, counters)
    wanted, most = _output_range(request, policy, variant, counters)
    # What an amount depends on is the meter alone, and few budgets have one of their own.
    affine = {
        name: _affine(name, estimate, rates)
        for name in {counter.budget.meter for counter in counters}
    }
    amounts = [(counter, *affine[counter.budget.meter]) for counter in counters]
    least = request.estimate.min_output_tokens
    allowed, output_budgets = _per_request_output(request, amounts, most)
    if allowed < most:
        most = allowed
        if request.estimate.max_output_tokens is None:
            wanted = min(wanted, most)
    uses = tuple(
        Use(counter, base, slope, *ceiling(counter.budget, request, variant, most))
        for counter, base, slope in amounts
    )
    _check_countable(uses, most)
    return Offer(
        target=variant.target,
        output_min=most if least is None else least,
        output_max=most,
        output_wanted=wanted,
        input_tokens=estimate.input_tokens,
        input_cap=cap,
        input_budgets=cutting,
        output_budgets=output_budgets,
        applied=variant.applied,
        uses=uses,
        unpriced=unpriced,
        switched=variant.switched,
        finishing=variant.finishing,
    )


def _output_range(
    request: ReserveRequest, policy: Policy, variant: Variant, counters: list[Counter]
) -> tuple[int, int]:
    """Return how many output tokens are wanted, and how many this variant may have."""
    estimate, book = request.estimate, policy.price_book
    wanted = estimate.max_output_tokens
    if wanted is None:
        defaults = [counter.budget.default_output_tokens for counter in counters]
        wanted = min(
            (tokens for tokens in defaults if tokens is not None),
            default=book.default_output_tokens(variant.target) or policy.default_output_tokens,
        )
        wanted = max(wanted, estimate.min_output_tokens or 1)
    # Nobody gets more than the model can produce, so nobody needs to hold it.
    producible = book.max_output_tokens(variant.target) or book.context_window(variant.target)
    if producible is not None:
        wanted = min(wanted, producible)
        least = estimate.min_output_tokens
        if least is not None and least > producible and not variant.applied:
            fault = f"is {least}, but {variant.target} produces {producible} at the most"
            raise FieldInvalid(Fault("estimate.min_output_tokens", fault))
    most = wanted if variant.output_cap is None else min(wanted, variant.output_cap)
    return wanted, most


def _affine(name: str, estimate: Estimate, rates: Rates | None) -> tuple[int, int]:
    """Return base and slope of a meter for an estimate."""
    match name:
        case meter.TOTAL_TOKENS:
            return estimate.input_tokens, 1
        case meter.INPUT_TOKENS:
            return estimate.input_tokens, 0
        case meter.OUTPUT_TOKENS:
            return 0, 1
        case meter.COST:
            if rates is None:
                return 0, 0  # The policy lets unpriced models pass, and the answer says so.
            return rates.hold_base_nano_usd(estimate), rates.hold_slope_nano_usd()
        case meter.REQUESTS:
            return estimate.requests, 0
        case meter.CONCURRENCY:
            return 1, 0
        case custom:
            return estimate.custom_meters.get(custom, 0), 0


def _cut_input(
    request: ReserveRequest, counters: list[Counter]
) -> tuple[Estimate, int | None, tuple[str, ...]]:
    """Return the estimate after per-request input caps, the tightest cap, and whose cut it."""
    estimate = request.estimate
    caps = [
        (counter.budget.share(headroom_percent(counter.budget, request)), counter.budget.name)
        for counter in counters
        if not counter.budget.counts
        and counter.budget.enforced
        and counter.budget.meter == meter.INPUT_TOKENS
    ]
    if not caps:
        return estimate, None, ()
    cap = min(caps)[0]
    if estimate.input_tokens <= cap or Degradation.TRUNCATE_INPUT not in request.accepts:
        return estimate, cap, ()
    # Nobody knows which tokens are cut, so what is left counts as the dearest class it may be.
    cut = replace(
        estimate,
        input_tokens=cap,
        cache_read_tokens=0,
        cache_write_tokens=min(estimate.cache_write_tokens, cap),
        input_audio_tokens=min(estimate.input_audio_tokens, cap),
    )
    return cut, cap, tuple(name for limit, name in caps if limit == cap)


def _per_request_output(
    request: ReserveRequest, amounts: list[tuple[Counter, int, int]], most: int
) -> tuple[int, tuple[str, ...]]:
    """Return the output that per-request caps leave, and which budgets cut it.

    They cut without being asked (docs/adr/0009), but not below what the caller can use: such a
    request is denied by the cap.
    """
    caps = [
        ((counter.budget.share(headroom_percent(counter.budget, request)) - base) // slope, counter)
        for counter, base, slope in amounts
        if not counter.budget.counts and counter.budget.enforced and slope > 0
    ]
    if not caps:
        return most, ()
    tightest = min(fits for fits, _ in caps)
    least = request.estimate.min_output_tokens or 1
    if not least <= tightest < most:
        return most, ()
    return tightest, tuple(counter.budget.name for fits, counter in caps if fits == tightest)


def _check_countable(uses: tuple[Use, ...], most: int) -> None:
    for use in uses:
        if use.amount(most) > meter.AMOUNT_MAX:
            raise FieldInvalid(
                Fault(
                    "estimate",
                    f"comes to {use.amount(most)} on budget {use.counter.budget.name}, more than "
                    f"{meter.AMOUNT_MAX}; lower the tokens",
                )
            )
