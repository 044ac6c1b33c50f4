"""The schema of the database: brought up to date by migrations, and checked before it is used.

The rule that lets servers of two releases share a database, and what to do when, is in
`migrations/README.md`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bursar.domain.errors import MigrationFailed, SchemaUnknown
from bursar.ledger.database import Connection

Stage = Literal["pre", "post"]

MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATE_TIMEOUT_S = 1_800.0
CONNECT_TIMEOUT_S = "10"
# Servers that start together wait for the one that migrates.
LOCK_TIMEOUT_S = 600
_OUTPUT_CHARACTERS_MAX = 2_000
_URL_VARIABLE = "BURSAR_DATABASE_URL"
_APPLIED = "Applied: "


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Which migrations a database has.

    Attributes:
        applied: Versions that it has, also those that only newer releases know.
        pending_pre: File names of this release that a server needs and it has not.
        pending_post: File names that may be applied when no older server runs any more.
        newest_known: The newest version that a server of this release needs.
        oldest_schema: What a release has to know to use it; "" before the first migration.
    """

    applied: tuple[str, ...]
    pending_pre: tuple[str, ...]
    pending_post: tuple[str, ...]
    newest_known: str
    oldest_schema: str

    def fault(self) -> SchemaUnknown | None:
        """Return why this release cannot use the database, and what mends it; None if it can."""
        if self.oldest_schema and int(self.oldest_schema) > int(self.newest_known):
            return SchemaUnknown(
                "this release is older than the database wants: it knows the schema up to "
                f"{self.newest_known}, and the database needs {self.oldest_schema}: "
                "install a newer release",
                newestKnown=self.newest_known,
                oldestSchema=self.oldest_schema,
            )
        if not self.applied:
            return SchemaUnknown("the database has no schema yet: run `bursar migrate`")
        if self.pending_pre:
            pending = ", ".join(self.pending_pre)
            return SchemaUnknown(
                f"the schema of the database is older than this release, without {pending}: "
                "run `bursar migrate`",
                pending=pending,
            )
        return None


def migrate(url: str, *, stage: Stage = "pre", migrations: Path = MIGRATIONS) -> list[str]:
    """Bring a database up to date; several may do so at once.

    Args:
        url: `postgresql://` of a database that exists.
        stage: "pre" adds what this release needs; "post" also takes away what only older
            releases used, which those cannot bear.
        migrations: The folder with the files; those of "post" are in its folder `post`.

    Returns:
        The names of the files that were applied, in that order.

    Raises:
        MigrationFailed: The database cannot be reached or refused a statement. What was applied
            before stays; the file that failed has changed nothing.
    """
    applied = _run(url, migrations)
    post = migrations / "post"
    if stage == "post" and versions(post):
        applied += _run(url, post)
    return applied


async def status(connection: Connection, *, migrations: Path = MIGRATIONS) -> SchemaStatus:
    """Return which migrations the database has.

    Args:
        connection: To it.
        migrations: As in `migrate`.
    """
    applied: set[str] = set()
    oldest = ""
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        rows = await connection.fetch("SELECT version FROM schema_migrations")
        applied = {row["version"] for row in rows}
    if await connection.fetchval("SELECT to_regclass('installation') IS NOT NULL"):
        oldest = await connection.fetchval("SELECT oldest_schema FROM installation") or ""
    known = versions(migrations)
    pending = [
        tuple(name for version, name in folder.items() if version not in applied)
        for folder in (known, versions(migrations / "post"))
    ]
    newest = max(known, key=int)
    return SchemaStatus(tuple(sorted(applied)), pending[0], pending[1], newest, oldest)


async def check_schema(connection: Connection, *, migrations: Path = MIGRATIONS) -> None:
    """See that this release can use the database.

    Args:
        connection: To it.
        migrations: As in `migrate`.

    Raises:
        SchemaUnknown: It cannot; the message says what mends it.
    """
    found = (await status(connection, migrations=migrations)).fault()
    if found is not None:
        raise found


def versions(folder: Path) -> dict[str, str]:
    """Return the file name of each version in a folder of migrations, in order; {} without one."""
    return {path.name.partition("_")[0]: path.name for path in sorted(folder.glob("*.sql"))}


def find_dbmate() -> Path | None:
    """Return dbmate, from this environment's programs or else from PATH."""
    for folder in (sysconfig.get_path("scripts"), None):
        if found := shutil.which("dbmate", path=folder):
            return Path(found)
    return None


def _run(url: str, folder: Path) -> list[str]:
    dbmate = find_dbmate()
    if dbmate is None:
        raise MigrationFailed(
            "there is no dbmate to run: install bursar with its dependencies again, or put dbmate "
            "on PATH"
        )
    command = [
        *(str(dbmate), "--env", _URL_VARIABLE, "--env-file", os.devnull, "--no-dump-schema"),
        # It waits for others that migrate, and then looks at what is left to do.
        *("--migration-lock", "--migration-lock-timeout", f"{LOCK_TIMEOUT_S}s"),
        *("--migrations-dir", str(folder), "migrate"),
    ]
    # The URL may hold a password, which arguments would show to every user of the machine.
    environment = {name: value for name, value in os.environ.items() if name[:7] != "DBMATE_"}
    environment[_URL_VARIABLE] = url
    # What asyncpg does by itself, so that one URL does for both.
    environment.setdefault("PGSSLMODE", "prefer")
    environment.setdefault("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S)
    try:
        done = subprocess.run(  # noqa: S603 - a program of ours, with our arguments
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=MIGRATE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise MigrationFailed(
            f"the migrations did not end within {MIGRATE_TIMEOUT_S:g} s: look for sessions that "
            "lock the tables, and repeat `bursar migrate`"
        ) from None
    applied = [
        line.removeprefix(_APPLIED).partition(" in ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(_APPLIED)
    ]
    if done.returncode != 0:
        raise MigrationFailed(_why(done.stdout, done.stderr))
    return applied


def _why(stdout: str, stderr: str) -> str:
    """Say what failed; dbmate itself leaves out the URL's password."""
    failing = [line for line in stdout.splitlines() if line.startswith("Applying: ")]
    where = f" at {failing[-1].removeprefix('Applying: ')}" if failing else ""
    said = stderr.strip().removeprefix("Error: ")[-_OUTPUT_CHARACTERS_MAX:]
    return f"the database could not be migrated{where}: {said}"
