"""Which generation of each shard is in force, and how far its journal is recorded."""

from __future__ import annotations

from collections.abc import Mapping

from bursar.domain.errors import BursarError
from bursar.ledger.database import Database
from bursar.ledger.fold import Position


class InstallationDiffers(BursarError):
    """The database belongs to an installation with another shard count or namespace."""


class Positions:
    """The table `journal_position`, and the installation that it belongs to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def install(self, shard_count: int, key_namespace: str) -> None:
        """Say what this installation is, if nobody has yet, and check it.

        Raises:
            InstallationDiffers: It was set up with another shard count or namespace.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE installation SET shard_count = $1, key_namespace = $2 "
                "WHERE shard_count IS NULL",
                shard_count,
                key_namespace,
            )
            row = await connection.fetchrow("SELECT shard_count, key_namespace FROM installation")
            assert row is not None
            if (row["shard_count"], row["key_namespace"]) != (shard_count, key_namespace):
                raise InstallationDiffers(
                    f"the database was set up with {row['shard_count']} shards and the key "
                    f"namespace {row['key_namespace']!r}, not {shard_count} and "
                    f"{key_namespace!r}; set BURSAR_SHARD_COUNT and BURSAR_KEY_NAMESPACE to match"
                )
            await connection.execute(
                "INSERT INTO journal_position (shard, epoch) "
                "SELECT shard, '' FROM generate_series(0, $1 - 1) AS shard ON CONFLICT DO NOTHING",
                shard_count,
            )

    async def load(self) -> dict[int, Position]:
        """Return how far every shard is recorded."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT shard, epoch, stream_id, sequence FROM journal_position ORDER BY shard"
            )
        return {
            row["shard"]: Position(row["epoch"], row["stream_id"], row["sequence"]) for row in rows
        }

    async def known_epochs(self, shard: int) -> frozenset[str]:
        """Return every generation that a shard ever had."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("SELECT epoch FROM rebuilds WHERE shard = $1", shard)
        return frozenset(row["epoch"] for row in rows)

    async def rebuilding(self) -> dict[int, tuple[int, int]]:
        """Return how far the rebuilds in progress are: counters and holds written, by shard."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT DISTINCT ON (shard) shard, counters, holds FROM rebuilds "
                "WHERE finished_at IS NULL AND started_at > now() - interval '1 day' "
                "ORDER BY shard, rebuild_id DESC"
            )
        return {row["shard"]: (row["counters"], row["holds"]) for row in rows}

    async def begin_epochs(
        self, server_id: str, moves: Mapping[int, tuple[Position, Position, str]]
    ) -> dict[int, int]:
        """Put other generations of some shards in force, all or none.

        Args:
            server_id: Who rebuilds them.
            moves: By shard: the position now, the one to begin with, and why.

        Returns:
            The id of each rebuild, by shard.

        Raises:
            EpochTaken: Another server was faster.
        """
        async with self._database.transaction() as connection:
            for shard, (before, after, _) in sorted(moves.items()):
                done = await connection.execute(
                    "UPDATE journal_position SET epoch = $4, stream_id = $5, sequence = $6, "
                    "recorded_at = now() WHERE shard = $1 AND epoch = $2 AND stream_id = $3",
                    shard,
                    before.epoch,
                    before.stream_id,
                    after.epoch,
                    after.stream_id,
                    after.sequence,
                )
                if done != "UPDATE 1":
                    raise EpochTaken(f"shard {shard} is being rebuilt by another server")
            rows = await connection.fetch(
                "INSERT INTO rebuilds (shard, epoch, cause, server_id) "
                "SELECT *, $4 FROM unnest($1::int[], $2::text[], $3::text[]) "
                "RETURNING rebuild_id, shard",
                list(moves),
                [after.epoch for _, after, _ in moves.values()],
                [cause for _, _, cause in moves.values()],
                server_id,
            )
        return {row["shard"]: row["rebuild_id"] for row in rows}


class EpochTaken(BursarError):
    """Another server rebuilds the shard."""
