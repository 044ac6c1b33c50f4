"""Goal: every field of a question to the ledger takes what it says, and names what is wrong.

Method: valid messages with one value changed; a field without a row fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from google.protobuf.message import Message

from bursar.domain.errors import FieldInvalid, LimitExceeded
from bursar.domain.subject import OrgId, Subject, Target
from bursar.domain.usage_report import Dimension, Interval, UsageQuestion
from bursar.ledger.entry_query import EntryQuestion, Verb
from bursar.pb import usage_service_pb2 as pb
from bursar.service.decode_usage import (
    decode_entry_question,
    decode_usage_question,
    decode_verify,
)

YEAR_2200_S = 7_258_118_400
SUBJECT = {"org": "acme"}
START: dict[str, Any] = {"seconds": 1_700_000_000}
BASES: dict[type[Message], dict[str, Any]] = {
    pb.QueryUsageRequest: {"subject": SUBJECT, "start_time": START},
    pb.ListLedgerEntriesRequest: {"subject": SUBJECT},
    pb.VerifyRequest: {},
}
DECODE: dict[type[Message], Callable[[Any], object]] = {
    pb.QueryUsageRequest: decode_usage_question,
    pb.ListLedgerEntriesRequest: decode_entry_question,
    pb.VerifyRequest: decode_verify,
}

Values = Mapping[str, Any]
Row = tuple[type[Message], str, Values, str]
"""A request, its field, what is changed in it, and the path that is at fault ("": none)."""

Q, L, V = pb.QueryUsageRequest, pb.ListLedgerEntriesRequest, pb.VerifyRequest


def _subjects(kind: type[Message]) -> list[Row]:
    return [
        (kind, "subject", {"subject": {"org": "acme", "team": "x" * 256}}, ""),
        (kind, "subject", {"subject": {"org": "acme", "team": "x" * 257}}, "subject.team"),
        (kind, "subject", {"subject": {"org": "acme", "user": "a\0"}}, "subject.user"),
        (kind, "subject", {"subject": {"org": "Acme"}}, "subject.org"),
        (kind, "subject", {"subject": {}}, "subject.org"),
    ]


def _pages(kind: type[Message]) -> list[Row]:
    return [
        (kind, "page_size", {"page_size": 2**31 - 1}, ""),
        (kind, "page_size", {"page_size": -1}, "page_size"),
        (kind, "page_token", {"page_token": "x" * 4_096}, ""),
        (kind, "page_token", {"page_token": "x" * 4_097}, "page_token"),
        (kind, "page_token", {"page_token": "\n"}, "page_token"),
    ]


def _times(kind: type[Message], name: str) -> list[Row]:
    base = {"start_time": {"seconds": 0}} if name == "end_time" else {}
    return [
        (kind, name, {**base, name: {"seconds": YEAR_2200_S}}, ""),
        (kind, name, {**base, name: {"seconds": YEAR_2200_S, "nanos": 1_000_000}}, name),
        (kind, name, {**base, name: {"seconds": -1}}, name),
        (kind, name, {**base, name: {"seconds": 2**63 - 1}}, name),
        (kind, name, {**base, name: {"seconds": 5, "nanos": -1}}, name),
        (kind, name, {**base, name: {"seconds": 5, "nanos": 10**9}}, name),
        (kind, name, {**base, name: {"seconds": 5, "nanos": 999_999_999}}, ""),
    ]


ROWS: list[Row] = [
    *_subjects(Q),
    (Q, "subject", {"subject": {"org": "acme", "labels": {"tier": "free"}}}, "subject.labels"),
    (Q, "target", {"target": {"provider": "p" * 256}}, ""),
    (Q, "target", {"target": {"provider": "p" * 257}}, "target.provider"),
    (Q, "target", {"target": {"model": "\x7f"}}, "target.model"),
    *_times(Q, "start_time"),
    (Q, "start_time", {"start_time": None}, "start_time"),
    *_times(Q, "end_time"),
    (Q, "group_by", {"group_by": list(range(1, 9))}, ""),
    (Q, "group_by", {"group_by": [0]}, "group_by[0]"),
    (Q, "group_by", {"group_by": [1, 9]}, "group_by[1]"),
    (Q, "group_by", {"group_by": [1, 2, 1]}, "group_by[2]"),
    (Q, "group_by", {"group_by": [8, 8]}, "group_by[1]"),
    (Q, "group_by", {"group_by": [1] * 9}, "group_by"),
    (Q, "interval", {"interval": 4}, ""),
    (Q, "interval", {"interval": 5}, "interval"),
    (Q, "interval", {"interval": -1}, "interval"),
    (Q, "time_zone", {"time_zone": "Asia/Kolkata"}, ""),
    (Q, "time_zone", {"time_zone": "asia/kolkata"}, "time_zone"),
    (Q, "time_zone", {"time_zone": "../etc/passwd"}, "time_zone"),
    (Q, "time_zone", {"time_zone": "localtime"}, "time_zone"),
    *_pages(Q),
    *_subjects(L),
    (L, "subject", {"subject": {"org": "acme", "labels": {"Tier": "free"}}}, "subject.labels"),
    (L, "reservation_id", {"reservation_id": "r" * 256}, ""),
    (L, "reservation_id", {"reservation_id": "r" * 257}, "reservation_id"),
    (L, "request_id", {"request_id": "é" * 128}, ""),
    (L, "request_id", {"request_id": "a\u0085"}, "request_id"),
    (L, "verbs", {"verbs": list(range(1, 9))}, ""),
    (L, "verbs", {"verbs": [0]}, "verbs[0]"),
    (L, "verbs", {"verbs": [1, 9]}, "verbs[1]"),
    (L, "verbs", {"verbs": [3, 3]}, "verbs[1]"),
    (L, "verbs", {"verbs": [1] * 9}, "verbs"),
    *_times(L, "start_time"),
    *_times(L, "end_time"),
    (L, "end_time", {"start_time": START, "end_time": START}, "end_time"),
    (L, "order", {"order": 2}, ""),
    (L, "order", {"order": 3}, "order"),
    *_pages(L),
    (V, "org", {"org": "acme"}, ""),
    (V, "org", {"org": "a" * 64}, "org"),
    (V, "deep", {"deep": True}, ""),
    (V, "repair", {"repair": True}, ""),
    (V, "page_token", {"page_token": "x" * 4_096}, ""),
    (V, "page_token", {"page_token": "x" * 4_097}, "page_token"),
    (V, "page_token", {"page_token": "x", "org": "acme"}, "page_token"),
]


@pytest.mark.parametrize("kind", [Q, L, V])
def test_every_field_has_a_row(kind: type[Message]) -> None:
    declared = {each.name for each in kind.DESCRIPTOR.fields}
    assert {field for of, field, _, _ in ROWS if of is kind} == declared


@pytest.mark.parametrize(("kind", "field", "changed", "path"), ROWS)
def test_fields(kind: type[Message], field: str, changed: Values, path: str) -> None:
    given = {**BASES[kind], **changed}
    message = kind(**{name: value for name, value in given.items() if value is not None})
    if not path:
        DECODE[kind](message)
        return
    with pytest.raises(FieldInvalid) as caught:
        DECODE[kind](message)
    assert {fault.path for fault in caught.value.faults} == {path}


def test_all_faults_are_named_at_once() -> None:
    message = Q(interval=9, page_size=-1, time_zone="Mars", target={"model": "\n"})
    with pytest.raises(FieldInvalid) as caught:
        decode_usage_question(message)
    assert {fault.path for fault in caught.value.faults} == {
        "subject.org", "start_time", "interval", "time_zone", "target.model", "page_size",
    }  # fmt: skip


def test_a_list_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(LimitExceeded):
        decode_usage_question(Q(subject=SUBJECT, start_time=START, group_by=[1] * 10))


def test_a_whole_usage_question() -> None:
    message = Q(
        subject={
            "org": "acme",
            "team": "t",
            "feature": "f",
            "agent": "a",
            "user": "u",
            "task": "k",
        },
        target={"provider": "p", "model": "m"},
        start_time={"seconds": 5, "nanos": 6_999_999},
        end_time={"seconds": 7},
        group_by=[
            pb.USAGE_DIMENSION_MODEL,
            pb.USAGE_DIMENSION_TOKEN_CLASS,
            pb.USAGE_DIMENSION_TEAM,
        ],
        interval=pb.USAGE_INTERVAL_MONTH,
        time_zone="Europe/Paris",
    )
    assert decode_usage_question(message) == UsageQuestion(
        Subject(OrgId("acme"), "t", "f", "a", "u", "k"),
        Target("p", "m"),
        5_006,
        7_000,
        (Dimension.MODEL, Dimension.TEAM),
        True,
        Interval.MONTH,
        "Europe/Paris",
    )


def test_a_usage_question_with_the_least() -> None:
    message = Q(subject=SUBJECT, start_time={"seconds": 0})
    assert decode_usage_question(message) == UsageQuestion(
        Subject(OrgId("acme")), Target("", ""), 0, None
    )


def test_a_whole_question_for_entries() -> None:
    message = L(
        subject={"org": "acme", "labels": {"b": "2", "a": "1"}},
        reservation_id="r",
        request_id="q",
        verbs=[pb.LEDGER_VERB_ADJUST, pb.LEDGER_VERB_COMMIT_PARTIAL],
        start_time={"seconds": 1},
        end_time={"seconds": 2},
        order=pb.LEDGER_ORDER_OLDEST_FIRST,
    )
    decoded = decode_entry_question(message)
    assert decoded == EntryQuestion(
        Subject(OrgId("acme"), labels={"a": "1", "b": "2"}),
        "r",
        "q",
        (Verb.ADJUST, Verb.COMMIT_PARTIAL),
        1_000,
        2_000,
        newest_first=False,
    )
    # A page token is tied to the question: labels are in one order, however they were sent.
    assert list(decoded.subject.labels) == ["a", "b"]


def test_every_verb_and_dimension_of_the_contract_is_known() -> None:
    verbs = decode_entry_question(L(subject=SUBJECT, verbs=pb.LedgerVerb.values()[1:])).verbs
    assert {f"LEDGER_VERB_{verb.name}" for verb in verbs} == set(pb.LedgerVerb.keys()[1:])
    every = Q(subject=SUBJECT, start_time=START, group_by=pb.UsageDimension.values()[1:])
    decoded = decode_usage_question(every)
    assert decoded.by_token_class
    assert {f"USAGE_DIMENSION_{each.name}" for each in decoded.group_by} == set(
        pb.UsageDimension.keys()[1:-1]
    )
