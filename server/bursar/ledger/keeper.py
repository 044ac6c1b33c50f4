"""Keeps shards: records their journals, and rebuilds those whose data is not what is in force.

Every server runs one. A shard is kept by whoever has its lock, so by one server at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from bursar.domain.errors import BursarError
from bursar.engine.journal import Journal, is_after
from bursar.engine.keys import Tombstones
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shard_data import ShardData
from bursar.engine.store import ShardMark
from bursar.failpoints import failpoint
from bursar.ledger.fold import Batch, Position, fold
from bursar.ledger.locks import ShardLocks
from bursar.ledger.positions import Positions
from bursar.ledger.rebuild import Progress, Rebuilder
from bursar.ledger.recorder import PositionMoved, Recorder

READ_ENTRIES_MAX = 500
"""Entries of one shard in a batch at the most."""

STUCK_AFTER_S = 5.0
"""How long a shard's journal may wait without being recorded before its lock is taken away."""

REBUILD_STUCK_AFTER_S = 30.0
"""The same of a shard that is being rebuilt: to sort a million counters takes a while."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """How the shards of this server are.

    Attributes:
        shards: Ours.
        refused: Shards that cannot be kept until someone decides, and why.
    """

    shards: frozenset[int]
    refused: Mapping[int, str]


class Keeper:
    """Records and rebuilds the shards that this server has the lock of."""

    def __init__(
        self,
        *,
        positions: Positions,
        locks: ShardLocks,
        data: ShardData,
        journal: Journal,
        recorder: Recorder,
        rebuilder: Rebuilder,
        engine: RedisEngine,
        tombstones: Tombstones,
        recorded: Callable[[int, Position], None],
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes no lock yet.

        Args:
            positions: How far everything is recorded.
            locks: Of this server.
            data: Of the shards in Redis.
            journal: Of all shards.
            recorder: Writes batches.
            rebuilder: Rebuilds shards.
            engine: Of this server.
            tombstones: How long ended holds answer repeated calls.
            recorded: Told of each shard that is recorded further.
            steady_s: A clock that never goes back.
        """
        self._positions = positions
        self._locks = locks
        self._data = data
        self._journal = journal
        self._recorder = recorder
        self._rebuilder = rebuilder
        self._shards = engine.shards
        self._tombstones = tombstones
        self._recorded = recorded
        self._steady_s = steady_s
        self._known: dict[int, Position] = {}
        self._refused: dict[int, str] = {}
        self._stuck_since: dict[int, float] = {}
        self._last_seen: Mapping[int, object] = {}
        self._rebuilding: asyncio.Task[None] | None = None
        self._being_rebuilt: frozenset[int] = frozenset()
        self._rebuilds = 0
        self._oldest_ms: int | None = None
        self._progress: Progress | None = None

    @property
    def kept(self) -> Kept:
        """How the shards of this server are."""
        return Kept(self._locks.held, dict(self._refused))

    @property
    def oldest_waiting_ms(self) -> int | None:
        """When the oldest call was made that our journals had unrecorded last; None if none."""
        return self._oldest_ms

    @property
    def progress(self) -> Progress | None:
        """How far the rebuild in progress is, or how the last one went; None: there was none."""
        return self._progress

    @property
    def being_rebuilt(self) -> frozenset[int]:
        """Shards that this server rebuilds now."""
        return self._being_rebuilt

    async def look(self, look: Callable[[], Awaitable[list[ShardMark | None]]]) -> None:
        """Take free shards, and see to those that are not what is in force.

        Args:
            look: Returns how every shard is marked in Redis, in order; None: its server does not
                answer.
        """
        rebuilds = self._rebuilds
        states = await look()
        held = await self._locks.take(range(len(states)))
        marks = {shard: state for shard in held if (state := states[shard]) is not None}
        gained = held - self._known.keys()
        if gained or any(
            marks[shard].epoch != self._known[shard].epoch
            for shard in marks.keys() & self._known.keys()
        ):
            positions = await self._positions.load()
            self._known = {shard: positions[shard] for shard in held}
        cold = {
            shard: cause
            for shard in sorted(marks.keys() - self._being_rebuilt)
            if (cause := await self._cause(shard, marks[shard]))
        }
        # What was looked at before a rebuild ended says nothing of what is there after it.
        if cold and self._rebuilding is None and self._rebuilds == rebuilds:
            self._being_rebuilt = frozenset(cold)
            self._rebuilding = asyncio.create_task(self._rebuild(cold))

    async def _cause(self, shard: int, state: ShardMark) -> str:
        """Return why a shard has to be rebuilt; empty where it has not, or must not."""
        position = self._known[shard]
        if state.epoch == position.epoch and state.epoch:
            if is_after(state.trimmed, position.stream_id):
                self._refuse(
                    shard,
                    f"Redis dropped entries up to {state.trimmed} as recorded, the record ends at "
                    f"{position.stream_id}: PostgreSQL was restored from an older state; "
                    "`bursar rebuild` lets the record win",
                )
                return ""
            if state.sequence < position.sequence:
                fenced = await self._data.fence(
                    shard, epoch=state.epoch, sequence=position.sequence
                )
                return "Redis has older data than the record" if fenced.stopped else ""
            # Others may have raised its number since it went back; the entries tell.
            if is_after(position.stream_id, state.trimmed) and await self._journal.lacks(
                shard, position.epoch, position.stream_id
            ):
                await self._data.fence(shard, epoch=state.epoch)
                return "Redis lacks calls that are recorded"
            self._refused.pop(shard, None)
            return "" if not state.replaying else self._left_replaying(shard)
        if not state.epoch:
            self._refused.pop(shard, None)
            if not position.epoch:
                return "first start"
            return state.stopped or "the data is gone from Redis"
        known = await self._positions.known_epochs(shard)
        if state.epoch in known:
            self._refused.pop(shard, None)
            return "Redis has data of an earlier generation"
        self._refuse(
            shard,
            f"Redis has data of a generation {state.epoch!r} that the record does not know: it is "
            "another installation's, or PostgreSQL was restored from an older state; "
            "`bursar rebuild` lets the record win",
        )
        return ""

    def _left_replaying(self, shard: int) -> str:
        return "a rebuild was left unfinished" if shard not in self._being_rebuilt else ""

    def _refuse(self, shard: int, why: str) -> None:
        if self._refused.get(shard) != why:
            _log.error("shard_refused", shard=shard, why=why)
        self._refused[shard] = why

    async def _rebuild(self, causes: Mapping[int, str]) -> None:
        started_s = self._steady_s()
        self._progress = Progress(causes)
        try:
            await self._rebuilder.rebuild(causes, self._progress)
            if set(causes.values()) != {"first start"}:
                _log.warning(
                    "shards_rebuilt",
                    shards=len(causes),
                    causes=sorted(set(causes.values())),
                    counters=self._progress.counters,
                    holds=self._progress.holds,
                    sent_again=sum(self._progress.resent.values()),
                    duration_ms=round((self._steady_s() - started_s) * 1_000),
                )
        except BursarError as error:
            _log.warning("rebuild_failed", shards=sorted(causes), why=error.message)
        except Exception as error:
            _log.error("rebuild_failed", shards=sorted(causes), exc_info=error)
        finally:
            for shard in causes:
                self._known.pop(shard, None)
            self._being_rebuilt, self._rebuilding = frozenset(), None
            self._rebuilds += 1

    async def record(self) -> bool:
        """Record what waits in the journals of our shards.

        Returns:
            Whether more may wait.

        Raises:
            StoreUnavailable, LedgerUnavailable: Redis or PostgreSQL is away: nothing is lost, the
                journals keep it.
        """
        shards = sorted(
            self._locks.held & self._known.keys() - self._being_rebuilt - self._refused.keys()
        )
        ours = {
            shard: self._known[shard]
            for shard in shards
            if self._known[shard].epoch and self._known[shard].epoch == self._shards.epoch(shard)
        }
        if not ours:
            return False
        journals = await self._journal.read(
            {shard: position.stream_id for shard, position in ours.items()}, READ_ENTRIES_MAX
        )
        self._oldest_ms = min(
            (int(entries[0].fields.get(b"t", 0)) for entries in journals.values() if entries),
            default=None,
        )
        if self._oldest_ms is None:
            return False
        batch = fold(journals, ours, self._tombstones)
        try:
            await self._recorder.write(batch)
        except PositionMoved:
            # Another server keeps some of these: learn which, and how far it is.
            await self._locks.release()
            self._known = {}
            raise
        await self._note(batch)
        self._oldest_ms = None
        return any(len(entries) == READ_ENTRIES_MAX for entries in journals.values())

    async def _note(self, batch: Batch) -> None:
        for reject in batch.rejects:
            _log.error(
                "journal_entry_rejected",
                shard=reject.shard,
                stream_id=reject.stream_id,
                fault=reject.fault,
            )
        for shard, (_, after) in batch.moves.items():
            if shard in self._known:
                self._known[shard] = after
            self._recorded(shard, after)
        failpoint("before_trim")
        for shard, (_, after) in batch.moves.items():
            await self._journal.trim(shard, after.epoch, after.stream_id)
        failpoint("after_trim")

    async def end_stuck(self, positions: Mapping[int, Position]) -> None:
        """Take shards from a server that has their locks and does nothing: one that is stopped.

        Args:
            positions: How far every shard is recorded now.
        """
        others = set(range(self._data.keys.shard_count)) - self._locks.held
        if not others:
            self._stuck_since = {}
            return
        rebuilding = await self._positions.rebuilding()
        seen = {shard: (positions[shard], rebuilding.get(shard)) for shard in others}
        # Nobody can do anything with shards whose server does not answer: those are left out.
        pending = await self._journal.read(
            {shard: positions[shard].stream_id for shard in sorted(others)}, 1
        )
        now_s = self._steady_s()
        stuck = {
            shard
            for shard in pending
            if pending[shard] or self._shards.epoch(shard) == "" or shard in self._shards.cold
        }
        since = {}
        for shard in stuck:
            last = self._stuck_since.get(shard)
            moved = self._last_seen.get(shard) != seen[shard]
            since[shard] = now_s if last is None or moved else last
        self._stuck_since = since
        self._last_seen = seen
        overdue = {
            shard
            for shard, at_s in since.items()
            if now_s - at_s > (REBUILD_STUCK_AFTER_S if shard in rebuilding else STUCK_AFTER_S)
        }
        if overdue:
            ended = await self._locks.end_holders(overdue)
            _log.warning("locks_taken_away", shards=sorted(overdue), servers=ended)
            self._stuck_since = {}

    async def close(self) -> None:
        """Record what waits, once more, and let go of every shard."""
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.gather(self._rebuilding, return_exceptions=True)
        await self._locks.release()
