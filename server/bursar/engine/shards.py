"""The shards as one server sees them: which generation it decides from, and one call on one shard.

A shard whose data is missing, of another generation, or older than what this server has seen is
cold: nothing is decided from it until the record has it rebuilt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bursar.domain.errors import BursarError, ClockBehind, NotDurable, ShardCold
from bursar.engine.keys import Keys, Tombstones
from bursar.engine.operations import Granted
from bursar.engine.recent import Acknowledged, RecentCall, RecentCalls
from bursar.engine.rows import Call
from bursar.engine.scripts import load_script
from bursar.engine.shard_data import ShardData
from bursar.engine.store import ShardMark, Store
from bursar.engine.wire import pack, unpack
from bursar.failpoints import failpoint

_FOR_EVER_MS = 2**50

LOST_CALLS = "Redis lacks calls that were answered"
"""Why a shard is stopped that has gone back."""

_sending_again: ContextVar[bool] = ContextVar("sending_again", default=False)


@contextmanager
def sending_again() -> Iterator[None]:
    """Make calls to shards that are rebuilt and open only for calls that are sent again."""
    token = _sending_again.set(True)
    try:
        yield
    finally:
        _sending_again.reset(token)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of the engine.

    Attributes:
        tombstone_ms: How long a settled hold's answers are kept.
        expired_tombstone_ms: How long an expired hold can still be settled.
        journal_entries_max: Entries that may wait in a shard's journal before nothing new is
            granted.
        clock_lag_ms_max: How far a clock may be behind what a shard has seen.
        recent_calls_max: Acknowledged operations that are kept until they are recorded.
        replicas: Replicas that must have a call before it is acknowledged.
    """

    tombstone_ms: int = 900_000
    expired_tombstone_ms: int = 86_400_000
    journal_entries_max: int = 100_000
    clock_lag_ms_max: int = 5_000
    recent_calls_max: int = 20_000
    replicas: int = 0

    @property
    def tombstones(self) -> Tombstones:
        """How long ended holds answer repeated calls."""
        return Tombstones(self.tombstone_ms, self.expired_tombstone_ms)


class _Status(IntEnum):
    """What a script says of its shard; mirrors `lua/shared/shard.lua`."""

    OK = 0
    MISSING = 1
    OTHER_EPOCH = 2
    OLDER = 3
    CLOCK_BEHIND = 4
    REPLAYING = 5


_COLD = (_Status.MISSING, _Status.OTHER_EPOCH, _Status.OLDER, _Status.REPLAYING)


