"""Values of fields that are refused or taken, by kind of field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from service_server import METERS

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
AMOUNT_MAX = 2**53 - 1

BAD_TEXTS = {
    "257-bytes": "x" * 257,
    "258-bytes-of-129-letters": "é" * 129,
    "not-nfc": "e\u0301",
    "nul": "a\x00b",
    "newline": "a\n",
    "delete": "\x7f",
    "c1-control": "a\x85b",
    "unit-separator": "a\x1fb",
}
GOOD_TEXTS = {"256-bytes": "x" * 256, "256-bytes-of-128-letters": "é" * 128, "emoji": "👩🏽‍🚀"}
BAD_KEYS = {
    "empty-key": "",
    "capital-key": "A",
    "key-with-digit-first": "1a",
    "key-with-blank": "a b",
    "64-byte-key": "a" * 64,
    "key-beyond-ascii": "é",
    "key-with-nul": "a\x00",
    "key-with-newline": "a\n",
}
BAD_ORGS = {
    "empty": "",
    "capital": "Acme",
    "dash-first": "-a",
    "dash-last": "a-",
    "digit-first": "1a",
    "dot": "a.b",
    "colon": "a:b",
    "newline": "acme\n",
    "nul": "acme\x00",
    "beyond-ascii": "é",
    "64-bytes": "a" * 64,
}
BAD_PAGE_TOKENS = {
    "513-bytes": "9" * 513,
    "nul": "\x00",
    "superscript-digit": "²",
    "arabic-digit": "٣",
    "fullwidth-digits": "\uff11\uff12",
    "not-nfc": "e\u0301",
    "letters": "abc",
    "negative": "-5",
    "underscores": "1_000",
    "version-and-letters": "x.5",
    "blank": " ",
}
BAD_TTLS = {
    "zero": (0, 0),
    "negative": (-1, 0),
    "below-1-s": (0, 999_999_999),
    "1-ms-too-long": (86_400, 1_000_000),
    "longest-duration": (315_576_000_000, 999_999_999),
    "int-max": (INT64_MAX, INT32_MAX),
    "int-min": (-INT64_MAX - 1, -INT32_MAX - 1),
    "too-many-nanos": (1, 1_000_000_000),
    "signs-differ": (5, -1),
}


@dataclass(frozen=True)
class Row:
    """One value of a field, and what is said of it.

    Attributes:
        name: For people.
        path: What is at fault, seen from the message that has the field; empty where nothing is.
        change: Puts the value into that message.
        reason: Of the error.
    """

    name: str
    path: str
    change: Callable[[Any], object]
    reason: str = "FIELD_INVALID"


def plain(name: str, path: str, **values: object) -> Row:
    """Set fields to plain values."""

    def change(message: Message) -> None:
        for field, value in values.items():
            setattr(message, field, value)

    return Row(name, path, change)


def absent(field: str, path: str) -> list[Row]:
    """Leave a message out."""
    return [Row("absent", path, lambda message: message.ClearField(field))]


def text(field: str, *, required: bool = False) -> list[Row]:
    """Any text of up to 256 bytes in NFC without control characters."""
    bad = dict(BAD_TEXTS, empty="") if required else BAD_TEXTS
    good = GOOD_TEXTS if required else dict(GOOD_TEXTS, empty="")
    return texts(field, bad, good)


def texts(field: str, bad: Mapping[str, str], good: Mapping[str, str]) -> list[Row]:
    """Texts that are refused and taken."""
    rows = [plain(name, field, **{field: value}) for name, value in bad.items()]
    return rows + [plain(f"good-{name}", "", **{field: value}) for name, value in good.items()]


def integer(
    field: str, least: int, most: int, *, int_max: int = INT64_MAX, **others: object
) -> list[Row]:
    """An integer with bounds, while other fields have these values."""
    bad = {
        "least-1": least - 1,
        "negative": -1,
        "int-min": -int_max - 1,
        "most+1": most + 1,
        "2^53": 2**53,
        "int-max": int_max,
    }
    rows = [
        plain(name, field, **{**others, field: value})
        for name, value in bad.items()
        if -int_max - 1 <= value <= int_max and not least <= value <= most
    ]
    return rows + [
        plain(f"good-{value}", "", **{**others, field: value}) for value in (least, most)
    ]


def part(field: str, whole: str, **others: int) -> list[Row]:
    """An amount that is a part of another one, of which other fields take their parts."""
    given = {whole: 10, **others}
    left = 10 - sum(others.values())
    return [
        plain("more-than-is-left", field, **given, **{field: left + 1}),
        plain("more-than-zero", field, **{whole: 0, field: 1}),
        plain("negative", field, **{field: -1}),
        plain("int-max", field, **{field: INT64_MAX}),
        plain("int-min", field, **{field: -INT64_MAX - 1}),
        plain("good-all-that-is-left", "", **given, **{field: left}),
    ]


def enum(field: str, most: int) -> list[Row]:
    """A number of an enum that takes its zero for a default."""
    bad = {"unknown": most + 1, "negative": -1, "int-max": INT32_MAX}
    rows = [plain(name, field, **{field: value}) for name, value in bad.items()]
    return rows + [plain(f"good-{value}", "", **{field: value}) for value in range(most + 1)]


def entries(
    field: str, content: Mapping[str, Any], name: str, path: str, reason: str = "FIELD_INVALID"
) -> Row:
    """Give a map this content."""

    def change(message: Message) -> None:
        getattr(message, field).clear()
        getattr(message, field).update(content)

    return Row(name, path, change, reason)


def labels(field: str) -> list[Row]:
    """Up to 32 texts by keys."""
    many = {f"k{number}": "v" for number in range(32)}
    key = "a_b.c-9" + "x" * 56
    rows = [entries(field, {bad: "v"}, name, field) for name, bad in BAD_KEYS.items()]
    for name, bad in dict(BAD_TEXTS, empty="").items():
        rows.append(entries(field, {key: bad}, f"value-{name}", f'{field}["{key}"]'))
    for name, good in GOOD_TEXTS.items():
        rows.append(entries(field, {key: good}, f"good-value-{name}", ""))
    rows.append(entries(field, {**many, "k": "v"}, "33-entries", field, "LIMIT_EXCEEDED"))
    return [*rows, entries(field, many, "good-32-entries", "")]


def meters(field: str) -> list[Row]:
    """Up to 16 amounts by names of meters that the policy declares."""
    bad = {"negative": -1, "2^53": 2**53, "int-max": INT64_MAX, "int-min": -INT64_MAX - 1}
    rows = [entries(field, {key: 1}, name, field) for name, key in BAD_KEYS.items()]
    for name, value in bad.items():
        rows.append(entries(field, {METERS[0]: value}, name, f'{field}["{METERS[0]}"]'))
    for name in ("undeclared", "total_tokens"):
        rows.append(entries(field, {name: 1}, name, f'{field}["{name}"]'))
    many = dict.fromkeys(METERS, 1)
    rows.append(entries(field, {**many, "more": 1}, "17-entries", field, "LIMIT_EXCEEDED"))
    rows.append(entries(field, many, "good-16-entries", ""))
    rows += [
        entries(field, {METERS[0]: value}, f"good-{value}", "") for value in (0, 1, AMOUNT_MAX)
    ]
    return rows


def degradations(field: str) -> list[Row]:
    """Up to 16 known ones."""

    def listed(name: str, path: str, *numbers: int, reason: str = "FIELD_INVALID") -> Row:
        def change(message: Message) -> None:
            getattr(message, field)[:] = numbers

        return Row(name, path, change, reason)

    many = (1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4)
    return [
        listed("unspecified", f"{field}[0]", 0),
        listed("unknown", f"{field}[1]", 1, 7),
        listed("negative", f"{field}[0]", -1),
        listed("int-max", f"{field}[2]", 1, 1, INT32_MAX),
        listed("17-entries", field, *many, 1, reason="LIMIT_EXCEEDED"),
        listed("good-16-entries", "", *many),
        listed("good-none", ""),
    ]


def ttl(field: str) -> list[Row]:
    """A duration from 1 s to 24 h."""

    def lasting(name: str, path: str, seconds: int, nanos: int) -> Row:
        def change(message: Message) -> None:
            duration = getattr(message, field)
            duration.seconds, duration.nanos = seconds, nanos

        return Row(name, path, change)

    rows = [lasting(name, field, *value) for name, value in BAD_TTLS.items()]
    return [*rows, lasting("good-1-s", "", 1, 0), lasting("good-24-h", "", 86_400, 0)]
