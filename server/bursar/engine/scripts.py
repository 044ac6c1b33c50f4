"""The Lua scripts, with their parts included when they are loaded."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^-- @include ([\w/]+)$", re.MULTILINE)

_CONSTANTS = re.compile(
    r"^local ([A-Z][A-Z0-9_]*(?:, [A-Z][A-Z0-9_]*)*) = "
    r"((?:\d[\d ^]*|'[^']*')(?:, (?:\d[\d ^]*|'[^']*'))*)(?<! )( *(?:--.*)?)$",
    re.MULTILINE,
)
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")

WRITING = ("operate", "sweep")
READING = ("read", "find")

SCRIPTS = (*WRITING, *READING)
"""Scripts of the calls; the others keep a shard: `fence`, `purge`, `load`, `open`, `confirm`,
`trim`."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis runs it.

    Attributes:
        name: Of its file.
        text: With its includes.
        sha: SHA-1 of the text, by which Redis knows it.
    """

    name: str
    text: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Return a script.

    Args:
        name: Of a file in `lua/`.
    """
    folder = resources.files("bursar.engine") / "lua"

    def included(match: re.Match[str]) -> str:
        text = (folder / f"{match[1]}.lua").read_text(encoding="utf-8")
        return _with_values(text) if match[1].startswith("verbs/") else text

    text = _INCLUDE.sub(included, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    text = _with_values(text)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)


def _with_values(text: str) -> str:
    """Return a script with the values of its constants in their places.

    To Lua a constant is a variable like any other, which each use of it has to fetch.
    """
    values: dict[str, str] = {}

    def defined(match: re.Match[str]) -> str:
        values.update(zip(match[1].split(", "), match[2].split(", "), strict=True))
        return match[3]

    text = _CONSTANTS.sub(defined, text)
    return _NAME.sub(lambda match: values.get(match[0], match[0]), text) if values else text
