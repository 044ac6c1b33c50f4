"""Answers of PolicyService from values to the wire."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from bursar.authority.credits import Granted
from bursar.authority.policy_admin import CHANGES_MAX, Applied
from bursar.domain.budget import parse_counter_id
from bursar.domain.freeze import Freeze
from bursar.domain.policy_diff import Change, ChangeKind
from bursar.ledger.credit_store import Credit
from bursar.ledger.policy_store import ListedVersion, PolicyVersion
from bursar.pb import policy_pb2 as policy_pb
from bursar.pb import policy_service_pb2 as pb
from bursar.service.encode import encode_counter
from bursar.service.parts import custom_meter, encode_meter, encode_subject, encode_time

WORDS_CHARS_MAX = 1_000
"""Most characters of what a setting was or is; the document has all of it."""

_KINDS = {
    ChangeKind.ADDED: policy_pb.PolicyChange.KIND_ADDED,
    ChangeKind.REMOVED: policy_pb.PolicyChange.KIND_REMOVED,
    ChangeKind.CHANGED: policy_pb.PolicyChange.KIND_CHANGED,
}


def encode_applied(applied: Applied) -> pb.ApplyPolicyResponse:
    """Encode what a document changed."""
    return pb.ApplyPolicyResponse(
        org=applied.org,
        version=encode_version(applied.head) if applied.head else None,
        changes=[_change(each) for each in applied.changes],
        warnings=[
            policy_pb.PolicyWarning(path=each.path, description=each.description)
            for each in applied.warnings
        ],
    )


def encode_version(head: PolicyVersion) -> policy_pb.PolicyVersion:
    """Encode a version."""
    return policy_pb.PolicyVersion(
        org=head.org,
        number=head.number,
        policy_version=head.version,
        etag=head.etag,
        actor=head.applied_by,
        reason=head.reason,
        apply_time=_instant(head.applied_at),
    )


def encode_listed(listed: ListedVersion) -> pb.PolicyVersionEntry:
    """Encode a version with what it changed."""
    return pb.PolicyVersionEntry(
        version=encode_version(listed.head),
        changes=[_change(each) for each in listed.changes[:CHANGES_MAX]],
    )


def encode_granted(granted: Granted) -> pb.AdjustCreditResponse:
    """Encode a credit and its counter."""
    return pb.AdjustCreditResponse(
        credit=encode_credit(granted.credit),
        counter=encode_counter(granted.status) if granted.status else None,
    )


def encode_credit(credit: Credit) -> pb.Credit:
    """Encode a credit."""
    name = parse_counter_id(credit.counter_id)
    return pb.Credit(
        org=credit.org,
        request_id=credit.credit_id,
        budget=credit.budget,
        partition=dict(name.partition),
        meter=encode_meter(name.meter),
        custom_meter=custom_meter(name.meter),
        amount=credit.amount,
        expire_time=encode_time(credit.expire_ms),
        actor=credit.granted_by,
        reason=credit.reason,
        create_time=encode_time(credit.granted_ms),
    )


def encode_freeze(freeze: Freeze) -> pb.FreezeStatus:
    """Encode a freeze."""
    lifted_ms = freeze.lifted_at_ms
    return pb.FreezeStatus(
        freeze_id=freeze.freeze_id,
        subject=encode_subject(freeze.subject),
        actor=freeze.frozen_by,
        reason=freeze.reason,
        create_time=encode_time(freeze.frozen_at_ms),
        lift_actor=freeze.lifted_by,
        lift_time=encode_time(lifted_ms) if lifted_ms is not None else None,
    )


def _change(change: Change) -> policy_pb.PolicyChange:
    return policy_pb.PolicyChange(
        kind=_KINDS[change.kind],
        budget=change.budget,
        setting=change.setting,
        before=_cut(change.before),
        after=_cut(change.after),
        warning=change.warning,
    )


def _cut(words: str) -> str:
    return words if len(words) <= WORDS_CHARS_MAX else f"{words[: WORDS_CHARS_MAX - 3]}..."


def _instant(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time.astimezone(UTC).replace(tzinfo=None))
    return message
