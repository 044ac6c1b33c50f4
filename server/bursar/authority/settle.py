"""Commit, Release and Record: book what was really used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bursar.authority.counters import named_status
from bursar.authority.identity import (
    RELEASE_FINGERPRINT,
    commit_fingerprint,
    hold_name,
    not_found,
    parse_reservation_id,
    record_fingerprint,
)
from bursar.authority.policies import Policies
from bursar.domain import meter
from bursar.domain.answer import Charge, Directive, HoldState, SettleAnswer
from bursar.domain.budget import CounterStatus
from bursar.domain.decision import tightest_first
from bursar.domain.directive import next_directive
from bursar.domain.errors import (
    BursarError,
    Fault,
    FieldInvalid,
    RequestIdReused,
    ReservationCommitted,
    ReservationExpired,
    ReservationReleased,
    SequenceMismatch,
)
from bursar.domain.meter import Usage
from bursar.domain.policy import Policy
from bursar.domain.request import CommitRequest, RecordRequest, ReleaseRequest
from bursar.domain.subject import Target, parse_target_key, target_key
from bursar.domain.window import WindowKind
from bursar.engine.operations import (
    Engine,
    EntryFlags,
    EntrySettlement,
    Hold,
    RecordCode,
    RecordOperation,
    Retarget,
    SettleCode,
    SettleOperation,
    SettleOutcome,
    SettleVerb,
)
from bursar.engine.operations import HoldState as StoredState
from bursar.engine.payload import decode_payload, record_payload, usage_note

AS_RESERVED = -1
"""Amount that books what is still held, or was at expiry: no better figure is known."""


async def settle(
    engine: Engine,
    policies: Policies,
    requests: Sequence[CommitRequest | ReleaseRequest],
    now_ms: int,
) -> list[SettleAnswer | BursarError]:
    """Commit and release, in one call of the engine.

    A second call is made only for commits whose target was not the granted one, where budgets
    depend on it.

    Args:
        engine: Where counters and holds are.
        policies: What prices.
        requests: In the order in which they are carried out.
        now_ms: Since the epoch.

    Returns:
        For each request its answer, or what is wrong with it.

    Raises:
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
    """
    answers: list[SettleAnswer | BursarError | None] = [None] * len(requests)
    waiting: dict[int, SettleOperation] = {}
    for position, request in enumerate(requests):
        try:
            waiting[position] = _operation(policies, request, now_ms)
        except BursarError as error:
            answers[position] = error
    while waiting:
        outcomes = await engine.settle(list(waiting.values()), now_ms)
        again: dict[int, SettleOperation] = {}
        for (position, operation), outcome in zip(waiting.items(), outcomes, strict=True):
            request = requests[position]
            policy = policies.of(operation.org)
            if isinstance(outcome, BursarError):
                answers[position] = outcome
            elif outcome.code is SettleCode.OTHER_TARGET and outcome.hold is not None:
                retarget = _retarget(policy, operation, outcome.hold)
                again[position] = replace(operation, retarget=retarget)
            else:
                answers[position] = _answer(policy, request, operation, outcome)
        waiting = again
    return [answer for answer in answers if answer is not None]


def _operation(
    policies: Policies, request: CommitRequest | ReleaseRequest, now_ms: int
) -> SettleOperation:
    name = parse_reservation_id(request.reservation_id)
    if not policies.knows(name.org):
        # Whether an org exists is not for those to know who guess reservation ids.
        raise not_found(request.reservation_id)
    policy = policies.of(name.org)
    if isinstance(request, ReleaseRequest):
        return SettleOperation(name.org, name.hold_id, SettleVerb.RELEASE, RELEASE_FINGERPRINT, {})
    target = policy.price_book.resolve(request.target)
    requests = request.usage.requests
    if requests is None:
        requests = 0 if request.partial else 1
    return SettleOperation(
        org=name.org,
        hold_id=name.hold_id,
        verb=SettleVerb.COMMIT,
        fingerprint=commit_fingerprint(request),
        amounts=_amounts(policy, request.usage, requests, target, now_ms),
        target=target_key(target) if policy.by_target else "",
        partial=request.partial,
        sequence=request.sequence,
        note=usage_note(request, target),
    )


def _amounts(
    policy: Policy, usage: Usage, requests: int, target: Target, now_ms: int
) -> dict[str, int]:
    """Return what a usage comes to on every meter."""
    policy.check_meters("usage.custom_meters", usage.custom_meters)
    amounts = {
        meter.TOTAL_TOKENS: usage.input_tokens + usage.output_tokens,
        meter.INPUT_TOKENS: usage.input_tokens,
        meter.OUTPUT_TOKENS: usage.output_tokens,
        meter.REQUESTS: requests,
        **usage.custom_meters,
    }
    rates = policy.rates(target, usage.input_tokens, now_ms)
    if rates is not None:
        amounts[meter.COST] = rates.cost_nano_usd(usage, requests)
    else:
        amounts[meter.COST] = 0 if policy.unpriced_allowed else AS_RESERVED
    if max(amounts.values()) > meter.AMOUNT_MAX:
        fault = f"comes to {max(amounts.values())}, more than {meter.AMOUNT_MAX} on one meter"
        raise FieldInvalid(Fault("usage", fault))
    return amounts


def _retarget(policy: Policy, operation: SettleOperation, hold: Hold) -> Retarget:
    """Return which counters the target really used belongs to, at the time of the reservation."""
    subject = decode_payload(operation.org, hold.payload).request.subject
    granted, used = (
        {
            counter.id: counter
            for counter in policy.counters(subject, target, hold.create_ms)
            if counter.budget.window.kind is not WindowKind.REQUEST
        }
        for target in (parse_target_key(hold.target), parse_target_key(operation.target))
    )
    held = {entry.counter_id for entry in hold.entries}
    added = {each.counter_id for each in hold.entries if each.flags & EntryFlags.ADDED}
    return Retarget(
        dropped=frozenset((held & granted.keys() | added) - used.keys()),
        added=tuple(used[each] for each in used if each not in granted and each not in held),
    )


def _answer(
    policy: Policy,
    request: CommitRequest | ReleaseRequest,
    operation: SettleOperation,
    outcome: SettleOutcome,
) -> SettleAnswer | BursarError:
    hold = outcome.hold
    if hold is None:
        return not_found(request.reservation_id)
    match outcome.code:
        case SettleCode.DONE | SettleCode.REPEATED:
            return _settled(policy, request, outcome.code, hold)
        case SettleCode.OUT_OF_SEQUENCE:
            expected = hold.sequence + 1
            return SequenceMismatch(
                f"this is partial commit {operation.sequence}, but number {expected} is next",
                expectedSequence=expected,
            )
        case SettleCode.EXPIRED:
            return ReservationExpired(
                f"reservation {request.reservation_id} expired at {hold.expire_ms} ms; settle it "
                "with a final commit",
                expireTimeMs=hold.expire_ms,
            )
        case SettleCode.OVERFLOW:
            return _overflow()
        case _:
            return ended(request.reservation_id, hold)


def _overflow() -> FieldInvalid:
    fault = f"a budget's counter would pass {meter.COUNTER_MAX}; check the meter's unit"
    return FieldInvalid(Fault("usage", fault))


def ended(reservation_id: str, hold: Hold) -> BursarError:
    """Return the error for a reservation that was settled otherwise before."""
    state = "RELEASED" if hold.state == StoredState.RELEASED else "COMMITTED"
    error = ReservationReleased if state == "RELEASED" else ReservationCommitted
    return error(
        f"reservation {reservation_id} was {state.lower()} at {hold.settle_ms} ms; book further "
        "usage with Record",
        reservationId=reservation_id,
        state=state,
        settleTimeMs=hold.settle_ms,
    )


def _settled(
    policy: Policy,
    request: CommitRequest | ReleaseRequest,
    code: SettleCode,
    hold: Hold,
) -> SettleAnswer:
    # A repeated call is answered as of the time when it was first carried out.
    statuses = _statuses(policy, hold, hold.settle_ms)
    replayed = code is SettleCode.REPEATED
    if isinstance(request, ReleaseRequest):
        return SettleAnswer(
            request.reservation_id,
            HoldState.RELEASED if hold.state == StoredState.RELEASED else HoldState.COMMITTED,
            counters=tightest_first(statuses),
            late=hold.late,
            replayed=replayed,
        )
    target = policy.price_book.resolve(request.target)
    unpriced = _unpriced(policy, target, request.usage, hold.settle_ms)
    return SettleAnswer(
        request.reservation_id,
        HoldState.OPEN if request.partial else HoldState.COMMITTED,
        charges=_charges(hold, unpriced=unpriced, estimated=request.estimated),
        counters=tightest_first(statuses),
        directive=next_directive(target, statuses, hold.settle_ms),
        late=hold.late,
        expire_ms=hold.expire_ms if request.partial else None,
        unpriced=unpriced,
        replayed=replayed,
    )


def _unpriced(policy: Policy, target: Target, usage: Usage, now_ms: int) -> bool:
    """Whether a charge does not rest on a known price of the model."""
    rates = policy.rates(target, usage.input_tokens, now_ms)
    return rates is None or rates.source == "fallback"


def _statuses(policy: Policy, hold: Hold, now_ms: int) -> list[CounterStatus]:
    return [
        named_status(policy, entry.counter_id, settled.values, settled.amount, now_ms)
        for entry, settled in zip(hold.entries, hold.settled, strict=True)
    ]


def _charges(hold: Hold, *, unpriced: bool, estimated: bool) -> tuple[Charge, ...]:
    """Return what was booked on each meter: on every counter of a meter the same."""
    by_meter: dict[str, EntrySettlement] = {}
    for entry, settled in zip(hold.entries, hold.settled, strict=True):
        known = by_meter.get(entry.meter)
        if known is None or settled.amount > known.amount:
            by_meter[entry.meter] = settled
    charges = []
    for name, amount in hold.charges.items():
        booked = by_meter.get(name)
        guessed = estimated or (name == meter.COST and unpriced)
        if booked is not None:
            charges.append(Charge(name, booked.amount, booked.overage, guessed))
        elif amount > 0:
            charges.append(Charge(name, amount, 0, guessed))
    return tuple(charges)


async def record(
    engine: Engine, policies: Policies, requests: Sequence[RecordRequest], now_ms: int
) -> list[SettleAnswer | BursarError]:
    """Book usage that had no reservation, in one call of the engine.

    Args:
        engine: Where counters are.
        policies: What prices.
        requests: In the order in which they are booked.
        now_ms: Since the epoch; the window that they are booked in.

    Returns:
        For each request its answer, or what is wrong with it.

    Raises:
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
    """
    answers: list[SettleAnswer | BursarError | None] = [None] * len(requests)
    waiting: dict[int, RecordOperation] = {}
    for position, request in enumerate(requests):
        try:
            policy = policies.of(request.subject.org)
            waiting[position] = _record_operation(policy, request, now_ms)
        except BursarError as error:
            answers[position] = error
    outcomes = await engine.record(list(waiting.values()), now_ms) if waiting else []
    for (position, operation), outcome in zip(waiting.items(), outcomes, strict=True):
        request = requests[position]
        if isinstance(outcome, BursarError):
            answers[position] = outcome
            continue
        if outcome.code is RecordCode.REUSED:
            answers[position] = RequestIdReused(
                f"request_id {request.request_id!r} was used before with other content; use a new "
                "id for new usage",
                requestId=request.request_id,
            )
            continue
        hold = outcome.hold
        if hold is None:
            answers[position] = _overflow()
            continue
        policy = policies.of(operation.org)
        statuses = _statuses(policy, hold, hold.settle_ms)
        target = parse_target_key(operation.target)
        unpriced = _unpriced(policy, target, request.usage, hold.settle_ms)
        answers[position] = SettleAnswer(
            hold_name(operation.org, request.request_id).reservation_id,
            HoldState.COMMITTED,
            charges=_charges(hold, unpriced=unpriced, estimated=request.estimated),
            counters=tightest_first(statuses),
            directive=next_directive(target, statuses, hold.settle_ms) if statuses else Directive(),
            unpriced=unpriced,
            unbudgeted=not hold.entries,
            replayed=outcome.code is RecordCode.REPEATED,
        )
    return [answer for answer in answers if answer is not None]


def _record_operation(policy: Policy, request: RecordRequest, now_ms: int) -> RecordOperation:
    target = policy.price_book.resolve(request.target)
    counters = policy.counters(request.subject, target, now_ms)
    requests = 1 if request.usage.requests is None else request.usage.requests
    amounts = _amounts(policy, request.usage, requests, target, now_ms)
    # Nothing was reserved that could stand in for an unknown price: it is flagged instead.
    amounts[meter.COST] = max(amounts[meter.COST], 0)
    name = hold_name(policy.org, request.request_id)
    return RecordOperation(
        org=policy.org,
        hold_id=name.hold_id,
        fingerprint=record_fingerprint(request),
        counters=tuple(
            counter for counter in counters if counter.budget.window.kind is not WindowKind.REQUEST
        ),
        amounts=amounts,
        target=target_key(target),
        payload=record_payload(request, policy.version),
        note=usage_note(request, target),
    )
