"""Shards of a Redis without a ledger behind it, for tests of the engine alone."""

from __future__ import annotations

from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shard_data import ShardData
from bursar.engine.store import Store


async def open_shards(store: Store, keys: Keys, engine: RedisEngine, epoch: str) -> None:
    """Begin with empty shards where Redis has none, and let an engine decide from what is there.

    Args:
        store: The Redis.
        keys: Names of everything.
        engine: Adopts every shard that has data.
        epoch: Names the generation of new shards.
    """
    data = ShardData(store, keys)
    if not any(state.epoch or state.sequence for state in await data.states()):
        for shard in range(keys.shard_count):
            await begin_shard(data, shard, epoch)
    for shard, state in enumerate(await data.states()):
        if state.epoch:
            engine.shards.adopt(shard, state.epoch, 0)
    await engine.shards.look()


async def look_at_new_runs(engine: RedisEngine) -> None:
    """Say that nothing is missing on every Redis that was started anew, as the only server."""
    anew = [
        shard
        for shard, state in enumerate(await engine.shards.look())
        if state is not None and not engine.shards.is_confirmed(shard, state)
    ]
    await engine.shards.confirm(anew, "alone", ())


async def begin_shard(data: ShardData, shard: int, epoch: str) -> None:
    """Open a shard with what it has, or with nothing."""
    await data.fence(shard, token="test")  # noqa: S106 - no secret
    for replaying in (True, False):
        await data.open(shard, "test", epoch, sequence=0, now_ms=0, replaying=replaying)
