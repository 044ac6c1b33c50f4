"""Reserve and Check: plan the offers, let the engine pick, answer."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.authority.identity import HoldName, hold_name, reserve_fingerprint
from bursar.authority.policies import Policies
from bursar.domain.answer import Decision, Directive, ReserveAnswer, Shorten, SwitchTo
from bursar.domain.decision import deny, grant
from bursar.domain.errors import (
    BursarError,
    JournalFull,
    RequestIdReused,
    ShardCold,
    StoreFull,
    StoreUnavailable,
)
from bursar.domain.offer import Plan, plan
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import parse_target_key
from bursar.domain.unchecked import decide_unchecked
from bursar.engine.operations import (
    Denied,
    Engine,
    Found,
    Granted,
    Hold,
    ReserveOperation,
    ReserveOutcome,
)
from bursar.engine.payload import decode_payload, encode_payload

UNDECIDED = (ShardCold, StoreUnavailable, StoreFull, JournalFull)
"""Errors for which budgets may say that requests pass unchecked."""


async def reserve(
    engine: Engine, policies: Policies, requests: Sequence[ReserveRequest], now_ms: int
) -> list[ReserveAnswer | BursarError]:
    """Decide requests and hold what is granted, in one call of the engine.

    Args:
        engine: Where counters and holds are.
        policies: What decides.
        requests: In the order in which they are decided.
        now_ms: Since the epoch.

    Returns:
        For each request its answer, or what is wrong with it.

    Raises:
        ClockBehind: See `operations.Engine`. Its other errors are answers here, because a budget
            may be open to them.
    """
    answers: list[ReserveAnswer | BursarError | None] = [None] * len(requests)
    plans: dict[int, Plan] = {}
    for position, request in enumerate(requests):
        try:
            plans[position] = plan(request, policies.of(request.subject.org), now_ms)
        except BursarError as error:
            answers[position] = error
    operations = [_operation(each, requests[at]) for at, each in plans.items()]
    outcomes: Sequence[ReserveOutcome | BursarError] = []
    try:
        outcomes = await engine.reserve(operations, now_ms) if operations else []
    except UNDECIDED as error:
        outcomes = [error] * len(operations)
    for (position, planned), operation, outcome in zip(
        plans.items(), operations, outcomes, strict=True
    ):
        answers[position] = (
            _undecided(planned, requests[position], outcome)
            if isinstance(outcome, BursarError)
            else _answer(policies, planned, requests[position], operation, outcome)
        )
    return [answer for answer in answers if answer is not None]


def _operation(planned: Plan, request: ReserveRequest) -> ReserveOperation:
    name = hold_name(request.subject.org, request.request_id)
    return ReserveOperation(
        org=name.org,
        hold_id=name.hold_id,
        fingerprint=reserve_fingerprint(request),
        offers=planned.offers,
        expire_ms=planned.now_ms + request.ttl_ms,
        ttl_ms=request.ttl_ms,
        payload=encode_payload(request, planned.policy.version),
        book=not request.validate_only,
    )


def _undecided(
    planned: Plan, request: ReserveRequest, error: BursarError
) -> ReserveAnswer | BursarError:
    """Answer a request whose counters could not be asked."""
    answer = decide_unchecked(planned, error.reason) if isinstance(error, UNDECIDED) else None
    if answer is None:
        return error
    if answer.denial is not None or request.validate_only:
        return answer
    # Whether it is held is not known where only the answer was lost. Under the name that its hold
    # would have, a commit settles the one that there is, or finds none and becomes a record.
    name = hold_name(request.subject.org, request.request_id)
    return answer._replace(reservation_id=name.reservation_id)


def _answer(
    policies: Policies,
    planned: Plan,
    request: ReserveRequest,
    operation: ReserveOperation,
    outcome: ReserveOutcome,
) -> ReserveAnswer | BursarError:
    match outcome:
        case Granted(offer, output_tokens, values):
            answer = grant(planned, planned.offers[offer], output_tokens, values)
            if request.validate_only:
                return answer
            name = HoldName(operation.org, operation.hold_id)
            return answer.held_as(name.reservation_id, operation.expire_ms, request.ttl_ms)
        case Found(hold):
            return _repeat(policies, request, hold)
        case Denied(values_by_id):
            return deny(planned, values_by_id)
        case _:
            return RequestIdReused(
                f"request_id {request.request_id!r} was used before with other content; use a new "
                "id for a new request",
                requestId=request.request_id,
            )


def _repeat(policies: Policies, request: ReserveRequest, hold: Hold) -> ReserveAnswer:
    """Answer as the first time: planning is a function of request, policy version and time."""
    org = request.subject.org
    version = decode_payload(org, hold.payload).policy_version
    policy = policies.version(org, version)
    planned = plan(request, policy, hold.create_ms) if policy is not None else None
    # A server of another release may have planned other offers from the same version.
    if planned is not None and hold.offer <= len(planned.offers):
        answer = grant(planned, planned.offers[hold.offer - 1], hold.output_tokens, hold.values)
    else:
        answer = _from_hold(policies, request, hold, version)
    reservation_id = hold_name(org, request.request_id).reservation_id
    expire_ms = hold.create_ms + request.ttl_ms
    return answer.held_as(reservation_id, expire_ms, request.ttl_ms)._replace(replayed=True)


def _from_hold(
    policies: Policies, request: ReserveRequest, hold: Hold, version: str
) -> ReserveAnswer:
    """Answer what the hold itself says, where what granted it is not known here.

    What to call and how much of it is the same; the counters and who asked for a change are not
    known.
    """
    asked = policies.of(request.subject.org).price_book.resolve(request.target)
    target, wanted = parse_target_key(hold.target), request.estimate.max_output_tokens
    shorter = wanted is not None and hold.output_tokens < wanted
    directive = Directive(
        switch_model=SwitchTo(asked, target, ()) if target != asked else None,
        shorten_output=Shorten(hold.output_tokens, ()) if shorter else None,
    )
    changed = directive.switch_model or directive.shorten_output
    return ReserveAnswer(
        decision=Decision.GRANTED_DEGRADED if changed else Decision.GRANTED,
        policy_version=version,
        target=target,
        max_output_tokens=hold.output_tokens,
        directive=directive,
    )
