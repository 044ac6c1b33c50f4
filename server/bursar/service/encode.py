"""From values to the wire."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from bursar.authority.authority import Answer
from bursar.authority.usage import Balances, BudgetExplanation, Explanation, Holds
from bursar.domain.answer import (
    Charge,
    Decision,
    Denial,
    DenialKind,
    Directive,
    ExtendAnswer,
    HoldState,
    NoticeKind,
    OpenHold,
    ReserveAnswer,
    SettleAnswer,
)
from bursar.domain.budget import Budget, CounterStatus, Mode
from bursar.domain.window import WindowKind
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.service.parts import (
    custom_meter,
    encode_meter,
    encode_subject,
    encode_target,
    encode_time,
    put_target,
    set_duration,
    set_time,
)

DESCRIBED_MAX = 32_768
"""Counters of which the part of their messages is kept that stays the same."""

_DECISIONS = {
    Decision.GRANTED: types_pb.DECISION_GRANTED,
    Decision.GRANTED_DEGRADED: types_pb.DECISION_GRANTED_DEGRADED,
    Decision.DENIED: types_pb.DECISION_DENIED,
}
_DENIAL_KINDS = {
    DenialKind.HELD: types_pb.DENIAL_KIND_HELD,
    DenialKind.SPENT: types_pb.DENIAL_KIND_SPENT,
    DenialKind.NEVER: types_pb.DENIAL_KIND_NEVER,
    DenialKind.UNPRICED: types_pb.DENIAL_KIND_UNPRICED,
    DenialKind.UNBUDGETED: types_pb.DENIAL_KIND_UNBUDGETED,
}
_NOTICE_KINDS = {
    NoticeKind.RUNG: types_pb.NOTICE_KIND_RUNG,
    NoticeKind.EXCEEDED: types_pb.NOTICE_KIND_EXCEEDED,
    NoticeKind.UNPRICED: types_pb.NOTICE_KIND_UNPRICED,
    NoticeKind.UNBUDGETED: types_pb.NOTICE_KIND_UNBUDGETED,
    NoticeKind.NOT_ENFORCED: types_pb.NOTICE_KIND_NOT_ENFORCED,
}
_MODES = {
    Mode.ENFORCE: types_pb.BUDGET_MODE_ENFORCE,
    Mode.WARN: types_pb.BUDGET_MODE_WARN,
    Mode.OBSERVE: types_pb.BUDGET_MODE_OBSERVE,
    Mode.OFF: types_pb.BUDGET_MODE_OFF,
}
_HOLD_STATES = {
    HoldState.OPEN: types_pb.HOLD_STATE_OPEN,
    HoldState.COMMITTED: types_pb.HOLD_STATE_COMMITTED,
    HoldState.RELEASED: types_pb.HOLD_STATE_RELEASED,
    HoldState.EXPIRED: types_pb.HOLD_STATE_EXPIRED,
}


def _put_reserve(message: authority_pb.ReserveResponse, answer: ReserveAnswer) -> None:
    """Put a decision into its message."""
    message.decision = _DECISIONS[answer.decision]
    message.reservation_id = answer.reservation_id
    message.policy_version = answer.policy_version
    if answer.target:
        put_target(message.target, answer.target)
    message.max_output_tokens = answer.max_output_tokens
    if answer.max_input_tokens is not None:
        message.max_input_tokens = answer.max_input_tokens
    _put_directive(message.directive, answer.directive)
    if answer.expire_ms is not None:
        set_time(message.expire_time, answer.expire_ms)
    if answer.ttl_ms is not None:
        set_duration(message.ttl, answer.ttl_ms)
    _put_counters(message.counters, answer.counters)
    if answer.denial:
        _put_denial(message.denial, answer.denial)
    message.unbudgeted = answer.unbudgeted
    message.unpriced = answer.unpriced
    message.not_enforced = bool(answer.not_enforced)


def _put_commit(message: authority_pb.CommitResponse, answer: SettleAnswer) -> None:
    """Put what a commit did into its message."""
    message.reservation_id = answer.reservation_id
    message.state = _HOLD_STATES[answer.state]
    _put_charges(message.charges, answer.charges)
    _put_counters(message.counters, answer.counters)
    _put_directive(message.directive, answer.directive)
    if answer.expire_ms is not None:
        set_time(message.expire_time, answer.expire_ms)
    message.late = answer.late
    message.unpriced = answer.unpriced


def _put_release(message: authority_pb.ReleaseResponse, answer: SettleAnswer) -> None:
    """Put what a release did into its message."""
    message.reservation_id = answer.reservation_id
    message.state = _HOLD_STATES[answer.state]
    _put_counters(message.counters, answer.counters)


def _put_record(message: authority_pb.RecordResponse, answer: SettleAnswer) -> None:
    """Put what a record did into its message."""
    message.reservation_id = answer.reservation_id
    _put_charges(message.charges, answer.charges)
    _put_counters(message.counters, answer.counters)
    _put_directive(message.directive, answer.directive)
    message.unpriced = answer.unpriced
    message.unbudgeted = answer.unbudgeted


def _put_extend(message: authority_pb.ExtendResponse, answer: ExtendAnswer) -> None:
    """Put what a hold is after an extend into its message."""
    message.reservation_id = answer.reservation_id
    message.decision = _DECISIONS[answer.decision]
    message.max_output_tokens = answer.max_output_tokens
    set_time(message.expire_time, answer.expire_ms)
    _put_counters(message.counters, answer.counters)
    if answer.denial:
        _put_denial(message.denial, answer.denial)


def encode_balances(page: Balances) -> usage_pb.GetBalancesResponse:
    """Encode a page of counters."""
    return usage_pb.GetBalancesResponse(
        counters=[encode_counter(status) for status in page.counters],
        next_page_token=page.next_page_token,
        policy_version=page.policy_version,
    )


def encode_explanation(explanation: Explanation) -> usage_pb.ExplainResponse:
    """Encode every budget seen from one request."""
    rates = explanation.rates
    return usage_pb.ExplainResponse(
        budgets=[_budget_explanation(each) for each in explanation.budgets],
        price=usage_pb.PriceExplanation(
            target=encode_target(explanation.target),
            priced=rates is not None,
            source=rates.source if rates else "",
            # A million tokens at a price in pico-USD a token, in nano-USD.
            input_nano_usd_per_million_tokens=rates.input_pico_usd * 1_000 if rates else 0,
            output_nano_usd_per_million_tokens=rates.output_pico_usd * 1_000 if rates else 0,
        ),
        policy_version=explanation.policy_version,
    )


def encode_holds(page: Holds) -> usage_pb.ListHoldsResponse:
    """Encode a page of holds."""
    return usage_pb.ListHoldsResponse(
        holds=[_hold(hold) for hold in page.holds], next_page_token=page.next_page_token
    )


def encode_reserve(answer: ReserveAnswer) -> authority_pb.ReserveResponse:
    """Encode a decision."""
    message = authority_pb.ReserveResponse()
    _put_reserve(message, answer)
    return message


def encode_commit(answer: SettleAnswer) -> authority_pb.CommitResponse:
    """Encode what a commit did."""
    message = authority_pb.CommitResponse()
    _put_commit(message, answer)
    return message


def encode_release(answer: SettleAnswer) -> authority_pb.ReleaseResponse:
    """Encode what a release did."""
    message = authority_pb.ReleaseResponse()
    _put_release(message, answer)
    return message


def encode_record(answer: SettleAnswer) -> authority_pb.RecordResponse:
    """Encode what a record did."""
    message = authority_pb.RecordResponse()
    _put_record(message, answer)
    return message


def encode_extend(answer: ExtendAnswer) -> authority_pb.ExtendResponse:
    """Encode what a hold is after an extend."""
    message = authority_pb.ExtendResponse()
    _put_extend(message, answer)
    return message


def put_result(message: authority_pb.OperationResult, answer: Answer, kind: str) -> None:
    """Put the answer of one operation of a batch or a session into its message.

    Args:
        message: Empty. What is put in place is not copied into it.
        answer: What it answered.
        kind: Which operation it was: the name of its field in Operation.
    """
    if isinstance(answer, ReserveAnswer):
        _put_reserve(message.reserve, answer)
    elif isinstance(answer, ExtendAnswer):
        _put_extend(message.extend, answer)
    elif kind == "commit":
        _put_commit(message.commit, answer)
    elif kind == "release":
        _put_release(message.release, answer)
    else:
        _put_record(message.record, answer)


def encode_counter(status: CounterStatus) -> types_pb.CounterStatus:
    """Encode a counter and how it stands."""
    message = types_pb.CounterStatus()
    _put_counter(message, status)
    return message


def _put_counters(messages: Any, statuses: Sequence[CounterStatus]) -> None:  # noqa: ANN401
    for status in statuses:
        _put_counter(messages.add(), status)


def _put_counter(message: types_pb.CounterStatus, status: CounterStatus) -> None:
    counter, values, ceiling, amount = status
    budget, instance = counter.budget, counter.instance
    is_rolling = budget.window.kind is WindowKind.ROLLING
    start_ms = 0 if is_rolling else instance.start_ms
    message.MergeFromString(_described(budget, counter.partition, start_ms, instance.end_ms))
    if is_rolling:
        set_time(message.window_start_time, instance.start_ms)
    message.committed = values.committed
    message.held = values.held
    message.amount = amount
    message.remaining = status.remaining or 0
    if values.credit:
        message.credit = values.credit
    if ceiling is not None:
        message.ceiling = ceiling + values.credit


@lru_cache(DESCRIBED_MAX)
def _described(
    budget: Budget, partition: tuple[str, ...], start_ms: int, end_ms: int | None
) -> bytes:
    """Return the part of a counter's message that stays the same in its window."""
    message = types_pb.CounterStatus(
        budget=budget.name,
        partition=dict(zip(budget.per, partition, strict=True)),
        meter=encode_meter(budget.meter),
        custom_meter=custom_meter(budget.meter),
        unlimited=budget.limit is None,
        limit=budget.limit or 0,
        mode=_MODES[budget.mode],
    )
    if budget.window.kind not in _WITHOUT_START:
        set_time(message.window_start_time, start_ms)
    if end_ms is not None:
        set_time(message.window_end_time, end_ms)
    return message.SerializeToString()


