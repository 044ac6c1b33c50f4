"""A Redis that is full, read-only, busy, loading, frozen or gone: each is said, and passes.

Method: Redis servers of the test's own that are really in these states. A call that is refused
changed nothing; once the state is over the same servers go on, without being restarted.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import redis as blocking_redis
from engine_calls import (
    MODELS,
    ask,
    carry_out,
    commit,
    extend,
    granted,
    record,
    refused,
    release,
    used,
)
from engine_state import everything
from engine_world import SECOND, World, open_world

from bursar.domain.answer import HoldState
from bursar.domain.errors import InternalError, StoreFull, StoreUnavailable
from bursar.engine.scripts import SCRIPTS, load_script
from engine_redis import OwnRedis, own_redis
from fault_proxy import FaultProxy
from polling import eventually, eventually_async
from shards import look_at_new_runs

POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 100000}}, window: day}}
  - {{name: charged, per: [user], limit: {{tokens: 100000}}, window: day, on_expiry: charge}}
  - {{name: q, scope: {{provider: q}}, limit: {{tokens: 100000}}, window: day}}
{MODELS}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    options = ("--lua-time-limit", "20")
    with own_redis(tmp_path_factory.mktemp("own") / "data", *options) as running:
        yield running


@pytest.fixture
async def world(own: OwnRedis, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(own.url, key_namespace, POLICY) as world:
        for name in SCRIPTS:
            await world.redis.script_load(load_script(name).text)
        yield world


@contextmanager
def configured(own: OwnRedis, name: str, value: str, after: str) -> Iterator[None]:
    """Change a setting of a Redis for a while."""
    with own.client() as client:
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, after)


async def assert_refused(world: World, error: type[Exception], words: str) -> None:
    """Check that new bookings are refused with an error, and that nothing is written."""
    before = await everything(world.redis, world.keys)
    for operation in (
        ask("refused", input_tokens=9),
        record("refused", input_tokens=9),
    ):
        caught = await refused(world.authority, operation)
        assert type(caught) is error
        assert words in caught.message
        assert caught.retry_after_ms is not None
    assert await everything(world.redis, world.keys) == before


async def test_a_full_redis_takes_no_reserve_and_every_settlement(
    own: OwnRedis, world: World
) -> None:
    """Goal: out of memory, what is new is refused whole, what was granted is settled all the same.

    Method: maxmemory falls below what is used. Reserve, record and extend are STORE_FULL; commit,
    part, another model's commit, release, sweep and a late commit are booked. With memory back,
    reserves are granted.
    """
    names = ("commit", "part", "other", "release", "extend")
    holds = {
        name: await granted(world.authority, ask(name, user="u", input_tokens=99)) for name in names
    }
    leak = await granted(world.authority, ask("leak", user="u", input_tokens=99, ttl_ms=SECOND))
    with configured(own, "maxmemory", "1", "0"):
        await assert_refused(world, StoreFull, "out of memory")
        error = await refused(world.authority, extend(holds["extend"], max_output_tokens=50))
        assert isinstance(error, StoreFull)
        answer = await world.authority.settle(commit(holds["commit"], input_tokens=10))
        assert answer.state is HoldState.COMMITTED
        answer = await world.authority.settle(commit(holds["part"], part=1, input_tokens=20))
        assert answer.state is HoldState.OPEN
        await world.authority.settle(commit(holds["other"], model="other", input_tokens=30))
        await world.authority.settle(release(holds["release"]))
        assert (await world.authority.settle(commit(holds["commit"], input_tokens=10))).replayed
        world.clock.at_ms += SECOND
        assert (await world.authority.sweep(10)).charged == 1
        assert (await world.authority.settle(commit(leak, input_tokens=40))).late
        assert await used(world.authority, "day") == (100, 180)
        assert await used(world.authority, "q") == (30, 0)
    await granted(world.authority, ask("refused", input_tokens=9))
    await world.authority.record(record("refused too", input_tokens=9))
    assert (
        await world.authority.extend(extend(holds["extend"], max_output_tokens=50))
    ).denial is None
    assert await used(world.authority, "charged", user="u") == (100, 80 + 149)


async def test_a_replica_is_no_store(own: OwnRedis, world: World, tmp_path: Path) -> None:
    """Goal: a Redis that was made a replica refuses, and decides again as a primary.

    Method: REPLICAOF a real primary, so that writes of scripts meet READONLY; then one that does
    not answer, so that it serves nothing (MASTERDOWN); then a primary with too few replicas.
    """
    hold = await granted(world.authority, ask("a", input_tokens=9))
    state = await everything(world.redis, world.keys)
    with own_redis(tmp_path) as primary, own.client() as client, primary.client() as source:
        for name in client.keys(f"{{{world.keys.namespace}*"):
            source.restore(name, max(client.pttl(name), 0), client.dump(name))
        client.replicaof("127.0.0.1", primary.port)
        try:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
            await assert_refused(world, StoreUnavailable, "cannot serve")
            error = await refused(world.authority, commit(hold, input_tokens=1))
            assert isinstance(error, StoreUnavailable)
            client.replicaof("127.0.0.1", 1)
            client.config_set("replica-serve-stale-data", "no")
            error = await refused(world.authority, ask("b", input_tokens=9))
            assert isinstance(error, StoreUnavailable)
            assert "cannot serve" in error.message
        finally:
            client.config_set("replica-serve-stale-data", "yes")
            client.replicaof("NO", "ONE")
    assert await everything(world.redis, world.keys) == state
    with configured(own, "min-replicas-to-write", "1", "0"):
        await assert_refused(world, StoreUnavailable, "cannot serve")
        error = await refused(world.authority, commit(hold, input_tokens=1))
        assert isinstance(error, StoreUnavailable)
    await world.authority.settle(commit(hold, input_tokens=1))
    await granted(world.authority, ask("refused", input_tokens=9))


async def test_a_redis_that_cannot_save_is_no_store(tmp_path: Path, key_namespace: str) -> None:
    """Goal: where Redis stops writes because its snapshots fail (MISCONF), calls are unavailable.

    Method: its folder is removed and a snapshot fails.
    """
    with own_redis(tmp_path / "gone") as own:
        async with open_world(own.url, key_namespace, POLICY) as world:
            shutil.rmtree(tmp_path / "gone")
            with own.client() as client:
                client.config_set("save", "3600 1000000")
                client.bgsave()
                eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
            await assert_refused(world, StoreUnavailable, "cannot serve")
            with own.client() as client:
                client.config_set("save", "")
            await granted(world.authority, ask("refused", input_tokens=9))


async def test_a_busy_redis(own: OwnRedis, world: World) -> None:
    """Goal: while somebody's script runs too long (BUSY), calls are unavailable, then go on.

    Method: an endless script of another client, past Redis's own limit of 20 ms; SCRIPT KILL.
    """

    def spin() -> None:
        with own.client() as client, pytest.raises(blocking_redis.ResponseError):
            client.eval("while true do end", 0)

    spinning = Thread(target=spin)
    with own.client() as client:
        spinning.start()
        try:
            eventually(lambda: _is_busy(client))
            for operation in (ask("a", input_tokens=9), record("r", input_tokens=9)):
                error = await refused(world.authority, operation)
                assert isinstance(error, StoreUnavailable)
                assert "cannot serve" in error.message
        finally:
            client.script_kill()
            spinning.join()
    assert not (await granted(world.authority, ask("a", input_tokens=9))).replayed


def _is_busy(client: blocking_redis.Redis) -> bool:
    try:
        client.ping()
    except blocking_redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


async def test_a_loading_redis(tmp_path: Path, key_namespace: str) -> None:
    """Goal: while Redis reads its data (LOADING), calls are unavailable; then all is there.

    Method: a snapshot with 2,000 other keys of 20 kB, and a Redis that takes 1.5 ms for each. It
    answers every 2 MB, so every 150 ms.
    """
    with ExitStack() as stack:
        own = stack.enter_context(own_redis(tmp_path))
        async with open_world(own.url, key_namespace, POLICY) as world:
            await granted(world.authority, ask("a", input_tokens=9))
            filler = secrets.token_bytes(20_000)
            await world.redis.mset({f"other{number}": filler for number in range(2_000)})
            await world.redis.save()
            own.process.kill()
            own.process.wait()
            error = await refused(world.authority, ask("b", input_tokens=9))
            assert isinstance(error, StoreUnavailable)
            assert "cannot be reached" in error.message
            await world.redis.connection_pool.disconnect()
            slow = ("--key-load-delay", "1500")
            again = stack.enter_context(own_redis(tmp_path, *slow, port=own.port, wait=False))
            with again.client() as client:
                eventually(lambda: _is_loading(client))
                error = await refused(world.authority, ask("b", input_tokens=9))
                assert isinstance(error, StoreUnavailable)
                eventually(lambda: not _is_loading(client))
            await look_at_new_runs(world.engine)
            assert (await granted(world.authority, ask("a", input_tokens=9))).replayed
            await granted(world.authority, ask("b", input_tokens=9))
            assert await used(world.authority, "day") == (0, 20)


def _is_loading(client: blocking_redis.Redis) -> bool:
    try:
        client.ping()
    except blocking_redis.exceptions.BusyLoadingError:
        return True
    except blocking_redis.exceptions.ConnectionError:
        return False
    return False


async def test_a_frozen_redis_answers_late(own: OwnRedis, world: World) -> None:
    """Goal: silence ends in an error within the bound, and a retry finds what was done meanwhile.

    Method: SIGSTOP; a call with a bound of 200 ms; SIGCONT. What was sent is carried out late.
    """
    server = await world.server(timeout_ms=200)
    await granted(server.authority, ask("before", input_tokens=9))
    own.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            error = await refused(server.authority, ask("late", input_tokens=9))
    finally:
        own.process.send_signal(signal.SIGCONT)
    assert isinstance(error, StoreUnavailable)
    assert "in time" in error.message

    async def found() -> bool:
        return await used(world.authority, "day") == (0, 20)

    await eventually_async(found)
    assert (await granted(server.authority, ask("late", input_tokens=9))).replayed


async def test_late_replies_reach_nobody_else(own: OwnRedis, world: World) -> None:
    """Goal: a connection whose call was given up is never used again, with another's reply on it.

    Method: replies are held back until 30 calls are given up, some by their bound and some
    cancelled by their callers; then they arrive, and 30 other calls are answered with their own.
    """
    async with FaultProxy(own.url) as proxy:
        server = await world.server(url=proxy.url, timeout_ms=1_000)
        # So that all connections are there, and what is held back are replies of scripts.
        await asyncio.gather(
            *(server.authority.reserve(ask(f"c{n}", input_tokens=0)) for n in range(30))
        )
        scripts = proxy.counts["EVALSHA"]
        proxy.stall(commands=False)
        calls = [
            asyncio.ensure_future(server.authority.reserve(ask(f"a{n}", input_tokens=n)))
            for n in range(30)
        ]

        async def sent() -> bool:
            return proxy.counts["EVALSHA"] > scripts

        await eventually_async(sent)
        for call in calls[::3]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in results} == {StoreUnavailable, asyncio.CancelledError}
        await proxy.heal()
        answers = await asyncio.gather(
            *(server.authority.reserve(ask(f"b{n}", input_tokens=n)) for n in range(30))
        )
        for number, answer in enumerate(answers):
            assert not answer.replayed
            assert {each.amount for each in answer.counters} == {number + 1}
    assert proxy.links_open_max <= 32


async def test_scripts_that_redis_forgot_are_sent_again(world: World) -> None:
    """T40. Goal: a script cache that is emptied costs no call.

    Method: SCRIPT FLUSH again and again while 200 reserves and their commits run.
    """
    done = asyncio.Event()

    async def flush() -> None:
        while not done.is_set():
            await world.redis.script_flush()

    async def call(number: int) -> None:
        hold = await granted(world.authority, ask(f"r{number}", input_tokens=9))
        await carry_out(world.authority, commit(hold, input_tokens=5))

    flushing = asyncio.ensure_future(flush())
    try:
        await asyncio.gather(*(call(number) for number in range(200)))
    finally:
        done.set()
        await flushing
    assert await used(world.authority, "day") == (1_000, 0)


async def test_what_redis_says_stays_inside(world: World) -> None:
    """Goal: a script that fails is our fault, and Redis's own words are not for callers.

    Method: the expiries are overwritten with a text, so that a script meets WRONGTYPE.
    """
    world.lossy = True
    await world.redis.set(world.keys.shard_keys(0)[1], "broken")
    error = await refused(world.authority, ask("a", input_tokens=9))
    assert isinstance(error, InternalError)
    assert error.message == "a script failed in Redis"
    assert "WRONGTYPE" in str(error.__cause__)
