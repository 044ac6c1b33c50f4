"""The ledger: what the journal told is in PostgreSQL exactly once, and Redis follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_calls import MODELS, ask, commit, granted, record, refused
from engine_state import counters, expiries, holds, names
from engine_world import HOUR, MINUTE
from ledger_world import LedgerWorld, open_ledger_world
from test_journal import POLICY, RandomRun

from bursar.domain.errors import JournalFull, ShardCold
from bursar.engine.keys import KIND_ROLLING
from bursar.engine.shards import EngineLimits
from bursar.engine.wire import decode_hold
from bursar.ledger.live_rows import balances_of

SIMPLE = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: 10000}}, window: day}}
{MODELS}
"""


@pytest.fixture
async def world(
    redis_url: str, database_url: str, key_namespace: str
) -> AsyncIterator[LedgerWorld]:
    async with open_ledger_world(redis_url, database_url, key_namespace, SIMPLE) as world:
        yield world


async def told(world: LedgerWorld) -> dict[str, dict[str, int]]:
    """Return every counter as the record says that Redis must have it, at its own oldest bucket."""
    rows = await world.rows("SELECT * FROM counter_balances ORDER BY counter_id, slot")
    found = await counters(world.redis, world.keys)
    fields = {}
    for balance in balances_of(rows):
        at_ms = world.clock.at_ms
        if balance.kind == KIND_ROLLING and balance.counter_id in found:
            # Redis forgets old buckets when a counter is used next.
            at_ms = (found[balance.counter_id]["o"] + balance.p2) * balance.p1
        fields[balance.counter_id] = balance.fields(at_ms)
    return fields


def without_nothing(fields: dict[str, int]) -> dict[str, int]:
    """Return a counter without the buckets and credits that are 0."""
    return {name: amount for name, amount in fields.items()
            if (name not in ("k", "s", "c") and not name.startswith("b")) or amount}  # fmt: skip


async def assert_recorded(world: LedgerWorld) -> None:
    """Check that Redis and the record agree on every counter and every hold."""
    await world.record_all()
    expected, found = await told(world), await counters(world.redis, world.keys)
    assert expected.keys() == found.keys()
    for counter_id, fields in expected.items():
        ours, theirs = dict(fields), dict(found[counter_id])
        # When it was used last, and when its time to live began, are not recorded.
        ours.pop("s", None), theirs.pop("s", None), theirs.pop("e", None)
        assert without_nothing(ours) == without_nothing(theirs), counter_id
    stored = {
        tuple(name.split(":")[2:]): hold
        for name, hold in (await holds(world.redis, world.keys)).items()
    }
    rows = await world.rows("SELECT * FROM open_holds")
    recorded = {(row["org"], row["hold_id"]): decode_hold(row["hold"]) for row in rows}
    assert stored == {name: hold for name, hold in recorded.items() if name in stored}
    for row in rows:
        kept = row["keep_until_ms"] == 0 or row["keep_until_ms"] > world.clock.at_ms
        assert not kept or (row["org"], row["hold_id"]) in stored


@pytest.mark.parametrize("seed", range(3))
async def test_the_record_says_what_redis_says(
    redis_url: str, database_url: str, key_namespace: str, seed: int
) -> None:
    """Goal: counters and holds of Redis follow from the record, whatever was called.

    Method: 300 random calls of every kind, recorded by two servers every now and then; then Redis
    is emptied, rebuilt, and the same again.
    """
    documents = POLICY, POLICY.replace("org: acme", "org: umbrella")
    async with open_ledger_world(
        redis_url, database_url, key_namespace, *documents, servers=2, shards=2
    ) as world:
        run: Any = RandomRun(world, seed)  # type: ignore[arg-type]
        for number in range(300):
            await run.step(number)
            if number % 40 == 39:
                await assert_recorded(world)
        await assert_recorded(world)
        await assert_sums(world)
        before = await world.rows("SELECT * FROM counter_balances ORDER BY counter_id, slot")
        await empty(world)
        await world.until_warm()
        assert await counters(world.redis, world.keys) != {}
        await assert_recorded(world)
        rows = await world.rows("SELECT * FROM counter_balances ORDER BY counter_id, slot")
        assert rows == before
        for number in range(300, 400):
            await run.step(number)
        await assert_recorded(world)
        await assert_sums(world)


