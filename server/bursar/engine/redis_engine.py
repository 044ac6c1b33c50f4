"""The engine on Redis: maps operations to keys and arguments, runs one script a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from bursar.domain.budget import Counter, CounterValues
from bursar.domain.errors import BursarError, ClockBehind, ShardCold
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.subject import OrgId
from bursar.engine.keys import Keys, hold_name
from bursar.engine.operations import (
    ExtendOperation,
    ExtendOutcome,
    Hold,
    HoldPage,
    HoldState,
    RecordCode,
    RecordOperation,
    RecordOutcome,
    ReserveOperation,
    ReserveOutcome,
    SettleCode,
    SettleOperation,
    SettleOutcome,
    Swept,
    entry_flags,
)
from bursar.engine.rows import (
    Call,
    extend_outcome,
    hold_of,
    offer_row,
    reserve_outcome,
    retarget_row,
)
from bursar.engine.scripts import load_script
from bursar.engine.store import Store
from bursar.engine.wire import decode_hold, decode_values, pack, unpack

_HOLDS_SCANNED_MAX = 1_000

Anything = TypeVar("Anything", ReserveOperation, SettleOperation, ExtendOperation, RecordOperation)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of the engine.

    Attributes:
        tombstone_ms: How long a settled hold's answers are kept.
        expired_tombstone_ms: How long an expired hold can still be settled.
        journal_entries_max: Most entries of a shard's journal.
        clock_lag_ms_max: How far a clock may be behind what a shard has seen.
    """

    tombstone_ms: int = 900_000
    expired_tombstone_ms: int = 86_400_000
    journal_entries_max: int = 100_000
    clock_lag_ms_max: int = 5_000


