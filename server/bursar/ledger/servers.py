"""Which servers there are: each says once a second that it is there."""

from __future__ import annotations

from bursar.ledger.database import Database

_WAIT_S_MIN = 3.0

_ALIVE = """
SELECT server_id FROM servers WHERE server_id <> $1 AND seen_at > now() - interval '5 seconds'
"""


class LiveServers:
    """The servers of an installation as one of them knows them.

    Attributes:
        server_id: Of this server.
        wait_s: How long what a server alone may know is waited for, where that server is there
            and silent: several of its looks.
        others: Servers besides this one that were there at the last look.
    """

    def __init__(self, database: Database, server_id: str, watch_interval_ms: int) -> None:
        self._database = database
        self.wait_s = max(_WAIT_S_MIN, 3 * watch_interval_ms / 1_000)
        self.server_id = server_id
        self.others: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Learn who is there.

        Raises:
            LedgerUnavailable: PostgreSQL is away; what was known is kept.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ALIVE, self.server_id)
        self.others = frozenset(row["server_id"] for row in rows)

    async def say_alive(self, address: str) -> None:
        """Say that this server is there, and learn who else is. Raises as `look`."""
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO servers (server_id, address) VALUES ($1, $2) "
                "ON CONFLICT (server_id) DO UPDATE SET seen_at = now(), address = $2",
                self.server_id,
                address,
            )
            await connection.execute(
                "DELETE FROM servers WHERE seen_at < now() - interval '1 hour'"
            )
        await self.look()

    async def end(self) -> None:
        """Say that this server is gone. Raises as `look`."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM servers WHERE server_id = $1", self.server_id)
