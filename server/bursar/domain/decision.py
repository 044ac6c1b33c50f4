"""From what the counters said to an answer: a grant, or a denial that says what would pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bursar.domain.answer import (
    CounterOffer,
    Decision,
    Denial,
    DenialKind,
    Directive,
    ReserveAnswer,
)
from bursar.domain.budget import (
    CapOutput,
    CounterStatus,
    CounterValues,
    Degradation,
    Queue,
    Rung,
    ServeCached,
)
from bursar.domain.directive import format_amount, grant_directive, terminal_directive
from bursar.domain.ladder import ceiling
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.offer import Offer, Plan, Use
from bursar.domain.request import ReserveRequest
from bursar.domain.window import WindowKind, format_duration

STATUSES_MAX = 64
"""Most counters that an answer lists; the tightest come first."""

HELD_RETRY_MS = 1_000
"""When to ask again for room that others hold: it may come free at any moment."""

_NOTHING = CounterValues(0, 0)
_tightness = attrgetter("tightness")


def grant(
    plan: Plan, offer: Offer, output_tokens: int, values: Sequence[CounterValues]
) -> ReserveAnswer:
    """Return the answer to a granted request.

    Args:
        plan: What was asked and how it could be granted.
        offer: The offer that was granted.
        output_tokens: How much output it grants.
        values: What the offer's counters hold after the grant, in the order of those of its uses
            that count.
    """
    remembered = iter(values)
    statuses = [
        CounterStatus(
            use.counter,
            next(remembered) if use.counts else _request_values(use, output_tokens),
            use.ceiling,
            use.amount(output_tokens),
        )
        for use in offer.uses
    ]
    directive = grant_directive(plan, offer, output_tokens, statuses)
    changed = (
        directive.switch_model
        or directive.shorten_output
        or directive.truncate_input
        or directive.finish
    )
    return ReserveAnswer(
        decision=Decision.GRANTED_DEGRADED if changed else Decision.GRANTED,
        policy_version=plan.policy.version,
        target=offer.target,
        max_output_tokens=output_tokens,
        max_input_tokens=offer.input_cap,
        directive=directive,
        counters=tightest_first(statuses),
        unbudgeted=plan.unbudgeted,
        unpriced=offer.unpriced,
    )


def _request_values(use: Use, output_tokens: int) -> CounterValues:
    """A per-request cap has no counter: all it ever holds is this request."""
    return CounterValues(0, use.amount(output_tokens))


def tightest_first(statuses: Sequence[CounterStatus]) -> tuple[CounterStatus, ...]:
    """Return the counters with the least left first, bounded."""
    return tuple(sorted(statuses, key=_tightness)[:STATUSES_MAX])


def exceeded(statuses: Iterable[CounterStatus]) -> list[CounterStatus]:
    """Return the counters that a grant took past a limit which is not enforced.

    Args:
        statuses: The counters after the grant.
    """
    return [
        status
        for status in statuses
        if status.ceiling is None and status.remaining is not None and status.remaining < 0
    ]


@dataclass(frozen=True, slots=True)
class _Block:
    """One counter that keeps an offer from being granted."""

    use: Use
    values: CounterValues
    kind: DenialKind
    retry_after_ms: int | None

    @property
    def severity(self) -> tuple[int, bool, int]:
        """Sorts by how long it blocks; an end that nobody knows is later than any other."""
        order = (DenialKind.HELD, DenialKind.SPENT, DenialKind.NEVER).index(self.kind)
        if self.use.counter.budget.frozen:
            order += 1  # Somebody wants nothing to pass, whatever else is in the way.
        return order, self.retry_after_ms is None, self.retry_after_ms or 0


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why one offer was not granted: what blocks it, and of that what blocks it longest."""

    offer: Offer
    blocks: tuple[_Block, ...]
    binding: _Block
    affordable: int


def deny(plan: Plan, values: Mapping[str, CounterValues]) -> ReserveAnswer:
    """Return the answer to a request that no offer of fits.

    Args:
        plan: What was asked and how it could have been granted.
        values: What each counter of its offers holds, by counter id.
    """
    if not plan.offers:
        return _deny_outright(plan)
    refusals = [_refusal(plan, offer, values) for offer in plan.offers]
    # The offer that could pass soonest; of equals the most modest one.
    best = min(reversed(refusals), key=lambda refusal: refusal.binding.severity)
    binding = best.binding
    status = CounterStatus(binding.use.counter, binding.values, binding.use.ceiling)
    statuses = _statuses(plan.offers, values)
    affordable_input = (
        best.offer.input_cap
        if best.offer.input_cap is not None and best.offer.input_tokens > best.offer.input_cap
        else None
    )
    denial = Denial(
        kind=binding.kind,
        binding=status,
        affordable_output_tokens=best.affordable,
        affordable_input_tokens=affordable_input,
        retry_after_ms=binding.retry_after_ms,
        counter_offers=tuple(_counter_offer(refusal) for refusal in refusals),
        explanation=_explanation(best, status, affordable_input),
    )
    return ReserveAnswer(
        decision=Decision.DENIED,
        policy_version=plan.policy.version,
        directive=_denial_directive(plan, best, status),
        counters=tightest_first(statuses),
        denial=denial,
    )


