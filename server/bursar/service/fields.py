"""Checks that every kind of request shares: texts, numbers, subjects, each fault with its path."""

from __future__ import annotations

import re
import unicodedata
from typing import TypeVar

from bursar.domain.errors import Fault, FieldInvalid, LimitExceeded
from bursar.domain.subject import LEVELS, OrgId, Subject
from bursar.pb import types_pb2 as types_pb

Value = TypeVar("Value")

TEXT_BYTES_MAX = 256
LABELS_MAX = 32

LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_ORG = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def unless_faulty(value: Value, faults: list[Fault]) -> Value:
    """Return a value if nothing is wrong with it.

    Raises:
        FieldInvalid: With every fault.
    """
    if faults:
        raise FieldInvalid(*faults)
    return value


def decode_org(faults: list[Fault], path: str, value: str) -> OrgId:
    """Return which org is meant."""
    if not value:
        faults.append(Fault(path, "is required"))
    elif not _ORG.fullmatch(value):
        fault = "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -"
        faults.append(Fault(path, fault))
    return OrgId(value)


def decode_subject(faults: list[Fault], message: types_pb.Subject) -> Subject:
    """Return who spends."""
    org = decode_org(faults, "subject.org", message.org)
    levels = (message.team, message.feature, message.agent, message.user, message.task)
    for level, value in zip(LEVELS, levels, strict=True):
        if value:
            check_text(faults, f"subject.{level}", value)
    labels = dict(message.labels)
    check_count("subject.labels", len(labels), LABELS_MAX)
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            shown = ascii(key[:64])
            fault = f"{shown} is not a key: 1 to 63 of a-z, 0-9, _, . and -, a letter first"
            faults.append(Fault("subject.labels", fault))
        else:
            check_text(faults, f'subject.labels["{key}"]', value, required=True)
    return Subject(org, *levels, labels=labels)


def check_count(path: str, count: int, most: int) -> None:
    """Refuse a list that is too long to be looked at.

    Raises:
        LimitExceeded: It has more than `most` entries.
    """
    if count > most:
        raise LimitExceeded(path, "entries", count, most)


def check_range(faults: list[Fault], path: str, value: int, least: int, most: int) -> None:
    """Note a number that is out of its range."""
    if not least <= value <= most:
        faults.append(Fault(path, f"must be {least} to {most}, is {value}"))


def check_text(
    faults: list[Fault],
    path: str,
    value: str,
    *,
    required: bool = False,
    bytes_max: int = TEXT_BYTES_MAX,
) -> None:
    """Note a text that is missing, too long, or has what no name may have."""
    if not value:
        if required:
            faults.append(Fault(path, "is required"))
        return
    # Nearly every text is plain, and needs none of the slower tests.
    if value.isascii() and value.isprintable() and len(value) <= bytes_max:
        return
    size = len(value) if value.isascii() else len(value.encode())
    if size > bytes_max:
        faults.append(Fault(path, f"must be at most {bytes_max} bytes, is {size}"))
    elif not value.isprintable() and any(unicodedata.category(char) == "Cc" for char in value):
        faults.append(Fault(path, "must not have control characters"))
    elif not value.isascii() and not unicodedata.is_normalized("NFC", value):
        faults.append(Fault(path, "must be in Unicode normalization form NFC"))
