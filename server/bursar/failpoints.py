"""Named places where a test can end, pause or fail a server: what a crash there would do.

The variable BURSAR_FAILPOINTS of the environment says what happens where, and a server without it
does nothing at any of them. Entries are separated by commas; each fires once.

    before_script=kill          kill -9 of this process at the first pass
    after_ledger_commit=kill:3  the same at the third pass
    rebuild_after_fence=stop:2000
                                the process does nothing for 2 s, at the first pass
    before_trim=stop:2000:5     the same at the fifth pass
    after_script=error          the code that passes raises FailpointError, at the first pass

BURSAR_TEST_CLOCK_OFFSET_FILE names a file with a whole number: by how many milliseconds the clock
of this server is ahead, read anew each time, so that a test can step it.

This is for tests of Bursar itself: never set either where money is at stake.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bursar.domain.errors import BursarError

VARIABLE = "BURSAR_FAILPOINTS"
CLOCK_VARIABLE = "BURSAR_TEST_CLOCK_OFFSET_FILE"

NAMES = frozenset(
    {
        "after_decode",
        "before_script",
        "after_script",
        "before_reply",
        "in_sweep",
        "before_ledger_commit",
        "after_ledger_commit",
        "before_trim",
        "after_trim",
        "rebuild_after_fence",
        "rebuild_after_epoch",
        "rebuild_after_purge",
        "rebuild_during_load",
        "rebuild_before_open",
        "rebuild_after_open",
    }
)

STOP_MS_MAX = 60_000


class FailpointError(Exception):
    """Raised where BURSAR_FAILPOINTS says so; to the code around it, any unforeseen fault."""


class FailpointsInvalid(BursarError):
    """BURSAR_FAILPOINTS cannot be read."""


@dataclass(slots=True)
class _Armed:
    """What happens at a place: kill, stop or error, how long, and after how many more passes."""

    action: str
    stop_ms: int
    passes_left: int


_armed: dict[str, _Armed] = {}
_clock_file: Path | None = None


def arm(environ: Mapping[str, str]) -> list[str]:
    """Read the variables, once, when a server starts.

    Args:
        environ: The environment, such as os.environ.

    Returns:
        The names that are armed, sorted; empty where the variable is not set.

    Raises:
        FailpointsInvalid: BURSAR_FAILPOINTS names an unknown place or action.
    """
    global _clock_file  # noqa: PLW0603 - what is armed belongs to the process
    file = environ.get(CLOCK_VARIABLE)
    _clock_file = Path(file) if file else None
    _armed.clear()
    for part in environ.get(VARIABLE, "").split(","):
        if part.strip():
            name, armed = _parse(part.strip())
            _armed[name] = armed
    return sorted(_armed)


def failpoint(name: str) -> None:
    """Do what was asked for here, and nothing else where nothing was.

    Args:
        name: One of NAMES.

    Raises:
        FailpointError: It was asked for.
    """
    if not _armed:
        return
    assert name in NAMES, name
    armed = _armed.get(name)
    if armed is None:
        return
    armed.passes_left -= 1
    if armed.passes_left > 0:
        return
    del _armed[name]
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            # The whole event loop is to stand still, as after SIGSTOP.
            time.sleep(armed.stop_ms / 1_000)
        case _:
            raise FailpointError(f"asked for at {name}")


def clock_offset_ms() -> int:
    """Return by how much a test wants this server's clock to be ahead; 0 where none does."""
    return int(_clock_file.read_text(encoding="ascii")) if _clock_file is not None else 0


def _parse(part: str) -> tuple[str, _Armed]:
    name, _, rest = part.partition("=")
    action, *numbers = rest.split(":")
    if name not in NAMES:
        raise _invalid(part, f"there is no place {name!r}; there are {', '.join(sorted(NAMES))}")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise _invalid(part, "what follows a colon must be a whole number")
    amounts = [int(number) for number in numbers]
    if action == "stop":
        if not amounts or not 1 <= amounts[0] <= STOP_MS_MAX:
            raise _invalid(part, f"stop takes a time, 1 to {STOP_MS_MAX} ms")
        stop_ms, *amounts = amounts
    elif action in ("kill", "error"):
        stop_ms = 0
    else:
        raise _invalid(part, "the action must be kill, stop or error")
    if len(amounts) > 1 or 0 in amounts:
        raise _invalid(part, "at most the number of the pass may follow, from 1 on")
    return name, _Armed(action, stop_ms, amounts[0] if amounts else 1)


def _invalid(part: str, why: str) -> FailpointsInvalid:
    return FailpointsInvalid(f"{VARIABLE}: {part!r}: {why}")
