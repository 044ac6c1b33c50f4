"""How the shards stand, for those who ask, and how to have them rebuilt by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bursar.engine.journal import Journal, is_after
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shard_data import ShardData
from bursar.ledger.keeper import Keeper
from bursar.ledger.locks import ShardLocks
from bursar.ledger.positions import Positions
from bursar.ledger.status import ShardState, ShardStatus, Verification


class ShardOverseer:
    """See `status.Overseer`."""

    def __init__(
        self,
        *,
        engine: RedisEngine,
        data: ShardData,
        journal: Journal,
        positions: Positions,
        locks: ShardLocks,
        keeper: Keeper,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._data = data
        self._journal = journal
        self._positions = positions
        self._locks = locks
        self._keeper = keeper
        self._now_ms = now_ms
        self._verification: Verification | None = None

    async def shards(self) -> Sequence[ShardStatus]:
        """Return how every shard stands, by number."""
        # In this order: what is trimmed after the positions are read would look like too much.
        marks = await self._data.states()
        positions = await self._positions.load()
        holders = await self._locks.holders()
        lengths = await self._journal.lengths(range(len(marks)))
        oldest = await self._journal.read(
            {shard: position.stream_id for shard, position in positions.items()}, 1
        )
        now_ms = self._now_ms()
        found = []
        for shard, mark in enumerate(marks):
            in_force = (
                mark is not None
                and mark.epoch != ""
                and mark.epoch == positions[shard].epoch
                and not is_after(mark.trimmed, positions[shard].stream_id)
            )
            if mark is not None and in_force and mark.replaying:
                state = ShardState.REPLAYING
            elif in_force and shard not in self._engine.shards.cold:
                state = ShardState.LIVE
            elif shard in self._keeper.being_rebuilt:
                state = ShardState.REBUILDING
            else:
                state = ShardState.COLD
            waiting = oldest.get(shard)
            first = waiting[0].fields.get(b"t", b"0") if waiting else None
            found.append(
                ShardStatus(
                    shard=shard,
                    epoch=self._engine.shards.epoch(shard),
                    state=state,
                    waiting_entries=lengths[shard],
                    lag_ms=max(now_ms - int(first), 0) if first is not None else 0,
                    owner_server_id=holders.get(shard, ""),
                )
            )
        return found

    def verification(self) -> Verification | None:
        """Return how the last comparison that this server made of its shards went."""
        return self._verification

    def note_verification(self, verification: Verification) -> None:
        """Remember how a comparison went."""
        self._verification = verification

    async def rebuild(self, shards: Sequence[int]) -> None:
        """Stop shards, so that whoever keeps them rebuilds them.

        Raises:
            StoreUnavailable: Redis cannot be told.
        """
        for shard in shards:
            await self._data.fence(shard, why="asked for by hand")
