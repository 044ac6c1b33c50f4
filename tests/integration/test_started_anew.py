"""A Redis that was started anew: nobody decides on it until every server has looked (T35, T36)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_calls import MODELS, ask, commit, denied, granted, refused
from engine_state import counters
from engine_world import HandClock
from ledger_world import LedgerWorld, open_ledger_world
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from bursar.domain.errors import BursarError, ShardCold, StoreUnavailable
from bursar.domain.subject import OrgId, Subject
from bursar.engine.store import ScriptCall
from killable_stores import RedisNode
from polling import eventually_async

POLICY = f"""
org: acme
budgets:
  - {{name: places, limit: {{requests: 2}}, window: day}}
{MODELS}
"""


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisNode]:
    """A Redis with an append-only file, that can be killed and started on an older copy of it."""
    node = RedisNode(tmp_path / "redis")
    node.start()
    with node.client() as client:
        # Else what was answered may be written a second later, and a copy lacks more than it says.
        client.config_set("appendfsync", "always")
    yield node
    node.kill()


def start_anew(node: RedisNode, *, lossy: bool = False) -> None:
    """Kill it and start it on what it has, or on what it had when it was to remember it."""
    node.kill()
    if lossy:
        node.go_back()
    node.start()


@asynccontextmanager
async def two_servers(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> AsyncIterator[LedgerWorld]:
    async with open_ledger_world(
        f"unix://{mortal.socket}", database_url, key_namespace, POLICY, servers=2
    ) as world:
        yield world


async def reached(world: LedgerWorld) -> None:
    """Wait until everyone has heard that the old connections have ended."""

    async def answers() -> bool:
        try:
            await world.redis.ping()
            return all([await server.store.time_ms() for server in world.servers])
        except (StoreUnavailable, RedisConnectionError):
            return False

    await eventually_async(answers)


async def test_t36_nobody_decides_before_all_have_looked(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: a call that was lost is neither denied nor its place given away, by no server (I1, I5).

    Method: two servers, room for two; the first one's last grant is cut off Redis's file. The other
    server knows nothing of it: asked first, it says neither that the hold is not there nor that
    there is room. Once both have looked the grant is there, and nothing else has its place.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = (server.authority for server in world.servers)
        await granted(second, ask("a", input_tokens=100))
        mortal.remember()
        lost = await granted(first, ask("lost", input_tokens=100))
        start_anew(mortal, lossy=True)
        await reached(world)
        for _ in range(3):
            assert isinstance(await refused(second, commit(lost, input_tokens=1)), ShardCold)
            assert isinstance(await refused(second, ask("b", input_tokens=100)), ShardCold)
            with pytest.raises(ShardCold):
                await second.list_holds(Subject(OrgId("acme")), 10, "")
            with pytest.raises(ShardCold):
                await second.balances(Subject(OrgId("acme")), 10, "")
            await world.servers[1].ledger.look()
        await world.until_warm()
        await second.settle(commit(lost, input_tokens=100))
        await denied(second, ask("b", input_tokens=100))
        [found] = (await counters(world.redis, world.keys)).values()
        assert (found["c"], found["h"]) == (1, 1)


async def test_t35_a_whole_file_is_not_rebuilt(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: a Redis that lost nothing goes on as it is, once every server has said so (T35).

    Method: it is killed and started; one server looks, several times, and nobody decides; the other
    one looks, and both decide, in the same generation.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = world.servers
        epoch = first.engine.shards.epoch(0)
        one = await granted(first.authority, ask("one", input_tokens=100))
        start_anew(mortal)
        await reached(world)
        for _ in range(3):
            await first.ledger.look()
            for server in world.servers:
                error = await refused(server.authority, ask("two", input_tokens=100))
                assert isinstance(error, ShardCold)
                assert "started anew" in error.message
                assert server.engine.shards.cold == {0}
        await second.ledger.look()
        await second.authority.settle(commit(one, input_tokens=100))
        await granted(first.authority, ask("two", input_tokens=100))
        await first.ledger.look()
        assert not first.engine.shards.cold
        assert first.engine.shards.epoch(0) == epoch
        assert [row["cause"] for row in await world.rows("SELECT cause FROM rebuilds")] == [
            "first start"
        ]


async def test_an_earlier_run_that_is_back_does_not_decide(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: a primary that failed, followed its successor and is back asks everyone again.

    Method: once one server has looked at the new run, the shard is no longer the old run's.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        meta = world.keys.meta(0)
        before = await world.redis.hget(meta, "run")
        assert before
        start_anew(mortal)
        await reached(world)
        assert await world.redis.hget(meta, "run") == before
        await world.servers[0].ledger.look()
        assert await world.redis.hget(meta, "run") is None
        await world.servers[1].ledger.look()
        assert await world.redis.hget(meta, "run") not in (None, before)


async def test_a_server_that_does_not_look_is_waited_for_only_so_long(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: a server that is there and does not reach Redis keeps the others out for some seconds.

    Method: one of two says that it is there and never looks; the other one's clock goes on.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = world.servers
        await granted(first.authority, ask("one", input_tokens=100))
        start_anew(mortal)
        await reached(world)
        clock = HandClock(0)
        first.ledger._watch._steady_s = lambda: clock.at_ms / 1_000
        with capture_logs() as logs:
            for at_ms, is_cold in ((0, True), (2_900, True), (3_100, False)):
                clock.at_ms = at_ms
                await second.ledger.beat()
                await first.ledger.look()
                await first.ledger.look()
                assert bool(first.engine.shards.cold) is is_cold
        assert "opened_without_some_servers" in [each["event"] for each in logs]
        await granted(first.authority, ask("two", input_tokens=100))


async def test_a_server_that_has_left_is_not_waited_for(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: whoever has stopped keeps nobody waiting. Method: one of two ends before the kill."""
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = world.servers
        await second.ledger.close()
        await first.ledger.look()
        start_anew(mortal)
        await reached(world)
        await first.ledger.look()
        await granted(first.authority, ask("one", input_tokens=100))