async def assert_sums(world: LedgerWorld) -> None:
    """Check that balances and hourly usage are the sums of the entries."""
    assert not await world.rows(
        """
        WITH entry AS (
            SELECT unnest(counter_ids) AS counter_id, unnest(slots) AS slot, unnest(held) AS held,
                unnest(committed) AS committed, unnest(credit) AS credit FROM ledger_entries
        ), total AS (
            SELECT counter_id, slot, sum(held) AS held, sum(committed) AS committed,
                sum(credit) AS credit FROM entry GROUP BY counter_id, slot
        )
        SELECT * FROM total FULL JOIN counter_balances AS balance USING (counter_id, slot)
        WHERE total.held IS DISTINCT FROM balance.held
            OR total.committed IS DISTINCT FROM balance.committed
            OR total.credit IS DISTINCT FROM balance.credit
        """
    )
    assert not await world.rows(
        """
        WITH total AS (
            SELECT date_trunc('hour', at, 'UTC') AS hour, org, team, feature, agent, "user", task,
                provider, model, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
                sum(output_tokens) AS output_tokens, sum(coalesce(cost_nano_usd, 0)) AS cost
            FROM ledger_entries GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        )
        SELECT * FROM total FULL JOIN usage_hourly AS usage
            USING (hour, org, team, feature, agent, "user", task, provider, model)
        WHERE coalesce(total.requests, 0) <> coalesce(usage.requests, 0)
            OR coalesce(total.input_tokens, 0) <> coalesce(usage.input_tokens, 0)
            OR coalesce(total.output_tokens, 0) <> coalesce(usage.output_tokens, 0)
            OR coalesce(total.cost, 0) <> coalesce(usage.cost_nano_usd, 0)
        """
    )
    [held] = await world.rows("SELECT count(*) AS n FROM counter_balances WHERE held < 0")
    assert held["n"] == 0


async def test_the_record_expects_nothing_that_redis_may_forget(
    redis_url: str, database_url: str, key_namespace: str
) -> None:
    """Goal: as long as the record says that a counter must be in Redis, Redis keeps it.

    Method: counters of every kind are begun and used within an hour; what Redis says is left of
    each is no less than what the record says, which is as much as was promised.
    """
    policy = SIMPLE.replace(
        "budgets:\n",
        "budgets:\n  - {name: rate, limit: {tokens: 10000}, window: {rolling: 1h}}\n"
        "  - {name: task, per: [task], limit: {tokens: 10000}, window: task}\n"
        "  - {name: at-once, limit: {concurrency: 10}}\n",
    )
    async with open_ledger_world(redis_url, database_url, key_namespace, policy) as world:
        world.clock.at_ms += -world.clock.at_ms % HOUR + 1
        begun_ms = world.clock.at_ms
        for number in range(4):
            await granted(world.authority, ask(f"{number}", input_tokens=9, task="t"))
            world.clock.at_ms += HOUR // 4 - 1
        await world.record_all()
        rows = await world.rows(
            "SELECT counter_id, max(expire_at_ms) AS expire_at_ms FROM counter_balances GROUP BY 1"
        )
        assert len(rows) == 4
        for row in rows:
            key = world.keys.counter_prefix(world.keys.shard_of("acme")) + row["counter_id"]
            # Redis's own clock has gone on since then by what the test took.
            kept_until_ms = begun_ms + await world.redis.pttl(key) + MINUTE
            assert begun_ms + 48 * HOUR <= row["expire_at_ms"] < kept_until_ms, row["counter_id"]


