"""From values to the wire."""

from __future__ import annotations

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
from bursar.domain.budget import CounterStatus, Mode
from bursar.domain.window import WindowKind
from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as usage_pb
from bursar.service.parts import (
    custom_meter,
    encode_duration,
    encode_meter,
    encode_subject,
    encode_target,
    encode_time,
    set_time,
)

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


def encode_reserve(answer: ReserveAnswer) -> authority_pb.ReserveResponse:
    """Encode a decision."""
    return authority_pb.ReserveResponse(
        reservation_id=answer.reservation_id,
        decision=_DECISIONS[answer.decision],
        target=encode_target(answer.target) if answer.target else None,
        max_output_tokens=answer.max_output_tokens,
        max_input_tokens=answer.max_input_tokens,
        directive=_directive(answer.directive),
        expire_time=encode_time(answer.expire_ms) if answer.expire_ms is not None else None,
        ttl=encode_duration(answer.ttl_ms) if answer.ttl_ms is not None else None,
        counters=[encode_counter(status) for status in answer.counters],
        denial=_denial(answer.denial) if answer.denial else None,
        unbudgeted=answer.unbudgeted,
        unpriced=answer.unpriced,
        policy_version=answer.policy_version,
        not_enforced=bool(answer.not_enforced),
    )


def encode_commit(answer: SettleAnswer) -> authority_pb.CommitResponse:
    """Encode what a commit did."""
    return authority_pb.CommitResponse(
        reservation_id=answer.reservation_id,
        charges=[_charge(charge) for charge in answer.charges],
        counters=[encode_counter(status) for status in answer.counters],
        directive=_directive(answer.directive),
        state=_HOLD_STATES[answer.state],
        late=answer.late,
        expire_time=encode_time(answer.expire_ms) if answer.expire_ms is not None else None,
        unpriced=answer.unpriced,
    )


def encode_release(answer: SettleAnswer) -> authority_pb.ReleaseResponse:
    """Encode what a release did."""
    return authority_pb.ReleaseResponse(
        reservation_id=answer.reservation_id,
        counters=[encode_counter(status) for status in answer.counters],
        state=_HOLD_STATES[answer.state],
    )


def encode_record(answer: SettleAnswer) -> authority_pb.RecordResponse:
    """Encode what a record did."""
    return authority_pb.RecordResponse(
        reservation_id=answer.reservation_id,
        charges=[_charge(charge) for charge in answer.charges],
        counters=[encode_counter(status) for status in answer.counters],
        directive=_directive(answer.directive),
        unpriced=answer.unpriced,
        unbudgeted=answer.unbudgeted,
    )


def encode_extend(answer: ExtendAnswer) -> authority_pb.ExtendResponse:
    """Encode what a hold is after an extend."""
    return authority_pb.ExtendResponse(
        reservation_id=answer.reservation_id,
        decision=_DECISIONS[answer.decision],
        max_output_tokens=answer.max_output_tokens,
        expire_time=encode_time(answer.expire_ms),
        counters=[encode_counter(status) for status in answer.counters],
        denial=_denial(answer.denial) if answer.denial else None,
    )


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


def encode_result(answer: Answer, kind: str) -> authority_pb.OperationResult:
    """Encode the answer of one operation of a batch.

    Args:
        answer: What it answered.
        kind: Which operation it was: the name of its field in Operation.
    """
    if isinstance(answer, ReserveAnswer):
        return authority_pb.OperationResult(reserve=encode_reserve(answer))
    if isinstance(answer, ExtendAnswer):
        return authority_pb.OperationResult(extend=encode_extend(answer))
    if kind == "commit":
        return authority_pb.OperationResult(commit=encode_commit(answer))
    if kind == "release":
        return authority_pb.OperationResult(release=encode_release(answer))
    return authority_pb.OperationResult(record=encode_record(answer))


def encode_counter(status: CounterStatus) -> types_pb.CounterStatus:
    """Encode a counter and how it stands."""
    counter, values = status.counter, status.values
    budget, instance = counter.budget, counter.instance
    message = types_pb.CounterStatus(
        budget=budget.name,
        partition=dict(zip(budget.per, counter.partition, strict=True)),
        meter=encode_meter(budget.meter),
        custom_meter=custom_meter(budget.meter),
        unlimited=budget.limit is None,
        limit=budget.limit or 0,
        committed=values.committed,
        held=values.held,
        credit=values.credit,
        remaining=status.remaining or 0,
        ceiling=(status.ceiling or 0) + values.credit if status.ceiling is not None else 0,
        mode=_MODES[budget.mode],
        amount=status.amount,
    )
    if budget.window.kind not in (WindowKind.NONE, WindowKind.REQUEST, WindowKind.TASK):
        set_time(message.window_start_time, instance.start_ms)
    if instance.end_ms is not None:
        set_time(message.window_end_time, instance.end_ms)
    return message


def _charge(charge: Charge) -> types_pb.Charge:
    return types_pb.Charge(
        meter=encode_meter(charge.meter),
        custom_meter=custom_meter(charge.meter),
        amount=charge.amount,
        overage=charge.overage,
        estimated=charge.estimated,
    )


def _directive(directive: Directive) -> types_pb.Directive:
    message = types_pb.Directive(message=directive.message)
    if switch := directive.switch_model:
        message.switch_model.CopyFrom(
            types_pb.SwitchModel(to=encode_target(switch.to), budgets=switch.budgets)
        )
        # `from` is a word of Python's, so it is set by name.
        getattr(message.switch_model, "from").CopyFrom(encode_target(switch.origin))
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
        message.queue.max_wait.CopyFrom(encode_duration(wait.max_wait_ms))
        message.queue.budgets.extend(wait.budgets)
    if directive.deny:
        message.deny.budgets.extend(directive.deny)
    for notice in directive.notices:
        kind = _NOTICE_KINDS[notice.kind]
        message.notices.add(budget=notice.budget, kind=kind, message=notice.message)
    return message


def _denial(denial: Denial) -> types_pb.Denial:
    message = types_pb.Denial(
        kind=_DENIAL_KINDS[denial.kind],
        binding=encode_counter(denial.binding) if denial.binding else None,
        affordable_output_tokens=denial.affordable_output_tokens,
        affordable_input_tokens=denial.affordable_input_tokens,
        explanation=denial.explanation,
    )
    if denial.retry_after_ms is not None:
        message.retry_after.CopyFrom(encode_duration(denial.retry_after_ms))
    for offer in denial.counter_offers:
        encoded = message.counter_offers.add(
            target=encode_target(offer.target),
            affordable_output_tokens=offer.affordable_output_tokens,
            binding_budget=offer.binding_budget,
            kind=_DENIAL_KINDS[offer.kind],
        )
        if offer.retry_after_ms is not None:
            encoded.retry_after.CopyFrom(encode_duration(offer.retry_after_ms))
    return message


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
        message.resets_in.CopyFrom(encode_duration(each.resets_in_ms))
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
