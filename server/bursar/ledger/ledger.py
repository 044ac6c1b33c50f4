"""Everything that one server does for the record, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from bursar.domain.errors import LedgerUnavailable, ShardCold
from bursar.engine.journal import Journal
from bursar.engine.redis_engine import RedisEngine
from bursar.ledger.database import Database
from bursar.ledger.fold import Position
from bursar.ledger.keeper import Keeper
from bursar.ledger.locks import ShardLocks
from bursar.ledger.overseer import ShardOverseer
from bursar.ledger.positions import Positions
from bursar.ledger.prune import prune
from bursar.ledger.rebuild import Rebuilder
from bursar.ledger.recorder import Recorder
from bursar.ledger.servers import LiveServers
from bursar.ledger.status import Verification
from bursar.ledger.verify import Verifier
from bursar.ledger.watch import Confirmations, ShardWatch

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """How the record stands, seen from one server.

    Attributes:
        lag_ms: Age of the oldest call that is not recorded, of the shards that it keeps.
        drift: Numbers that the last comparison found different; the target is 0.
        refused_shards: Shards that it keeps and may neither record nor rebuild.
        kept_shards: Shards that it keeps.
        cold_shards: Shards that cannot decide.
    """

    lag_ms: int
    drift: int
    refused_shards: int
    kept_shards: int
    cold_shards: int


class Ledger:
    """The record as one server keeps it.

    Attributes:
        database: Where it is.
        data: Of the shards in Redis.
        keeper: Records and rebuilds.
        verifier: Compares Redis with the record.
        overseer: Knows how the shards are.
        positions: How far everything is recorded.
        server_id: Of this server, new with each start.
        address: Of this server, as others are told.
    """

    def __init__(
        self,
        *,
        database: Database,
        engine: RedisEngine,
        confirmations: Confirmations,
        now_ms: Callable[[], int],
        watch_interval_ms: int = 200,
        repairs: bool = True,
    ) -> None:
        """Puts it together; nothing is asked of PostgreSQL yet.

        Args:
            database: Where it is; open.
            engine: Of this server.
            confirmations: Told of everything that this server records.
            now_ms: The clock.
            watch_interval_ms: How often each server looks at every shard.
            repairs: Whether what differs in Redis is set to what the record says.
        """
        self._repairs = repairs
        self.database = database
        shards = engine.shards
        store, data, limits = shards.store, shards.data, shards.limits
        self.data = data
        self.positions = Positions(database)
        self.server_id = secrets.token_hex(8)
        self._now_ms = now_ms
        self._engine = engine
        self._confirmations = confirmations
        self._servers = LiveServers(database, self.server_id, watch_interval_ms)
        self._watch = ShardWatch(database, self.positions, engine, self._servers)
        self.address = ""
        tombstones = limits.tombstones
        journal, recorder = Journal(store, data.keys), Recorder(database)
        rebuilder = Rebuilder(
            database=database,
            data=data,
            journal=journal,
            recorder=recorder,
            engine=engine,
            tombstones=tombstones,
            servers=self._servers,
            now_ms=now_ms,
            new_token=lambda: secrets.token_hex(8),
        )
        locks = ShardLocks(database, self.server_id)
        self.keeper = Keeper(
            positions=self.positions,
            locks=locks,
            data=data,
            journal=journal,
            recorder=recorder,
            rebuilder=rebuilder,
            engine=engine,
            tombstones=tombstones,
            recorded=self._recorded,
        )
        self.verifier = Verifier(database, store, data, tombstones, now_ms)
        self.overseer = ShardOverseer(
            engine=engine,
            data=data,
            journal=journal,
            positions=self.positions,
            locks=locks,
            keeper=self.keeper,
            now_ms=now_ms,
        )

    async def open(self, address: str) -> None:
        """Learn what is in force.

        Args:
            address: Of this server, for those who look at the list of servers.

        Raises:
            InstallationDiffers: The database is another installation's.
            LedgerUnavailable: PostgreSQL is away.
        """
        keys = self.data.keys
        self.address = address
        await self.positions.install(keys.shard_count, keys.namespace)
        await self._watch.begin(address)

    async def look(self) -> None:
        """Look at every shard: adopt what was rebuilt, and rebuild what is ours and cold.

        Raises:
            StoreUnavailable, LedgerUnavailable: Redis or PostgreSQL is away.
        """
        await self.keeper.look(self._watch.look)

    async def record(self) -> bool:
        """Record what waits, and say whether more does. Raises as `Keeper.record`."""
        await self._confirmations.poll()
        return await self.keeper.record()

    async def beat(self) -> None:
        """Say that this server is there, and take over from those that stand still."""
        await self.keeper.end_stuck(await self._watch.beat(self.address))

    def figures(self) -> Figures:
        """Return the numbers that operators watch."""
        kept, oldest_ms = self.keeper.kept, self.keeper.oldest_waiting_ms
        verification = self.overseer.verification()
        return Figures(
            lag_ms=0 if oldest_ms is None else max(self._now_ms() - oldest_ms, 0),
            drift=verification.differences if verification else 0,
            refused_shards=len(kept.refused),
            kept_shards=len(kept.shards),
            cold_shards=len(self._engine.shards.cold),
        )

    async def verify(self) -> None:
        """Compare the shards that this server keeps with the record, and remember how that went.

        A shard that is being rebuilt, or too busy, is passed over.
        """
        counters = holds = differences = 0
        for shard in sorted(self.keeper.kept.shards):
            try:
                report = await self.verifier(shard, org="", deep=False, repair=self._repairs)
            except ShardCold:
                continue
            counters += report.checked_counters
            holds += report.checked_holds
            differences += report.difference_count
            for each in report.differences:
                _log.error(
                    "drift",
                    shard=each.shard,
                    kind=str(each.kind),
                    name=each.name,
                    field=each.field,
                    ledger=each.ledger,
                    found=each.found,
                    repaired=each.repaired,
                )
        at_ms = self._now_ms()
        self.overseer.note_verification(Verification(at_ms, counters, holds, differences))

    async def prune(self) -> None:
        """Remove what nobody can need any more."""
        await prune(self.database, self._now_ms())

    async def close(self) -> None:
        """Let go of everything."""
        await self.keeper.close()
        with suppress(LedgerUnavailable):
            await self._servers.end()
        await self.database.close()

    def _recorded(self, shard: int, position: Position) -> None:
        self._engine.shards.recorded(shard, position.epoch, position.sequence)
        self._confirmations.recorded(shard, position)