_WITHOUT_START = (WindowKind.NONE, WindowKind.REQUEST, WindowKind.TASK, WindowKind.ROLLING)


def _put_charges(messages: Any, charges: Sequence[Charge]) -> None:  # noqa: ANN401
    for charge in charges:
        messages.add(
            meter=encode_meter(charge.meter),
            custom_meter=custom_meter(charge.meter),
            amount=charge.amount,
            overage=charge.overage,
            estimated=charge.estimated,
        )


_NO_DIRECTIVE = Directive()


def _put_directive(message: types_pb.Directive, directive: Directive) -> None:
    message.SetInParent()
    if directive == _NO_DIRECTIVE:
        return
    message.message = directive.message
    if switch := directive.switch_model:
        # `from` is a word of Python's, so it is set by name.
        put_target(getattr(message.switch_model, "from"), switch.origin)
        put_target(message.switch_model.to, switch.to)
        message.switch_model.budgets.extend(switch.budgets)
    if shorten := directive.shorten_output:
        message.shorten_output.max_output_tokens = shorten.tokens
        message.shorten_output.budgets.extend(shorten.budgets)
    if truncate := directive.truncate_input:
        message.truncate_input.max_input_tokens = truncate.tokens
        message.truncate_input.budgets.extend(truncate.budgets)
    if directive.finish:
        message.finish.budgets.extend(directive.finish)
    if directive.serve_cached:
        message.serve_cached.budgets.extend(directive.serve_cached)
    if wait := directive.queue:
        set_duration(message.queue.max_wait, wait.max_wait_ms)
        message.queue.budgets.extend(wait.budgets)
    if directive.deny:
        message.deny.budgets.extend(directive.deny)
    for notice in directive.notices:
        kind = _NOTICE_KINDS[notice.kind]
        message.notices.add(budget=notice.budget, kind=kind, message=notice.message)


