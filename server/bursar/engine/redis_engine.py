"""The engine on Redis: maps operations to keys and arguments, runs one script a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from bursar.domain.budget import Counter, CounterValues
from bursar.domain.errors import BursarError
from bursar.domain.meter import COUNTER_MAX
from bursar.domain.subject import OrgId
from bursar.engine.keys import hold_name
from bursar.engine.operations import (
    AdjustCode,
    AdjustOperation,
    AdjustOutcome,
    Denied,
    ExtendCode,
    ExtendOperation,
    ExtendOutcome,
    Granted,
    Hold,
    HoldPage,
    HoldState,
    RecordCode,
    RecordOperation,
    RecordOutcome,
    ReserveOperation,
    ReserveOutcome,
    Reused,
    SettleCode,
    SettleOperation,
    SettleOutcome,
    Swept,
    entry_flags,
)
from bursar.engine.recent import as_extended, as_granted
from bursar.engine.rows import (
    Call,
    adjust_outcome,
    adjustment_row,
    extend_outcome,
    hold_of,
    offer_row,
    reserve_outcome,
    retarget_row,
)
from bursar.engine.shards import Shards, sending_again
from bursar.engine.wire import decode_hold, decode_values, unpack
from bursar.failpoints import failpoint

_HOLDS_SCANNED_MAX = 1_000

Anything = TypeVar(
    "Anything",
    ReserveOperation,
    SettleOperation,
    ExtendOperation,
    RecordOperation,
    AdjustOperation,
)


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
        self._limits = shards.limits

    async def send_again(self, shard: int) -> tuple[int, int]:
        """Carry out what this server acknowledged and the record may not have, after a rebuild.

        Whatever the shard has already is answered as a repetition. The operations go one by one,
        in the order in which they were made, each at its own time.

        Returns:
            How many were sent, and how many could not be carried out.
        """
        failed = 0
        calls = self.shards.unsent(shard)
        for now_ms, operation in calls:
            run: Any = {
                ReserveOperation: self.reserve,
                SettleOperation: self.settle,
                ExtendOperation: self.extend,
                RecordOperation: self.record,
                AdjustOperation: self.adjust,
            }[type(operation)]
            with sending_again():
                [outcome] = await run([operation], now_ms)
            failed += _is_lost(outcome)
        self.shards.note_sent(shard, len(calls))
        return len(calls), failed

    async def reserve(
        self, operations: Sequence[ReserveOperation], now_ms: int
    ) -> list[ReserveOutcome | BursarError]:
        """Book each request's first offer that fits, or find what it got before."""

        async def run(
            shard: int, group: list[ReserveOperation]
        ) -> list[ReserveOutcome | BursarError]:
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
            results = await self.shards.run(
                "reserve", shard, call, now_ms, prefix, call.specs, rows
            )
            outcomes = [
                reserve_outcome(operation, result)
                for operation, result in zip(group, results, strict=True)
            ]
            for operation, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Granted) and operation.book:
                    self.shards.keep(shard, now_ms, as_granted(operation, outcome))
            await self.shards.make_durable(shard, call)
            return outcomes

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
            results = await self.shards.run("settle", shard, call, now_ms, prefix, rows)
            for operation, result in zip(group, results, strict=True):
                if result[0] == SettleCode.DONE:
                    self.shards.keep(shard, now_ms, operation)
            await self.shards.make_durable(shard, call)
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
            results = await self.shards.run("extend", shard, call, now_ms, prefix, rows)
            for operation, result in zip(group, results, strict=True):
                if result[0] == ExtendCode.DONE:
                    self.shards.keep(shard, now_ms, as_extended(operation))
            await self.shards.make_durable(shard, call)
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
            results = await self.shards.run("record", shard, call, now_ms, prefix, call.specs, rows)
            for operation, result in zip(group, results, strict=True):
                if result[0] == RecordCode.DONE:
                    self.shards.keep(shard, now_ms, operation)
            await self.shards.make_durable(shard, call)
            return [RecordOutcome(RecordCode(row[0]), hold_of(row)) for row in results]

        return await self._by_shard(operations, run)

    async def adjust(
        self, operations: Sequence[AdjustOperation], now_ms: int
    ) -> list[AdjustOutcome | BursarError]:
        """Book what no call used."""

        async def run(shard: int, group: list[AdjustOperation]) -> list[AdjustOutcome]:
            prefix = self._keys.counter_prefix(shard)
            call = Call(self._keys.shard_keys(shard))
            packed = [adjustment_row(call, operation, prefix, now_ms) for operation in group]
            rows = [
                [
                    call.hold(self._keys.hold(shard, operation.org, operation.hold_id)),
                    operation.fingerprint,
                    operation.expire_ms,
                    operation.payload,
                    uses,
                    self._limits.expired_tombstone_ms,
                    operation.note,
                ]
                for operation, uses in zip(group, packed, strict=True)
            ]
            results = await self.shards.run("adjust", shard, call, now_ms, prefix, call.specs, rows)
            for operation, result in zip(group, results, strict=True):
                if result[0] == AdjustCode.DONE:
                    self.shards.keep(shard, now_ms, operation)
            await self.shards.make_durable(shard, call)
            return [adjust_outcome(result) for result in results]

        return await self._by_shard(operations, run)

    async def sweep(self, now_ms: int, most: int) -> Swept:
        """End holds whose time is over, at most so many in each shard.

        A shard that fails keeps no other from being swept; the error is raised where all fail.
        """

        async def run(shard: int) -> tuple[int, int, bool]:
            call = Call(self._keys.shard_keys(shard))
            prefix = self._keys.counter_prefix(shard)
            keep_ms = self._limits.expired_tombstone_ms
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
        flat = await self.shards.run("read", shard, call, now_ms, call.specs)
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


def _is_lost(outcome: object) -> bool:
    """Tell whether what was acknowledged could not be carried out again."""
    match outcome:
        case BursarError() | Denied() | Reused():
            return True
        case SettleOutcome():
            return outcome.code not in (SettleCode.DONE, SettleCode.REPEATED)
        case ExtendOutcome():
            return outcome.code not in (ExtendCode.DONE, ExtendCode.CHANGED)
        case RecordOutcome():
            return outcome.code not in (RecordCode.DONE, RecordCode.REPEATED)
        case AdjustOutcome():
            return outcome.code not in (AdjustCode.DONE, AdjustCode.REPEATED)
        case _:
            return False
