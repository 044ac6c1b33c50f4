"""P7 and P11: many live counters, and how long it takes to give them back to an empty Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import grpc
import grpc.aio
import redis

from bench.calls_rows import cpu_figures
from bench.channel import RawChannel
from bench.load import How, Result
from bench.processes import World
from bench.rows import FAR_OFF_WAITING, Row
from bench.stage import HOT, Scale, Stage
from bench.workload import USERS, calls, workload_policy
from bursar.domain.budget import Counter
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.engine.keys import Keys, counter_spec
from bursar.service.settings import Settings

_MILLION = 1_000_000
_PIPELINE = 1_000
_SAMPLE = 1_000
_ASK_EVERY_S = 0.01
_REBUILD_S = 600.0
_USER = "user-0000000"

_FILL = """
INSERT INTO counter_balances (counter_id, slot, shard, kind, p1, p2, committed, held, credit,
    used_at_ms, expire_at_ms)
SELECT replace($1, 'user-0000000', 'user-' || lpad(n::text, 7, '0')), 0, $2, $3, $4, $5,
    n * 1000, 0, 0, $6::bigint, $6::bigint + $7::bigint
FROM generate_series($8::int, $9::int - 1) AS n
"""


@dataclass(slots=True)
class _Refusals:
    """What Reserve answered while the counters were away."""

    refused: int = 0
    others: dict[str, int] = field(default_factory=dict)
    wrong: int = 0


async def p7_and_p11(scale: Scale, say: Callable[[str], None]) -> list[Row]:
    """Measure decisions among few counters and among many, and the rebuild in between."""
    say("starting Redis, PostgreSQL and a server")
    async with Stage(scale, say, {HOT: workload_policy(HOT)}) as stage:
        how = await stage.batched()
        client = redis.Redis.from_url(stage.world.redis.url)
        few = await _measure(stage, how, USERS)
        holds = await _holds(stage, client)
        say(f"recording {scale.counters:,} counters")
        await _fill(stage.world, scale.counters)
        took_s, refusals = await _rebuild(stage, client, scale.counters)
        one = _counter_of(client, USERS)
        many = await _measure(stage, how, scale.counters)
        client.close()
    say("yardstick: plain HSETs")
    plain_s, per_counter = await asyncio.to_thread(_plain, scale.counters, *one)
    few_us, many_us = few.cpu_us("server", "redis"), many.cpu_us("server", "redis")
    per_million_s = took_s * _MILLION / scale.counters
    share = f"{scale.counters:,} live counters"
    return [
        Row(
            "P7",
            f"{share}: CPU of server and Redis of a decision",
            f"{many_us:.1f} us",
            f"{USERS:,} users {few_us:.1f} us",
            many_us / few_us,
            1.15,
            note=f"{per_counter:.0f} bytes of Redis for a counter, {holds:.0f} for an open hold",
            figures={
                "how": how,
                **cpu_figures(few, "few_"),
                **cpu_figures(many, "many_"),
                "redis_bytes_a_counter": round(per_counter),
                "redis_bytes_an_open_hold": round(holds),
            },
        ),
        Row(
            "P11",
            f"rebuild of {share}: s for a million",
            f"{took_s:.1f} s",
            f"plain HSETs {plain_s:.1f} s",
            per_million_s,
            60,
            # A fixed part of it is noticing, and begins to matter where there is little to load.
            far_off_from=FAR_OFF_WAITING,
            note=f"{refusals.refused} Reserves were refused meanwhile, {refusals.wrong} answers "
            "and counters were wrong; "
            f"{took_s / plain_s:.2f} times the yardstick",
            figures={
                "counters": scale.counters,
                "rebuild_s": round(took_s, 2),
                "plain_hset_s": round(plain_s, 2),
                "refused": refusals.refused,
                "other_answers": refusals.others,
                "wrong": refusals.wrong,
            },
        ),
        Row(
            "P11 wrong",
            "answers and counters that were wrong during and after it",
            f"{refusals.wrong}",
            ratio=refusals.wrong,
            reach=0,
        ),
    ]


async def _measure(stage: Stage, how: How, users: int) -> Result:
    """Return what came of a load after every counter of the few has been used."""
    return await stage.load(how, 4, users=users, warm_s=2 * stage.scale.time)


async def _holds(stage: Stage, client: redis.Redis) -> float:
    """Make open holds, and return what one takes in Redis, its place in the expiries included."""
    await stage.load("unary", 1, settles=False)
    keys = Keys(Settings().key_namespace, Settings().shard_count)
    shard = keys.shard_of(HOT)
    expiries = keys.expiries(shard)
    names: Any = client.zrange(expiries, 0, _SAMPLE - 1)
    sizes = [client.memory_usage(name, samples=0) or 0 for name in names]
    places = client.memory_usage(expiries, samples=0) or 0
    return sum(sizes) / len(sizes) + places / client.zcard(expiries)


def _user_counter(user: str, now_ms: int) -> Counter:
    """Return the counter of a user's month."""
    policy = compile_policy(parse_policy(workload_policy(HOT), HOT))
    budget = policy.budget("user")
    assert budget is not None
    counter = policy.counter(budget, {"user": user}, now_ms)
    assert counter is not None
    return counter


