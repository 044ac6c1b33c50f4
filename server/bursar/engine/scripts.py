"""The Lua scripts, with their parts included when they are loaded."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^-- @include ([\w/]+)$", re.MULTILINE)

SCRIPTS = ("operate", "sweep", "read")
"""Scripts of the calls; the others keep a shard: `fence`, `purge`, `load`, `open`, `trim`."""


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
        return (folder / f"{match[1]}.lua").read_text(encoding="utf-8")

    text = _INCLUDE.sub(included, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)
