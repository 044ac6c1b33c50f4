"""Answers of the contract as the plain mappings that scenarios and the reference model speak of."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2 as types
from bursar.pb import usage_service_pb2 as usage_pb


def describe(answer: Message, *, replayed: bool = False) -> dict[str, Any]:
    """Return an answer as a mapping; amounts are integers, times are in ms.

    Args:
        answer: Any answer of the services.
        replayed: Whether it was said to have been given before.
    """
    match answer:
        case pb.ReserveResponse():
            return _decision(answer) | {"replayed": replayed}
        case pb.CheckResponse():
            return _decision(answer.decision) | {"replayed": replayed}
        case pb.CommitResponse() | pb.RecordResponse() | pb.ReleaseResponse():
            return _settlement(answer) | {"replayed": replayed}
        case pb.ExtendResponse():
            described = {
                "decision": _word(types.Decision.Name(answer.decision), "DECISION_"),
                "max_output_tokens": answer.max_output_tokens,
                "expire_ms": _time_ms(answer.expire_time),
                "counters": _counters(answer.counters),
            }
            return described | (_denial(answer.denial) if answer.HasField("denial") else {})
        case usage_pb.GetBalancesResponse():
            return _counters(answer.counters)
        case usage_pb.ExplainResponse():
            return {
                each.budget: {
                    "applies": each.applies,
                    "reason": each.reason,
                    "reached": [rung.at_percent for rung in each.rungs if rung.reached],
                    **(_counter(each.status) if each.HasField("status") else {}),
                }
                for each in answer.budgets
            }
        case _:
            assert isinstance(answer, usage_pb.ListHoldsResponse)
            return {"count": len(answer.holds)}


def _decision(answer: pb.ReserveResponse) -> dict[str, Any]:
    described = {
        "decision": _word(types.Decision.Name(answer.decision), "DECISION_"),
        "model": answer.target.model,
        "provider": answer.target.provider,
        "max_output_tokens": answer.max_output_tokens,
        "max_input_tokens": _optional(answer, "max_input_tokens"),
        "expire_ms": _time_ms(answer.expire_time) if answer.HasField("expire_time") else None,
        "counters": _counters(answer.counters),
        "tightest": answer.counters[0].budget if answer.counters else None,
        "unbudgeted": answer.unbudgeted,
        "unpriced": answer.unpriced,
        **_directive(answer.directive),
    }
    return described | (_denial(answer.denial) if answer.HasField("denial") else {})


def _settlement(
    answer: pb.CommitResponse | pb.RecordResponse | pb.ReleaseResponse,
) -> dict[str, Any]:
    described: dict[str, Any] = {"counters": _counters(answer.counters)}
    if not isinstance(answer, pb.RecordResponse):
        described["state"] = _word(types.HoldState.Name(answer.state), "HOLD_STATE_")
    if not isinstance(answer, pb.ReleaseResponse):
        described["unpriced"] = answer.unpriced
        described |= _directive(answer.directive)
        described["charges"] = {
            _meter(charge): {
                "amount": charge.amount,
                "overage": charge.overage,
                "estimated": charge.estimated,
            }
            for charge in answer.charges
        }
    if isinstance(answer, pb.RecordResponse):
        described["unbudgeted"] = answer.unbudgeted
    if isinstance(answer, pb.CommitResponse):
        described["late"] = answer.late
        given = answer.HasField("expire_time")
        described["expire_ms"] = _time_ms(answer.expire_time) if given else None
    return described


def _denial(denial: types.Denial) -> dict[str, Any]:
    described = {
        "kind": _word(types.DenialKind.Name(denial.kind), "DENIAL_KIND_"),
        "affordable_output_tokens": denial.affordable_output_tokens,
        "affordable_input_tokens": _optional(denial, "affordable_input_tokens"),
        "retry_after_ms": _ms(denial.retry_after) if denial.HasField("retry_after") else None,
        "explanation": denial.explanation,
        "counter_offers": [
            {
                "model": each.target.model,
                "affordable_output_tokens": each.affordable_output_tokens,
                "binding": each.binding_budget,
                "kind": _word(types.DenialKind.Name(each.kind), "DENIAL_KIND_"),
            }
            for each in denial.counter_offers
        ],
    }
    if denial.HasField("binding"):
        binding = _counter(denial.binding)
        described["binding"] = _name(denial.binding)
        described |= {name: binding[name] for name in ("limit", "committed", "held", "resets_ms")}
    return described


def _directive(directive: types.Directive) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("switch_model", "shorten_output", "truncate_input", "finish", "serve_cached",
                 "queue", "deny"):  # fmt: skip
        if directive.HasField(part):
            found[part] = {"by": list(getattr(directive, part).budgets)}
    if "switch_model" in found:
        found["switch_model"]["to"] = directive.switch_model.to.model
    if "shorten_output" in found:
        found["shorten_output"]["to"] = directive.shorten_output.max_output_tokens
    if "truncate_input" in found:
        found["truncate_input"]["to"] = directive.truncate_input.max_input_tokens
    if "queue" in found:
        found["queue"]["to"] = _ms(directive.queue.max_wait)
    notices = {
        each.budget: _word(types.NoticeKind.Name(each.kind), "NOTICE_KIND_")
        for each in directive.notices
    }
    return {"directive": found, "message": directive.message, "notices": notices}


def _counters(counters: Any) -> dict[str, Any]:
    return {_name(counter): _counter(counter) for counter in counters}


def _name(counter: types.CounterStatus) -> str:
    """Name a counter by its budget and the values that it partitions by, in their names' order."""
    values = ",".join(value for _, value in sorted(counter.partition.items()))
    return f"{counter.budget}[{values}]" if values else counter.budget


def _counter(counter: types.CounterStatus) -> dict[str, Any]:
    end = counter.window_end_time if counter.HasField("window_end_time") else None
    return {
        "committed": counter.committed,
        "held": counter.held,
        "limit": None if counter.unlimited else counter.limit,
        "remaining": None if counter.unlimited else counter.remaining,
        "amount": counter.amount,
        "mode": _word(types.BudgetMode.Name(counter.mode), "BUDGET_MODE_"),
        "resets_ms": None if end is None else _time_ms(end),
    }


def _meter(charge: types.Charge) -> str:
    return charge.custom_meter or types.Meter.Name(charge.meter).removeprefix("METER_").lower()


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _time_ms(time: Timestamp) -> int:
    return time.seconds * 1_000 + time.nanos // 1_000_000


def _ms(duration: Duration) -> int:
    return duration.seconds * 1_000 + duration.nanos // 1_000_000