class Shards:
    """The shards of one Redis.

    Attributes:
        store: The Redis.
        keys: Names of everything.
        limits: Bounds.
        data: Of the shards as a whole.
        recent: What this server has acknowledged and does not know to be recorded.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        limits: EngineLimits,
        confirm: Callable[[int, int], Awaitable[None]] | None = None,
    ) -> None:
        """Decides nothing until it has adopted the shards' generations.

        Args:
            store: The Redis.
            keys: Names of everything.
            limits: Bounds.
            confirm: Waits until a shard's calls up to a sequence number are recorded, where
                acknowledgements have to be.
        """
        self.store = store
        self.keys = keys
        self.limits = limits
        self.data = ShardData(store, keys)
        self._confirm = confirm
        self.recent = RecentCalls(limits.recent_calls_max)
        self._epochs: dict[int, str] = {}
        self._sequences: dict[int, int] = {}
        self._cold: set[int] = set(range(keys.shard_count))

    @property
    def all_cold(self) -> bool:
        """Whether no shard could decide when it was asked or looked at last."""
        return len(self._cold) == self.keys.shard_count

    @property
    def cold(self) -> frozenset[int]:
        """Shards that could not decide when they were asked or looked at last."""
        return frozenset(self._cold)

    @property
    def warm(self) -> list[int]:
        """Shards that could decide when they were asked or looked at last."""
        return [shard for shard in self._epochs if shard not in self._cold]

    def epoch(self, shard: int) -> str:
        """Return the generation of a shard that this server decides from; empty: none yet."""
        return self._epochs.get(shard, "")

    def sequence(self, shard: int) -> int:
        """Return the newest sequence number of a shard that this server saw."""
        return self._sequences.get(shard, 0)

    def adopt(self, shard: int, epoch: str, sequence: int) -> None:
        """Decide from another generation of a shard's data from here on.

        Args:
            shard: Which.
            epoch: Its generation, as the record has it.
            sequence: What its data must have reached at the least.
        """
        self._epochs[shard], self._sequences[shard] = epoch, sequence

    def recorded(self, shard: int, epoch: str, sequence: int) -> None:
        """Learn up to where a shard is recorded; that much it must never lack again."""
        if epoch == self._epochs.get(shard):
            self._sequences[shard] = max(sequence, self._sequences.get(shard, 0))

    def keep(
        self,
        shard: int,
        call: Call,
        now_ms: int,
        done: Sequence[tuple[Acknowledged, Granted | None]],
    ) -> None:
        """Keep what a call did until it is recorded."""
        for operation, granted in done:
            kept = RecentCall(call.epoch, call.sequence, call.entry_id, now_ms, operation, granted)
            self.recent.add(shard, kept)

    @property
    def is_durable_at_once(self) -> bool:
        """Whether a call is as safe as it has to be as soon as Redis has answered it."""
        return self._confirm is None and not self.limits.replicas

    async def look(self) -> list[ShardMark | None]:
        """Learn which shards have lost their data, or have it back, also those nobody asks.

        A shard that has lost calls which this server saw answered is stopped for every server.

        Returns:
            How each shard is marked, in order; None: its server does not answer.
        """
        seen = dict(self._sequences)
        states = await self.data.states()
        for shard, state in enumerate(states):
            if state is None:
                self._cold.add(shard)
                continue
            is_ours = state.epoch != "" and state.epoch == self._epochs.get(shard)
            if is_ours and state.sequence < seen.get(shard, 0):
                await self.data.fence(
                    shard, epoch=state.epoch, sequence=seen[shard], why=LOST_CALLS
                )
            if is_ours and state.sequence >= seen.get(shard, 0) and not state.replaying:
                self._cold.discard(shard)
            else:
                self._cold.add(shard)
        return states

    def place(self, shard: int) -> str:
        """Return a name of the server that a shard is on, as far as is known."""
        return self.store.place(self.keys.meta(shard))

    async def run(self, name: str, shard: int, call: Call, now_ms: int, *rest: object) -> Any:  # noqa: ANN401 - as the script replied
        """Run a script on a shard, and check that the shard is what it was.

        Raises:
            ShardCold: Its data is missing, of another epoch, or older than what was seen.
            ClockBehind: This server's clock is too far behind.
        """
        [outcome] = await self.run_all(name, [(shard, call, now_ms, rest)])
        if isinstance(outcome, BursarError):
            raise outcome
        return outcome

    async def run_all(
        self, name: str, calls: Sequence[tuple[int, Call, int, Sequence[object]]]
    ) -> list[Any]:
        """Run a script on several shards in one round trip.

        Args:
            name: Of the script.
            calls: Shard, keys, time, and what follows the head.

        Returns:
            For each what the script replied, or the error that it failed with: see `run`.
        """
        script, again = load_script(name), _sending_again.get()
        replicas = 0 if name == "read" else self.limits.replicas
        epochs = [self._epochs.get(shard, "") for shard, *_ in calls]
        arguments = [
            (script, call.keys, pack([self._head(shard, epoch, now_ms, again=again), *rest]))
            for epoch, (shard, call, now_ms, rest) in zip(epochs, calls, strict=True)
        ]
        failpoint("before_script")
        replies = await self.store.run_all(arguments, replicas)
        failpoint("after_script")
        outcomes: list[Any] = []
        for (reply, reached), epoch, (shard, call, *_) in zip(replies, epochs, calls, strict=True):
            if isinstance(reply, BursarError):
                outcomes.append(reply)
                continue
            call.replicas = reached
            outcomes.append(await self._read(shard, epoch, call, reply, again=again))
        return outcomes

    def _head(self, shard: int, epoch: str, now_ms: int, *, again: bool) -> list[object]:
        return [
            epoch,
            self._sequences.get(shard, 0),
            now_ms,
            # What is sent again was done at its own time, however long ago.
            _FOR_EVER_MS if again else self.limits.clock_lag_ms_max,
            self.limits.journal_entries_max,
            int(again),
            "" if again else self._newest_id(shard, epoch),
        ]

    async def _read(self, shard: int, epoch: str, call: Call, reply: bytes, *, again: bool) -> Any:  # noqa: ANN401 - as the script replied
        """Note what a reply says of the shard, and return its results or an error."""
        status, sequence, results, call.journaled, entry_id = unpack(reply)
        call.epoch, call.sequence, call.entry_id = epoch, sequence, entry_id.decode()
        if status in _COLD:
            self._cold.add(shard)
        elif not again:
            self._cold.discard(shard)
        if status == _Status.OLDER:
            # It must not decide for servers that saw less.
            await self.data.fence(shard, epoch=epoch, why=LOST_CALLS)
        if status != _Status.OK:
            return _shard_error(_Status(status), self.keys.tag(shard))
        if epoch == self._epochs.get(shard):
            self._sequences[shard] = max(sequence, self._sequences.get(shard, 0))
        return results

    def _newest_id(self, shard: int, epoch: str) -> str:
        newest = self.recent.newest(shard)
        return newest.stream_id if newest is not None and newest.epoch == epoch else ""

    async def read(self, shard: int, *commands: Sequence[Any]) -> list[Any]:
        """Return the replies of reading commands on a shard, as of one moment.

        Raises:
            ShardCold: Its data is missing or of another epoch: nothing that is not there says
                anything.
        """
        meta = ("HMGET", self.keys.meta(shard), "epoch", "replaying")
        (epoch, replaying), *replies = await self.store.together(meta, *commands)
        if epoch is None:
            raise _shard_error(_Status.MISSING, self.keys.tag(shard))
        if epoch.decode() != self._epochs.get(shard):
            raise _shard_error(_Status.OTHER_EPOCH, self.keys.tag(shard))
        if replaying is not None:
            raise _shard_error(_Status.REPLAYING, self.keys.tag(shard))
        return replies

    async def make_durable(self, shard: int, call: Call) -> None:
        """Wait until a call is as safe as it has to be.

        Raises:
            NotDurable: It was carried out, but is not that safe yet.
        """
        if call.replicas < self.limits.replicas:
            raise NotDurable(
                f"carried out, but on {call.replicas} replicas and not yet on "
                f"{self.limits.replicas}; the same request may be retried"
            )
        if self._confirm is not None and call.journaled and not _sending_again.get():
            await self._confirm(shard, call.journaled)


def _shard_error(status: _Status, tag: str) -> BursarError:
    match status:
        case _Status.MISSING:
            what = f"the data of shard {tag} is gone from Redis"
        case _Status.OTHER_EPOCH:
            what = f"the data of shard {tag} is of another generation than the record's"
        case _Status.OLDER:
            what = f"shard {tag} has lost calls that it had answered"
        case _Status.REPLAYING:
            what = f"shard {tag} is rebuilt, and calls that were answered are sent to it again"
        case _:
            what = f"this server's clock is behind what shard {tag} has seen; check its time source"
            return ClockBehind(what, shard=tag)
    return ShardCold(f"{what}; nothing is decided from it until it is rebuilt", shard=tag)