async def _fill(world: World, counters: int) -> None:
    """Record counters of more users, up to that many: user n has committed n * 1,000."""
    now_ms = time.time_ns() // 1_000_000
    counter = _user_counter(_USER, now_ms)
    kind, ttl_ms, p1, p2 = counter_spec(counter, now_ms)
    shard = Keys(Settings().key_namespace, Settings().shard_count).shard_of(HOT)
    connection = await asyncpg.connect(world.postgres.url)
    await connection.execute(
        _FILL, counter.id, shard, kind, p1, p2, now_ms, ttl_ms, USERS, counters, timeout=_REBUILD_S
    )
    await connection.execute("VACUUM ANALYZE counter_balances", timeout=_REBUILD_S)
    await connection.close()


async def _rebuild(stage: Stage, client: redis.Redis, counters: int) -> tuple[float, _Refusals]:
    """Empty Redis, ask all the time, and return how long it took until Reserve was answered."""
    stage.say(f"Redis is emptied; {counters:,} counters are rebuilt")
    found, call = _Refusals(), calls([HOT])[0]
    channel = RawChannel(stage.server.address)
    reserve = channel.unary("Reserve")
    client.flushall()
    begin_s = time.perf_counter()
    for number in count():
        try:
            await reserve(call.reserve_as(f"rebuild-{number}"), timeout=5)
            break
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                found.refused += 1
            else:
                found.others[error.code().name] = found.others.get(error.code().name, 0) + 1
        if time.perf_counter() - begin_s > _REBUILD_S:
            break
        await asyncio.sleep(_ASK_EVERY_S)
    took_s = time.perf_counter() - begin_s
    await channel.close()
    found.wrong = len(found.others) + await asyncio.to_thread(_wrong, client, counters)
    return took_s, found


def _key(number: int) -> str:
    """Return the key of a user's counter."""
    keys = Keys(Settings().key_namespace, Settings().shard_count)
    name = _user_counter(_USER, time.time_ns() // 1_000_000).id
    return keys.counter_prefix(keys.shard_of(HOT)) + name.replace(_USER, f"user-{number:07}")


def _counter_of(client: redis.Redis, number: int) -> tuple[str, dict[Any, Any], int]:
    """Return key, fields and time to live in ms of a user's counter."""
    key = _key(number)
    return key, client.hgetall(key), client.pttl(key)


def _wrong(client: redis.Redis, counters: int) -> int:
    """Return how many of a sample of counters are not what was recorded."""
    first = _key(0)
    pipeline = client.pipeline(transaction=False)
    sample = range(USERS, counters, max(counters // _SAMPLE, 1))
    for number in sample:
        pipeline.hget(first.replace(_USER, f"user-{number:07}"), "c")
    amounts: list[Any] = pipeline.execute()
    return sum(
        int(amount or -1) != number * 1_000 for amount, number in zip(amounts, sample, strict=True)
    )


def _plain(counters: int, key: str, fields: dict[Any, Any], ttl_ms: int) -> tuple[float, float]:
    """Write as many counters like one with plain pipelines.

    Returns:
        How many seconds it took, and how many bytes of Redis each took.
    """
    with TemporaryDirectory(prefix="bursar-bench-") as folder, EmbeddedRedis(Path(folder)) as own:
        client = redis.Redis.from_url(own.url)
        before_bytes, begin_s = client.info("memory")["used_memory"], time.perf_counter()
        for at in range(0, counters, _PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for number in range(at, min(at + _PIPELINE, counters)):
                name = key.replace(f"user-{USERS:07}", f"user-{number:07}")
                pipeline.hset(name, mapping=fields)
                pipeline.pexpire(name, ttl_ms)
            pipeline.execute()
        took_s = time.perf_counter() - begin_s
        after_bytes = client.info("memory")["used_memory"]
        client.close()
        return took_s, (after_bytes - before_bytes) / counters
