"""Databases of a test's own in the PostgreSQL of the run, each with the schema of this release."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from bursar.ledger.schema import migrate

T = TypeVar("T")

CONNECT_TIMEOUT_S = 30.0
# Two runs may share one PostgreSQL.
TEMPLATE = f"bursar_template_{secrets.token_hex(4)}"


class _Spares:
    """Copies of the template, each made while a test uses the one before.

    A copy takes longer than many a test, most of it in a process of PostgreSQL's.
    """

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._next = self._thread.submit(_make_database, postgres_url, TEMPLATE)

    def take(self) -> str:
        """Return the URL of a database that nobody else gets."""
        taken = self._next
        self._next = self._thread.submit(_make_database, self._postgres_url, TEMPLATE)
        return taken.result()

    def close(self) -> None:
        """Drop the one that nobody took."""
        with self._thread:
            drop_database(self._postgres_url, self._next.result())


_of_the_run: dict[str, _Spares] = {}


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs in this thread already."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def url_of(postgres_url: str, database: str) -> str:
    """Return the URL of another database of the same PostgreSQL."""
    return urlsplit(postgres_url)._replace(path=f"/{database}").geturl()


def execute(url: str, *statements: str) -> None:
    """Run statements from synchronous code, each on its own."""

    async def run() -> None:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    run_apart(run())


def fetch(url: str, query: str, *values: object) -> list[asyncpg.Record]:
    """Return the rows of a query, from synchronous code."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *values)
            return rows
        finally:
            await connection.close()

    return run_apart(run())


@contextmanager
def template(postgres_url: str) -> Iterator[None]:
    """Keep a migrated database that `new_database` copies, and that `own_database` finds."""
    execute(postgres_url, f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    try:
        migrate(url_of(postgres_url, TEMPLATE))
        _of_the_run[postgres_url] = spares = _Spares(postgres_url)
        with closing(spares):
            yield
    finally:
        _of_the_run.clear()
        drop_database(postgres_url, TEMPLATE)


def new_database(postgres_url: str, *, migrated: bool = True) -> str:
    """Make a database and return its URL; it stays until `drop_database` or the end of the run.

    Args:
        postgres_url: What the fixture of that name gives.
        migrated: Whether it has the schema of this release; else it is empty.
    """
    if migrated:
        return _of_the_run[postgres_url].take()
    return _make_database(postgres_url, "template0")


def _make_database(postgres_url: str, source: str) -> str:
    name = f"t{secrets.token_hex(6)}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {source}")
    return url_of(postgres_url, name)


def drop_database(postgres_url: str, name_or_url: str) -> None:
    """Drop a database; whoever uses it still is cut off."""
    name = urlsplit(name_or_url).path.lstrip("/")
    execute(postgres_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def own_database() -> Iterator[str]:
    """Make a database in the PostgreSQL of the run, and drop it after.

    For what starts servers and is given no URL: the fixture `redis_url` has seen to it that there
    is a PostgreSQL.
    """
    [postgres_url] = _of_the_run
    url = new_database(postgres_url)
    try:
        yield url
    finally:
        drop_database(postgres_url, url)
