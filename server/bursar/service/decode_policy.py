"""Requests of PolicyService from the wire to values, each fault with its path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from bursar.authority.credits import CreditRequest
from bursar.authority.policy_admin import By
from bursar.domain import meter
from bursar.domain.errors import Fault
from bursar.domain.subject import OrgId, Subject
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import types_pb2 as types_pb
from bursar.service.fields import (
    check_count,
    check_range,
    check_text,
    decode_subject,
    unless_faulty,
)

REASON_BYTES_MAX = 1_000
PAGE_TOKEN_BYTES_MAX = 512
PARTITION_MAX = 4
NUMBER_MAX = 2**53 - 1
_ORG = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_USD = re.compile(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?")


class Changing(Protocol):
    """A request that changes something: who wants it, and why."""

    @property
    def actor(self) -> str:
        """Who."""

    @property
    def reason(self) -> str:
        """Why."""


class Paged(Protocol):
    """A request for a page of what an org has."""

    @property
    def org(self) -> str:
        """Whose."""

    @property
    def page_size(self) -> int:
        """How many."""

    @property
    def page_token(self) -> str:
        """From where on."""


def decode_by(faults: list[Fault], request: Changing, *, needs_reason: bool = False) -> By:
    """Return who wants a change, and why."""
    check_text(faults, "actor", request.actor, required=True)
    check_text(faults, "reason", request.reason, required=needs_reason, bytes_max=REASON_BYTES_MAX)
    return By(request.actor, request.reason)


def decode_org(faults: list[Fault], org: str) -> OrgId:
    """Return whose it is."""
    if not org:
        faults.append(Fault("org", "is required"))
    elif not _ORG.fullmatch(org):
        fault = "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -"
        faults.append(Fault("org", fault))
    return OrgId(org)


def decode_page(request: Paged) -> OrgId:
    """Return whose page is wanted.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    org = decode_org(faults, request.org)
    if request.page_size < 0:
        faults.append(Fault("page_size", f"must be 0 or more, is {request.page_size}"))
    check_text(faults, "page_token", request.page_token, bytes_max=PAGE_TOKEN_BYTES_MAX)
    return unless_faulty(org, faults)


def decode_version(request: pb.GetPolicyRequest) -> tuple[OrgId, int]:
    """Return whose version is wanted, and which.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    org = decode_org(faults, request.org)
    check_range(faults, "number", request.number, 0, NUMBER_MAX)
    return unless_faulty((org, request.number), faults)


def decode_subtree(faults: list[Fault], message: types_pb.Subject) -> Subject:
    """Return a subtree to freeze."""
    if message.labels:
        faults.append(Fault("subject.labels", "must be empty: a freeze is of levels"))
    return decode_subject(faults, message)


def decode_credit(request: pb.AdjustCreditRequest) -> CreditRequest:
    """Return what to add to which counter.

    Raises:
        FieldInvalid: With every fault.
    """
    faults: list[Fault] = []
    check_text(faults, "request_id", request.request_id, required=True)
    check_text(faults, "budget", request.budget, required=True)
    size = request.WhichOneof("size")
    amount = request.amount
    if size == "usd":
        amount = _nano_usd(faults, request.usd)
    elif size is None or amount == 0:
        faults.append(Fault("amount", "is required, in the meter's unit or as usd, and not 0"))
    if abs(amount) > meter.AMOUNT_MAX:
        fault = f"must be -{meter.AMOUNT_MAX} to {meter.AMOUNT_MAX} in the meter's unit"
        faults.append(Fault(size or "amount", fault))
    expire_ms = None
    if request.HasField("expire_time"):
        time = request.expire_time
        expire_ms = time.seconds * 1_000 + time.nanos // 1_000_000
        # What PostgreSQL and people can write down: to the year 9999.
        check_range(faults, "expire_time", time.seconds, 0, 253_402_300_799)
    credit = CreditRequest(
        request_id=request.request_id,
        org=decode_org(faults, request.org),
        budget=request.budget,
        partition=_partition(faults, request.partition),
        amount=amount,
        is_usd=size == "usd",
        expire_ms=expire_ms,
        by=decode_by(faults, request, needs_reason=True),
    )
    return unless_faulty(credit, faults)


def _nano_usd(faults: list[Fault], text: str) -> int:
    if not _USD.fullmatch(text) or not Decimal(text):
        fault = "must be dollars such as 12.50 or -3, not 0, with at most 9 decimals"
        faults.append(Fault("usd", fault))
        return 0
    return int(Decimal(text).scaleb(9))


def _partition(faults: list[Fault], given: Mapping[str, str]) -> dict[str, str]:
    check_count("partition", len(given), PARTITION_MAX)
    for name, value in given.items():
        check_text(faults, f'partition["{name[:64]}"]', value, required=True)
    return dict(given)
