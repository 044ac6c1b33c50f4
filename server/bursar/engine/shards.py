"""The shards as one server sees them: which generation it decides from, and one call on one shard.

A shard whose data is missing, of another generation, or older than what this server has seen is
cold: nothing is decided from it until the record has it rebuilt. So is one on a Redis that was
started anew, until every server has said that it lacks nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bursar.domain.errors import (
    BursarError,
    ClockBehind,
    NotDurable,
    ShardCold,
    StoreUnavailable,
)
from bursar.engine.keys import Keys, Tombstones
from bursar.engine.operations import Granted
from bursar.engine.recent import Acknowledged, RecentCall, RecentCalls
from bursar.engine.rows import Call
from bursar.engine.scripts import WRITING, load_script
from bursar.engine.shard_data import ShardData
from bursar.engine.store import ShardMark, Store
from bursar.engine.wire import pack, unpack
from bursar.failpoints import failpoint

FOR_EVER_MS = 2**50
"""A time that no clock gets to."""

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
    UNCONFIRMED = 6


_COLD = (
    _Status.MISSING,
    _Status.OTHER_EPOCH,
    _Status.OLDER,
    _Status.REPLAYING,
    _Status.UNCONFIRMED,
)


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
        self._confirmations: defaultdict[int, int] = defaultdict(int)
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
            is_ours = self.is_in_force(shard, state)
            if is_ours and state.sequence < seen.get(shard, 0):
                await self.data.fence(
                    shard, epoch=state.epoch, sequence=seen[shard], why=LOST_CALLS
                )
            if (
                is_ours
                and state.sequence >= seen.get(shard, 0)
                and not state.replaying
                and self.is_confirmed(shard, state)
            ):
                self._cold.discard(shard)
            else:
                self._cold.add(shard)
        return states

    def is_in_force(self, shard: int, state: ShardMark) -> bool:
        """Return whether a shard's data is of the generation that this server decides from."""
        return state.epoch != "" and state.epoch == self._epochs.get(shard)

    def is_confirmed(self, shard: int, state: ShardMark) -> bool:
        """Return whether every server has looked at the Redis that a shard is on."""
        return state.run == self.run_of(shard)

    def run_of(self, shard: int) -> str:
        """Return the run of the Redis that a shard is on, as far as is known."""
        return self.store.run_of(self.keys.meta(shard))

    async def confirm(
        self, shards: Sequence[int], server_id: str, others: Collection[str]
    ) -> list[int]:
        """Say of shards whose Redis was started anew that they lack nothing that was answered here.

        One that does lack something is stopped for every server.

        Args:
            shards: Which.
            server_id: Of this server.
            others: Servers that have to say the same before anyone decides.

        Returns:
            Those that are open now.
        """
        for shard in shards:
            self._confirmations[shard] += 1
        calls = [
            (shard, Call([self.keys.meta(shard), self.keys.journal(shard)]), FOR_EVER_MS,
             (server_id, list(others)))
            for shard in shards
        ]  # fmt: skip
        outcomes = await self.run_all("confirm", calls)
        return [
            shard
            for shard, outcome in zip(shards, outcomes, strict=True)
            if not isinstance(outcome, BursarError)
        ]

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
        replicas = self.limits.replicas if name in WRITING else 0
        epochs = [self._epochs.get(shard, "") for shard, *_ in calls]
        confirmations = [self._confirmations[shard] for shard, *_ in calls]
        arguments = [
            (script, call.keys, pack([self._head(shard, epoch, now_ms, again=again), *rest]))
            for epoch, (shard, call, now_ms, rest) in zip(epochs, calls, strict=True)
        ]
        failpoint("before_script")
        replies = await self.store.run_all(arguments, replicas)
        failpoint("after_script")
        outcomes: list[Any] = []
        for (reply, reached), epoch, confirmed, (shard, call, *_) in zip(
            replies, epochs, confirmations, calls, strict=True
        ):
            if isinstance(reply, BursarError):
                outcomes.append(reply)
                continue
            if confirmed != self._confirmations[shard]:
                # What this says was not known when this server said that nothing is missing.
                outcomes.append(StoreUnavailable("Redis was started anew meanwhile"))
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
            FOR_EVER_MS if again else self.limits.clock_lag_ms_max,
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

    async def find(self, shard: int, *holds: str) -> list[bytes]:
        """Return holds of a shard as they are kept; empty: there is none.

        Args:
            shard: Which.
            holds: Their keys; none only to see that what is not there says something.

        Raises:
            ShardCold: Nothing that is not there says anything.
        """
        # The same at any time, so a clock that is behind does no harm.
        found: list[bytes] = await self.run(
            "find", shard, Call([self.keys.meta(shard), *holds]), FOR_EVER_MS
        )
        return found

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
        case _Status.UNCONFIRMED:
            what = f"the Redis of shard {tag} was started anew, and may lack its last calls"
            return ShardCold(
                f"{what}; nothing is decided from it until every server has looked", shard=tag
            )
        case _:
            what = f"this server's clock is behind what shard {tag} has seen; check its time source"
            return ClockBehind(what, shard=tag)
    return ShardCold(f"{what}; nothing is decided from it until it is rebuilt", shard=tag)