def _deny_outright(plan: Plan) -> ReserveAnswer:
    if plan.unpriced_model is not None:
        kind = DenialKind.UNPRICED
        explanation = (
            f"no price is known for model {plan.unpriced_model!r} and a money budget applies; give "
            "it one under models, or set unpriced to allow or to a fallback price"
        )
        message = "This model cannot be used at the moment."
    else:
        kind = DenialKind.UNBUDGETED
        explanation = (
            "no budget applies to this request and the policy says unbudgeted: deny; add a budget "
            "whose scope matches it"
        )
        message = "There is no budget for this request."
    return ReserveAnswer(
        decision=Decision.DENIED,
        policy_version=plan.policy.version,
        directive=Directive(message=message),
        denial=Denial(kind, None, 0, None, None, (), explanation),
        unbudgeted=kind is DenialKind.UNBUDGETED,
        unpriced=kind is DenialKind.UNPRICED,
    )


def _refusal(plan: Plan, offer: Offer, values: Mapping[str, CounterValues]) -> _Refusal:
    blocks = tuple(
        _block(use, found, offer.output_min, plan.now_ms)
        for use in offer.uses
        for found in [_values(use, values)]
        if _room(use, use.ceiling, found) < use.slope * offer.output_min
    )
    assert blocks, "an offer that was not granted has a counter that blocks it"
    binding = max(blocks, key=lambda block: block.severity)
    return _Refusal(offer, blocks, binding, _affordable(plan.request, offer, values))


def _values(use: Use, values: Mapping[str, CounterValues]) -> CounterValues:
    """Return what a counter holds; one that is not in the store, and a cap, hold nothing."""
    return values.get(use.counter.id, _NOTHING) if use.counts else _NOTHING


def _room(use: Use, most: int | None, values: CounterValues) -> int:
    """Return what a counter has left for output, below 0 where not even the rest fits."""
    ceiling_or_all = COUNTER_MAX if most is None else most
    return ceiling_or_all + values.credit - values.committed - values.held - use.base


