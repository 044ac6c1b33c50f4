"""Calls of a scenario as messages of the contract."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2 as types
from bursar.pb import usage_service_pb2 as usage_pb
from model.rules import LEVELS, duration_ms

_COUNTS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "requests")
_ESTIMATE = (*_COUNTS, "max_output_tokens", "min_output_tokens")
_USAGE = (*_COUNTS, "output_tokens", "reasoning_tokens")


def message(verb: str, arguments: dict[str, Any], org: str, reservation_id: str = "") -> Message:
    """Return the request of a call.

    Args:
        verb: Of the format.
        arguments: Of the format.
        org: The scenario's.
        reservation_id: Of the hold that a settlement is about.
    """
    match verb:
        case "reserve":
            request = pb.ReserveRequest(
                request_id=arguments["id"],
                validate_only=arguments.get("validate_only", False),
                **_question(arguments, org),
            )
            if "ttl" in arguments:
                request.ttl.CopyFrom(_duration(arguments["ttl"]))
            return request
        case "check":
            return pb.CheckRequest(**_question(arguments, org))
        case "commit":
            return pb.CommitRequest(
                reservation_id=reservation_id,
                partial="part" in arguments,
                sequence=arguments.get("part", 0),
                **_used(arguments),
            )
        case "release":
            return pb.ReleaseRequest(reservation_id=reservation_id)
        case "extend":
            extend = pb.ExtendRequest(reservation_id=reservation_id)
            if "ttl" in arguments:
                extend.ttl.CopyFrom(_duration(arguments["ttl"]))
            if "max_output_tokens" in arguments:
                extend.max_output_tokens = arguments["max_output_tokens"]
            return extend
        case "record":
            return pb.RecordRequest(
                request_id=arguments["id"], subject=_subject(arguments, org), **_used(arguments)
            )
        case "balance":
            return usage_pb.GetBalancesRequest(subject=_subject(arguments, org), page_size=1_000)
        case "explain":
            return usage_pb.ExplainRequest(
                subject=_subject(arguments, org), target=_target(arguments)
            )
        case _:
            assert verb == "list_holds", verb
            return usage_pb.ListHoldsRequest(subject=_subject(arguments, org), page_size=1_000)


def _question(arguments: dict[str, Any], org: str) -> dict[str, Any]:
    estimate = types.Estimate(custom_meters=arguments.get("meters", {}))
    for name in _ESTIMATE:
        if name in arguments:
            setattr(estimate, name, arguments[name])
    return {
        "subject": _subject(arguments, org),
        "target": _target(arguments),
        "estimate": estimate,
        "priority": f"PRIORITY_{arguments.get('priority', 'unspecified').upper()}",
        "accepts": [f"DEGRADATION_{each.upper()}" for each in arguments.get("accepts", [])],
        "closing": arguments.get("closing", False),
    }


def _used(arguments: dict[str, Any]) -> dict[str, Any]:
    usage = types.Usage(custom_meters=arguments.get("meters", {}))
    for name in _USAGE:
        if name in arguments:
            setattr(usage, name, arguments[name])
    return {
        "usage": usage,
        "target": _target(arguments),
        "outcome": f"OUTCOME_{arguments.get('outcome', 'unspecified').upper()}",
        "estimated": arguments.get("estimated", False),
    }


def _subject(arguments: dict[str, Any], org: str) -> types.Subject:
    levels = {level: arguments[level] for level in LEVELS if level in arguments}
    return types.Subject(org=org, labels=arguments.get("labels", {}), **levels)


def _target(arguments: dict[str, Any]) -> types.Target:
    return types.Target(provider=arguments.get("provider", ""), model=arguments["model"])


def _duration(text: str) -> Duration:
    ms = duration_ms(text)
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)
