"""The folder with a demo's data: it is the demo's alone, and nothing else in it is touched."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.embedded.data_folder import DataFolder, EmbeddedError, make_private

_LOCK = "owner.lock"
_COMMITS = "commits.jsonl"
_CONTENT = ("redis", "postgres", "server.log", "server.pid", "server.partial", _COMMITS)


class FolderUnusable(Exception):
    """The folder is in use, has other files in it, or cannot be written."""


class DemoFolder:
    """A folder for one demo at a time; locked and, at the end of its `with` block, removed.

    Where the demo is killed, its data stays for the next one to check.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def commits_file(self) -> Path:
        """Where the callers' commits are noted."""
        return self.path / _COMMITS

    def has_leftovers(self) -> bool:
        """Say whether a demo was cut off here."""
        return any((self.path / name).exists() for name in _CONTENT)

    def clear(self) -> None:
        """Remove a demo's data."""
        for name in _CONTENT:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Take the folder.

        Raises:
            FolderUnusable: It cannot be taken.
        """
        try:
            others = sorted({each.name for each in self.path.iterdir()} - {_LOCK, *_CONTENT})
        except FileNotFoundError:
            others = []
        except OSError as error:
            raise FolderUnusable(f"{self.path} cannot be used: {error.strerror}") from None
        if others:
            raise FolderUnusable(
                f"{self.path} has files that are no demo's, such as {others[0]}: "
                "name a new or empty folder with --data-dir"
            )
        try:
            make_private(self.path)
            self._lock = DataFolder(self.path, "demo").take_owner_lock()
        except EmbeddedError as error:
            owner = error.metadata.get("ownerPid")
            why = f"a demo runs here already, process {owner}" if owner else error.message
            raise FolderUnusable(f"{self.path}: {why}; name another with --data-dir") from None
        except OSError as error:
            raise FolderUnusable(f"{self.path} cannot be used: {error.strerror}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()
        (self.path / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
