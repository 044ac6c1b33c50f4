"""The history of a run: JSON lines, one for each beginning and end of an operation.

The format is that of `checker/evidence.py`. A line is on disk before anything else happens, so that
a run which dies leaves what it knew.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any


def now_ms() -> int:
    """Return the time since the epoch."""
    return time.time_ns() // 1_000_000


class History:
    """Writes a history.

    Attributes:
        file: Where.
        counts: Operations by outcome and decision or reason, to say what a run did.
        unknown: Attempts of which nobody heard.
        tried_again: Operations that took more than one attempt.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.counts: dict[str, int] = {}
        self.unknown = self.tried_again = 0
        self._out = file.open("a", encoding="utf-8", buffering=1)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """End it."""
        self._out.close()

    def run(self, **what: object) -> None:
        """Note how the run is."""
        self._write({"type": "run", **what})

    def mark(self, kind: str, name: str = "", **more: object) -> None:
        """Note a fault, that all is healed, or that the load has ended."""
        self._write({"type": kind, "time_ms": now_ms(), "name": name, **more})

    def invoke(self, kind: str, **what: object) -> int:
        """Note the beginning of an operation, and return its number."""
        number = next(self._numbers)
        self._write({"type": "invoke", "op": number, "time_ms": now_ms(), "kind": kind, **what})
        return number

    def end(self, number: int, outcome: str, **what: object) -> None:
        """Note what came of an operation.

        Args:
            number: From `invoke`.
            outcome: ok, fail (certainly nothing was changed) or info (nobody knows).
            what: See `checker/evidence.py`.
        """
        told = str(what.get("decision") or what.get("reason") or "")
        name = f"{outcome} {told}".strip()
        self.counts[name] = self.counts.get(name, 0) + 1
        self.unknown += int(str(what.get("unknown", 0)))
        self.tried_again += int(str(what.get("attempts", 1))) > 1
        self._write({"type": outcome, "op": number, "time_ms": now_ms(), **what})

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")) + "\n")
