"""Whole processes of the `bursar` command: read line by line, killed by pid, never left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polling import eventually
from postgres_data import make_postgres_data

BURSAR = (sys.executable, "-m", "bursar.cli.main")
ENDS_WITHIN_S = 30.0


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings of Bursar, and what is given."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
    return {**plain, "COLUMNS": "120", "NO_COLOR": "1", **more}


def run_bursar(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: Sequence[str] = BURSAR,
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
        env=dict(env or environment()),
        cwd=cwd,
    )


class Running:
    """A command that runs until it is told to end.

    Attributes:
        process: It.
        lines: What it wrote to stdout so far.
        stderr_file: What it wrote to stderr.
    """

    def __init__(
        self,
        *arguments: str | Path,
        stderr_file: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = BURSAR,
    ) -> None:
        self.stderr_file = stderr_file
        self.lines: list[str] = []
        with stderr_file.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=dict(env or environment()),
                # A signal to its whole group, as Ctrl-C in a terminal, must not reach the tests.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        """Everything on stdout so far."""
        return "\n".join(self.lines)

    @property
    def errors(self) -> str:
        """Everything on stderr so far."""
        return self.stderr_file.read_text(encoding="utf-8")

    def wait_for(self, pattern: str, timeout_s: float = ENDS_WITHIN_S) -> re.Match[str]:
        """Return the first match in what it writes to stdout."""
        return self._wait_for(pattern, lambda: self.output, timeout_s)

    def wait_for_error(self, pattern: str, timeout_s: float = ENDS_WITHIN_S) -> re.Match[str]:
        """Return the first match in what it writes to stderr."""
        return self._wait_for(pattern, lambda: self.errors, timeout_s)

    def wait(self, timeout_s: float = ENDS_WITHIN_S) -> int:
        """Wait for its end, and return its exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def close(self) -> None:
        """Kill it where it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _wait_for(self, pattern: str, text: object, timeout_s: float) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def seen() -> bool:
            match = re.search(pattern, text(), re.MULTILINE)  # type: ignore[operator]
            found.extend([match] if match else [])
            return bool(found) or self.process.poll() is not None

        eventually(seen, timeout_s)
        assert found, f"it ended without {pattern!r}:\n{self.output}\n{self.errors}"
        return found[0]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # Closed while it was read.
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))


@contextmanager
def running(*arguments: str | Path, folder: Path, **options: object) -> Iterator[Running]:
    """Run a command, and at the end see to it that no process with data in folder is left."""
    command = Running(
        *arguments,
        stderr_file=folder / "stderr.log",
        **options,  # type: ignore[arg-type]
    )
    try:
        yield command
    finally:
        command.close()
        eventually(lambda: not processes_of(folder), ENDS_WITHIN_S)


@contextmanager
def serving(
    policy: Path | None, folder: Path, *more: str | Path, make_data: bool = True, **env: str
) -> Iterator[tuple[Running, str]]:
    """Run `bursar serve` with its data in folder / "data": the process and its address.

    A PostgreSQL of its own finds its data made; `make_data=False` leaves that to the server.
    """
    if make_data and "BURSAR_DATABASE_URL" not in env:
        make_postgres_data(folder / "data" / "postgres")
    with running(
        "serve",
        *(("--policy", policy) if policy else ()),
        *("--data-dir", folder / "data", "--listen", "127.0.0.1:0"),
        *more,
        folder=folder,
        env=environment(**env),
    ) as server:
        yield server, server.wait_for(r"^bursar serves on (.*)$")[1]


def is_running(pid: int) -> bool:
    """Say whether pid is a process that has not ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def parent_of(pid: int) -> int:
    """Return the parent of pid."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def processes_of(folder: Path, name: str = "") -> list[int]:
    """Return the processes with a path in folder on their command line, ours excepted.

    Args:
        folder: Of one test.
        name: Only those whose program's name ends so, such as `redis-server`.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(f"{folder}/") in b"\n".join(words) + b"/" and words[0].endswith(
            os.fsencode(name)
        ):
            found.append(int(entry.name))
    return found


def pid_in(file: Path) -> int:
    """Return the process id in a file, once it is there."""
    eventually(lambda: file.exists() and file.read_text(encoding="ascii").strip())
    return int(file.read_text(encoding="ascii"))
