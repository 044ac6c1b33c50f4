"""What becomes of clients when their process ends or forks, or when they are forgotten."""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable

from bursar_client._settling import Settler, log_unsettled

_open: weakref.WeakKeyDictionary[Settler, Callable[[], None]] = weakref.WeakKeyDictionary()


def watch(settler: Settler, leave: Callable[[], None] = lambda: None) -> None:
    """Tell of a client's undone settlements when the process ends before it is closed.

    Args:
        settler: Of the client.
        leave: Called then, to end what the client still has open.
    """
    _open[settler] = leave


def forget(settler: Settler) -> None:
    """Stop watching a client that was closed."""
    _open.pop(settler, None)


def report(settler: Settler, owner: str) -> None:
    """Say which settlements of a client that was not closed are undone."""
    unsettled = settler.unsettled()
    for each in unsettled:
        log_unsettled("settle_forgotten", each)
    warnings.warn(
        f"{owner} was not closed; {len(unsettled)} settlements are undone",
        ResourceWarning,
        stacklevel=2,
    )


@atexit.register
def _report_at_exit() -> None:
    for settler, leave in list(_open.items()):
        if not settler.idle:
            report(settler, "a client of Bursar")
        leave()


def _start_anew_in_child() -> None:
    # What waits would be sent twice, and the thread that sends it is not there.
    for settler in list(_open):
        settler.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
