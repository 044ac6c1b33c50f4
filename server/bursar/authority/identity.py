"""Names of reservations, and fingerprints that tell a repeated call from a new one."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import fields
from typing import NamedTuple

from bursar.domain.errors import ReservationNotFound
from bursar.domain.meter import Estimate, Usage
from bursar.domain.request import CommitRequest, RecordRequest, ReserveRequest
from bursar.domain.subject import OrgId
from bursar.engine.wire import pack

_HOLD_ID_BYTES = 15  # 24 characters, and no chance of two requests of an org meeting
_FINGERPRINT_BYTES = 12
_RESERVATION_ID = re.compile(r"([a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)\.([a-z2-7]{24})")

RELEASE_FINGERPRINT = b"release"


class HoldName(NamedTuple):
    """Where a reservation is kept."""

    org: OrgId
    hold_id: str

    @property
    def reservation_id(self) -> str:
        """How callers name it."""
        return f"{self.org}.{self.hold_id}"


def hold_name(org: OrgId, request_id: str) -> HoldName:
    """Return where the reservation of a request is kept: a retry finds its first attempt there."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=_HOLD_ID_BYTES).digest()
    return HoldName(org, base64.b32encode(digest).decode().lower())


def parse_reservation_id(reservation_id: str) -> HoldName:
    """Return where a reservation is kept.

    Raises:
        ReservationNotFound: No reservation is named like that.
    """
    match = _RESERVATION_ID.fullmatch(reservation_id)
    if match is None:
        raise not_found(reservation_id)
    return HoldName(OrgId(match[1]), match[2])


def not_found(reservation_id: str) -> ReservationNotFound:
    """Return the one error for reservations that are unknown, foreign or long over."""
    return ReservationNotFound(
        f"there is no reservation {reservation_id}, or it ended too long ago; book its usage with "
        "Record",
        reservationId=reservation_id,
    )


def reserve_fingerprint(request: ReserveRequest) -> bytes:
    """Return what tells a retry of a reserve from another request under the same id."""
    subject, estimate = request.subject, request.estimate
    return _digest(
        "reserve",
        [subject.team, subject.feature, subject.agent, subject.user, subject.task],
        sorted(subject.labels.items()),
        [request.target.provider, request.target.model],
        _named(estimate, _ESTIMATE_FIELDS),
        [request.ttl_ms, int(request.priority), sorted(request.accepts), request.closing],
    )


def commit_fingerprint(request: CommitRequest) -> bytes:
    """Return what tells a retry of a commit from another one."""
    return _digest(
        "commit",
        _named(request.usage, _USAGE_FIELDS),
        [request.target.provider, request.target.model],
        [request.outcome, request.partial, request.sequence, request.estimated],
    )


def record_fingerprint(request: RecordRequest) -> bytes:
    """Return what tells a retry of a record from another request under the same id."""
    subject = request.subject
    return _digest(
        "record",
        [subject.team, subject.feature, subject.agent, subject.user, subject.task],
        sorted(subject.labels.items()),
        [request.target.provider, request.target.model],
        _named(request.usage, _USAGE_FIELDS),
        [request.outcome, request.estimated],
    )


_ESTIMATE_FIELDS = tuple(sorted(each.name for each in fields(Estimate)))
_USAGE_FIELDS = tuple(sorted(each.name for each in fields(Usage)))


def _named(value: Estimate | Usage, names: tuple[str, ...]) -> list[tuple[str, object]]:
    """Return the fields of a value in the order of their names."""
    return [
        (name, sorted(found.items()) if name == "custom_meters" else found)
        for name in names
        for found in (getattr(value, name),)
    ]


def _digest(*content: object) -> bytes:
    return hashlib.blake2b(pack(content), digest_size=_FINGERPRINT_BYTES).digest()
