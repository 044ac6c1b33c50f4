"""What a worker and its supervisor tell each other, over a pair of sockets.

The supervisor says once what to do, in one line of JSON. The worker says how it is, a line each
time, many times a second, also when nothing changes. Neither closes its end while it lives, so
the end of the link is the end of the other, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog
from pydantic import SecretStr

from bursar.service.settings import Settings

BEAT_INTERVAL_S = 0.25
_FAULT_CHARACTERS_MAX = 4_000

_log = structlog.get_logger(__name__)


class State(StrEnum):
    """How a worker is."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """It serves, and calls should not be sent here: it drains, or every shard is cold."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do.

    Attributes:
        number: Of the worker, from 1.
        settings: How it serves.
        policy_files: Name and text of documents to apply at the start.
    """

    number: int
    settings: Settings
    policy_files: Sequence[tuple[str, str]]

    def to_line(self) -> bytes:
        """Return it as a line; passwords are in it."""
        fields = {name: getattr(self.settings, name) for name in Settings.model_fields}
        assignment = {"number": self.number, "settings": fields, "policy_files": self.policy_files}
        return json.dumps(assignment, default=_plain).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Assignment:
        """Return what a line says."""
        assignment = json.loads(line)
        files = [(name, text) for name, text in assignment["policy_files"]]
        return cls(assignment["number"], Settings(**assignment["settings"]), files)


@dataclass(frozen=True, slots=True)
class Word:
    """What a worker says.

    Attributes:
        state: How it is.
        fault: Why it could not start; "" where nothing is wrong.
    """

    state: State
    fault: str = ""

    def to_line(self) -> bytes:
        """Return it as a line."""
        said = {"state": self.state, "fault": self.fault[:_FAULT_CHARACTERS_MAX]}
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Word:
        """Return what a line says."""
        said = json.loads(line)
        return cls(State(said["state"]), said["fault"])


class WorkerEnd:
    """The worker's end of the link."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def receive(self) -> Assignment:
        """Wait for what to do.

        Raises:
            EOFError: The supervisor is gone.
        """
        with self._socket.makefile("rb") as lines:
            line = lines.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return Assignment.from_line(line)

    def tell(self, word: Word) -> None:
        """Say how it is; a supervisor that does not listen is not waited for."""
        with contextlib.suppress(OSError):
            self._socket.send(word.to_line(), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close it: the supervisor takes that for the end of this process."""
        self._socket.close()

    def end_with_supervisor(self) -> None:
        """From now on end this process at once where the supervisor is gone.

        It was killed, and a server that is killed loses nothing. A thread watches, because an event
        loop that stands still must not keep the port either.
        """
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()

    def _watch(self) -> None:
        # The supervisor says nothing more, so this returns at its end.
        with contextlib.suppress(OSError):
            self._socket.recv(1)
        _log.error("supervisor_gone", pid=os.getpid())
        os._exit(1)


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
