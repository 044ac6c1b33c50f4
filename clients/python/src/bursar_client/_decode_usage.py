"""From the wire to values: balances, explanations and holds."""

from __future__ import annotations

from bursar_client._answers import HeldAmount, Hold
from bursar_client._decode import (
    decode_counter,
    decode_duration,
    decode_meter,
    decode_target,
    decode_time,
)
from bursar_client._explanation import (
    BudgetExplanation,
    Explanation,
    PriceExplanation,
    RungExplanation,
)
from bursar_client._values import Subject
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as usage_pb


def decode_hold(message: usage_pb.Hold) -> Hold:
    """Return one hold."""
    return Hold(
        reservation_id=message.reservation_id,
        request_id=message.request_id,
        subject=decode_subject(message.subject),
        target=decode_target(message.target),
        create_time=decode_time(message.create_time) if message.HasField("create_time") else None,
        expire_time=decode_time(message.expire_time) if message.HasField("expire_time") else None,
        amounts=tuple(
            HeldAmount(
                budget=each.budget,
                partition=dict(each.partition),
                meter=decode_meter(each.meter),
                custom_meter=each.custom_meter,
                amount=each.amount,
            )
            for each in message.amounts
        ),
    )


def decode_subject(message: types_pb.Subject) -> Subject:
    """Return a subject."""
    return Subject(
        org=message.org,
        team=message.team,
        feature=message.feature,
        agent=message.agent,
        user=message.user,
        task=message.task,
        labels=dict(message.labels),
    )


def decode_explain(message: usage_pb.ExplainResponse) -> Explanation:
    """Return how a request would be decided."""
    price = message.price
    return Explanation(
        budgets=tuple(_budget(each) for each in message.budgets),
        price=PriceExplanation(
            target=decode_target(price.target),
            priced=price.priced,
            source=price.source,
            input_nano_usd_per_million_tokens=price.input_nano_usd_per_million_tokens,
            output_nano_usd_per_million_tokens=price.output_nano_usd_per_million_tokens,
        ),
        policy_version=message.policy_version,
    )


def _budget(message: usage_pb.BudgetExplanation) -> BudgetExplanation:
    return BudgetExplanation(
        budget=message.budget,
        applies=message.applies,
        reason=message.reason,
        status=decode_counter(message.status) if message.HasField("status") else None,
        rungs=tuple(
            RungExplanation(at_percent=each.at_percent, action=each.action, reached=each.reached)
            for each in message.rungs
        ),
        resets_in=decode_duration(message.resets_in) if message.HasField("resets_in") else None,
    )
