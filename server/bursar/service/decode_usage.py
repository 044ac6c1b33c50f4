"""From the wire to values: questions to the ledger."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from bursar.domain.errors import Fault
from bursar.domain.subject import OrgId, Subject, Target
from bursar.domain.usage_report import Dimension, Interval, UsageQuestion
from bursar.domain.window import is_timezone
from bursar.ledger.entry_query import EntryQuestion, Verb
from bursar.pb import admin_service_pb2 as admin_pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as pb
from bursar.service.fields import (
    check_count,
    check_text,
    decode_org,
    decode_subject,
    unless_faulty,
)

PAGE_TOKEN_BYTES_MAX = 4_096
"""A token names the last row of its page, with the name of every level."""

_TIME_MS_MAX = 7_258_118_400_000
"""The year 2200: no usage is later, and every calendar knows it."""

_NANOS_PER_MS = 1_000_000
_NANOS_PER_SECOND = 1_000_000_000

_DIMENSIONS = {
    pb.USAGE_DIMENSION_TEAM: Dimension.TEAM,
    pb.USAGE_DIMENSION_FEATURE: Dimension.FEATURE,
    pb.USAGE_DIMENSION_AGENT: Dimension.AGENT,
    pb.USAGE_DIMENSION_USER: Dimension.USER,
    pb.USAGE_DIMENSION_TASK: Dimension.TASK,
    pb.USAGE_DIMENSION_PROVIDER: Dimension.PROVIDER,
    pb.USAGE_DIMENSION_MODEL: Dimension.MODEL,
}
_INTERVALS = {
    pb.USAGE_INTERVAL_UNSPECIFIED: Interval.NONE,
    pb.USAGE_INTERVAL_NONE: Interval.NONE,
    pb.USAGE_INTERVAL_HOUR: Interval.HOUR,
    pb.USAGE_INTERVAL_DAY: Interval.DAY,
    pb.USAGE_INTERVAL_MONTH: Interval.MONTH,
}
VERBS = {
    pb.LEDGER_VERB_RESERVE: Verb.RESERVE,
    pb.LEDGER_VERB_COMMIT: Verb.COMMIT,
    pb.LEDGER_VERB_COMMIT_PARTIAL: Verb.COMMIT_PARTIAL,
    pb.LEDGER_VERB_RELEASE: Verb.RELEASE,
    pb.LEDGER_VERB_EXTEND: Verb.EXTEND,
    pb.LEDGER_VERB_EXPIRE: Verb.EXPIRE,
    pb.LEDGER_VERB_RECORD: Verb.RECORD,
    pb.LEDGER_VERB_ADJUST: Verb.ADJUST,
}
_NEWEST_FIRST = {
    pb.LEDGER_ORDER_UNSPECIFIED: True,
    pb.LEDGER_ORDER_NEWEST_FIRST: True,
    pb.LEDGER_ORDER_OLDEST_FIRST: False,
}


def decode_usage_question(message: pb.QueryUsageRequest) -> UsageQuestion:
    """Decode whose usage is asked for, of what time, grouped how.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    if message.subject.labels:
        fault = "must be empty: usage is added up by level, provider and model, not by label"
        faults.append(Fault("subject.labels", fault))
    if not message.HasField("start_time"):
        faults.append(Fault("start_time", "is required"))
    zone = message.time_zone or "UTC"
    if not is_timezone(zone):
        faults.append(Fault("time_zone", f"{zone[:64]!a} is not the name of an IANA time zone"))
    interval = _INTERVALS.get(message.interval)
    if interval is None:
        faults.append(Fault("interval", f"{message.interval} is not a UsageInterval"))
    group_by, by_token_class = _group_by(faults, message)
    question = UsageQuestion(
        subject=_subject(faults, message.subject),
        target=_target(faults, message.target),
        start_ms=_time(faults, "start_time", message.start_time),
        end_ms=_time_if_given(faults, message, "end_time"),
        group_by=group_by,
        by_token_class=by_token_class,
        interval=interval or Interval.NONE,
        timezone=zone,
    )
    _page(faults, message.page_size, message.page_token)
    return unless_faulty(question, faults)


