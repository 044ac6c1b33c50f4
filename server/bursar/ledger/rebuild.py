"""Gives cold shards their data again, from the record: stop, drain, new epoch, fill, open.

Nothing is decided from a shard between the first step and the last. Whatever ends in between, the
next one who tries begins anew: the epoch in PostgreSQL says what is in force, and Redis has it
only when all is there.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from bursar.domain import meter
from bursar.domain.budget import parse_counter_id
from bursar.domain.errors import BursarError, StoreUnavailable
from bursar.engine.journal import BEGINNING, Journal
from bursar.engine.keys import Tombstones
from bursar.engine.operations import HoldState
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shard_data import Fenced, HoldRow, Row, ShardData
from bursar.engine.wire import decode_hold
from bursar.failpoints import failpoint
from bursar.ledger.acknowledged import unrecorded
from bursar.ledger.database import Database
from bursar.ledger.fold import Position, fold
from bursar.ledger.live_rows import Balance, live_balances, live_holds
from bursar.ledger.positions import Positions
from bursar.ledger.recorder import Recorder
from bursar.ledger.servers import LiveServers

_PAGE = 500
_DRAIN_ENTRIES = 500
_POLL_S = 0.05
_NOTE_EVERY_S = 1.0
_SEQUENCE_STEP = 1_000_000

_log = structlog.get_logger(__name__)


class TakenOver(BursarError):
    """Another server rebuilds a shard by now; what is written no longer counts."""


@dataclass(slots=True)
class Progress:
    """How far a rebuild of some shards is, and what is at stake.

    Attributes:
        shards: Which, with why.
        counters: Written so far.
        holds: Written so far, those included that only answer repeated calls.
        resent: Acknowledged calls that were made again, by shard.
        committed_nano_usd: By org and budget.
        held_nano_usd: Of open holds.
    """

    shards: Mapping[int, str]
    counters: int = 0
    holds: int = 0
    resent: dict[int, int] = field(default_factory=dict)
    committed_nano_usd: dict[tuple[int, str, str], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    held_nano_usd: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    by_shard: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def committed(self, shard: int) -> int:
        """Return the nano-USD that a shard has committed: of each org its largest budget's."""
        largest: dict[str, int] = defaultdict(int)
        for (of_shard, org, _), amount in self.committed_nano_usd.items():
            if of_shard == shard:
                largest[org] = max(largest[org], amount)
        return sum(largest.values())


