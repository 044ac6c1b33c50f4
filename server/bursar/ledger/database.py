"""The connections to PostgreSQL, with our errors and one bound on how long each statement takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from bursar.domain.errors import LedgerUnavailable

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy[Any]
else:
    Connection = Any

AWAY = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    OSError,
    TimeoutError,
)
"""What says that PostgreSQL is not there for us, or not now. A cancelled query ran out of time."""

AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What a transaction that is repeated whole may not meet again."""


class Database:
    """A PostgreSQL. Connects when it is opened, and again whenever a connection is lost."""

    def __init__(
        self, url: str, *, timeout_ms: int = 5_000, connections_max: int = 8, name: str = "bursar"
    ) -> None:
        """Does not connect yet.

        Args:
            url: `postgresql://`.
            timeout_ms: For connecting, for getting a connection and for each statement.
            connections_max: Connections at the most, 1 or more.
            name: What PostgreSQL's own views call these connections.
        """
        self.url = url
        self._timeout_s = timeout_ms / 1_000
        self._connections_max = connections_max
        self._name = name
        self._pool: asyncpg.Pool[Any] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
        """
        with _translated():
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=0,
                max_size=self._connections_max,
                timeout=self._timeout_s,
                command_timeout=self._timeout_s,
                server_settings={"application_name": self._name},
            )
            async with self._pool.acquire(timeout=self._timeout_s):
                pass

    async def close(self) -> None:
        """End every connection, also of calls that still wait for an answer."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or none is free in time. A statement that was
                running may have been carried out.
        """
        with _translated():
            if self._pool is None:
                raise LedgerUnavailable("the connection to PostgreSQL is not open")
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that ends with the block.

        Args:
            snapshot: Read everything as of one moment.

        Raises:
            LedgerUnavailable: As `connection`.
        """
        async with self.connection() as connection:
            transaction = (
                connection.transaction(isolation="repeatable_read", readonly=True)
                if snapshot
                else connection.transaction()
            )
            async with transaction:
                yield connection

    async def connect_alone(self, name: str = "") -> asyncpg.Connection[Any]:
        """Open a connection apart from the pool, to be closed by the caller: for locks and LISTEN.

        Args:
            name: What PostgreSQL's own views call it, if not as the others.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
        """
        with _translated():
            connection: asyncpg.Connection[Any] = await asyncpg.connect(
                self.url,
                timeout=self._timeout_s,
                command_timeout=self._timeout_s,
                server_settings={"application_name": name or self._name},
            )
            return connection


class _translated:
    """Turn what says that PostgreSQL is away into our error; its own text stays out of it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AWAY):
            raise LedgerUnavailable("PostgreSQL cannot be reached or does not answer") from error
        if isinstance(error, AGAIN):
            raise LedgerUnavailable("PostgreSQL could not carry it out beside others") from error
