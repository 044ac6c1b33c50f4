"""How the command line prints: lines for people, JSON for machines.

It knows nothing of servers, so that commands that talk to none start without a client.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Literal

from rich.console import Console
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 100
"""Columns of what goes to a file or a pipe, unless COLUMNS says otherwise."""

_MS = timedelta(milliseconds=1)


def console(*, stderr: bool = False) -> Console:
    """Return a console.

    Without a terminal it is wide enough for every table. With NO_COLOR it writes no escape codes
    for bold and dim either.
    """
    colors: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(stderr=stderr, color_system=colors)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made = Console(stderr=stderr, color_system=colors, width=WIDTH_WITHOUT_TERMINAL)
    return made


def print_error(message: str) -> None:
    """Print what went wrong, on stderr."""
    print_plain(console(stderr=True), message, style="red")


def print_plain(console: Console, *parts: str | tuple[str, str], style: str = "") -> None:
    """Print a line: nothing in it is markup, and only a terminal breaks it.

    Args:
        console: Where to.
        *parts: Texts, or texts with their own style.
        style: Of all.
    """
    console.print(Text.assemble(*parts), style=style, soft_wrap=not console.is_terminal)


def to_json(value: object) -> object:
    """Return a client's answer as plain JSON values.

    Amounts stay whole numbers in the unit of their meter, nano-USD where it is cost. A duration
    is a whole number of milliseconds, and its name says so.

    Args:
        value: A dataclass, a collection or a scalar.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f"{each.name}_ms" if "timedelta" in str(each.type) else each.name: to_json(
                getattr(value, each.name)
            )
            for each in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // _MS
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(each) for each in value]
    return value


def print_json(value: object) -> None:
    """Print a client's answer as JSON."""
    sys.stdout.write(json.dumps(to_json(value), indent=2) + "\n")


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 hold`, `1,200 holds`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