def decode_entry_question(message: pb.ListLedgerEntriesRequest) -> EntryQuestion:
    """Decode which entries are asked for.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    check_text(faults, "reservation_id", message.reservation_id)
    check_text(faults, "request_id", message.request_id)
    check_count("verbs", len(message.verbs), len(VERBS))
    for position, verb in enumerate(message.verbs):
        if verb not in VERBS:
            faults.append(Fault(f"verbs[{position}]", f"{verb} is not a LedgerVerb"))
        elif verb in message.verbs[:position]:
            faults.append(Fault(f"verbs[{position}]", "is there twice"))
    if message.order not in _NEWEST_FIRST:
        faults.append(Fault("order", f"{message.order} is not a LedgerOrder"))
    start_ms = _time_if_given(faults, message, "start_time")
    end_ms = _time_if_given(faults, message, "end_time")
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        faults.append(Fault("end_time", "must be after start_time"))
    question = EntryQuestion(
        subject=_subject(faults, message.subject),
        reservation_id=message.reservation_id,
        request_id=message.request_id,
        verbs=tuple(VERBS[verb] for verb in message.verbs if verb in VERBS),
        start_ms=start_ms,
        end_ms=end_ms,
        newest_first=_NEWEST_FIRST.get(message.order, True),
    )
    _page(faults, message.page_size, message.page_token)
    return unless_faulty(question, faults)


def decode_verify(message: pb.VerifyRequest) -> OrgId | None:
    """Decode whose counters and holds are to be compared; None stands for everyone's.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    org = decode_org(faults, "org", message.org) if message.org else None
    if org is not None and message.page_token:
        faults.append(Fault("page_token", "must be empty with an org: it is one page"))
    _page(faults, 0, message.page_token)
    return unless_faulty(org, faults)


def decode_rebuild(message: admin_pb.RebuildRequest) -> OrgId | int | None:
    """Decode which shards are to be loaded anew: an org's, one by its number, or all (None).

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    target: OrgId | int | None = None
    match message.WhichOneof("target"):
        case "org":
            target = decode_org(faults, "org", message.org)
        case "shard":
            target = message.shard
        case "all":
            if not message.all:
                faults.append(Fault("all", "must be true; name an org or a shard otherwise"))
        case _:
            faults.append(Fault("target", "is required: an org, a shard, or all"))
    return unless_faulty(target, faults)


def _group_by(
    faults: list[Fault], message: pb.QueryUsageRequest
) -> tuple[tuple[Dimension, ...], bool]:
    check_count("group_by", len(message.group_by), len(_DIMENSIONS) + 1)
    found: list[Dimension] = []
    for position, each in enumerate(message.group_by):
        if each in message.group_by[:position]:
            faults.append(Fault(f"group_by[{position}]", "is there twice"))
        elif each in _DIMENSIONS:
            found.append(_DIMENSIONS[each])
        elif each != pb.USAGE_DIMENSION_TOKEN_CLASS:
            faults.append(Fault(f"group_by[{position}]", f"{each} is not a UsageDimension"))
    return tuple(found), pb.USAGE_DIMENSION_TOKEN_CLASS in message.group_by


def _subject(faults: list[Fault], message: types_pb.Subject) -> Subject:
    decoded = decode_subject(faults, message)
    # Page tokens are tied to what is asked, in whatever order labels were sent.
    return Subject(
        decoded.org,
        decoded.team,
        decoded.feature,
        decoded.agent,
        decoded.user,
        decoded.task,
        dict(sorted(decoded.labels.items())),
    )


def _target(faults: list[Fault], message: types_pb.Target) -> Target:
    check_text(faults, "target.provider", message.provider)
    check_text(faults, "target.model", message.model)
    return Target(message.provider, message.model)


def _page(faults: list[Fault], page_size: int, page_token: str) -> None:
    if page_size < 0:
        faults.append(Fault("page_size", f"must be 0 or more, is {page_size}"))
    check_text(faults, "page_token", page_token, bytes_max=PAGE_TOKEN_BYTES_MAX)


def _time_if_given(
    faults: list[Fault], message: pb.QueryUsageRequest | pb.ListLedgerEntriesRequest, name: str
) -> int | None:
    if not message.HasField(name):
        return None
    return _time(faults, name, getattr(message, name))


def _time(faults: list[Fault], path: str, time: Timestamp) -> int:
    ms = time.seconds * 1_000 + time.nanos // _NANOS_PER_MS
    if not 0 <= time.nanos < _NANOS_PER_SECOND:
        faults.append(Fault(path, f"must have 0 to 999999999 nanos, has {time.nanos}"))
    elif not 0 <= ms <= _TIME_MS_MAX:
        faults.append(Fault(path, "must be in the years 1970 to 2199"))
    return ms
