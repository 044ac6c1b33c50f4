"""Which shards this server keeps: one server each, by locks that end with its connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bursar.domain.errors import LedgerUnavailable
from bursar.ledger.database import AWAY, Database

if TYPE_CHECKING:
    import asyncpg

LOCK_CLASS = 0x62757273
"""First half of the keys of our locks in PostgreSQL; the second is the shard."""

_TAKE = """
SELECT shard FROM unnest($1::int[]) AS shard WHERE pg_try_advisory_lock($2, shard)
"""

_HOLDERS = """
SELECT objid::int AS shard, pid, application_name AS server_id
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = $1 AND objsubid = 2 AND granted
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class ShardLocks:
    """Locks on shards. They are a courtesy: what keeps writers apart is the position's CAS."""

    def __init__(self, database: Database, server_id: str) -> None:
        """Takes none yet.

        Args:
            database: Where they are.
            server_id: How PostgreSQL's own views call the connection that has them.
        """
        self._database = database
        self._server_id = server_id
        self._connection: asyncpg.Connection[Any] | None = None
        self._held: frozenset[int] = frozenset()

    @property
    def held(self) -> frozenset[int]:
        """Shards that are ours, as far as we know."""
        if self._connection is None or self._connection.is_closed():
            return frozenset()
        return self._held

    async def take(self, shards: Iterable[int]) -> frozenset[int]:
        """Take every one of these shards that nobody has, and return all that are ours.

        Raises:
            LedgerUnavailable: PostgreSQL is away; none is ours any more.
        """
        try:
            if self._connection is None or self._connection.is_closed():
                self._held = frozenset()
                self._connection = await self._database.connect_alone(self._server_id)
            wanted = sorted(set(shards) - self._held)
            # Also where nothing is wanted: this is how the end of the connection is noticed.
            rows = await self._connection.fetch(_TAKE, wanted, LOCK_CLASS)
        except AWAY as error:
            await self.release()
            raise LedgerUnavailable("PostgreSQL cannot be reached or does not answer") from error
        self._held |= {row["shard"] for row in rows}
        return self._held

    async def end_holders(self, shards: Iterable[int]) -> int:
        """End the connections of the servers that keep these shards and do nothing with them.

        Returns:
            How many were ended.
        """
        wanted = set(shards)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HOLDERS, LOCK_CLASS)
            pids = {row["pid"] for row in rows if row["shard"] in wanted}
            for pid in pids:
                await connection.execute("SELECT pg_terminate_backend($1)", pid)
        return len(pids)

    async def holders(self) -> dict[int, str]:
        """Return the server that has each shard; shards that nobody has are left out."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HOLDERS, LOCK_CLASS)
        return {row["shard"]: row["server_id"] for row in rows}

    async def release(self) -> None:
        """Let go of every shard."""
        connection, self._connection, self._held = self._connection, None, frozenset()
        if connection is not None:
            connection.terminate()
