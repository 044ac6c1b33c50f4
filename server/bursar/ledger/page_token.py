"""Page tokens: where a list goes on, tied to the question that it answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from bursar.domain.errors import Fault, FieldInvalid

_DIGEST_BYTES = 9
_INT64_MAX = (1 << 63) - 1

Position = list[str | int]


def write_page_token(question: object, position: Position) -> str:
    """Return a token for the page after a position.

    Args:
        question: What was asked, all but the page; its repr says all of it.
        position: Of the last item that was answered.
    """
    text = json.dumps([_digest(question), *position], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_page_token(question: object, token: str, kinds: tuple[type, ...]) -> Position:
    """Return the position that a token was made of.

    Args:
        question: What is asked now.
        token: Of the page before.
        kinds: Of each part of the position.

    Raises:
        FieldInvalid: It is not from a page of this question.
    """
    try:
        digest: object
        position: Position
        digest, *position = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _foreign() from None
    if (
        digest != _digest(question)
        or tuple(map(type, position)) != kinds
        or not all(map(_is_storable, position))
    ):
        raise _foreign()
    return position


def _is_storable(value: str | int) -> bool:
    """Tell whether PostgreSQL takes a value: a token may come from anybody."""
    if isinstance(value, int):
        return abs(value) <= _INT64_MAX
    return "\0" not in value and value.isprintable()


def _digest(question: object) -> str:
    digest = hashlib.sha256(repr(question).encode()).digest()[:_DIGEST_BYTES]
    return base64.b64encode(digest).decode()


def _foreign() -> FieldInvalid:
    fault = "is not from a page before of the same question; start again without it"
    return FieldInvalid(Fault("page_token", fault))