async def test_what_was_on_its_way_is_not_answered_after_all(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: a server does not answer what it did not know when it said that nothing is missing.

    Method: the reply of a grant is held back in the server; Redis is started without it, and both
    servers look, and give the places to others. What the caller hears is that the outcome is
    unknown; the same request again is denied.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = world.servers
        mortal.remember()
        arrived, let_go = asyncio.Event(), asyncio.Event()
        run_all = first.store.run_all

        async def slow(
            calls: Sequence[ScriptCall], replicas: int = 0
        ) -> list[tuple[bytes | BursarError, int]]:
            replies = await run_all(calls, replicas)
            arrived.set()
            await let_go.wait()
            return replies

        first.store.run_all = slow  # type: ignore[method-assign]
        late = asyncio.ensure_future(first.authority.reserve(ask("late", input_tokens=100)))
        await arrived.wait()
        first.store.run_all = run_all  # type: ignore[method-assign]
        start_anew(mortal, lossy=True)
        await reached(world)
        await world.until_warm()
        for number in range(2):
            await granted(second.authority, ask(f"other{number}", input_tokens=100))
        let_go.set()
        with pytest.raises(StoreUnavailable):
            await late
        await denied(first.authority, ask("late", input_tokens=100))


async def test_what_a_server_that_has_left_had_recorded_is_missed(
    mortal: RedisNode, database_url: str, key_namespace: str
) -> None:
    """Goal: who confirms knows all that is recorded, also what was since its last beat.

    Method: a server's last grant is recorded, and the server leaves; Redis comes back without it.
    The other server has not heard of the grant, and looks.
    """
    async with two_servers(mortal, database_url, key_namespace) as world:
        first, second = world.servers
        mortal.remember()
        lost = await granted(first.authority, ask("lost", input_tokens=100))
        await world.record_all()
        await first.ledger.close()
        start_anew(mortal, lossy=True)
        await reached(world)
        await second.ledger._watch.look()
        assert isinstance(await refused(second.authority, ask("b", input_tokens=100)), ShardCold)
        await world.until_warm(second)
        await second.authority.settle(commit(lost, input_tokens=100))
