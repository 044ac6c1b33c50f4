"""`bursar migrate`: bring the database of a ledger up to date.

The one command that does not talk to a server: there may be none before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.printing import console, plural, print_error, print_json, print_plain

if TYPE_CHECKING:
    from bursar.ledger.schema import SchemaStatus

EXIT_USAGE = 2
URL_VARIABLE = "BURSAR_DATABASE_URL"


def migrate(
    database_url: Annotated[
        str,
        typer.Option(
            envvar=URL_VARIABLE,
            metavar="URL",
            show_default=False,
            help="PostgreSQL to migrate: postgresql://USER@HOST/DATABASE.",
        ),
    ] = "",
    post: Annotated[
        bool,
        typer.Option(
            "--post",
            help="Also take away what only older releases use. They cannot run after it.",
        ),
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Change nothing; say what is applied and what is not.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the schema of the ledger's database up to date.

    The private PostgreSQL of a data folder needs no such command: `bursar serve` migrates it.
    Exit code 1 if it fails or, with --status, if this release cannot use the database; 2 if no
    usable URL is given.
    """
    from bursar.domain.errors import BursarError
    from bursar.ledger import schema

    _check(database_url)
    try:
        if status:
            found = asyncio.run(_status(database_url))
            _print_status(found, as_json)
            raise typer.Exit(1 if found.fault() else 0)
        applied = schema.migrate(database_url, stage="post" if post else "pre")
    except BursarError as error:
        print_error(error.message)
        raise typer.Exit(1) from None
    if as_json:
        print_json({"applied": applied})
        return
    out = console()
    for name in applied:
        print_plain(out, ("applied", "green"), f" {name}")
    if not applied:
        print_plain(out, "the schema is up to date")


def _check(url: str) -> None:
    """End the command where the URL cannot be used, without printing what may hold a password."""
    from bursar.service.settings import database_url_fault

    if not url:
        print_error(
            f"no database: give --database-url or {URL_VARIABLE}. The private PostgreSQL of a "
            "data folder is migrated by `bursar serve`"
        )
        raise typer.Exit(EXIT_USAGE)
    if fault := database_url_fault(url):
        print_error(f"--database-url or {URL_VARIABLE}: {fault}")
        raise typer.Exit(EXIT_USAGE)


async def _status(url: str) -> SchemaStatus:
    from bursar.ledger import schema
    from bursar.ledger.database import Database

    database = Database(url, connections_max=1)
    await database.open()
    try:
        async with database.connection() as connection:
            return await schema.status(connection)
    finally:
        await database.close()


def _print_status(found: SchemaStatus, as_json: bool) -> None:
    fault = found.fault()
    if as_json:
        print_json(
            {
                "usable": fault is None,
                "why_not": fault.message if fault else "",
                "applied": list(found.applied),
                "pending": list(found.pending_pre),
                "pending_post": list(found.pending_post),
                "newest_known": found.newest_known,
                "oldest_schema": found.oldest_schema,
            }
        )
        return
    out = console()
    print_plain(out, f"{plural(len(found.applied), 'migration')} applied")
    for name in found.pending_pre:
        print_plain(out, ("pending", "yellow"), f" {name}")
    for name in found.pending_post:
        print_plain(out, ("pending", "yellow"), f" post/{name}, for `bursar migrate --post`")
    if fault:
        print_plain(out, ("unusable", "red"), f": {fault.message}")
    else:
        print_plain(out, ("usable", "green"), " by this release")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)
