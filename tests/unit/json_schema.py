"""A validator for the words of JSON Schema that the published schema uses, and no others.

A word that it does not know is an error, so that no rule of the schema is passed over silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""Any JSON value."""

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
NOTES = frozenset({"$schema", "$defs", "title", "description", "default", "format"})
"""Words that say something and refuse nothing."""


def violations(value: object, schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a value, a line for each rule that it breaks.

    Args:
        value: Json JSON value.
        schema: What it should be like.
        root: The whole schema, with its `$defs`.
    """
    found: list[str] = []
    for word, rule in schema.items():
        if word not in NOTES:
            found += _broken(word, rule, value, schema, root)
    return found


def _broken(
    word: str, rule: Json, value: Json, schema: Mapping[str, Any], root: Mapping[str, Any]
) -> list[str]:
    match word:
        case "$ref":
            return violations(value, root["$defs"][rule.removeprefix("#/$defs/")], root)
        case "anyOf":
            fits = any(not violations(value, each, root) for each in rule)
            return [] if fits else [f"{value!r} is none of {len(rule)} alternatives"]
        case "type":
            right = isinstance(value, TYPES[rule]) and (
                rule == "boolean" or not isinstance(value, bool)
            )
            return [] if right else [f"{value!r} is no {rule}"]
        case "enum" | "const":
            allowed = rule if word == "enum" else [rule]
            same = any(value == each and type(value) is type(each) for each in allowed)
            return [] if same else [f"{value!r} is not one of {allowed}"]
    if isinstance(value, dict):
        return _broken_object(word, rule, value, schema, root)
    if isinstance(value, list):
        return _broken_array(word, rule, value, root)
    return _broken_scalar(word, rule, value)


def _broken_object(
    word: str,
    rule: Json,
    value: dict[str, Any],
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
) -> list[str]:
    known = schema.get("properties", {})
    match word:
        case "properties":
            inner = [violations(value[name], rule[name], root) for name in rule if name in value]
            return [line for lines in inner for line in lines]
        case "additionalProperties":
            others = [name for name in value if name not in known]
            if rule is False:
                return [f"{name} is not known" for name in others]
            return [line for name in others for line in violations(value[name], rule, root)]
        case "propertyNames":
            return [line for name in value for line in violations(name, rule, root)]
        case "required":
            return [f"{name} is missing" for name in rule if name not in value]
        case "minProperties" | "maxProperties":
            right = rule <= len(value) if word.startswith("min") else len(value) <= rule
            return [] if right else [f"{len(value)} properties, {word} is {rule}"]
    return _of_other_kind(word)


def _broken_array(word: str, rule: Json, value: list[Any], root: Mapping[str, Any]) -> list[str]:
    match word:
        case "items":
            return [line for each in value for line in violations(each, rule, root)]
        case "minItems" | "maxItems":
            right = rule <= len(value) if word.startswith("min") else len(value) <= rule
            return [] if right else [f"{len(value)} entries, {word} is {rule}"]
    return _of_other_kind(word)


def _broken_scalar(word: str, rule: Json, value: Json) -> list[str]:
    right = True
    if isinstance(value, str):
        match word:
            case "pattern":
                right = re.search(rule, value) is not None
            case "minLength":
                right = len(value) >= rule
            case "maxLength":
                right = len(value) <= rule
            case _:
                return _of_other_kind(word)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        match word:
            case "minimum":
                right = value >= rule
            case "maximum":
                right = value <= rule
            case _:
                return _of_other_kind(word)
    else:
        return _of_other_kind(word)
    return [] if right else [f"{value!r}: {word} is {rule}"]


_WORDS_OF_A_KIND = frozenset(
    {
        *("properties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties", "items", "minItems", "maxItems"),
        *("pattern", "minLength", "maxLength", "minimum", "maximum"),
    }
)


def _of_other_kind(word: str) -> list[str]:
    """Pass over a word that is about values of another kind; refuse one that is not known."""
    if word not in _WORDS_OF_A_KIND:
        raise ValueError(f"{word} is no word that this validator knows")
    return []
