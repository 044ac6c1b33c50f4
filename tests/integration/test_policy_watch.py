"""How servers follow the policies of PostgreSQL: told at once, looking anyway, and without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import grpc
import pytest
from policy_world import POLICY, PolicyServer, PolicyWorld, open_policy_world, refused
from structlog.testing import capture_logs

from bursar.authority.policies import Policies
from bursar.authority.policy_admin import By, PolicyAdmin
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.ledger.database import Database
from bursar.ledger.policy_store import PolicyStore
from bursar.pb import policy_service_pb2 as pb
from databases import execute, fetch, url_of
from polling import eventually_async

Opened = tuple[PolicyWorld, PolicyServer]
SOON_S = 1.0
"""Within this a change acts on every server."""
LONG_MS = 60_000


@pytest.fixture
async def opened(redis_url: str, database_url: str, key_namespace: str) -> AsyncIterator[Opened]:
    async with open_policy_world(redis_url, database_url, key_namespace) as world:
        await world[1].apply(POLICY)
        yield world


@asynccontextmanager
async def watching(*servers: PolicyServer, interval_ms: int) -> AsyncIterator[None]:
    """Let servers watch all along."""

    async def watch(server: PolicyServer) -> None:
        while True:
            await server.cases.watch.watch_once(interval_ms)

    tasks = [asyncio.create_task(watch(server)) for server in servers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def put(server: PolicyServer, org: str, number: int, version: str, text: str) -> None:
    """Put a version into the database that nobody is told of."""
    async with server.database.connection() as connection:
        await connection.execute(
            "INSERT INTO policies (org, number, version, document, applied_by) "
            "VALUES ($1, $2, $3, $4, 'by hand')",
            org,
            number,
            version,
            text,
        )


def limited(usd: int) -> str:
    return POLICY.replace("usd: 1000", f"usd: {usd}")


async def test_told_at_once(opened: Opened) -> None:
    """Goal: nobody waits for the next look. Method: a server that looks once a minute is told."""
    world, server = opened
    other = await world.server()
    await other.cases.watch.watch_once(1)  # From now on it listens.
    async with watching(other, interval_ms=LONG_MS):
        applied = await server.apply(limited(5))
        wanted = applied.version.policy_version

        async def follows() -> bool:
            return (await other.reserve(output=1)).policy_version == wanted

        await eventually_async(follows, SOON_S)


async def test_not_told(opened: Opened) -> None:
    """Goal: what no notice tells of is found all the same. Method: a version put in silently."""
    world, server = opened
    other = await world.server()
    version = compile_policy(parse_policy(limited(7), "here")).version
    await put(server, "acme", 2, version, limited(7))
    async with watching(server, other, interval_ms=50):

        async def follow() -> bool:
            answers = [await each.reserve(output=1) for each in (server, other)]
            return all(each.policy_version == version for each in answers)

        await eventually_async(follow, SOON_S)


async def test_no_mixed_decision_while_servers_change(opened: Opened) -> None:
    """Goal: T65: each answer is of one version, whole, and all are on the new one in a second.

    Method: four servers decide without a pause while versions come; every version has one limit of
    its own on both budgets.
    """
    world, server = opened
    servers = [server, *[await world.server() for _ in range(3)]]
    limits: dict[str, int] = {}

    def document(limit: int) -> str:
        money = POLICY.replace("usd: 1000", f"usd: {limit}")
        return money.replace("tokens: 1000", f"tokens: {limit}")

    async def publish(limit: int) -> str:
        applied = await server.apply(document(limit))
        limits[applied.version.policy_version] = limit
        return applied.version.policy_version

    seen: list[tuple[str, int, int]] = []
    stop = asyncio.Event()

    async def decide(at: PolicyServer) -> None:
        while not stop.is_set():
            answer = await at.reserve(output=1)
            by_name = {each.budget: each.limit for each in answer.counters}
            usd = by_name["month"] // 1_000_000_000
            seen.append((answer.policy_version, usd, by_name["user-day"]))

    await publish(1_000_000)
    async with watching(*servers, interval_ms=500):
        deciding = [asyncio.create_task(decide(each)) for each in servers]
        for limit in range(1_000_001, 1_000_006):
            last = await publish(limit)

            async def follow(last: str = last) -> bool:
                answers = [await each.reserve(output=1) for each in servers]
                return all(each.policy_version == last for each in answers)

            await eventually_async(follow, SOON_S)
        stop.set()
        await asyncio.gather(*deciding)
    assert len({version for version, _, _ in seen}) >= 2
    for version, usd, tokens in seen:
        assert usd == tokens == limits.get(version, usd), (version, usd, tokens)


async def test_a_document_that_cannot_be_read(opened: Opened) -> None:
    """Goal: a bad version leaves the one before in force, is said once, and blocks nobody else.

    Method: put one in by hand, and a good one of another org; mend it by applying.
    """
    _, server = opened
    before = (await server.reserve(output=1)).policy_version
    good = POLICY.replace("org: acme", "org: umbrella")
    await put(server, "acme", 2, "x", "org: [")
    await put(server, "umbrella", 1, "y", good)
    with capture_logs() as logged:
        await server.cases.watch.refresh()
        await server.cases.watch.refresh()
    refused = [each for each in logged if each["event"] == "policy_refused"]
    assert [(each["org"], each["number"], each["log_level"]) for each in refused] == [
        ("acme", 2, "error")
    ]
    assert (await server.reserve(output=1)).policy_version == before
    assert server.inner.policies.knows("umbrella")  # type: ignore[arg-type]
    applied = await server.apply(limited(9))
    assert applied.version.number == 3
    assert (await server.reserve(output=1)).policy_version == applied.version.policy_version


async def test_without_postgresql(opened: Opened, postgres_url: str, database_url: str) -> None:
    """Goal: a server goes on with what it has, says so once, and follows again by itself.

    Method: the database is renamed under a server that watches, changed there, and named back.
    """
    world, server = opened
    other = await world.server()
    await other.cases.watch.watch_once(1)
    name = urlsplit(database_url).path.strip("/")
    elsewhere = url_of(postgres_url, f"{name}_away")
    rename(postgres_url, name, f"{name}_away")
    try:
        with capture_logs() as logged:
            for _ in range(3):
                await other.cases.watch.watch_once(1)
            assert (await other.reserve(output=1)).reservation_id
            found = await refused(server.apply(limited(5)))
            assert (found.code, found.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "LEDGER_UNAVAILABLE",
            )
            async with opened_database(elsewhere) as database:
                admin = PolicyAdmin(Policies(), PolicyStore(database))
                applied = await admin.apply(limited(5), "here", "", By("ann"))
    finally:
        rename(postgres_url, f"{name}_away", name)
    assert applied.head is not None

    async def follows() -> bool:
        await other.cases.watch.watch_once(1)
        return other.inner.policies.number("acme") == 2

    with capture_logs() as later:
        await eventually_async(follows)
    events = [each["event"] for each in (*logged, *later)]
    assert events.count("policies_unwatched") == 1
    assert events.count("policies_watched_again") == 1
    assert (await other.reserve(output=1)).policy_version == applied.head.version
    # It listens again, too.
    async with watching(other, interval_ms=LONG_MS):
        wanted = (await server.apply(limited(6))).version.policy_version

        async def told() -> bool:
            return (await other.reserve(output=1)).policy_version == wanted

        await eventually_async(told, SOON_S)


def rename(postgres_url: str, old: str, new: str) -> None:
    """Give a database another name, and end who is in it."""
    users = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    fetch(postgres_url, users, old)
    execute(postgres_url, f'ALTER DATABASE "{old}" RENAME TO "{new}"')


@asynccontextmanager
async def opened_database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.open()
    yield database
    await database.close()


async def test_a_repeat_after_a_restart(opened: Opened) -> None:
    """Goal: a server that starts later answers what an older version granted. Method: one does."""
    world, server = opened
    first = await server.reserve(request_id="r-1", output=10)
    await server.apply(limited(5))
    await server.apply(limited(6))
    fresh = await world.server()
    again = await fresh.reserve(request_id="r-1", output=10)
    assert again == first
    assert again.counters[0].limit == first.counters[0].limit


async def test_versions_of_long_ago_are_not_loaded(opened: Opened, database_url: str) -> None:
    """Goal: starting costs what is still needed. Method: a version that ended four days ago."""
    world, server = opened
    old = server.inner.policies.of("acme").version  # type: ignore[arg-type]
    await server.apply(limited(5))
    execute(database_url, "UPDATE policies SET applied_at = applied_at - interval '4 days'")
    fresh = await world.server()
    assert fresh.inner.policies.version("acme", old) is None  # type: ignore[arg-type]
    assert fresh.inner.policies.number("acme") == 2


async def test_an_older_version_never_comes_back(opened: Opened) -> None:
    """Goal: versions only go up. Method: put the first one in place after the second."""
    _, server = opened
    policies = server.inner.policies
    first = policies.of("acme")  # type: ignore[arg-type]
    await server.apply(limited(5))
    policies.replace(first, 1)
    assert policies.number("acme") == 2
    answer = await server.policy.GetPolicy(pb.GetPolicyRequest(org="acme"))
    assert answer.deciding_policy_version == answer.version.policy_version
