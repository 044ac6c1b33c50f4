"""The folder with a private server's data: its locks, log, process id and socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path

from bursar.domain.errors import BursarError

# A Unix socket's path is held in 108 bytes on Linux and in 104 on macOS, with its final zero.
SOCKET_PATH_BYTES_MAX = 103
STOP_GRACE_MS = 10_000
# How much longer than its grace time a watcher may take to end its server.
WATCH_MARGIN_MS = 2_000
LOG_BYTES_MAX = 1_048_576
LOG_TAIL_LINES = 8
LOG_TAIL_BYTES_MAX = 8_192
POLL_S = 0.01


class EmbeddedError(BursarError):
    """A private server cannot be found, started or kept."""


class DataFolder:
    """The files of one private server.

    Attributes:
        path: The folder itself; only this user may enter it.
        name: What the files in it are named after.
        log_file: What the server says; at most about 2 MiB with the previous part.
        pid_file: The server's process id, written by its watcher.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path.absolute()
        self.name = name
        self.log_file = self.path / f"{name}.log"
        self.pid_file = self.path / f"{name}.pid"

    def take_owner_lock(self) -> int:
        """Lock the folder for this owner and return the lock's descriptor.

        Raises:
            EmbeddedError: Another owner lives.
        """
        path = self.path / "owner.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise EmbeddedError(
                f"the data in {self.path} is in use by process {owner}: stop it, "
                "or set BURSAR_DATA_DIR to another folder",
                dataDir=str(self.path),
                ownerPid=owner,
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        return descriptor

    def take_watch_lock(self) -> int:
        """Wait until no watcher of an earlier owner runs, and lock for the next one.

        Raises:
            EmbeddedError: The earlier watcher does not end in time.
        """
        descriptor = os.open(self.path / "watch.lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline_s = time.monotonic() + (STOP_GRACE_MS + WATCH_MARGIN_MS) / 1_000
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    os.close(descriptor)
                    raise EmbeddedError(
                        f"a {self.name} server of an earlier run does not let go of {self.path}",
                        dataDir=str(self.path),
                    ) from None
                time.sleep(POLL_S)
            else:
                return descriptor

    def rotate_log(self) -> int:
        """Move a long log aside and return the size of the log in bytes."""
        with contextlib.suppress(FileNotFoundError):
            size_bytes = self.log_file.stat().st_size
            if size_bytes <= LOG_BYTES_MAX:
                return size_bytes
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return 0

    def log_tail(self, offset: int) -> str:
        """Return the log's last lines, none from before offset (in bytes)."""
        with self.log_file.open("rb") as log:
            log.seek(max(offset, self.log_file.stat().st_size - LOG_TAIL_BYTES_MAX))
            lines = log.read(LOG_TAIL_BYTES_MAX).decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:] if line.strip())


def choose_socket_path(wanted: Path) -> Path:
    """Return a path short enough for a socket: the wanted one, else one in a new private folder."""
    if len(os.fsencode(wanted)) <= SOCKET_PATH_BYTES_MAX:
        return wanted
    return new_socket_path(wanted.name)


def new_socket_path(name: str) -> Path:
    """Return a path for a socket in a new folder that only this user may enter."""
    path = Path(tempfile.mkdtemp(prefix="bursar-")) / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    path.parent.rmdir()  # TMPDIR is too deep.
    return Path(tempfile.mkdtemp(prefix="bursar-", dir="/tmp")) / name


def make_private(folder: Path) -> None:
    """Create folder if it is missing, and let only this user enter it.

    Raises:
        EmbeddedError: It cannot be created, or belongs to somebody else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(
            f"the folder {folder} cannot be made private: {error.strerror}", folder=str(folder)
        ) from error