def _affordable(request: ReserveRequest, offer: Offer, values: Mapping[str, CounterValues]) -> int:
    """Return the largest output that an offer would be granted right now.

    Who asks for less satisfies more rungs that cap the output, which raises ceilings: so it is
    looked for below each cap.
    """
    rungs = [rung for use in offer.uses for rung in use.counter.budget.ladder]
    caps = {rung.action.tokens for rung in rungs if isinstance(rung.action, CapOutput)}
    largest = 0
    for most in {offer.output_max, *(cap for cap in caps if cap < offer.output_max)}:
        fits = most
        for use in offer.uses:
            highest, _ = ceiling(use.counter.budget, request, offer, most)
            room = _room(use, highest, _values(use, values))
            if room < 0:
                fits = 0
            elif use.slope > 0:
                fits = min(fits, room // use.slope)
        largest = max(largest, fits)
    return largest


def _block(use: Use, values: CounterValues, least: int, now_ms: int) -> _Block:
    needed = use.amount(least)
    limit = (COUNTER_MAX if use.ceiling is None else use.ceiling) + values.credit
    if needed > limit:
        return _Block(use, values, DenialKind.NEVER, None)
    if values.committed + needed > limit:
        excess = values.committed + needed - limit
        retry = _frees_in_ms(use, values, excess, now_ms)
        return _Block(use, values, DenialKind.SPENT, retry)
    return _Block(use, values, DenialKind.HELD, HELD_RETRY_MS)


def _frees_in_ms(use: Use, values: CounterValues, excess: int, now_ms: int) -> int | None:
    """Return when enough of what is committed leaves the window, or None where that is open.

    A rolling window begins to forget a bucket when it is over and a whole window has passed. What
    its buckets do not explain is gone after a whole window too.
    """
    window, instance = use.counter.budget.window, use.counter.instance
    if window.kind is WindowKind.ROLLING:
        freed = 0
        for index, amount in values.buckets:
            freed += amount
            if freed >= excess:
                return (index + window.bucket_count + 1) * window.bucket_ms - now_ms
        return window.length_ms
    return instance.end_ms - now_ms if instance.end_ms is not None else None


def _counter_offer(refusal: _Refusal) -> CounterOffer:
    binding = refusal.binding
    return CounterOffer(
        refusal.offer.target,
        refusal.affordable,
        binding.use.counter.budget.name,
        binding.kind,
        binding.retry_after_ms,
    )


def _explanation(refusal: _Refusal, status: CounterStatus, affordable_input: int | None) -> str:
    budget, values = status.counter.budget, status.values
    if budget.frozen:
        return f"{budget.frozen}; nothing is granted until the freeze is lifted"
    limit, unit = budget.limit or 0, budget.meter
    parts = [
        f"budget {budget.name} has no room: limit {format_amount(limit, unit)}, committed "
        f"{format_amount(values.committed, unit)}, held {format_amount(values.held, unit)}"
    ]
    if status.ceiling is not None and status.ceiling < limit:
        parts.append(f"this request may fill it to {format_amount(status.ceiling, unit)}")
    needed = format_amount(refusal.binding.use.amount(refusal.offer.output_min), unit)
    parts.append(f"needed {needed}")
    if affordable_input is not None:
        parts.append(f"cut the input to {affordable_input} tokens")
    elif refusal.affordable > 0:
        parts.append(f"{refusal.affordable} output tokens would fit")
    match refusal.binding.kind:
        case DenialKind.NEVER:
            parts.append("it can never fit")
        case DenialKind.SPENT if refusal.binding.retry_after_ms is not None:
            parts.append(f"room comes back in {format_duration(refusal.binding.retry_after_ms)}")
        case DenialKind.HELD:
            parts.append("others hold the room; it may come free at any moment")
    return "; ".join(parts)


def _denial_directive(plan: Plan, refusal: _Refusal, status: CounterStatus) -> Directive:
    name, model = status.counter.budget.name, refusal.offer.target.model
    if refusal.binding.kind is DenialKind.NEVER:
        # Neither waiting nor what a rung says of waiting helps a request that is too large.
        return Directive(deny=(name,), message=_default_message(refusal))
    reached = [
        each for block in refusal.blocks for each in _reached(block, refusal.offer.output_min)
    ]
    possible = [each for each in reached if _can_carry_out(plan.request, each[1])]
    directive = terminal_directive(possible, plan.now_ms, refusal.affordable, model)
    if not (directive.serve_cached or directive.queue or directive.deny):
        directive = directive._replace(deny=(name,))
    # The binding budget speaks first, also of what the caller cannot carry out.
    own = [each for each in reached if each[0].counter.budget.name == name]
    said = terminal_directive(own, plan.now_ms, refusal.affordable, model).message
    message = said or directive.message or _default_message(refusal)
    return directive._replace(message=message)


def _reached(block: _Block, least: int) -> list[tuple[CounterStatus, Rung]]:
    """Return the rungs that a request would take a counter past, with how it stands."""
    use, values = block.use, block.values
    budget = use.counter.budget
    status = CounterStatus(use.counter, values, use.ceiling)
    used = values.committed + values.held + use.amount(least)
    limit = (budget.limit or 0) + values.credit
    return [(status, rung) for rung in budget.ladder if used * 100 > limit * rung.at_percent]


def _can_carry_out(request: ReserveRequest, rung: Rung) -> bool:
    match rung.action:
        case ServeCached():
            return Degradation.SERVE_CACHED in request.accepts
        case Queue():
            return Degradation.QUEUE in request.accepts
        case _:
            return True


def _default_message(refusal: _Refusal) -> str:
    if frozen := refusal.binding.use.counter.budget.frozen:
        return f"Spending is frozen: {frozen}."
    match refusal.binding.kind:
        case DenialKind.HELD:
            return "Too much is going on at the moment; please try again shortly."
        case DenialKind.SPENT if refusal.binding.retry_after_ms is not None:
            wait = format_duration(refusal.binding.retry_after_ms)
            return f"The limit for now is used up; please try again in {wait}."
        case DenialKind.SPENT:
            return "The limit is used up."
        case _:
            return "This request is larger than the limit allows; please make it smaller."


def _statuses(offers: Sequence[Offer], values: Mapping[str, CounterValues]) -> list[CounterStatus]:
    statuses: dict[str, CounterStatus] = {}
    for offer in offers:
        for use in offer.uses:
            status = CounterStatus(use.counter, _values(use, values), use.ceiling)
            statuses.setdefault(use.counter.id, status)
    return list(statuses.values())
