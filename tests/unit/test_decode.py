"""From the wire to values: nothing is lost, nothing is guessed, every fault is found at once.

What each field takes and refuses is shown over a socket, by tests/integration/test_service_fields.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bursar.domain.budget import Degradation, Priority
from bursar.domain.errors import FieldInvalid, LimitExceeded
from bursar.domain.meter import Estimate, Usage
from bursar.domain.request import (
    CommitRequest,
    ExtendRequest,
    Outcome,
    RecordRequest,
    ReleaseRequest,
    ReserveRequest,
)
from bursar.domain.subject import OrgId, Subject, Target
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from bursar.service.decode import Decoder, decode_query, decode_question

DEFAULT_TTL_MS, TTL_MS_MAX = 120_000, 3_600_000
DECODER = Decoder(DEFAULT_TTL_MS, TTL_MS_MAX)

SUBJECT = Subject(OrgId("acme"), "t", "f", "a", "u", "k", {"tier": "free", "a.b-c_d": "é"})
SUBJECT_MESSAGE = types_pb2.Subject(
    org="acme", team="t", feature="f", agent="a", user="u", task="k",
    labels={"tier": "free", "a.b-c_d": "é"},
)  # fmt: skip
TARGET = Target("openai", "gpt-5")
TARGET_MESSAGE = types_pb2.Target(provider="openai", model="gpt-5")
ESTIMATE = Estimate(100, 50, 5, 3, {"pages": 4}, 10, 20, 30)
ESTIMATE_MESSAGE = types_pb2.Estimate(
    input_tokens=100, max_output_tokens=50, min_output_tokens=5, requests=3,
    custom_meters={"pages": 4}, cache_read_tokens=10, cache_write_tokens=20, input_audio_tokens=30,
)  # fmt: skip
USAGE = Usage(100, 50, 10, 20, 30, 5, 6, 3, {"pages": 4})
USAGE_MESSAGE = types_pb2.Usage(
    input_tokens=100, output_tokens=50, cache_read_tokens=10, cache_write_tokens=20,
    input_audio_tokens=30, reasoning_tokens=5, output_audio_tokens=6, requests=3,
    custom_meters={"pages": 4},
)  # fmt: skip
ACCEPTS = {
    types_pb2.DEGRADATION_SWITCH_MODEL: Degradation.SWITCH_MODEL,
    types_pb2.DEGRADATION_SHORTER_OUTPUT: Degradation.SHORTER_OUTPUT,
    types_pb2.DEGRADATION_TRUNCATE_INPUT: Degradation.TRUNCATE_INPUT,
    types_pb2.DEGRADATION_FINISH: Degradation.FINISH,
    types_pb2.DEGRADATION_SERVE_CACHED: Degradation.SERVE_CACHED,
    types_pb2.DEGRADATION_QUEUE: Degradation.QUEUE,
}

WHOLE: dict[str, tuple[Message, object]] = {
    "reserve": (
        pb.ReserveRequest(
            request_id="r",
            subject=SUBJECT_MESSAGE,
            target=TARGET_MESSAGE,
            estimate=ESTIMATE_MESSAGE,
            ttl=Duration(seconds=90, nanos=5_999_999),
            priority=types_pb2.PRIORITY_HIGH,
            accepts=list(ACCEPTS),
            validate_only=True,
            closing=True,
        ),
        ReserveRequest(
            "r",
            SUBJECT,
            TARGET,
            ESTIMATE,
            90_005,
            Priority.HIGH,
            frozenset(Degradation),
            validate_only=True,
            closing=True,
        ),
    ),
    "check": (
        pb.CheckRequest(
            subject=SUBJECT_MESSAGE,
            target=TARGET_MESSAGE,
            estimate=ESTIMATE_MESSAGE,
            priority=types_pb2.PRIORITY_LOW,
            accepts=[types_pb2.DEGRADATION_QUEUE],
            closing=True,
        ),
        ReserveRequest(
            "",
            SUBJECT,
            TARGET,
            ESTIMATE,
            DEFAULT_TTL_MS,
            Priority.LOW,
            frozenset({Degradation.QUEUE}),
            validate_only=True,
            closing=True,
        ),
    ),
    "commit": (
        pb.CommitRequest(
            reservation_id="acme.x",
            usage=USAGE_MESSAGE,
            target=TARGET_MESSAGE,
            outcome=types_pb2.OUTCOME_CANCELLED,
            partial=True,
            sequence=7,
            estimated=True,
        ),
        CommitRequest("acme.x", USAGE, TARGET, Outcome.CANCELLED, True, 7, True),
    ),
    "release": (pb.ReleaseRequest(reservation_id="acme.x"), ReleaseRequest("acme.x")),
    "extend": (
        pb.ExtendRequest(reservation_id="acme.x", ttl=Duration(seconds=60), max_output_tokens=9),
        ExtendRequest("acme.x", 60_000, 9),
    ),
    "record": (
        pb.RecordRequest(
            request_id="r",
            subject=SUBJECT_MESSAGE,
            target=TARGET_MESSAGE,
            usage=USAGE_MESSAGE,
            outcome=types_pb2.OUTCOME_FAILED,
            estimated=True,
        ),
        RecordRequest("r", SUBJECT, TARGET, USAGE, Outcome.FAILED, True),
    ),
}


def unset_fields(message: Message, path: str = "") -> list[str]:
    """Return every field of a message and of its parts that is as if it were not given."""
    given = {field.name for field, _ in message.ListFields()}
    found = []
    for field in message.DESCRIPTOR.fields:
        if field.name not in given:
            found.append(path + field.name)
        elif field.message_type is not None and not field.is_repeated:
            found += unset_fields(getattr(message, field.name), f"{path}{field.name}.")
    return found


@pytest.mark.parametrize("verb", WHOLE)
def test_nothing_is_lost(verb: str) -> None:
    """Goal: every field arrives. Method: requests with all fields set, compared as values.

    A new field that is not in the example fails here, and so does one that is not decoded: no
    attribute of the values may be as it is by default.
    """
    message, expected = WHOLE[verb]
    allowed = {"ttl.nanos"} if verb == "extend" else set()
    assert set(unset_fields(message)) <= allowed
    decoded: Any = getattr(DECODER, verb)(message)
    assert decoded == expected
    for value in (decoded, *(getattr(decoded, each.name) for each in fields(decoded))):
        if hasattr(value, "__dataclass_fields__"):
            assert unchanged_attributes(value) == []


def unchanged_attributes(value: Any) -> list[str]:  # noqa: ANN401 - any of the dataclasses
    """Return the attributes of a value that are as they are by default."""
    return [each.name for each in fields(value) if getattr(value, each.name) == each.default]


MINIMAL = {"request_id": "r", "subject": {"org": "acme"}, "target": {"model": "m"}}


def test_what_is_absent() -> None:
    """Goal: absent, zero and default are told apart. Method: the smallest requests."""
    target, subject = Target("", "m"), Subject(OrgId("acme"))
    assert DECODER.reserve(pb.ReserveRequest(**MINIMAL)) == ReserveRequest(
        "r", subject, target, Estimate(), DEFAULT_TTL_MS
    )
    assert DECODER.record(pb.RecordRequest(**MINIMAL, usage={})) == RecordRequest(
        "r", subject, target, Usage()
    )
    commit = pb.CommitRequest(reservation_id="x", usage={"requests": 0}, target={"model": "m"})
    assert DECODER.commit(commit) == CommitRequest("x", Usage(requests=0), target)
    extend = pb.ExtendRequest(reservation_id="x", max_output_tokens=1)
    assert DECODER.extend(extend) == ExtendRequest("x", None, 1)


@pytest.mark.parametrize("given", ACCEPTS, ids=types_pb2.Degradation.Name)
def test_degradations(given: int) -> None:
    """Goal: each is what its name says. Method: one at a time."""
    request = pb.ReserveRequest(**MINIMAL, accepts=[given, given])
    assert DECODER.reserve(request).accepts == {ACCEPTS[given]}


def test_every_enum_is_known() -> None:
    """Goal: a new number cannot be forgotten. Method: decode all that the contract has."""
    for number in types_pb2.Priority.values():
        priority = DECODER.reserve(pb.ReserveRequest(**MINIMAL, priority=number)).priority
        name = types_pb2.Priority.Name(number).removeprefix("PRIORITY_")
        assert priority.name == ("NORMAL" if name == "UNSPECIFIED" else name)
    for number in types_pb2.Outcome.values():
        outcome = DECODER.record(pb.RecordRequest(**MINIMAL, usage={}, outcome=number)).outcome
        name = types_pb2.Outcome.Name(number).removeprefix("OUTCOME_")
        assert outcome.name == ("SUCCEEDED" if name == "UNSPECIFIED" else name)
    assert set(ACCEPTS) | {0} == set(types_pb2.Degradation.values())


def faults_of(request: pb.ReserveRequest) -> dict[str, str]:
    with pytest.raises(FieldInvalid) as caught:
        DECODER.reserve(request)
    return {fault.path: fault.description for fault in caught.value.faults}


def test_all_faults_at_once() -> None:
    """Goal: a caller corrects a request once. Method: one with a fault in every part."""
    request = pb.ReserveRequest(
        subject={"org": "A", "team": "a\x00", "labels": {"k": "", "B": "x"}},
        target={"provider": "e\u0301"},
        estimate={
            "input_tokens": 10,
            "cache_read_tokens": 6,
            "cache_write_tokens": 5,
            "input_audio_tokens": 11,
            "max_output_tokens": 5,
            "min_output_tokens": 6,
            "requests": 0,
            "custom_meters": {"pages": -1},
        },
        ttl={"seconds": 3_601},
        priority=9,  # type: ignore[arg-type]
        accepts=[1, 0, 8],  # type: ignore[list-item]
    )
    assert faults_of(request) == {
        "request_id": "is required",
        "subject.org": "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending "
        "with -",
        "subject.team": "must not have control characters",
        'subject.labels["k"]': "is required",
        "subject.labels": "'B' is not a key: 1 to 63 of a-z, 0-9, _, . and -, a letter first",
        "target.provider": "must be in Unicode normalization form NFC",
        "target.model": "is required",
        "estimate.min_output_tokens": "must be 1 to 5, is 6",
        "estimate.requests": "must be 1 to 1000000, is 0",
        "estimate.cache_write_tokens": "must be 0 to 4, is 5",
        "estimate.input_audio_tokens": "must be 0 to 10, is 11",
        'estimate.custom_meters["pages"]': "must be 0 to 9007199254740991, is -1",
        "ttl": "must be 1000 ms to 3600000 ms, is 3601000 ms",
        "priority": "9 is not a Priority",
        "accepts[1]": "0 is not a Degradation",
        "accepts[2]": "8 is not a Degradation",
    }


def test_text_that_is_wrong_is_not_sent_back() -> None:
    """Goal: an error is short, whatever was sent. Method: very long values and keys."""
    long = "\U0001f642" * 100_000
    request = pb.ReserveRequest(
        request_id=long,
        subject={"org": long, "team": long, "labels": {long: long}},
        target={"model": long},
        estimate={"custom_meters": {long: 1}},
    )
    found = faults_of(request)
    assert len(found) == 6
    assert max(len(path) + len(description) for path, description in found.items()) < 800


def test_the_bounds_are_those_of_the_server() -> None:
    """Goal: how long a hold may last is a setting. Method: at it, and 1 ms more."""
    for ms, fine in ((1_000, True), (999, False), (TTL_MS_MAX, True), (TTL_MS_MAX + 1, False)):
        ttl = Duration()
        ttl.FromMilliseconds(ms)
        request = pb.ReserveRequest(**MINIMAL, ttl=ttl)
        if fine:
            assert DECODER.reserve(request).ttl_ms == ms
        else:
            assert list(faults_of(request)) == ["ttl"]


def test_a_list_that_is_too_long_is_not_looked_at() -> None:
    """Goal: the work for a bad request is bounded. Method: many labels, all of them bad."""
    labels = {f"-{number}": "\x00" for number in range(33)}
    request = pb.ReserveRequest(subject={"org": "-", "labels": labels})
    with pytest.raises(LimitExceeded) as caught:
        DECODER.reserve(request)
    assert [fault.path for fault in caught.value.faults] == ["subject.labels"]
    assert caught.value.metadata == {"given": "33", "limit": "32"}


def test_questions_and_queries() -> None:
    """Goal: readers name subjects as callers do. Method: whole ones, and bad ones."""
    assert decode_question(SUBJECT_MESSAGE, TARGET_MESSAGE) == (SUBJECT, TARGET)
    assert decode_query(SUBJECT_MESSAGE, 1_000_000, "5 x") == SUBJECT
    with pytest.raises(FieldInvalid) as caught:
        decode_query(types_pb2.Subject(), -1, "\u00b2")
    assert [fault.path for fault in caught.value.faults] == [
        "subject.org",
        "page_size",
        "page_token",
    ]
    with pytest.raises(FieldInvalid) as caught:
        decode_question(types_pb2.Subject(), types_pb2.Target())
    assert [fault.path for fault in caught.value.faults] == ["subject.org", "target.model"]
