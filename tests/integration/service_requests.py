"""What every field of every request takes and refuses, and the cases that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message
from service_rows import (
    BAD_ORGS,
    BAD_PAGE_TOKENS,
    BAD_TEXTS,
    INT32_MAX,
    Row,
    absent,
    degradations,
    enum,
    integer,
    labels,
    meters,
    part,
    plain,
    text,
    texts,
    ttl,
)
from service_server import commit_request, record_request, reserve_request

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import usage_service_pb2 as usage_pb

UNKNOWN_RESERVATION = "acme." + "a" * 24
SERVICES = (
    pb.DESCRIPTOR.services_by_name["BudgetAuthorityService"],
    usage_pb.DESCRIPTOR.services_by_name["UsageService"],
)


def unary_methods(service: ServiceDescriptor) -> list[MethodDescriptor]:
    """Return the calls of a service that take one request; a session takes those of others."""
    return [method for method in service.methods if not method.client_streaming]


READS_OF_THE_LEDGER = frozenset({"QueryUsage", "ListLedgerEntries", "Verify"})
"""Calls with rules of their own; their fields are those of `tests/unit/test_decode_usage`."""

TOKENS_MAX, REQUESTS_MAX, SEQUENCE_MAX = 10**9, 10**6, 10**6

IS_A_BOOL: list[Row] = []
"""Both values of a bool are taken."""

IN_A_BATCH: list[Row] = []
"""Operations are tested as messages of their own, and in batches."""

SUBJECT, TARGET, ESTIMATE, USAGE = (
    absent("subject", "subject.org"),
    absent("target", "target.model"),
    absent("estimate", ""),
    absent("usage", "usage"),
)
INPUT_PARTS = {
    "cache_read_tokens": part("cache_read_tokens", "input_tokens"),
    "cache_write_tokens": part("cache_write_tokens", "input_tokens", cache_read_tokens=4),
    "input_audio_tokens": part("input_audio_tokens", "input_tokens"),
}

FIELDS: dict[str, dict[str, list[Row]]] = {
    "Subject": {
        "org": texts("org", BAD_ORGS, {"63-bytes": "a" * 63, "1-byte": "a"}),
        "team": text("team"),
        "feature": text("feature"),
        "agent": text("agent"),
        "user": text("user"),
        "task": text("task"),
        "labels": labels("labels"),
    },
    "Target": {"provider": text("provider"), "model": text("model", required=True)},
    "Estimate": {
        "input_tokens": integer("input_tokens", 0, TOKENS_MAX),
        "max_output_tokens": integer("max_output_tokens", 1, TOKENS_MAX),
        "min_output_tokens": [
            *integer("min_output_tokens", 1, 50, max_output_tokens=50),
            *integer("min_output_tokens", 1, TOKENS_MAX, max_output_tokens=TOKENS_MAX),
        ],
        "requests": integer("requests", 1, REQUESTS_MAX),
        "custom_meters": meters("custom_meters"),
        **INPUT_PARTS,
    },
    "Usage": {
        "input_tokens": integer("input_tokens", 0, TOKENS_MAX),
        "output_tokens": integer("output_tokens", 0, TOKENS_MAX),
        "reasoning_tokens": part("reasoning_tokens", "output_tokens"),
        "output_audio_tokens": part("output_audio_tokens", "output_tokens"),
        "requests": integer("requests", 0, REQUESTS_MAX),
        "custom_meters": meters("custom_meters"),
        **INPUT_PARTS,
    },
    "ReserveRequest": {
        "request_id": text("request_id", required=True),
        "subject": SUBJECT,
        "target": TARGET,
        "estimate": ESTIMATE,
        "ttl": [*ttl("ttl"), *absent("ttl", "")],
        "priority": enum("priority", 3),
        "accepts": degradations("accepts"),
        "validate_only": IS_A_BOOL,
        "closing": IS_A_BOOL,
    },
    "CommitRequest": {
        "reservation_id": text("reservation_id", required=True),
        "usage": USAGE,
        "target": TARGET,
        "outcome": enum("outcome", 3),
        "partial": IS_A_BOOL,
        "sequence": [
            *integer("sequence", 1, SEQUENCE_MAX, partial=True),
            plain("final-with-number", "sequence", sequence=1),
            plain("final-with-negative-number", "sequence", sequence=-1),
        ],
        "estimated": IS_A_BOOL,
    },
    "ReleaseRequest": {"reservation_id": text("reservation_id", required=True)},
    "ExtendRequest": {
        "reservation_id": text("reservation_id", required=True),
        "ttl": [*ttl("ttl"), *absent("ttl", "ttl")],
        "max_output_tokens": integer("max_output_tokens", 1, TOKENS_MAX),
    },
    "RecordRequest": {
        # From the same space as a reserve's, so others are taken.
        "request_id": texts(
            "request_id",
            {**BAD_TEXTS, "empty": ""},
            {"256-bytes": "r" * 256, "256-bytes-of-128-letters": "è" * 128},
        ),
        "subject": SUBJECT,
        "target": TARGET,
        "usage": USAGE,
        "outcome": enum("outcome", 3),
        "estimated": IS_A_BOOL,
    },
    "CheckRequest": {
        "subject": SUBJECT,
        "target": TARGET,
        "estimate": ESTIMATE,
        "priority": enum("priority", 3),
        "accepts": degradations("accepts"),
        "closing": IS_A_BOOL,
    },
    "BatchRequest": {"operations": IN_A_BATCH},
    "Operation": dict.fromkeys(("reserve", "commit", "release", "extend", "record"), IN_A_BATCH),
    "GetBalancesRequest": {
        "subject": SUBJECT,
        "page_size": integer("page_size", 0, INT32_MAX, int_max=INT32_MAX),
        "page_token": texts("page_token", BAD_PAGE_TOKENS, {"empty": ""}),
    },
    "ExplainRequest": {"subject": SUBJECT, "target": TARGET},
    "ListHoldsRequest": {
        "subject": SUBJECT,
        "page_size": integer("page_size", 0, INT32_MAX, int_max=INT32_MAX),
        "page_token": texts("page_token", BAD_PAGE_TOKENS, {"empty": ""}),
    },
}


@dataclass(frozen=True)
class Case:
    """A row in a field of a request of a call.

    Attributes:
        method: The call.
        steps: From the request to the message that has the field.
        row: The value.
    """

    method: str
    steps: tuple[str, ...]
    field: str
    row: Row

    @property
    def id(self) -> str:
        return "-".join((self.method, ".".join((*self.steps, self.field)), self.row.name))

    @property
    def path(self) -> str:
        """What is at fault, seen from the request."""
        return ".".join((*self.steps, self.row.path))

    def request(self, reservation_id: str) -> Message:
        """Return a request with only this value changed."""
        request = valid_request(self.method, reservation_id)
        message = request
        for step in self.steps:
            message = getattr(message, step)
        self.row.change(message)
        return request


def valid_request(method: str, reservation_id: str) -> Message:
    """Return a request that is answered, for an open reservation where it is of one."""
    given = {"org": "acme", "user": "u1"}
    reserve = reserve_request()
    match method:
        case "Reserve":
            return reserve
        case "Commit":
            return commit_request(reservation_id)
        case "Release":
            return pb.ReleaseRequest(reservation_id=reservation_id)
        case "Extend":
            return pb.ExtendRequest(reservation_id=reservation_id, ttl={"seconds": 60})
        case "Record":
            return record_request()
        case "Check":
            return pb.CheckRequest(
                subject=reserve.subject, target=reserve.target, estimate=reserve.estimate
            )
        case "Batch":
            return pb.BatchRequest(operations=[{"reserve": reserve}])
        case "GetBalances":
            return usage_pb.GetBalancesRequest(subject=given)
        case "Explain":
            return usage_pb.ExplainRequest(subject=given, target=reserve.target)
        case "ListHolds":
            return usage_pb.ListHoldsRequest(subject=given)
        case "QueryUsage":
            return usage_pb.QueryUsageRequest(subject=given, start_time={"seconds": 1_780_000_000})
        case "ListLedgerEntries":
            return usage_pb.ListLedgerEntriesRequest(subject=given)
        case "Verify":
            return usage_pb.VerifyRequest(org="acme")
    raise AssertionError(f"no request is known for {method}")


def is_message(field: FieldDescriptor) -> bool:
    """Say whether a field is a message with fields of ours."""
    return field.message_type is not None and field.message_type.full_name.startswith("bursar.")


def is_map(field: FieldDescriptor) -> bool:
    """Say whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fields_of(
    request: Descriptor, steps: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    """Yield every field of a request and of its parts, with the way to it."""
    for field in request.fields:
        yield steps, field
        if is_message(field) and not is_map(field):
            yield from fields_of(field.message_type, (*steps, field.name))


def cases() -> Iterator[Case]:
    """Yield every case of every call but Batch, which holds requests of other calls."""
    for service in SERVICES:
        for method in unary_methods(service):
            if method.name == "Batch" or method.name in READS_OF_THE_LEDGER:
                continue
            for steps, field in fields_of(method.input_type):
                for row in FIELDS.get(field.containing_type.name, {}).get(field.name, ()):
                    yield Case(method.name, steps, field.name, row)
