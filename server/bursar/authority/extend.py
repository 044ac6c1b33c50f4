"""Extend: a hold that lasts longer, or is larger or smaller."""

from __future__ import annotations

from dataclasses import replace

from bursar.authority.counters import named_status
from bursar.authority.identity import HoldName, not_found, parse_reservation_id
from bursar.authority.policies import Policies
from bursar.authority.settle import ended
from bursar.domain.answer import Decision, Denial, DenialKind, ExtendAnswer
from bursar.domain.budget import CounterStatus, CounterValues
from bursar.domain.decision import deny, tightest_first
from bursar.domain.errors import BursarError, ConcurrentChange, ReservationExpired
from bursar.domain.offer import Offer, Plan, Use, plan
from bursar.domain.policy import Policy
from bursar.domain.request import ExtendRequest
from bursar.domain.subject import target_key
from bursar.engine.operations import (
    Engine,
    ExtendCode,
    ExtendOperation,
    ExtendOutcome,
    Hold,
    HoldState,
)
from bursar.engine.payload import decode_payload

ATTEMPTS_MAX = 4
"""How often a hold that changes meanwhile is looked at anew."""


async def extend(
    engine: Engine, policies: Policies, request: ExtendRequest, now_ms: int
) -> ExtendAnswer:
    """Change an open hold.

    A new expiry alone is one call of the engine. New amounts are computed from the hold, so they
    take a look at it first, and another where it changed in between.

    Args:
        engine: Where counters and holds are.
        policies: What decides.
        request: What to change.
        now_ms: Since the epoch.

    Raises:
        ReservationNotFound, ReservationCommitted, ReservationReleased, ReservationExpired: There
            is no such open hold.
        ConcurrentChange: The hold changed under the call each time.
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
    """
    name = parse_reservation_id(request.reservation_id)
    if not policies.knows(name.org):
        raise not_found(request.reservation_id)
    expiry = ExtendOperation(
        name.org,
        name.hold_id,
        expire_ms=now_ms + request.ttl_ms if request.ttl_ms else 0,
        ttl_ms=request.ttl_ms or 0,
    )
    if request.max_output_tokens is None:
        outcome = await _ask(engine, expiry, now_ms)
        return _extended(policies, name, outcome, now_ms)
    for _ in range(ATTEMPTS_MAX):
        hold = await engine.find_hold(name.org, name.hold_id)
        if hold is None or hold.state is not HoldState.OPEN:
            raise _not_open(request.reservation_id, hold)
        planned, offer = _replan(policies, name, hold, request.max_output_tokens)
        if offer.output_max < request.max_output_tokens:
            return _too_large(name, hold, offer)
        if request.max_output_tokens > hold.output_tokens_now and _is_frozen(offer):
            return _frozen(name, hold, planned._replace(offers=(offer,), now_ms=now_ms))
        operation = replace(
            expiry,
            revision=hold.revision,
            output_tokens=request.max_output_tokens,
            totals=_totals(hold, offer, request.max_output_tokens),
        )
        outcome = await _ask(engine, operation, now_ms)
        if outcome.code is ExtendCode.NO_ROOM:
            # The windows are those of the reservation, the time to wait is from now on.
            planned = planned._replace(offers=(offer,), now_ms=now_ms)
            return _denied(policies, name, hold, planned, outcome)
        if outcome.code is not ExtendCode.CHANGED:
            return _extended(policies, name, outcome, now_ms)
    raise ConcurrentChange(
        f"reservation {request.reservation_id} changed {ATTEMPTS_MAX} times meanwhile; try again",
        reservationId=request.reservation_id,
    )


async def _ask(engine: Engine, operation: ExtendOperation, now_ms: int) -> ExtendOutcome:
    [outcome] = await engine.extend([operation], now_ms)
    if isinstance(outcome, BursarError):
        raise outcome
    return outcome


def _not_open(reservation_id: str, hold: Hold | None) -> Exception:
    if hold is None:
        return not_found(reservation_id)
    if hold.state is HoldState.EXPIRED:
        return ReservationExpired(
            f"reservation {reservation_id} expired at {hold.expire_ms} ms; settle it with a final "
            "commit",
            expireTimeMs=hold.expire_ms,
        )
    return ended(reservation_id, hold)


