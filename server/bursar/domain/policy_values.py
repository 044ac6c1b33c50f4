"""The values in a policy document: texts, money, durations, and what each may be."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from decimal import Decimal
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from bursar.domain import meter
from bursar.domain.subject import LABEL_PREFIX, LEVELS
from bursar.domain.window import is_timezone, parse_duration_ms

SCOPE_VALUES_MAX = 100
TEXT_BYTES_MAX = 256
MESSAGE_CHARS_MAX = 500
USD_MAX = Decimal(meter.AMOUNT_MAX) / meter.NANO_PER_USD
USD_DECIMALS_MAX = 9
PRICE_DECIMALS_MAX = 12
MICROSECONDS_PER_MS = 1_000
PLACEHOLDERS = frozenset(
    {"budget", "percent", "limit", "remaining", "resets_in", "affordable_output_tokens", "model"}
)
MATCHABLE = (*LEVELS, "provider", "model")

_IDENTIFIER = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_MONEY = re.compile(r"(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?")


def is_label(name: str) -> bool:
    """Tell whether an attribute is a label of the subject: `labels.KEY`."""
    prefix, key = name[: len(LABEL_PREFIX)], name[len(LABEL_PREFIX) :]
    return prefix == LABEL_PREFIX and bool(_LABEL_KEY.fullmatch(key))


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(
            "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -"
        )
    return value


def _timezone(value: str) -> str:
    if not is_timezone(value):
        raise ValueError("is not an IANA time zone such as America/New_York")
    return value


def _duration(value: str) -> str:
    parse_duration_ms(value)
    return value


def _text(value: str) -> str:
    if not value or len(value.encode()) > TEXT_BYTES_MAX or not value.isprintable():
        raise ValueError(f"must be 1 to {TEXT_BYTES_MAX} bytes without control characters")
    if not unicodedata.is_normalized("NFC", value):
        raise ValueError("must be in Unicode normalization form NFC, as in requests")
    return value


def _message(value: str) -> str:
    if len(value) > MESSAGE_CHARS_MAX:
        raise ValueError(f"must be at most {MESSAGE_CHARS_MAX} characters, is {len(value)}")
    try:
        parts = list(Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"has broken placeholders: {error}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            known = ", ".join("{" + each + "}" for each in sorted(PLACEHOLDERS))
            raise ValueError(f"{{{name}}} is not a placeholder; known are {known}")
    return value


def _money(value: object, decimals_max: int) -> Decimal:
    if isinstance(value, float):
        raise ValueError("is a binary float; write it as a decimal or in quotes")
    if isinstance(value, str) and _MONEY.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        wanted = "must be a decimal such as 12.50, without exponent and leading zeros"
        raise ValueError(f"{wanted}, is {str(value)[:60]!r}")
    _, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("must be a finite decimal")
    excess = -exponent - decimals_max
    # What is less than the smallest unit would count as nothing.
    if excess > 0 and any(digits[-excess:]):
        raise ValueError(f"has more than {decimals_max} decimals")
    return Decimal(value)


def _usd(value: object) -> Decimal:
    return _money(value, USD_DECIMALS_MAX)


def _price(value: object) -> Decimal:
    return _money(value, PRICE_DECIMALS_MAX)


def _instant(value: object) -> datetime:
    try:
        instant = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be a time such as 2026-01-01T00:00:00Z") from None
    if instant.tzinfo is None:
        raise ValueError("needs a UTC offset, such as 2026-01-01T00:00:00Z")
    if instant.microsecond % MICROSECONDS_PER_MS:
        raise ValueError("must be in whole milliseconds")
    return instant


def _only_true(value: object) -> object:
    if value is not True:
        raise ValueError("must be true, or be left out")
    return value


def _label_key(value: str) -> str:
    if not _LABEL_KEY.fullmatch(value):
        raise ValueError("is not a key: 1 to 63 of a-z, 0-9, _, . and -, a letter first")
    return value


def as_list(value: object) -> object:
    """Return a single value as a list of one: where a list is wanted, it stands for that."""
    return [value] if isinstance(value, str | int | Decimal) else value


Identifier = Annotated[str, AfterValidator(_identifier)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Duration = Annotated[str, AfterValidator(_duration)]
Text = Annotated[str, AfterValidator(_text)]
Message = Annotated[str, AfterValidator(_message)]
Usd = Annotated[Decimal, BeforeValidator(_usd), Field(ge=0, le=USD_MAX)]
Price = Annotated[Decimal, BeforeValidator(_price), Field(ge=0, le=100_000)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
OnlyTrue = Annotated[Literal[True], BeforeValidator(_only_true)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
Amount = Annotated[int, Field(ge=0, le=meter.AMOUNT_MAX, strict=True)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
Percent = Annotated[int, Field(ge=1, le=100, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Patterns = Annotated[
    list[Text], BeforeValidator(as_list), Field(min_length=1, max_length=SCOPE_VALUES_MAX)
]
