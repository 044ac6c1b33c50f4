"""From pydantic's errors to faults of a policy document: exact paths, plain words, each once.

Pydantic reports every alternative of a union and names it in the path. Here a value is judged by
the alternative that it is most like, and the path is that of the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bursar.domain.errors import Fault

Location = tuple[int | str, ...]
"""Where in a document something is: keys of mappings and places in lists."""

_SHOWN_CHARS_MAX = 60
_KEY_CHARS_MAX = 100
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a known setting",
    "invalid_key": "a key must be a text",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "string_type": "must be a text; put it in quotes",
    "string_unicode": "is no valid Unicode text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entry",
    "string_too_long": "must be at most {max_length} characters",
    "value_error": "{error}",
}
_SAYS_WHAT_IT_IS = (
    "int_type",
    "bool_type",
    "string_type",
    "greater_than_equal",
    "less_than_equal",
    "literal_error",
)
_UNIONS = {
    "window": "must be minute, hour, day, week, month, quarter, year, request, task, "
    "{rolling: 24h}, {task: 1h} or {from: TIME, until: TIME}",
    "unpriced": "must be deny, allow or {fallback: {input: USD, output: USD}}",
}


class Finding(NamedTuple):
    """Something wrong, and where."""

    location: Location
    description: str


@dataclass
class _Union:
    """What pydantic says of a value by each alternative that it might have been."""

    at: Location
    value: object
    alternatives: dict[str, list[tuple[Location, ErrorDetails]]] = field(default_factory=dict)


def find_faults(error: ValidationError, content: Mapping[str, object]) -> list[Finding]:
    """Return what pydantic found in a document, in its order.

    Args:
        error: Of validating the content.
        content: The document.
    """
    findings: list[Finding] = []
    unions: dict[Location, _Union] = {}
    for detail in error.errors(include_url=False):
        location, choice = _resolve(detail, content)
        if choice is None:
            findings.append(Finding(location, _describe(detail)))
            continue
        at, value, name = choice
        union = unions.setdefault(at, _Union(at, value))
        union.alternatives.setdefault(name, []).append((location, detail))
    return findings + [finding for union in unions.values() for finding in _judge(union)]


def format_location(location: Location, content: object) -> str:
    """Return a place as people write it: `budgets[2].ladder[0].at`.

    Args:
        location: The place.
        content: The document; where it has a text instead of a list of texts, no place in a list
            is named.
    """
    path = ""
    for part in location:
        if isinstance(part, str):
            key = part[:_KEY_CHARS_MAX]
            key = key if key.isprintable() else ascii(key)[1:-1]
            path += f".{key}" if path else key
        elif isinstance(content, list):
            path += f"[{part}]"
        content = _inside(content, part)
    return path or "(document)"


def as_faults(findings: Iterable[Finding], content: object) -> tuple[Fault, ...]:
    """Return findings with their paths, the first of each place."""
    faults: dict[Location, Fault] = {}
    for location, description in findings:
        path = format_location(location, content)
        faults.setdefault(location, Fault(path, description))
    return tuple(faults.values())


def _inside(content: object, part: int | str) -> object:
    if isinstance(content, Mapping):
        return content.get(part)
    if isinstance(content, list) and isinstance(part, int) and part < len(content):
        return content[part]
    return None


def _resolve(
    detail: ErrorDetails, content: object
) -> tuple[Location, tuple[Location, object, str] | None]:
    """Return where an error is, and the first union on the way there with the alternative taken."""
    location: Location = ()
    choice = None
    for position, part in enumerate(detail["loc"]):
        last = position == len(detail["loc"]) - 1
        absent = last and detail["type"] == "missing"
        if absent or isinstance(part, int) or (isinstance(content, Mapping) and part in content):
            location, content = (*location, part), _inside(content, part)
        elif part != "[key]":
            choice = choice or (location, content, part)
    return location, choice


def _judge(union: _Union) -> list[Finding]:
    """Return what is wrong with a value that could be of several forms."""
    name = str(union.at[-1])
    if isinstance(union.value, Mapping) and name in _UNIONS:
        forms = [
            details
            for details in union.alternatives.values()
            if details[0][1]["type"] != "literal_error"
        ]
        unknown, likest = min(
            ((_unknown_keys(union.at, details), details) for details in forms),
            key=lambda form: form[0],
        )
        if unknown < len(union.value):
            return [Finding(location, _describe(detail)) for location, detail in likest]
    if name in _UNIONS:
        return [Finding(union.at, _UNIONS[name])]
    _, first = next(iter(union.alternatives.values()))[0]
    return [Finding(union.at, f"{_describe(first)}; or the word unlimited")]


def _unknown_keys(at: Location, details: list[tuple[Location, ErrorDetails]]) -> int:
    return sum(
        detail["type"] == "extra_forbidden" and location[:-1] == at for location, detail in details
    )


def _describe(detail: ErrorDetails) -> str:
    context = {
        # A bound of money comes as the text of an expression.
        name: str(value).removeprefix("Decimal('").removesuffix("')")
        for name, value in detail.get("ctx", {}).items()
    }
    template = _MESSAGES.get(detail["type"], "is wrong: {message}")
    described = template.format(**context, message=detail["msg"])
    if detail["type"] in _SAYS_WHAT_IT_IS and not isinstance(detail["input"], list | Mapping):
        described += f", is {shown(detail['input'])}"
    return described


def shown(value: object) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "..."
