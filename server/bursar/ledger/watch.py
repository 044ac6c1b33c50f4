"""Keeps this server's engine on the generations that the record says are in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from bursar.domain.errors import LedgerUnavailable, NotDurable
from bursar.engine.recent import RecentCall
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import LOST_CALLS
from bursar.engine.store import ShardMark
from bursar.ledger.acknowledged import unrecorded
from bursar.ledger.database import Database
from bursar.ledger.fold import Position
from bursar.ledger.positions import Positions
from bursar.ledger.servers import LiveServers

_log = structlog.get_logger(__name__)


class ShardWatch:
    """Adopts rebuilt shards, and sends again what this server had acknowledged of them."""

    def __init__(
        self,
        database: Database,
        positions: Positions,
        engine: RedisEngine,
        servers: LiveServers,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._positions = positions
        self._engine = engine
        self._shards = engine.shards
        self._servers = servers
        self._steady_s = steady_s
        self._anew_since_s: dict[tuple[int, str], float] = {}
        self._unsaid: set[int] = set()
        self._opened: dict[int, tuple[str, int]] = {}

    async def begin(self, address: str) -> None:
        """Learn what is in force, and say that this server is there.

        Raises:
            LedgerUnavailable: PostgreSQL is away: nothing can be decided yet.
        """
        for shard, position in (await self._positions.load()).items():
            if position.epoch:
                self._adopt(shard, position)
        await self._servers.say_alive(address)

    async def look(self) -> list[ShardMark | None]:
        """Look at every shard, and adopt what was rebuilt since.

        Returns:
            How each shard is marked in Redis, in order; None: its server does not answer.
        """
        states = await self._shards.look()
        marks = {shard: state for shard, state in enumerate(states) if state is not None}
        other = [
            shard
            for shard, state in marks.items()
            if state.epoch and state.epoch != self._shards.epoch(shard)
        ]
        if other:
            positions = await self._positions.load()
            for shard in other:
                if marks[shard].epoch == positions[shard].epoch:
                    self._adopt(shard, positions[shard])
        for shard, state in marks.items():
            is_ours = self._shards.is_in_force(shard, state)
            if is_ours and state.replaying and shard in self._unsaid:
                await self._say_again(shard)
            elif is_ours and not state.replaying:
                self._unsaid.discard(shard)
                if self._opened.get(shard, ("", 0))[0] != state.epoch:
                    self._opened[shard] = (state.epoch, state.journaled)
        await self._confirm(marks)
        return states

    async def _confirm(self, marks: Mapping[int, ShardMark]) -> None:
        """See to shards whose Redis was started anew: they open once every server has looked."""
        now_s, before = self._steady_s(), self._anew_since_s
        self._anew_since_s = {
            (shard, run): before.get((shard, run), now_s)
            for shard, state in marks.items()
            if self._shards.is_in_force(shard, state) and not state.replaying
            if not self._shards.is_confirmed(shard, state)
            for run in [self._shards.run_of(shard)]
        }
        if not self._anew_since_s:
            return
        # Without PostgreSQL, what was known at last: nobody starts or records without it.
        with suppress(LedgerUnavailable):
            await self._servers.look()
            self._learn_recorded(await self._positions.load())
        late = [
            shard
            for (shard, _), since_s in self._anew_since_s.items()
            if now_s - since_s > self._servers.wait_s
        ]
        in_time = [shard for shard, _ in self._anew_since_s if shard not in late]
        server_id, others = self._servers.server_id, self._servers.others
        opened = await self._shards.confirm(in_time, server_id, others) if in_time else []
        if late:
            opened_late = await self._shards.confirm(late, server_id, ())
            if opened_late:
                _log.warning("opened_without_some_servers", shards=opened_late)
        if opened:
            _log.info("redis_confirmed", shards=opened)

    def _adopt(self, shard: int, position: Position) -> None:
        self._shards.adopt(shard, position.epoch, position.sequence)
        self._unsaid.add(shard)

    async def _say_again(self, shard: int) -> None:
        recent = self._shards.recent
        calls = recent.of(shard)
        lost = await unrecorded(self._database, shard, calls)
        recent.keep_only(shard, [*lost, *self._since(shard, calls)])
        await self._engine.say_again(shard, lost, self._servers.server_id)
        self._unsaid.discard(shard)

    async def beat(self, address: str) -> dict[int, Position]:
        """Say that this server is there, and see that what it answered is recorded.

        Returns:
            How far every shard is recorded.
        """
        await self._servers.say_alive(address)
        positions = await self._positions.load()
        self._learn_recorded(positions)
        for shard in self._shards.recent.shards():
            if positions[shard].epoch == self._shards.epoch(shard):
                await self._see_recorded(shard, positions[shard])
        return positions

    def _learn_recorded(self, positions: Mapping[int, Position]) -> None:
        for shard, position in positions.items():
            self._shards.recorded(shard, position.epoch, position.sequence)

    async def _see_recorded(self, shard: int, position: Position) -> None:
        """Let go of what is recorded, and see to what is not and should be."""
        recent = self._shards.recent
        calls = recent.of(shard)
        current = [call for call in calls if call.epoch == position.epoch]
        before = [call for call in calls if call.epoch != position.epoch]
        due = [call for call in current if call.sequence <= position.sequence]
        # Each of them: after a loss that nobody noticed, later calls are there all the same.
        missing = await unrecorded(self._database, shard, due)
        if missing:
            _log.error("answered_calls_missing", shard=shard, calls=len(missing))
            await self._shards.data.fence(shard, epoch=position.epoch, why=LOST_CALLS)
            return
        left = [call for call in current if call.sequence > position.sequence]
        before = await unrecorded(self._database, shard, before)
        epoch, journaled = self._opened.get(shard, ("", 0))
        # What was said in time was made before the shard was opened, and is recorded by then.
        if before and epoch == position.epoch and position.sequence >= journaled:
            made, failed = await self._engine.make_own_again(shard, before)
            if failed:
                _log.error("calls_lost", shard=shard, calls=failed, sent=made)
            before = []
        recent.keep_only(shard, [*before, *left, *self._since(shard, calls)])

    def _since(self, shard: int, calls: list[RecentCall]) -> list[RecentCall]:
        """Return what was acknowledged while PostgreSQL was asked."""
        known = set(map(id, calls))
        return [call for call in self._shards.recent.of(shard) if id(call) not in known]


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