def _replan(
    policies: Policies, name: HoldName, hold: Hold, output_tokens: int
) -> tuple[Plan, Offer]:
    """Plan the request anew with the new output, in the window that it was reserved in.

    Returns:
        The plan, and of its offers for the granted target the most permissive one.
    """
    request = decode_payload(name.org, hold.payload).request
    estimate = replace(request.estimate, max_output_tokens=output_tokens, min_output_tokens=None)
    planned = plan(replace(request, estimate=estimate), policies.of(name.org), hold.create_ms)
    same = [each for each in planned.offers if target_key(each.target) == hold.target]
    if not same:
        raise not_found(name.reservation_id)
    offer = max(same, key=lambda each: (each.output_max, len(each.applied)))
    return planned, offer


def _totals(hold: Hold, offer: Offer, output_tokens: int) -> tuple[tuple[int, int | None], ...]:
    """Return the new amount in all and the ceiling of each entry of a hold."""
    uses: dict[str, Use] = {use.counter.id: use for use in offer.uses}
    totals: list[tuple[int, int | None]] = []
    for entry in hold.entries:
        use = uses.get(entry.counter_id)
        if use is None:  # The policy has changed; what is held on the old counter stays.
            totals.append((entry.reserved, None))
        else:
            totals.append((use.amount(output_tokens), use.ceiling))
    return tuple(totals)


def _extended(
    policies: Policies, name: HoldName, outcome: ExtendOutcome, now_ms: int
) -> ExtendAnswer:
    hold = outcome.hold
    if hold is None or outcome.code is not ExtendCode.DONE:
        raise _not_open(name.reservation_id, hold)
    return ExtendAnswer(
        name.reservation_id,
        Decision.GRANTED,
        hold.output_tokens_now,
        hold.expire_ms,
        _statuses(policies.of(name.org), hold, outcome, now_ms),
    )


def _statuses(
    policy: Policy, hold: Hold, outcome: ExtendOutcome, now_ms: int
) -> tuple[CounterStatus, ...]:
    """Return how the counters stand, with what the hold holds of each, tightest first."""
    statuses = [
        named_status(policy, entry.counter_id, values, entry.held, now_ms)
        for entry, values in zip(hold.entries, outcome.values, strict=True)
    ]
    return tightest_first(statuses)


def _too_large(name: HoldName, hold: Hold, offer: Offer) -> ExtendAnswer:
    explanation = f"{offer.target} may produce {offer.output_max} output tokens at the most here"
    denial = Denial(DenialKind.NEVER, None, offer.output_max, None, None, (), explanation)
    return ExtendAnswer(
        name.reservation_id,
        Decision.DENIED,
        hold.output_tokens_now,
        hold.expire_ms,
        denial=denial,
    )


def _is_frozen(offer: Offer) -> bool:
    return any(use.counter.budget.frozen for use in offer.uses)


def _frozen(name: HoldName, hold: Hold, planned: Plan) -> ExtendAnswer:
    """Say who froze the subtree: what is open there ends, and does not grow."""
    return ExtendAnswer(
        name.reservation_id,
        Decision.DENIED,
        hold.output_tokens_now,
        hold.expire_ms,
        denial=deny(planned, {}).denial,
    )


def _denied(
    policies: Policies,
    name: HoldName,
    hold: Hold,
    planned: Plan,
    outcome: ExtendOutcome,
) -> ExtendAnswer:
    """Say why there is no room to grow: as if the hold were not there and asked for it all."""
    values: dict[str, CounterValues] = {}
    for entry, found in zip(hold.entries, outcome.values, strict=True):
        values[entry.counter_id] = found._replace(held=found.held - entry.held)
    return ExtendAnswer(
        name.reservation_id,
        Decision.DENIED,
        hold.output_tokens_now,
        hold.expire_ms,
        _statuses(policies.of(name.org), hold, outcome, planned.now_ms),
        deny(planned, values).denial,
    )