class Rebuilder:
    """Rebuilds shards that this server keeps."""

    def __init__(
        self,
        *,
        database: Database,
        data: ShardData,
        journal: Journal,
        recorder: Recorder,
        engine: RedisEngine,
        tombstones: Tombstones,
        servers: LiveServers,
        now_ms: Callable[[], int],
        new_token: Callable[[], str],
    ) -> None:
        self._database = database
        self._positions = Positions(database)
        self._data = data
        self._journal = journal
        self._recorder = recorder
        self._engine = engine
        self._tombstones = tombstones
        self._servers = servers
        self._now_ms = now_ms
        self._new_token = new_token

    async def rebuild(self, causes: Mapping[int, str], progress: Progress) -> None:
        """Rebuild shards together.

        Args:
            causes: Why, by shard.
            progress: Kept up to date.

        Raises:
            TakenOver, EpochTaken, PositionMoved: Another server is at it.
            StoreUnavailable, LedgerUnavailable: Redis or PostgreSQL is away; to be tried again.
        """
        tokens = {shard: f"{self._servers.server_id}.{self._new_token()}" for shard in causes}
        fenced = {
            shard: await self._data.fence(shard, token=token) for shard, token in tokens.items()
        }
        failpoint("rebuild_after_fence")
        before = await self._drain(list(causes))
        after = {
            shard: Position(
                self._new_token(),
                BEGINNING,
                # No server has seen so high a number: they grow over all generations.
                _SEQUENCE_STEP + max(before[shard].sequence, fenced[shard].sequence,
                        self._engine.shards.sequence(shard)),
            )
            for shard in causes
        }  # fmt: skip
        moves = {shard: (before[shard], after[shard], causes[shard]) for shard in causes}
        rebuild_ids = await self._positions.begin_epochs(self._servers.server_id, moves)
        failpoint("rebuild_after_epoch")
        if not await self._data.purge(tokens):
            raise TakenOver("another server rebuilds one of the shards")
        failpoint("rebuild_after_purge")
        await self._load(tokens, rebuild_ids, progress)
        failpoint("rebuild_before_open")
        await self._open(tokens, after, fenced, replaying=True)
        await self._send_again(after, progress)
        await self._open(tokens, after, fenced, replaying=False)
        failpoint("rebuild_after_open")
        await self._note(rebuild_ids, progress, ended=True)

    async def _drain(self, shards: list[int]) -> dict[int, Position]:
        """Record what the stopped journals still have, and return how far they are recorded."""
        positions = await self._positions.load()
        known = {shard: await self._positions.known_epochs(shard) for shard in shards}
        while True:
            wanted = {shard: positions[shard] for shard in shards}
            journals = await self._journal.read(
                {shard: position.stream_id for shard, position in wanted.items()}, _DRAIN_ENTRIES
            )
            if journals.keys() != wanted.keys():
                raise StoreUnavailable("Redis cannot be reached")
            if not any(journals.values()):
                return wanted
            batch = fold(journals, wanted, self._tombstones, known)
            await self._recorder.write(batch)
            positions |= {shard: after for shard, (_, after) in batch.moves.items()}

    async def _load(
        self, tokens: Mapping[int, str], rebuild_ids: Mapping[int, int], progress: Progress
    ) -> None:
        now_ms = self._now_ms()
        noted_s = time.monotonic()
        async with self._database.transaction(snapshot=True) as connection:
            for shard, token in tokens.items():
                async for balances in live_balances(connection, shard, now_ms, _PAGE):
                    rows = [balance.row(now_ms) for balance in balances]
                    await self._write(shard, rows, token)
                    progress.counters += len(rows)
                    progress.by_shard[shard][0] += len(rows)
                    _count_committed(shard, balances, now_ms, progress)
                    failpoint("rebuild_during_load")
                    if time.monotonic() - noted_s > _NOTE_EVERY_S:
                        await self._note(rebuild_ids, progress)
                        noted_s = time.monotonic()
                async for holds in live_holds(connection, shard, now_ms, _PAGE):
                    await self._write(shard, holds, token)
                    progress.holds += len(holds)
                    progress.by_shard[shard][1] += len(holds)
                    progress.held_nano_usd[shard] += sum(map(_held_nano_usd, holds))
                    if time.monotonic() - noted_s > _NOTE_EVERY_S:
                        await self._note(rebuild_ids, progress)
                        noted_s = time.monotonic()

    async def _write(self, shard: int, rows: Sequence[Row], token: str) -> None:
        if not await self._data.load(shard, rows, token=token):
            raise TakenOver(f"another server rebuilds shard {shard}")

    async def _open(
        self,
        tokens: Mapping[int, str],
        after: Mapping[int, Position],
        fenced: Mapping[int, Fenced],
        *,
        replaying: bool,
    ) -> None:
        for shard, token in tokens.items():
            opened = await self._data.open(
                shard,
                token,
                after[shard].epoch,
                sequence=after[shard].sequence,
                now_ms=max(self._now_ms(), fenced[shard].newest_ms),
                replaying=replaying,
            )
            if not opened:
                raise TakenOver(f"another server rebuilds shard {shard}")

    async def _send_again(self, after: Mapping[int, Position], progress: Progress) -> None:
        """Have those calls made again that servers had answered and that were lost.

        It waits for what the other servers have to say, for a while.
        """
        for shard, position in after.items():
            recent = self._engine.shards.recent
            lost = await unrecorded(self._database, shard, recent.of(shard))
            self._engine.shards.adopt(shard, position.epoch, position.sequence)
            await self._engine.say_again(shard, lost, self._servers.server_id)
        await self._wait_for_others(after)
        for shard in after:
            made, failed = await self._engine.make_again(shard)
            progress.resent[shard] = made
            if failed:
                _log.error("calls_lost", shard=shard, calls=failed, sent=made)

    async def _wait_for_others(self, after: Mapping[int, Position]) -> None:
        deadline = time.monotonic() + self._servers.wait_s
        waiting = dict(after)
        while waiting:
            await self._servers.look()
            for shard in list(waiting):
                if self._servers.others <= await self._data.replayed(shard):
                    del waiting[shard]
            if waiting and time.monotonic() > deadline:
                _log.warning("opened_without_some_servers", shards=sorted(waiting))
                return
            if waiting:
                await asyncio.sleep(_POLL_S)

    async def _note(
        self, rebuild_ids: Mapping[int, int], progress: Progress, *, ended: bool = False
    ) -> None:
        """Write down how far it is, so that no other server takes it for one that stands still."""
        async with self._database.transaction() as connection:
            await connection.executemany(
                "UPDATE rebuilds SET counters = $2, holds = $3, "
                "committed_nano_usd = $4, held_nano_usd = $5, resent = $6, "
                "finished_at = CASE WHEN $7 THEN now() END "
                "WHERE rebuild_id = $1",
                [
                    (
                        rebuild_id,
                        *progress.by_shard[shard],
                        progress.committed(shard),
                        progress.held_nano_usd[shard],
                        progress.resent.get(shard, 0),
                        ended,
                    )
                    for shard, rebuild_id in rebuild_ids.items()
                ],
            )


def _count_committed(shard: int, balances: list[Balance], now_ms: int, progress: Progress) -> None:
    for balance in balances:
        name = parse_counter_id(balance.counter_id)
        if name.meter == meter.COST:
            amount = balance.committed(now_ms)
            progress.committed_nano_usd[shard, name.org, name.budget] += amount


def _held_nano_usd(row: HoldRow) -> int:
    if not row.due_ms:
        return 0
    hold = decode_hold(row.packed)
    if hold.state is not HoldState.OPEN:
        return 0
    return max((each.held for each in hold.entries if each.meter == meter.COST), default=0)
