"""The Lua scripts as Redis runs them: all keys in one slot, everything read before it is written.

Method: every verb runs, with rolling, task and plain counters, batches, retargets and sweeps. Redis
tells with MONITOR what each script called. The same runs on a Redis in cluster mode, which refuses
what reaches into another slot.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio as redis
from engine_calls import MODELS, TTL_MS, ask, commit, denied, extend, granted, record, release, used
from engine_commands import READS, WRITES
from engine_world import HOUR, World, open_world

from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.domain.subject import OrgId, Subject, Target
from bursar.engine.operations import AdjustCode, Adjustment, AdjustOperation, AdjustOutcome
from bursar.engine.scripts import READING, SCRIPTS, load_script
from engine_redis import OwnRedis, own_redis
from polling import eventually_async

POLICY = f"""
org: ORG
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day, on_expiry: charge}}
  - {{name: rolling, per: [user], limit: {{tokens: 10000}}, window: {{rolling: 1h}}}}
  - {{name: task, per: [task], limit: {{tokens: 10000}}, window: {{task: 10m}}}}
  - {{name: at-once, limit: {{concurrency: 100}}}}
  - {{name: q-rolling, scope: {{provider: q}}, limit: {{tokens: 10000}}, window: {{rolling: 1h}}}}
{MODELS}
"""
ORGS = tuple(f"org{number}" for number in range(6))
DOCUMENTS = tuple(POLICY.replace("ORG", org) for org in ORGS)
WHO = {"user": "u", "task": "t"}

TAG = re.compile(r"\{[^}]+\}")


async def everything_that_can_happen(world: World) -> None:
    """Run every verb in every way on several shards."""
    leaks: dict[str, ReserveAnswer] = {}
    for org in ORGS:
        one = await granted(world.authority, ask("one", org=org, input_tokens=99, **WHO))
        await granted(world.authority, ask("one", org=org, input_tokens=99, **WHO))
        two = await granted(world.authority, ask("two", org=org, input_tokens=99, **WHO))
        leaks[org] = await granted(world.authority, ask("leak", org=org, input_tokens=99, **WHO))
        await denied(world.authority, ask("much", org=org, input_tokens=99_999, **WHO))
        await world.authority.extend(extend(one, ttl_ms=2 * HOUR, max_output_tokens=50))
        await world.authority.settle(commit(one, part=1, model="other", input_tokens=5))
        await world.authority.settle(commit(one, input_tokens=5))
        await world.authority.settle(release(two))
        await world.authority.record(record("used", org=org, input_tokens=5, **WHO))
        await adjust(world, org)
    batch = [ask(f"b{n}", org=org, input_tokens=9, **WHO) for n in range(3) for org in ORGS]
    answers = await world.authority.batch(batch)
    found = [each for each in answers if isinstance(each, ReserveAnswer)]
    settled = await world.authority.batch([commit(each, input_tokens=3) for each in found[:9]])
    assert all(isinstance(each, SettleAnswer) for each in settled)
    world.clock.at_ms += TTL_MS
    while (await world.authority.sweep(4)).more:
        pass
    world.clock.at_ms += 2 * HOUR
    for org in ORGS:
        assert (await world.authority.settle(commit(leaks[org], input_tokens=1))).late
        await granted(world.authority, ask("later", org=org, input_tokens=9, **WHO))
        assert await used(world.authority, "rolling", org=org, **WHO) == (0, 10)


async def adjust(world: World, org: str) -> None:
    """Book a correction and a credit that ends on counters of every kind."""
    policy = world.servers[0].policies.of(OrgId(org))
    counters = policy.counters(Subject(OrgId(org), **WHO), Target("p", ""), world.clock.at_ms)
    assert len(counters) > 3
    adjustments = tuple(Adjustment(counter, committed=1, credit=5) for counter in counters)
    end_ms = world.clock.at_ms + TTL_MS
    operation = AdjustOperation(OrgId(org), "a" * 24, b"f", adjustments, expire_ms=end_ms)
    for code in (AdjustCode.DONE, AdjustCode.REPEATED):
        [outcome] = await world.engine.adjust([operation], world.clock.at_ms)
        assert isinstance(outcome, AdjustOutcome)
        assert outcome.code is code


@dataclass
class Run:
    """One script call, and what it called."""

    sha: str
    keys: list[str]
    commands: list[list[str]] = field(default_factory=list)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[list[Run]]:
    """Collect the script calls of a Redis while the block runs."""
    runs: list[Run] = []
    client = redis.Redis.from_url(url)
    marker = "the-end"

    def take(told: dict[str, Any]) -> bool:
        words = told["command"].split(" ")
        if told["client_type"] == "lua":
            runs[-1].commands.append(words)
        elif words[0] == "EVALSHA":
            runs.append(Run(words[1], words[3 : 3 + int(words[2])]))
        elif words[0] == "EVAL":
            runs.append(Run("", words[3 : 3 + int(words[2])]))
        return words[:2] == ["ECHO", marker]

    async with client, client.monitor() as monitor:

        async def listen() -> None:
            while not take(await monitor.next_command()):
                pass

        task = asyncio.ensure_future(listen())
        try:
            yield runs
            await client.echo(marker)
            await task
        finally:
            task.cancel()


async def test_what_scripts_call(redis_url: str, key_namespace: str) -> None:
    """Goal: a script stays in one slot, and reads nothing after its first write."""
    async with open_world(redis_url, key_namespace, *DOCUMENTS, shards=16) as world:
        for name in SCRIPTS:
            await world.redis.script_load(load_script(name).text)
        async with watched(redis_url) as runs:
            await everything_that_can_happen(world)
    shas = {load_script(name).sha: name for name in SCRIPTS}
    assert {shas[run.sha] for run in runs} == set(SCRIPTS)
    assert len({TAG.match(run.keys[0])[0] for run in runs}) > 3
    wrote = set()
    for run in runs:
        tags = {TAG.match(each)[0] for each in [*run.keys, *(words[1] for words in run.commands)]}
        assert len(tags) == 1
        names = [words[0].upper() for words in run.commands]
        assert set(names) <= READS | WRITES
        first_write = next((at for at, name in enumerate(names) if name in WRITES), len(names))
        assert not set(names[first_write:]) & READS
        wrote |= {shas[run.sha]} if first_write < len(names) else set()
    assert wrote == set(SCRIPTS) - set(READING)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> OwnRedis:
    folder = tmp_path_factory.mktemp("cluster")
    with own_redis(folder, "--cluster-enabled", "yes") as own:
        with own.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        yield own


async def test_every_verb_on_a_cluster(cluster: OwnRedis, key_namespace: str) -> None:
    """Goal: no script names or touches keys of two slots.

    Method: a Redis in cluster mode that has all slots; it does refuse a script with two.
    """
    async with redis.Redis.from_url(cluster.url) as store:

        async def ready() -> bool:
            return b"cluster_state:ok" in await store.execute_command("CLUSTER", "INFO")

        await eventually_async(ready)
        with pytest.raises(redis.ResponseError, match="same slot"):
            await store.eval("return 1", 2, "a", "b")
    async with open_world(cluster.url, key_namespace, *DOCUMENTS, shards=16) as world:
        await everything_that_can_happen(world)
