"""Make the data folder of a private PostgreSQL: whole, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bursar.embedded.data_folder import EmbeddedError
from bursar.embedded.postgres_programs import Programs, popen_user
from bursar.embedded.server_process import RunAs

USER = DATABASE = "bursar"
STEP_TIMEOUT_S = 120.0
_PARTIAL = "partial-"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The data of one PostgreSQL.

    Attributes:
        path: The folder that PostgreSQL calls its data directory.
        run_as: Who it belongs to, where that is not this process's own user.
    """

    path: Path
    run_as: RunAs | None

    @property
    def major_version(self) -> int | None:
        """The version that the data is of, or None where there is none yet."""
        try:
            return int((self.path / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EmbeddedError(
                f"the data of PostgreSQL in {self.path} cannot be read: {error}",
                dataDir=str(self.path.parent),
            ) from None

    def open(self) -> int | None:
        """Return a descriptor of the folder where `name` needs one; else None."""
        return None if self.run_as is None else os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def name(self, descriptor: int | None) -> str:
        """Return what a program that inherits the descriptor may call the folder.

        PostgreSQL's own user cannot enter the folders above where they are root's. It gets in by
        the descriptor, and never has to look at them.
        """
        return str(self.path) if descriptor is None else f"/proc/self/fd/{descriptor}"

    def create(self, programs: Programs) -> None:
        """Make the data with an empty database, forced to disk, under its name at the end.

        Raises:
            EmbeddedError: A step failed; the message has what the program said.
        """
        parent = self.path.parent
        for abandoned in parent.glob(_PARTIAL + "*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        partial = Cluster(Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=parent)), self.run_as)
        try:
            partial.give_away(partial.path)
            partial.fill(programs)
            partial.path.replace(self.path)
        except OSError as error:
            raise EmbeddedError(
                f"the data of PostgreSQL cannot be made in {parent}: {error.strerror}",
                dataDir=str(parent),
            ) from None
        finally:
            shutil.rmtree(partial.path, ignore_errors=True)
        descriptor = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def give_away(self, path: Path) -> None:
        """Let path belong to the user that PostgreSQL runs as."""
        if self.run_as is not None:
            os.chown(path, self.run_as.uid, self.run_as.gid)

    def fill(self, programs: Programs) -> None:
        """Run initdb in the empty folder, and make the database."""
        descriptor = self.open()
        try:
            self._fill(programs, self.name(descriptor), descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _fill(self, programs: Programs, name: str, descriptor: int | None) -> None:
        initdb, postgres = str(programs.initdb), str(programs.postgres)
        # One sync at the end instead of one for each program.
        options = ("-U", USER, "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync")
        self._run([initdb, "-D", name, *options, "--no-instructions"], descriptor)
        self._run(
            [postgres, "--single", "-D", name, "-c", "fsync=off", "postgres"],
            descriptor,
            f"CREATE DATABASE {DATABASE} TEMPLATE template0;\n",
        )
        self._run([initdb, "-D", name, "--sync-only"], descriptor)

    def _run(self, command: Sequence[str], descriptor: int | None, text: str = "") -> None:
        program = Path(command[0]).name
        try:
            done = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - our own command
                command,
                input=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=STEP_TIMEOUT_S,
                cwd="/",
                pass_fds=() if descriptor is None else (descriptor,),
                env={**os.environ, "LC_ALL": "C"},
                **popen_user(self.run_as),
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"{program} did not end within {STEP_TIMEOUT_S:g} s") from None
        # The single-user server answers a failed statement with a line, not with its status.
        if done.returncode != 0 or "ERROR:" in done.stdout:
            raise EmbeddedError(
                f"{program} failed with status {done.returncode}:\n{done.stdout.strip()[-2_000:]}"
            )
