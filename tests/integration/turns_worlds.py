"""The same turns in two worlds: here one operation after the other, there all of a turn at once.

What callers are told and what is in Redis afterwards must be the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engine_calls import carry_out
from engine_state import expiries
from engine_world import World, open_world
from turns_calls import Adjust, Turn

from bursar.authority.authority import Authority
from bursar.authority.identity import hold_name
from bursar.domain.errors import BursarError
from bursar.domain.request import Operation
from bursar.domain.subject import OrgId, Subject, Target
from bursar.domain.window import WindowKind
from bursar.engine.operations import Adjustment, AdjustOperation
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.wire import decode_hold

SHARDS = 3
TTL_SLACK_MS = 60_000
"""Times to live begin when Redis is asked, which is in one world a little later."""


@dataclass(frozen=True)
class Told:
    """One operation that an engine was asked for, and what it said."""

    verb: str
    operation: Any
    outcome: Any


class Recorder:
    """An engine that keeps what it was asked for."""

    def __init__(self, engine: RedisEngine) -> None:
        self._engine = engine
        self.told: list[Told] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever engines do
        method = getattr(self._engine, name)
        if name not in ("reserve", "settle", "extend", "record", "adjust"):
            return method

        async def call(operations: Sequence[Any], now_ms: int) -> list[Any]:
            outcomes = await method(operations, now_ms)
            self.told += map(Told, [name] * len(operations), operations, outcomes)
            return list(outcomes)

        return call


class TwoWorlds:
    """Two worlds of the same policies at the same time.

    Attributes:
        one_by_one: Where each operation is answered before the next one is asked for.
        together: Where all of a turn are asked for at once.
    """

    def __init__(self, one_by_one: World, together: World) -> None:
        self.one_by_one, self.together = one_by_one, together
        self._recorder = Recorder(one_by_one.engine)
        # Budgets are the same where they are one object, so both decide by the same ones.
        policies = one_by_one.servers[0].policies
        self._calling_one_by_one = Authority(self._recorder, policies, one_by_one.clock)
        self._calling_together = Authority(together.engine, policies, together.clock)

    async def begin(self, turn: Turn) -> None:
        """Let the time before a turn pass, and what is over end."""
        for world in (self.one_by_one, self.together):
            world.clock.at_ms += turn.step_ms
            if turn.sweeps:
                await world.authority.sweep(1_000)

    async def carry_out_one_by_one(self, turn: Turn) -> tuple[list[Any], list[Told]]:
        """Return what each step was answered, and what the engine was asked for."""
        self._recorder.told = []
        answers = [await _caught(self._carry_out(step)) for step in turn.steps]
        return answers, self._recorder.told

    async def calls_at_once(self, turn: Turn) -> list[Any]:
        """Return what each step is answered where all callers call at once."""
        calls = [
            asyncio.ensure_future(_caught(carry_out(self._calling_together, step)))
            for step in turn.steps
            if not isinstance(step, Adjust)
        ]
        return await asyncio.gather(*calls)

    async def operations_at_once(self, told: Sequence[Told]) -> list[Any]:
        """Return what each operation comes to where all are asked for at once."""
        engine, now_ms = self.together.engine, self.together.clock.at_ms
        calls = [
            asyncio.ensure_future(getattr(engine, each.verb)([each.operation], now_ms))
            for each in told
        ]
        return [outcome for [outcome] in await asyncio.gather(*calls)]

    async def assert_same_state(self) -> None:
        """Check that every counter, hold and expiry is the same in both."""
        here, there = await _state(self.one_by_one), await _state(self.together)
        left_here, left_there = here.pop("left_ms"), there.pop("left_ms")
        for what, expected in here.items():
            found = there[what]
            differ = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
            told = [(name, expected.get(name), found.get(name)) for name in differ]
            assert not told, f"{what} differ: {told}"
        assert left_here.keys() == left_there.keys()
        for name, left_ms in left_here.items():
            assert (left_ms < 0) == (left_there[name] < 0), name
            assert abs(left_ms - left_there[name]) < TTL_SLACK_MS, name

    async def entries_together(self) -> list[int]:
        """Return how many entries the journal of each shard has where all go at once."""
        world = self.together
        return [await world.redis.xlen(world.keys.shard_keys(shard)[2]) for shard in range(SHARDS)]

    async def _carry_out(self, step: Operation | Adjust) -> Any:  # noqa: ANN401 - of any step
        if not isinstance(step, Adjust):
            return await carry_out(self._calling_one_by_one, step)
        operation = _adjustment(self.one_by_one, step)
        return await self._recorder.adjust([operation], self.one_by_one.clock.at_ms)


def _adjustment(world: World, step: Adjust) -> AdjustOperation:
    org = OrgId(step.org)
    policy = world.servers[0].policies.of(org)
    found = policy.counters(Subject(org, **step.subject), Target("p", "m"), world.clock.at_ms)
    adjustments = tuple(
        Adjustment(each, committed=step.committed, credit=step.credit)
        for each in found
        if each.budget.window.kind is not WindowKind.REQUEST
    )
    name, end_ms = hold_name(org, f"adjust {step}"), world.clock.at_ms + 600_000
    return AdjustOperation(
        org, name.hold_id, b"f", adjustments, expire_ms=end_ms if step.credit else 0
    )


async def _caught(call: Awaitable[Any]) -> Any:  # noqa: ANN401 - of any step
    try:
        return await call
    except BursarError as error:
        return (type(error), error.message)


async def _state(world: World) -> dict[str, dict[str, Any]]:
    """Return all that calls could change but sequence numbers and the journal."""
    store, keys = world.redis, world.keys
    names = [name.decode() async for name in store.scan_iter(f"{{{keys.namespace}[0-9]*", 1_000)]
    pipeline = store.pipeline(transaction=False)
    reads = {"c": pipeline.hgetall, "h": pipeline.get}
    kept = [name for name in names if name.split(":")[1] in reads]
    for name in kept:
        pipeline.pttl(name)
        reads[name.split(":")[1]](name)
    replies = await pipeline.execute()
    values = dict(zip(map(_short, kept), replies[1::2], strict=True))
    return {
        "counters": {name: each for name, each in values.items() if isinstance(each, dict)},
        "holds": {name: decode_hold(each) for name, each in values.items() if ":h:" in name},
        "expiries": {_short(name): at_ms for name, at_ms in (await expiries(store, keys)).items()},
        "left_ms": dict(zip(map(_short, kept), replies[::2], strict=True)),
    }


def _short(name: str) -> str:
    """Return a key without its namespace."""
    tag, _, rest = name.partition("}")
    return tag[-2:] + rest


@asynccontextmanager
async def two_worlds(
    redis_url: str, key_namespace: str, documents: Sequence[str]
) -> AsyncIterator[TwoWorlds]:
    """Open both; at their end the journal of each accounts for what is in it."""
    async with AsyncExitStack() as stack:
        worlds = [
            await stack.enter_async_context(
                open_world(redis_url, key_namespace + name, *documents, shards=SHARDS)
            )
            for name in "xy"
        ]
        yield TwoWorlds(*worlds)