def _put_denial(message: types_pb.Denial, denial: Denial) -> None:
    message.kind = _DENIAL_KINDS[denial.kind]
    if denial.binding:
        _put_counter(message.binding, denial.binding)
    message.affordable_output_tokens = denial.affordable_output_tokens
    if denial.affordable_input_tokens is not None:
        message.affordable_input_tokens = denial.affordable_input_tokens
    message.explanation = denial.explanation
    if denial.retry_after_ms is not None:
        set_duration(message.retry_after, denial.retry_after_ms)
    for offer in denial.counter_offers:
        encoded = message.counter_offers.add(
            affordable_output_tokens=offer.affordable_output_tokens,
            binding_budget=offer.binding_budget,
            kind=_DENIAL_KINDS[offer.kind],
        )
        put_target(encoded.target, offer.target)
        if offer.retry_after_ms is not None:
            set_duration(encoded.retry_after, offer.retry_after_ms)


def _budget_explanation(each: BudgetExplanation) -> usage_pb.BudgetExplanation:
    message = usage_pb.BudgetExplanation(
        budget=each.budget,
        applies=each.applies,
        reason=each.reason,
        status=encode_counter(each.status) if each.status else None,
        rungs=[
            usage_pb.RungExplanation(
                at_percent=rung.at_percent, action=rung.action, reached=rung.reached
            )
            for rung in each.rungs
        ],
    )
    if each.resets_in_ms is not None:
        set_duration(message.resets_in, each.resets_in_ms)
    return message


def _hold(hold: OpenHold) -> usage_pb.Hold:
    return usage_pb.Hold(
        reservation_id=hold.reservation_id,
        request_id=hold.request_id,
        subject=encode_subject(hold.subject),
        target=encode_target(hold.target),
        create_time=encode_time(hold.create_ms),
        expire_time=encode_time(hold.expire_ms),
        amounts=[
            usage_pb.HeldAmount(
                budget=amount.budget,
                partition=dict(amount.partition),
                meter=encode_meter(amount.meter),
                custom_meter=custom_meter(amount.meter),
                amount=amount.amount,
            )
            for amount in hold.amounts
        ],
    )
