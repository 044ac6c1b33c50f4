"""The engine on Redis: hands operations to the turns, and reads what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bursar.domain.budget import Counter, CounterValues
from bursar.domain.errors import BursarError
from bursar.domain.subject import OrgId
from bursar.engine.calls import pack_call, unpack_call
from bursar.engine.keys import hold_name
from bursar.engine.operations import (
    AdjustCode,
    AdjustOperation,
    AdjustOutcome,
    ExtendCode,
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
)
from bursar.engine.recent import Acknowledged, RecentCall
from bursar.engine.rows import (
    Call,
    adjust_outcome,
    extend_outcome,
    hold_of,
    reserve_outcome,
)
from bursar.engine.shards import Shards, sending_again
from bursar.engine.turns import Turns
from bursar.engine.wire import decode_hold, decode_values
from bursar.failpoints import failpoint

_HOLDS_SCANNED_MAX = 1_000

Outcome = TypeVar("Outcome")


class RedisEngine:
    """Counters and holds on a Redis. See `operations.Engine` for what each method promises.

    Attributes:
        shards: Where they are.
    """

    def __init__(self, shards: Shards) -> None:
        """Brings together what is asked.

        Args:
            shards: The shards that it asks.
        """
        self.shards = shards
        self._store = shards.store
        self._keys = shards.keys
        self._kept = shards.limits.tombstones
        self._turns = Turns(shards)

    async def say_again(self, shard: int, calls: Sequence[RecentCall], server_id: str) -> None:
        """Say which calls that this server answered a rebuilt shard may lack.

        Args:
            shard: Which; it is open only for such calls.
            calls: In order.
            server_id: Of this server.
        """
        packed = [
            (call.sequence, self._pack(shard, call, order)) for order, call in enumerate(calls)
        ]
        await self.shards.data.ask_again(shard, server_id, packed)

    async def make_again(self, shard: int) -> tuple[int, int]:
        """Make the calls again that servers had answered and a rebuilt shard may lack.

        They go one by one, in the order in which they were made on whichever server, each at its
        own time. Whatever the shard has already is answered as a repetition.

        Returns:
            How many were made, and how many could not be carried out.
        """
        packed = await self.shards.data.asked_again(shard)
        failed = [await self._make_again(shard, each) for each in packed].count(False)
        return len(packed), failed

    async def make_own_again(self, shard: int, calls: Sequence[RecentCall]) -> tuple[int, int]:
        """Make own calls again, where the shard was opened without waiting for this server.

        Returns:
            As `make_again`.
        """
        made = [await self._make_again(shard, self._pack(shard, call, 0)) for call in calls]
        return len(made), made.count(False)

    def _pack(self, shard: int, call: RecentCall, order: int) -> bytes:
        return pack_call(call.again(), self._keys, shard, call.now_ms, order, self._kept)

    async def _make_again(self, shard: int, packed: bytes) -> bool:
        ready, now_ms = unpack_call(packed)
        with sending_again():
            [result] = await self.shards.run("operate", shard, ready.call, now_ms, *ready.rest)
        [verb] = ready.verbs
        return result[0] in _THERE[verb]

    async def reserve(
        self, operations: Sequence[ReserveOperation], now_ms: int
    ) -> list[ReserveOutcome | BursarError]:
        """Book each request's first offer that fits, or find what it got before."""
        results = await self._operate(operations, now_ms)
        return [
            result if isinstance(result, BursarError) else reserve_outcome(operation, result)
            for operation, result in zip(operations, results, strict=True)
        ]

    async def settle(
        self, operations: Sequence[SettleOperation], now_ms: int
    ) -> list[SettleOutcome | BursarError]:
        """Commit and release holds."""
        results = await self._operate(operations, now_ms)
        return _outcomes(results, lambda row: SettleOutcome(SettleCode(row[0]), hold_of(row)))

    async def extend(
        self, operations: Sequence[ExtendOperation], now_ms: int
    ) -> list[ExtendOutcome | BursarError]:
        """Change open holds."""
        return _outcomes(await self._operate(operations, now_ms), extend_outcome)

    async def record(
        self, operations: Sequence[RecordOperation], now_ms: int
    ) -> list[RecordOutcome | BursarError]:
        """Book usage without reservations."""
        results = await self._operate(operations, now_ms)
        return _outcomes(results, lambda row: RecordOutcome(RecordCode(row[0]), hold_of(row)))

    async def adjust(
        self, operations: Sequence[AdjustOperation], now_ms: int
    ) -> list[AdjustOutcome | BursarError]:
        """Book what no call used."""
        return _outcomes(await self._operate(operations, now_ms), adjust_outcome)

    async def sweep(self, now_ms: int, most: int) -> Swept:
        """End holds whose time is over, at most so many in each shard.

        A shard that fails keeps no other from being swept; the error is raised where all fail.
        """

        async def run(shard: int) -> tuple[int, int, bool]:
            call = Call(self._keys.shard_keys(shard))
            prefix = self._keys.counter_prefix(shard)
            keep_ms = self._kept.expired_ms
            failpoint("in_sweep")
            expired, charged, more = await self.shards.run(
                "sweep", shard, call, now_ms, prefix, most, keep_ms
            )
            return expired, charged, more

        shards = self.shards.warm
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
        flat = await self.shards.run("read", shard, call, now_ms, call.counters)
        values = decode_values([int(text) for text in flat])
        return [values[number - 1] for number in numbers]

    async def find_hold(self, org: OrgId, hold_id: str) -> Hold | None:
        """Return a hold or its tombstone."""
        shard = self._keys.shard_of(org)
        [data] = await self.shards.find(shard, self._keys.hold(shard, org, hold_id))
        return decode_hold(data) if data else None

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
        # Of a shard that lost its data meanwhile, what is not there says nothing.
        await self.shards.find(shard)
        holds = tuple(
            (hold_name(name)[1], hold)
            for name, data in zip(found, values, strict=True)
            if data is not None
            for hold in [decode_hold(data)]
            if hold.state is HoldState.OPEN
        )
        return HoldPage(holds, end)

    async def _operate(self, operations: Sequence[Acknowledged], now_ms: int) -> list[Any]:
        """Have operations carried out, those of each shard in one call, and answer in their order.

        A shard that fails fails its own operations: others were carried out, and must say so.

        Raises:
            BursarError: Every shard failed.
        """
        groups: dict[int, list[int]] = {}
        for position, operation in enumerate(operations):
            groups.setdefault(self._keys.shard_of(operation.org), []).append(position)
        if len(groups) == 1:
            [shard] = groups
            return await self._turns.add(shard, operations, now_ms)
        added = [
            self._turns.add(shard, [operations[at] for at in places], now_ms)
            for shard, places in groups.items()
        ]
        answers = await asyncio.gather(*added, return_exceptions=True)
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


_THERE: Mapping[str, tuple[int, ...]] = {
    "reserve": (1, 2),
    "settle": (SettleCode.DONE, SettleCode.REPEATED),
    "extend": (ExtendCode.DONE, ExtendCode.CHANGED),
    "record": (RecordCode.DONE, RecordCode.REPEATED),
    "adjust": (AdjustCode.DONE, AdjustCode.REPEATED),
}
"""Replies of each script that say that the operation is carried out, now or before."""


def _outcomes(
    results: Sequence[Any], read: Callable[[list[Any]], Outcome]
) -> list[Outcome | BursarError]:
    return [result if isinstance(result, BursarError) else read(result) for result in results]