class RedisEngine:
    """Counters and holds on a Redis. See `operations.Engine` for what each method promises."""

    def __init__(self, store: Store, keys: Keys, limits: EngineLimits) -> None:
        self._store = store
        self._keys = keys
        self._limits = limits
        self._epochs: dict[int, bytes] = {}
        self._sequences: dict[int, int] = {}
        self._cold: set[int] = set()

    async def open(self, epoch: str) -> None:
        """Set the store up if it is new, and learn what it is.

        Args:
            epoch: Names the generation of the data where the store is new; 1 to 64 characters.

        Raises:
            ShardCold: A shard's data is missing although the store was set up before.
            InternalError: The store was set up with another shard count.
        """
        metas = [self._keys.meta(shard) for shard in range(self._keys.shard_count)]
        await self._store.set_up(self._keys.install, metas, self._keys.shard_count, epoch)
        self._epochs = dict(enumerate(await self._store.epochs(metas)))

    @property
    def all_cold(self) -> bool:
        """Whether no shard could decide when it was asked or looked at last."""
        return len(self._cold) == self._keys.shard_count

    async def look(self) -> None:
        """Learn which shards have lost their data, or have it back, also those nobody asks."""
        seen = dict(self._sequences)
        metas = [self._keys.meta(shard) for shard in self._epochs]
        states = await self._store.shard_states(metas)
        for shard, (epoch, sequence) in zip(self._epochs, states, strict=True):
            if epoch == self._epochs[shard] and sequence >= seen.get(shard, 0):
                self._cold.discard(shard)
            else:
                self._cold.add(shard)

    async def reserve(
        self, operations: Sequence[ReserveOperation], now_ms: int
    ) -> list[ReserveOutcome | BursarError]:
        """Book each request's first offer that fits, or find what it got before."""

        async def run(shard: int, group: list[ReserveOperation]) -> list[ReserveOutcome]:
            prefix = self._keys.counter_prefix(shard)
            call = Call(self._keys.shard_keys(shard))
            packed = [
                [offer_row(call, offer, prefix, now_ms) for offer in operation.offers]
                for operation in group
            ]
            rows = [
                [
                    call.hold(self._keys.hold(shard, operation.org, operation.hold_id)),
                    operation.fingerprint,
                    int(operation.book),
                    operation.expire_ms,
                    operation.ttl_ms,
                    now_ms,
                    operation.payload,
                    offers,
                ]
                for operation, offers in zip(group, packed, strict=True)
            ]
            results = await self._run("reserve", shard, call, now_ms, prefix, call.specs, rows)
            return [
                reserve_outcome(operation, result)
                for operation, result in zip(group, results, strict=True)
            ]

        return await self._by_shard(operations, run)

    async def settle(
        self, operations: Sequence[SettleOperation], now_ms: int
    ) -> list[SettleOutcome | BursarError]:
        """Commit and release holds."""

        async def run(shard: int, group: list[SettleOperation]) -> list[SettleOutcome]:
            call = Call(self._keys.shard_keys(shard))
            rows = [
                [
                    call.hold(self._keys.hold(shard, operation.org, operation.hold_id)),
                    int(operation.verb),
                    operation.fingerprint,
                    int(operation.partial),
                    operation.sequence,
                    dict(operation.amounts),
                    self._limits.tombstone_ms,
                    operation.target,
                    retarget_row(operation, now_ms),
                    operation.note,
                ]
                for operation in group
            ]
            prefix = self._keys.counter_prefix(shard)
            results = await self._run("settle", shard, call, now_ms, prefix, rows)
            return [SettleOutcome(SettleCode(result[0]), hold_of(result)) for result in results]

        return await self._by_shard(operations, run)

    async def extend(
        self, operations: Sequence[ExtendOperation], now_ms: int
    ) -> list[ExtendOutcome | BursarError]:
        """Change open holds."""

        async def run(shard: int, group: list[ExtendOperation]) -> list[ExtendOutcome]:
            call = Call(self._keys.shard_keys(shard))
            rows = [
                [
                    call.hold(self._keys.hold(shard, operation.org, operation.hold_id)),
                    operation.revision,
                    operation.expire_ms,
                    operation.ttl_ms,
                    operation.output_tokens,
                    [
                        number
                        for total, ceiling in operation.totals
                        for number in (total, COUNTER_MAX if ceiling is None else ceiling)
                    ],
                ]
                for operation in group
            ]
            prefix = self._keys.counter_prefix(shard)
            results = await self._run("extend", shard, call, now_ms, prefix, rows)
            return [extend_outcome(result) for result in results]

        return await self._by_shard(operations, run)

    async def record(
        self, operations: Sequence[RecordOperation], now_ms: int
    ) -> list[RecordOutcome | BursarError]:
        """Book usage without reservations."""

        async def run(shard: int, group: list[RecordOperation]) -> list[RecordOutcome]:
            prefix = self._keys.counter_prefix(shard)
            call = Call(self._keys.shard_keys(shard))
            packed = [
                [
                    part
                    for counter in operation.counters
                    for part in (
                        call.counter(counter, prefix, now_ms),
                        counter.budget.meter,
                        int(entry_flags(counter)),
                    )
                ]
                for operation in group
            ]
            rows = [
                [
                    call.hold(self._keys.hold(shard, operation.org, operation.hold_id)),
                    operation.fingerprint,
                    operation.payload,
                    operation.target,
                    dict(operation.amounts),
                    uses,
                    self._limits.tombstone_ms,
                    operation.note,
                ]
                for operation, uses in zip(group, packed, strict=True)
            ]
            results = await self._run("record", shard, call, now_ms, prefix, call.specs, rows)
            return [RecordOutcome(RecordCode(row[0]), hold_of(row)) for row in results]

        return await self._by_shard(operations, run)

    async def sweep(self, now_ms: int, most: int) -> Swept:
        """End holds whose time is over, at most so many in each shard.

        A shard that fails keeps no other from being swept; the error is raised where all fail.
        """

        async def run(shard: int) -> tuple[int, int, bool]:
            call = Call(self._keys.shard_keys(shard))
            prefix = self._keys.counter_prefix(shard)
            keep_ms = self._limits.expired_tombstone_ms
            expired, charged, more = await self._run(
                "sweep", shard, call, now_ms, prefix, most, keep_ms
            )
            return expired, charged, more

        shards = list(self._epochs)
        due = await self._store.due([self._keys.shard_keys(each)[1] for each in shards], now_ms)
        swept, failures = [], []
        for shard, any_due in zip(shards, due, strict=True):
            try:
                swept += [await run(shard)] if any_due else []
            except BursarError as error:
                failures.append(error)
        if failures and not swept:
            raise failures[0]
        return Swept(
            sum(each[0] for each in swept),
            sum(each[1] for each in swept),
            any(each[2] for each in swept),
        )

    async def read(self, counters: Sequence[Counter], now_ms: int) -> list[CounterValues]:
        """Return what counters of one org hold."""
        if not counters:
            return []
        shard = self._keys.shard_of(counters[0].org)
        prefix = self._keys.counter_prefix(shard)
        call = Call([self._keys.meta(shard)])
        numbers = [call.counter(counter, prefix, now_ms) for counter in counters]
        flat = await self._run("read", shard, call, now_ms, call.specs)
        values = decode_values([int(text) for text in flat])
        return [values[number - 1] for number in numbers]

    async def find_hold(self, org: OrgId, hold_id: str) -> Hold | None:
        """Return a hold or its tombstone."""
        shard = self._keys.shard_of(org)
        data = await self._store.get(self._keys.hold(shard, org, hold_id))
        return decode_hold(unpack(data)) if data is not None else None

    async def list_holds(self, org: OrgId, cursor: str, limit: int) -> HoldPage:
        """Return a page of an org's open holds.

        Orgs that share a shard share its expiries, so a page looks at a bounded number of them
        and may be short although more follow. The cursor is a time, and how many holds that end
        then were looked at: it names nobody's hold. Where some of these end meanwhile, as many of
        the same time may be passed over.
        """
        shard = self._keys.shard_of(org)
        at_ms, _, passed = cursor.partition(" ")
        last_ms, skip = int(at_ms or 0), int(passed or 0)
        names = await self._store.expiries(
            self._keys.shard_keys(shard)[1], last_ms, skip, _HOLDS_SCANNED_MAX
        )
        found: list[bytes] = []
        for name, expire_ms in names:
            if len(found) == limit:
                break
            last_ms, skip = expire_ms, skip + 1 if expire_ms == last_ms else 1
            if hold_name(name)[0] == org:
                found.append(name)
        else:
            last_ms = last_ms if len(names) == _HOLDS_SCANNED_MAX else -1
        end = f"{last_ms} {skip}" if last_ms >= 0 else ""
        values = await self._store.get_all(found)
        holds = tuple(
            (hold_name(name)[1], hold)
            for name, data in zip(found, values, strict=True)
            if data is not None
            for hold in [decode_hold(unpack(data))]
            if hold.state is HoldState.OPEN
        )
        return HoldPage(holds, end)

    async def _by_shard(
        self,
        operations: Sequence[Anything],
        run: Callable[[int, list[Anything]], Awaitable[list[Any]]],
    ) -> list[Any]:
        """Run the operations of each shard as one script call, and answer in their order.

        A shard that fails fails its own operations: others were carried out, and must say so.
        """
        if len(operations) == 1:
            return await run(self._keys.shard_of(operations[0].org), list(operations))
        groups: dict[int, list[int]] = {}
        for position, operation in enumerate(operations):
            groups.setdefault(self._keys.shard_of(operation.org), []).append(position)
        answers = await asyncio.gather(
            *(run(shard, [operations[at] for at in places]) for shard, places in groups.items()),
            return_exceptions=True,
        )
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if len(failures) == len(groups) or not isinstance(failure, BursarError):
                raise failure
        results: list[Any] = [None] * len(operations)
        for places, answer in zip(groups.values(), answers, strict=True):
            parts = [answer] * len(places) if isinstance(answer, BaseException) else answer
            for position, result in zip(places, parts, strict=True):
                results[position] = result
        return results

    async def _run(self, verb: str, shard: int, call: Call, now_ms: int, *rest: object) -> Any:
        """Run a script on a shard, and check that the shard is what it was.

        Raises:
            ShardCold: Its data is missing, of another epoch, or older than what was seen.
            ClockBehind: This server's clock is too far behind.
        """
        head = [
            self._epochs.get(shard, b""),
            self._sequences.get(shard, 0),
            now_ms,
            self._limits.clock_lag_ms_max,
            self._limits.journal_entries_max,
        ]
        reply = await self._store.run(load_script(verb), call.keys, pack([head, *rest]))
        status, sequence, results = unpack(reply)
        if status in (_Status.MISSING, _Status.OTHER_EPOCH, _Status.OLDER):
            self._cold.add(shard)
        else:
            self._cold.discard(shard)
        if status != _Status.OK:
            raise _shard_error(_Status(status), self._keys.tag(shard))
        if sequence > self._sequences.get(shard, 0):
            self._sequences[shard] = sequence
        return results


class _Status(IntEnum):
    """What a script says of its shard; mirrors `lua/include/shard.lua`."""

    OK = 0
    MISSING = 1
    OTHER_EPOCH = 2
    OLDER = 3
    CLOCK_BEHIND = 4


def _shard_error(status: _Status, tag: str) -> BursarError:
    match status:
        case _Status.MISSING:
            what = f"the data of shard {tag} is gone from Redis"
        case _Status.OTHER_EPOCH:
            what = f"the data of shard {tag} was set up anew since this server started"
        case _Status.OLDER:
            what = f"shard {tag} has lost calls that it had answered"
        case _:
            what = f"this server's clock is behind what shard {tag} has seen; check its time source"
            return ClockBehind(what, shard=tag)
    return ShardCold(f"{what}; nothing is decided from it until it is restored", shard=tag)
