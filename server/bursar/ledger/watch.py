"""Keeps this server's engine on the generations that the record says are in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bursar.domain.errors import NotDurable
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shard_data import ShardData
from bursar.engine.store import ShardState
from bursar.ledger.database import Database
from bursar.ledger.fold import Position
from bursar.ledger.positions import Positions

_log = structlog.get_logger(__name__)

_CONFIRM_POLL_S = 0.01


class ShardWatch:
    """Adopts rebuilt shards, and sends again what this server had acknowledged of them."""

    def __init__(
        self,
        database: Database,
        positions: Positions,
        engine: RedisEngine,
        data: ShardData,
        server_id: str,
    ) -> None:
        self._database = database
        self._positions = positions
        self._engine = engine
        self._data = data
        self._server_id = server_id

    async def begin(self, address: str) -> None:
        """Learn what is in force, and say that this server is there.

        Raises:
            LedgerUnavailable: PostgreSQL is away: nothing can be decided yet.
        """
        for shard, position in (await self._positions.load()).items():
            if position.epoch:
                self._engine.shards.adopt(shard, position.epoch, position.sequence)
        await self.beat(address)

    async def look(self) -> list[ShardState]:
        """Look at every shard, and adopt what was rebuilt since.

        Returns:
            How each shard is marked in Redis, in order.
        """
        states = await self._engine.shards.look()
        other = [
            shard
            for shard, state in enumerate(states)
            if state.epoch and state.epoch != self._engine.shards.epoch(shard)
        ]
        if other:
            positions = await self._positions.load()
            for shard in other:
                if states[shard].epoch == positions[shard].epoch:
                    await self._adopt(shard, positions[shard])
        # Those of a moment ago, where Redis was away in the middle of it, are tried again.
        for shard in self._engine.shards.to_send_again:
            await self._send_again(shard, waited_for=states[shard].replaying)
        return states

    async def _adopt(self, shard: int, position: Position) -> None:
        before = self._engine.shards.epoch(shard)
        if before:
            # Only what was lost is sent again: what is recorded may have ended long ago.
            last = await self._positions.last_recorded(shard, before)
            self._engine.shards.recorded(shard, before, last)
        self._engine.shards.adopt(shard, position.epoch, position.sequence)

    async def _send_again(self, shard: int, *, waited_for: bool) -> None:
        sent, failed = await self._engine.send_again(shard)
        if waited_for:
            await self._data.note_replayed(shard, self._server_id)
        if failed:
            _log.error("calls_lost", shard=shard, calls=failed, sent=sent)
        if not sent:
            return
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE rebuilds SET resent = resent + $3 WHERE shard = $1 AND epoch = $2",
                shard,
                self._engine.shards.epoch(shard),
                sent,
            )

    async def beat(self, address: str) -> None:
        """Say that this server is there, and learn how far the journals are recorded."""
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO servers (server_id, address) VALUES ($1, $2) "
                "ON CONFLICT (server_id) DO UPDATE SET seen_at = now(), address = $2",
                self._server_id,
                address,
            )
            await connection.execute(
                "DELETE FROM servers WHERE seen_at < now() - interval '1 hour'"
            )
        for shard, position in (await self._positions.load()).items():
            self._engine.shards.recorded(shard, position.epoch, position.sequence)

    async def end(self) -> None:
        """Say that this server is gone."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM servers WHERE server_id = $1", self._server_id)


class Confirmations:
    """Waits until calls are recorded, where acknowledgements have to be.

    All who wait share one question to PostgreSQL; what this server records itself is known at once.
    """

    def __init__(self, positions: Positions, timeout_ms: int, epoch: Callable[[int], str]) -> None:
        self._positions = positions
        self._timeout_s = timeout_ms / 1_000
        self._epoch = epoch
        self._reached: dict[int, Position] = {}
        self._moved = asyncio.Event()
        self._waiting = 0

    def recorded(self, shard: int, position: Position) -> None:
        """Learn how far a shard is recorded."""
        self._reached[shard] = position
        self._moved.set()

    async def confirm(self, shard: int, sequence: int) -> None:
        """Wait until a shard is recorded up to a sequence number.

        Raises:
            NotDurable: It is not in time.
        """
        epoch = self._epoch(shard)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                while (position := self._reached.get(shard)) is None or (
                    position.epoch == epoch and position.sequence < sequence
                ):
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise NotDurable(
                "carried out, but not recorded in time; the same request may be retried"
            ) from None
        finally:
            self._waiting -= 1
        if position.epoch != epoch:
            raise NotDurable(
                "carried out, but the shard was rebuilt before it was recorded; the same request "
                "may be retried"
            )

    async def poll(self) -> None:
        """Ask how far other servers have recorded, where someone waits for it."""
        if not self._waiting:
            return
        for shard, position in (await self._positions.load()).items():
            self.recorded(shard, position)
