"""Compares answers, part by part."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

WHOLE = frozenset({"directive", "decisions", "states", "errors"})
"""Mappings that must have no key besides those expected."""


def difference(
    expected: Any, actual: Any, silent_on: Collection[str] = (), path: str = ""
) -> str | None:
    """Return where an answer differs from what is expected of it, or None.

    Args:
        expected: Mappings are compared by the keys that they have here, those of WHOLE by all.
        actual: The answer.
        silent_on: Names of parts that are not compared.
        path: Of the part, for the text.
    """
    last = path.rpartition(".")[2]
    if last in silent_on:
        return None
    if not isinstance(expected, dict):
        return None if expected == actual else f"{path} is {actual!r}, expected {expected!r}"
    whole = last in WHOLE
    if not isinstance(actual, dict) or (whole and set(expected) != set(actual)):
        return f"{path} is {actual!r}, expected {expected!r}"
    for name, value in expected.items():
        where = f"{path}.{name}" if path else str(name)
        if name in silent_on:
            continue
        if name not in actual:
            return f"{where} is missing in {actual!r}"
        found = difference(value, actual[name], silent_on, where)
        if found is not None:
            return found
    return None
