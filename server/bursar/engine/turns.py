"""Turns: operations that arrive within one turn of the event loop go to Redis together.

Those of a shard are one script call, and the calls of one server one pipeline. While several
pipelines are under way, what arrives waits for the first of them to come back: so the more there
is to do, the more goes together, and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bursar.domain.errors import BursarError, InternalError, StoreFull
from bursar.engine.calls import prepare
from bursar.engine.operations import Granted, ReserveOperation, SettleOperation
from bursar.engine.recent import Acknowledged
from bursar.engine.rows import Call
from bursar.engine.shards import Shards

PIPELINES_MAX = 2
"""Pipelines under way to one server: one that Redis works on while the next one is on its way."""

OPERATIONS_MAX = 256
"""Operations that go together in one call, unless they were given together: Redis does nothing
else meanwhile."""

_DONE = 1
"""How every verb says that it has carried an operation out (`lua/verbs/`)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Operations of one shard that were given together, and where their results go."""

    shard: int
    operations: Sequence[Acknowledged]
    now_ms: int
    results: asyncio.Future[list[Any]]


class Turns:
    """Brings the operations of all callers together. For one event loop."""

    def __init__(self, shards: Shards) -> None:
        """Has nothing to do yet.

        Args:
            shards: Where operations go.
        """
        self._shards = shards
        self._waiting: defaultdict[str, deque[_Waiting]] = defaultdict(deque)
        self._pipelines: defaultdict[str, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False

    def add(
        self, shard: int, operations: Sequence[Acknowledged], now_ms: int
    ) -> asyncio.Future[list[Any]]:
        """Have operations carried out, in their order.

        Args:
            shard: On which all of them are.
            operations: At least one.
            now_ms: Of them; of all that go together the latest is the time of the call.

        Returns:
            What `lua/verbs/` says of each. It ends with the error that kept all of them from being
            carried out. Cancelled before they are sent, they are not.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(shard, operations, now_ms, loop.create_future())
        self._waiting[self._shards.place(shard)].append(waiting)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._send_all)
        return waiting.results

    def _send_all(self) -> None:
        self._is_due = False
        for place in list(self._waiting):
            self._send(place)

    def _send(self, place: str) -> None:
        """Send what waits for a server, unless enough is under way to it."""
        while self._waiting[place] and self._pipelines[place] < PIPELINES_MAX:
            groups = _take(self._waiting[place])
            if groups:
                self._pipelines[place] += 1
                self._start(self._carry(place, groups))
        if not self._waiting[place]:
            del self._waiting[place]

    async def _carry(self, place: str, groups: Sequence[list[_Waiting]]) -> None:
        try:
            ended = await self._run(groups)
        finally:
            self._pipelines[place] -= 1
            if self._waiting.get(place):
                self._send(place)
        for group, call, outcome in ended:
            # What takes its time must not keep the others of the pipeline waiting.
            if isinstance(outcome, BaseException):
                self._start(self._apart(group, outcome))
            elif self._shards.is_durable_at_once:
                await self._acknowledge(group, call, outcome)
            else:
                self._start(self._acknowledge(group, call, outcome))

    async def _run(
        self, groups: Sequence[list[_Waiting]]
    ) -> list[tuple[list[_Waiting], Call, list[Any] | BaseException]]:
        ended: list[tuple[list[_Waiting], Call, list[Any] | BaseException]] = []
        calls, sent = [], []
        for group in groups:
            try:
                calls.append(self._prepared(group))
                sent.append(group)
            except Exception as error:
                ended.append((group, Call([]), error))
        try:
            outcomes = await self._shards.run_all("operate", calls) if calls else []
        except BaseException as error:
            for group in groups:
                _fail(group, error)
            if not isinstance(error, Exception):
                raise
            return []
        for group, call, outcome in zip(sent, calls, outcomes, strict=True):
            ended.append((group, call[1], outcome))
        return ended

    def _prepared(self, group: Sequence[_Waiting]) -> tuple[int, Call, int, Sequence[object]]:
        operations = [operation for each in group for operation in each.operations]
        shard, now_ms = group[0].shard, max(each.now_ms for each in group)
        limits = self._shards.limits
        ready = prepare(operations, self._shards.keys, shard, now_ms, limits.tombstones)
        return shard, ready.call, now_ms, ready.rest

    async def _apart(self, group: list[_Waiting], error: BaseException) -> None:
        """Fail operations that failed together, or try again those that another one may have kept.

        A Redis that is full refuses a call with anything in it that needs memory, and what only
        gives some back must go on. Where a script fails, nothing was done, and one operation is to
        blame: it is found by halves, in order.
        """
        if isinstance(error, StoreFull):
            settling = [each for each in group if _only_settles(each)]
            if settling and len(settling) < len(group):
                _fail([each for each in group if not _only_settles(each)], error)
                await self._again(settling)
                return
        one_is_to_blame = not isinstance(error, BursarError) or isinstance(error, InternalError)
        if one_is_to_blame and len(group) > 1:
            middle = len(group) // 2
            await self._again(group[:middle])
            await self._again(group[middle:])
        elif one_is_to_blame and len(group[0].operations) > 1:
            await self._again_by_halves(group[0])
        else:
            _fail(group, error)

    async def _again(self, group: list[_Waiting]) -> None:
        group = [each for each in group if not each.results.done()]
        for ended, call, outcome in await self._run([group]) if group else ():
            if isinstance(outcome, BaseException):
                await self._apart(ended, outcome)
            else:
                await self._acknowledge(ended, call, outcome)

    async def _again_by_halves(self, waiting: _Waiting) -> None:
        """Carry out operations that were given together; each has its result or its own error."""
        results: list[Any] = []
        middle = len(waiting.operations) // 2
        for part in (waiting.operations[:middle], waiting.operations[middle:]):
            future = asyncio.get_running_loop().create_future()
            await self._again([_Waiting(waiting.shard, part, waiting.now_ms, future)])
            try:
                results += await future
            except BursarError as error:
                results += [error] * len(part)
            except Exception as error:
                internal = InternalError("an operation cannot be made into a call of Redis")
                internal.__cause__ = error
                results += [internal] * len(part)
        if not waiting.results.done():
            waiting.results.set_result(results)

    async def _acknowledge(self, group: list[_Waiting], call: Call, results: Sequence[Any]) -> None:
        """Keep what was done until it is recorded, and answer once it is safe enough."""
        try:
            operations = (operation for each in group for operation in each.operations)
            done = [
                (operation, _granted(operation, result))
                for operation, result in zip(operations, results, strict=True)
                if result[0] == _DONE and not _only_looks(operation)
            ]
            self._shards.keep(group[0].shard, call, max(each.now_ms for each in group), done)
            if not self._shards.is_durable_at_once:
                await self._shards.make_durable(group[0].shard, call)
        except BaseException as error:
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
            return
        following = iter(results)
        for each in group:
            own = [next(following) for _ in each.operations]
            if not each.results.done():
                each.results.set_result(own)

    def _start(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _take(waiting: deque[_Waiting]) -> list[list[_Waiting]]:
    """Take what goes next, by shard, in order; what nobody waits for any more is dropped."""
    by_shard: defaultdict[int, list[_Waiting]] = defaultdict(list)
    count = 0
    while waiting and (count == 0 or count + len(waiting[0].operations) <= OPERATIONS_MAX):
        each = waiting.popleft()
        if not each.results.done():
            by_shard[each.shard].append(each)
            count += len(each.operations)
    return list(by_shard.values())


def _fail(group: Iterable[_Waiting], error: BaseException) -> None:
    for each in group:
        if each.results.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            each.results.cancel()
        else:
            each.results.set_exception(error)


def _only_settles(waiting: _Waiting) -> bool:
    return all(isinstance(each, SettleOperation) for each in waiting.operations)


def _only_looks(operation: Acknowledged) -> bool:
    return isinstance(operation, ReserveOperation) and not operation.book


def _granted(operation: Acknowledged, result: Sequence[Any]) -> Granted | None:
    if not isinstance(operation, ReserveOperation):
        return None
    return Granted(result[1] - 1, result[2], ())