async def empty(world: LedgerWorld) -> None:
    """Lose everything in Redis."""
    names = [name async for name in world.redis.scan_iter(f"{{{world.keys.namespace}*", 1_000)]
    await world.redis.delete(*names)


async def test_nothing_is_granted_from_an_empty_counter(world: LedgerWorld) -> None:
    """Goal: after a loss every call is refused as cold until the shard is rebuilt (T34).

    Method: 9,000 of 10,000 tokens are spent; Redis is emptied; a reserve of 5,000 is refused as
    cold, then rebuilt, denied.
    """
    one = await granted(world.authority, ask("one", input_tokens=9_000))
    await world.authority.settle(commit(one, input_tokens=9_000))
    await world.record_all()
    await empty(world)
    assert isinstance(await refused(world.authority, ask("two", input_tokens=5_000)), ShardCold)
    await world.until_warm()
    answer = await world.authority.reserve(ask("two", input_tokens=5_000))
    assert answer.denial is not None
    again = await world.authority.reserve(ask("one", input_tokens=9_000))
    assert again.replayed
    [rebuild] = await world.rows("SELECT * FROM rebuilds WHERE cause <> 'first start'")
    assert rebuild["finished_at"] is not None
    assert (rebuild["counters"], rebuild["holds"]) == (1, 1)


async def test_a_rebuild_by_hand(world: LedgerWorld) -> None:
    """Goal: a shard that is stopped by hand is filled again and goes on to be recorded.

    Method: twice, with calls before, between and after.
    """
    for number in range(3):
        one = await granted(world.authority, ask(f"r{number}", input_tokens=100))
        await world.authority.settle(commit(one, input_tokens=100))
        await world.record_all()
        await world.ledger.overseer.rebuild([0])
        assert isinstance(await refused(world.authority, ask("new", input_tokens=9)), ShardCold)
        await world.until_warm()
    await assert_recorded(world)
    assert not world.ledger.keeper.kept.refused
    causes = await world.rows("SELECT cause FROM rebuilds WHERE cause <> 'first start'")
    assert [row["cause"] for row in causes] == ["asked for by hand"] * 3
    report = await world.ledger.verifier(0, org="", deep=True, repair=False)
    assert report.difference_count == 0
    [state] = await world.ledger.overseer.shards()
    assert str(state.state) == "live"


async def test_acknowledged_calls_that_were_not_recorded_are_sent_again(
    redis_url: str, database_url: str, key_namespace: str
) -> None:
    """Goal: what was answered is not lost while a server that answered it lives (T36).

    Method: two servers answer calls, nothing is recorded, Redis is emptied. After the rebuild both
    holds and both amounts are there, and what is left is what was left.
    """
    async with open_ledger_world(
        redis_url, database_url, key_namespace, SIMPLE, servers=2
    ) as world:
        first, second = (server.authority for server in world.servers)
        one = await granted(first, ask("one", input_tokens=4_000))
        await second.settle(commit(one, input_tokens=3_000))
        await granted(second, ask("two", input_tokens=5_000))
        await first.record(record("three", input_tokens=1_000))
        before = await counters(world.redis, world.keys)
        await empty(world)
        await world.until_warm()
        await assert_recorded(world)
        assert await counters(world.redis, world.keys) == before
        assert (await first.reserve(ask("much", input_tokens=2_000))).denial is not None
        assert (await second.reserve(ask("one", input_tokens=4_000))).replayed


