"""Grants of requests that no counter can be asked about, where every budget in the way allows it.

Caps on each request need no counter, so they bind all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from bursar.domain.answer import Decision, Notice, NoticeKind, ReserveAnswer
from bursar.domain.decision import deny, grant
from bursar.domain.offer import Offer, Plan


def decide_unchecked(plan: Plan, reason: str) -> ReserveAnswer | None:
    """Return the answer to a request while its counters cannot be asked, or None for an error.

    It may pass where at least one enforced budget counts it, and each that does is open. The
    counters are left out of the answer: what is not known must not read as zero.

    Args:
        plan: What was asked and how it could be granted.
        reason: Name of the error that keeps the counters from being asked.
    """
    if not plan.offers or not _is_open(plan.offers[0]):
        return None
    capped = [_caps_only(offer) for offer in plan.offers if _is_open(offer)]
    for offer in capped:
        output_tokens = _largest_output(offer)
        if output_tokens is not None and output_tokens >= offer.output_min:
            answer = grant(plan, offer, output_tokens, ())
            return _flagged(answer, plan.offers[0], reason)
    # A cap refuses it, whatever the counters hold.
    return deny(plan._replace(offers=tuple(capped)), {})


def _is_open(offer: Offer) -> bool:
    budgets = [use.counter.budget for use in offer.uses if use.counts]
    enforced = [budget for budget in budgets if budget.enforced]
    return bool(enforced) and all(budget.open_when_unavailable for budget in enforced)


def _caps_only(offer: Offer) -> Offer:
    return offer._replace(uses=tuple(use for use in offer.uses if not use.counts))


def _largest_output(offer: Offer) -> int | None:
    """Return the largest output that the caps on each request leave, or None where none does."""
    output_tokens = offer.output_max
    for use in offer.uses:
        if use.ceiling is None:
            continue
        room = use.ceiling - use.base
        if room < 0:
            return None
        if use.slope > 0:
            output_tokens = min(output_tokens, room // use.slope)
    return output_tokens


def _flagged(answer: ReserveAnswer, asked: Offer, reason: str) -> ReserveAnswer:
    said = f"This budget cannot be checked at the moment ({reason}); nothing is held."
    notices = answer.directive.notices + _notices(asked, said)
    assert answer.decision is not Decision.DENIED
    directive = answer.directive._replace(notices=notices)
    return answer._replace(directive=directive, not_enforced=reason)


def _notices(offer: Offer, said: str) -> tuple[Notice, ...]:
    names: Sequence[str] = [
        use.counter.budget.name for use in offer.uses if use.counts and use.counter.budget.enforced
    ]
    return tuple(Notice(name, NoticeKind.NOT_ENFORCED, said) for name in names)
