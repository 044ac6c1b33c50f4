"""Hears of new policies and freezes at once, on a connection of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg

from bursar.domain.errors import LedgerUnavailable
from bursar.ledger.database import AWAY, Database
from bursar.ledger.policy_store import CHANNEL

if TYPE_CHECKING:
    Listening = asyncpg.Connection[Any]


class PolicyListener:
    """LISTENs for as long as PostgreSQL is there. What it misses, polling finds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard = asyncio.Event()
        self._connection: Listening | None = None

    async def connect(self) -> None:
        """Listen, unless it does.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
        """
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await self._database.connect_alone()
        try:
            await connection.add_listener(CHANNEL, self._hear)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, AWAY):
                raise LedgerUnavailable("PostgreSQL went away") from error
            raise
        self._connection = connection

    async def wait(self, timeout_ms: int) -> None:
        """Return once something was heard since the last return, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._heard.wait()
        except TimeoutError:
            return
        finally:
            self._heard.clear()

    def close(self) -> None:
        """Listen no more."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _hear(self, *_: object) -> None:
        self._heard.set()