async def test_the_journal_bound_stops_reserves_and_nothing_else(
    redis_url: str, database_url: str, key_namespace: str
) -> None:
    """Goal: at the journal's bound nothing new is granted, settling goes on, nothing is dropped.

    Method: a bound of 5 entries and nobody records; then somebody does (T47).
    """
    limits = EngineLimits(journal_entries_max=5)
    async with open_ledger_world(
        redis_url, database_url, key_namespace, SIMPLE, limits=limits
    ) as world:
        made = [await granted(world.authority, ask(f"r{n}", input_tokens=9)) for n in range(5)]
        assert isinstance(await refused(world.authority, ask("r5", input_tokens=9)), JournalFull)
        assert (await world.authority.reserve(ask("r0", input_tokens=9))).replayed
        for each in made:
            await world.authority.settle(commit(each, input_tokens=5))
        assert await world.redis.xlen(world.keys.journal(0)) == 10
        await assert_recorded(world)
        await granted(world.authority, ask("r5", input_tokens=9))


async def contents(world: LedgerWorld) -> list[Any]:
    """Return all that a repair may set."""
    return [await read(world.redis, world.keys) for read in (counters, holds, expiries)]


DAMAGES = {
    "counter deleted": ["committed", "held"],
    "counter changed": ["committed"],
    "hold deleted": ["state"],
    "expiries deleted": ["due_ms"],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("recorded", [True, False])
async def test_verify_finds_and_repairs(world: LedgerWorld, damage: str, recorded: bool) -> None:
    """Goal: a counter, a hold or the expiries that are lost are found and repaired (T39).

    Method: damage each, with the last calls recorded and not; verify names what differs, repairs
    it, and finds nothing afterwards; Redis is byte for byte what it was.
    """
    one = await granted(world.authority, ask("one", input_tokens=4_000))
    await world.authority.settle(commit(one, input_tokens=3_000))
    await granted(world.authority, ask("two", input_tokens=500))
    await world.record_all()
    await granted(world.authority, ask("three", input_tokens=50))
    if recorded:
        await world.record_all()
    verify = world.ledger.verifier
    clean = await verify(0, org="", deep=True, repair=False)
    assert clean.difference_count == 0, clean
    before = await contents(world)
    [counter] = await names(world.redis, world.keys, "c")
    match damage:
        case "counter deleted":
            await world.redis.delete(counter)
        case "counter changed":
            await world.redis.hincrby(counter, "c", -5)
        case "hold deleted":
            [row] = await world.rows("SELECT org, hold_id FROM open_holds WHERE state = 1 LIMIT 1")
            await world.redis.delete(world.keys.hold(0, row["org"], row["hold_id"]))
        case _:
            await world.redis.delete(world.keys.expiries(0))
    found = await verify(0, org="acme", deep=False, repair=False)
    assert sorted({each.field for each in found.differences}) == sorted(DAMAGES[damage])
    assert found.repaired_count == 0
    repaired = await verify(0, org="", deep=True, repair=True)
    assert repaired.repaired_count == repaired.difference_count == found.difference_count
    assert (await verify(0, org="", deep=True, repair=False)).difference_count == 0
    if recorded or damage != "expiries deleted":
        assert await contents(world) == before


async def test_verify_is_right_while_calls_are_made(
    redis_url: str, database_url: str, key_namespace: str
) -> None:
    """Goal: nothing is taken for a difference that is only not recorded yet.

    Method: calls and recording without pause while everything is compared again and again.
    """
    async with open_ledger_world(redis_url, database_url, key_namespace, POLICY, shards=1) as world:
        done = asyncio.Event()

        async def traffic() -> None:
            run: Any = RandomRun(world, 1)  # type: ignore[arg-type]
            run._who = lambda: {"org": "acme", "team": "red", "user": "u1", "task": "t"}
            for number in range(120):
                await run.step(number)
            done.set()

        async def recording() -> None:
            while not done.is_set():
                await world.ledger.look()
                await world.ledger.record()

        async def comparing() -> int:
            compared = 0
            while not done.is_set():
                report = await world.ledger.verifier(0, org="", deep=False, repair=False)
                assert report.difference_count == 0, report.differences
                compared += report.checked_counters
            return compared

        _, _, compared = await asyncio.gather(traffic(), recording(), comparing())
        assert compared > 0
