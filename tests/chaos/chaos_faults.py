"""Every fault, by name: what it does, for how long, and that it ends by itself."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import redis
from chaos_cluster import Cluster, ServerNode
from chaos_proxy import TcpProxy

from polling import eventually_async

FAILPOINTS_OF_CALLS = (
    "after_decode",
    "before_script",
    "after_script",
    "before_reply",
    "in_sweep",
    "before_ledger_commit",
    "after_ledger_commit",
    "before_trim",
    "after_trim",
)
"""Places that a server passes all the time."""

FAILPOINTS_OF_REBUILDS = (
    "rebuild_after_fence",
    "rebuild_after_epoch",
    "rebuild_after_purge",
    "rebuild_during_load",
    "rebuild_before_open",
    "rebuild_after_open",
)

FIRES_WITHIN_S = 30.0
CLOCK_STEP_MS = 2_000

Fault = Callable[["Nemesis"], Awaitable[None]]

_LOCK_HOLDERS = """
SELECT pid, usename FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
"""


@dataclass
class Nemesis:
    """What a fault works with.

    Attributes:
        cluster: What it happens to.
        chance: Decides what is left open.
        time_s: How long a fault that lasts does, on average.
    """

    cluster: Cluster
    chance: random.Random
    time_s: float = 1.5

    async def do(self, name: str) -> None:
        """Let a fault happen, and end."""
        await FAULTS[name](self)

    def a_server(self) -> ServerNode:
        """Return any server."""
        return self.chance.choice(self.cluster.servers)

    async def wait(self, factor: float = 1.0) -> None:
        """Let a fault last."""
        await asyncio.sleep(self.time_s * factor * self.chance.uniform(0.5, 1.5))

    async def query(self, query: str, *arguments: object) -> list[Any]:
        """Ask PostgreSQL itself, past every proxy."""
        connection = await asyncpg.connect(self.cluster.postgres.url)
        try:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows
        finally:
            await connection.close()

    async def lock_owner(self) -> ServerNode:
        """Return a server that keeps a shard, once there is one."""
        found: list[ServerNode] = []

        async def is_there() -> bool:
            names = {row["usename"] for row in await self.query(_LOCK_HOLDERS)}
            found.extend(each for each in self.cluster.servers if each.role in names and each.runs)
            return bool(found)

        await eventually_async(is_there, FIRES_WITHIN_S)
        return found[0]

    async def end_lock_connections(self) -> int:
        """End the connections that hold locks, and say how many there were."""
        rows = await self.query(_LOCK_HOLDERS)
        pids = {row["pid"] for row in rows}
        for pid in pids:
            await self.query("SELECT pg_terminate_backend($1)", pid)
        return len(pids)

    async def die_at(self, server: ServerNode, place: str, passes: int = 1) -> None:
        """Start a server anew so that it dies at a failpoint, and wait until it did."""
        server.wanted = False
        await asyncio.to_thread(server.kill)
        self.cluster.start(server, BURSAR_FAILPOINTS=f"{place}=kill:{passes}")
        server.wanted = False

        async def is_dead() -> bool:
            return not server.runs

        try:
            await eventually_async(is_dead, FIRES_WITHIN_S)
        finally:
            server.wanted = True

    async def redis_call(self, action: Callable[[redis.Redis], object]) -> None:
        """Do something to Redis itself, past every proxy."""

        def run() -> None:
            with self.cluster.redis.client() as client:
                action(client)

        await asyncio.to_thread(run)

    async def redis_anew(self, tamper: Callable[[], object]) -> None:
        """Kill Redis, do something to its data, and start it."""
        node = self.cluster.redis
        await asyncio.to_thread(node.kill)
        tamper()
        await self.wait(0.2)
        await asyncio.to_thread(node.start)


async def _server_kill(nemesis: Nemesis) -> None:
    await asyncio.to_thread(nemesis.a_server().kill)


async def _server_term(nemesis: Nemesis) -> None:
    nemesis.a_server().signal(signal.SIGTERM)
    await nemesis.wait()


async def _stop(nemesis: Nemesis, server: ServerNode, factor: float = 1.0) -> None:
    server.signal(signal.SIGSTOP)
    try:
        await nemesis.wait(factor)
    finally:
        server.signal(signal.SIGCONT)


async def _server_stop(nemesis: Nemesis) -> None:
    await _stop(nemesis, nemesis.a_server())


async def _lock_owner_kill(nemesis: Nemesis) -> None:
    owner = await nemesis.lock_owner()
    await asyncio.to_thread(owner.kill)


async def _lock_owner_stop(nemesis: Nemesis) -> None:
    """Two writers: the lock goes to another server while its owner stands still, and goes on."""
    owner = await nemesis.lock_owner()
    owner.signal(signal.SIGSTOP)
    try:
        await nemesis.end_lock_connections()
        await nemesis.wait()
    finally:
        owner.signal(signal.SIGCONT)


async def _lock_lost(nemesis: Nemesis) -> None:
    await nemesis.end_lock_connections()


async def _failpoint_kill(nemesis: Nemesis) -> None:
    # Not in a sweep: where the budgets are used up by now, nothing is held, and none ends (T45).
    place = nemesis.chance.choice(FAILPOINTS_OF_CALLS[:4])
    await nemesis.die_at(nemesis.a_server(), place, nemesis.chance.randrange(1, 20))


async def _redis_kill(nemesis: Nemesis) -> None:
    await nemesis.redis_anew(lambda: None)


async def _redis_stop(nemesis: Nemesis) -> None:
    node = nemesis.cluster.redis
    node.signal(signal.SIGSTOP)
    try:
        await nemesis.wait()
    finally:
        node.signal(signal.SIGCONT)


async def _flushall(nemesis: Nemesis) -> None:
    await nemesis.redis_call(lambda client: client.flushall())


async def _redis_restarted_empty(nemesis: Nemesis) -> None:
    await nemesis.redis_anew(nemesis.cluster.redis.lose_everything)


async def _redis_cut_aof(nemesis: Nemesis) -> None:
    await nemesis.redis_anew(lambda: nemesis.cluster.redis.lose_the_end(0.02))


async def _redis_older_copy(nemesis: Nemesis) -> None:
    nemesis.cluster.redis.remember()
    await nemesis.wait()
    await nemesis.redis_anew(nemesis.cluster.redis.go_back)


async def _script_flush(nemesis: Nemesis) -> None:
    await nemesis.redis_call(lambda client: client.script_flush())


async def _redis_full(nemesis: Nemesis) -> None:
    await nemesis.redis_call(lambda client: client.config_set("maxmemory", "1mb"))
    try:
        await nemesis.wait()
    finally:
        await nemesis.redis_call(lambda client: client.config_set("maxmemory", "0"))


async def _delete_one(nemesis: Nemesis, pattern: str) -> None:
    def delete(client: redis.Redis) -> None:
        keys = sorted(client.scan_iter(pattern, 1_000))
        if keys:
            client.delete(nemesis.chance.choice(keys))

    await nemesis.redis_call(delete)


async def _counter_key_deleted(nemesis: Nemesis) -> None:
    await _delete_one(nemesis, "*:c:*")


async def _hold_key_deleted(nemesis: Nemesis) -> None:
    await _delete_one(nemesis, "*:h:*")


async def _expiry_set_deleted(nemesis: Nemesis) -> None:
    await _delete_one(nemesis, "*:x")


async def _postgres_kill(nemesis: Nemesis) -> None:
    await asyncio.to_thread(nemesis.cluster.postgres.kill)
    await nemesis.wait(0.3)
    await asyncio.to_thread(nemesis.cluster.postgres.start)


async def _postgres_restart(nemesis: Nemesis) -> None:
    await asyncio.to_thread(nemesis.cluster.postgres.stop)
    await nemesis.wait(0.3)
    await asyncio.to_thread(nemesis.cluster.postgres.start)


async def _postgres_connections_killed(nemesis: Nemesis) -> None:
    await nemesis.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def _postgres_away(nemesis: Nemesis) -> None:
    proxies = [server.to_postgres for server in nemesis.cluster.servers]
    for proxy in proxies:
        proxy.refuse()
    try:
        await nemesis.wait(2)
    finally:
        for proxy in proxies:
            await proxy.heal()


def _on_a_way(
    way: str, action: Callable[[Nemesis, TcpProxy], None], *, lasts: bool = True
) -> Fault:
    """Return a fault of one server's way to another party."""

    async def fault(nemesis: Nemesis) -> None:
        proxy: TcpProxy = getattr(nemesis.a_server(), way)
        action(nemesis, proxy)
        if lasts:
            await nemesis.wait()
            await proxy.heal()

    return fault


def _cut(_: Nemesis, proxy: TcpProxy) -> None:
    proxy.cut()


def _refuse(_: Nemesis, proxy: TcpProxy) -> None:
    proxy.refuse()


def _stall(_: Nemesis, proxy: TcpProxy) -> None:
    proxy.stall()


def _half_open(_: Nemesis, proxy: TcpProxy) -> None:
    proxy.stall(requests=False)


def _delay(nemesis: Nemesis, proxy: TcpProxy) -> None:
    proxy.delay_ms = nemesis.chance.randrange(20, 200)


def _lose_replies(nemesis: Nemesis, proxy: TcpProxy) -> None:
    proxy.lose_replies(nemesis.chance.randrange(1, 6))


def _clock(step_ms: int) -> Fault:
    async def fault(nemesis: Nemesis) -> None:
        server = nemesis.a_server()
        server.step_clock(step_ms)
        await nemesis.wait()
        server.step_clock(0)

    return fault


FAULTS: dict[str, Fault] = {
    "server_kill": _server_kill,
    "server_term": _server_term,
    "server_stop": _server_stop,
    "lock_owner_kill": _lock_owner_kill,
    "lock_owner_stop": _lock_owner_stop,
    "lock_lost": _lock_lost,
    "failpoint_kill": _failpoint_kill,
    "redis_kill": _redis_kill,
    "redis_stop": _redis_stop,
    "flushall": _flushall,
    "redis_restarted_empty": _redis_restarted_empty,
    "redis_cut_aof": _redis_cut_aof,
    "redis_older_copy": _redis_older_copy,
    "script_flush": _script_flush,
    "redis_full": _redis_full,
    "counter_key_deleted": _counter_key_deleted,
    "hold_key_deleted": _hold_key_deleted,
    "expiry_set_deleted": _expiry_set_deleted,
    "postgres_kill": _postgres_kill,
    "postgres_restart": _postgres_restart,
    "postgres_connections_killed": _postgres_connections_killed,
    "postgres_away": _postgres_away,
    "redis_way_cut": _on_a_way("to_redis", _cut, lasts=False),
    "redis_way_refused": _on_a_way("to_redis", _refuse),
    "redis_way_stalled": _on_a_way("to_redis", _stall),
    "redis_way_half_open": _on_a_way("to_redis", _half_open),
    "redis_way_slow": _on_a_way("to_redis", _delay),
    "redis_replies_lost": _on_a_way("to_redis", _lose_replies, lasts=False),
    "postgres_way_cut": _on_a_way("to_postgres", _cut, lasts=False),
    "postgres_way_stalled": _on_a_way("to_postgres", _stall),
    "postgres_way_half_open": _on_a_way("to_postgres", _half_open),
    "postgres_way_slow": _on_a_way("to_postgres", _delay),
    "postgres_replies_lost": _on_a_way("to_postgres", _lose_replies, lasts=False),
    "client_way_cut": _on_a_way("from_clients", _cut, lasts=False),
    "client_way_refused": _on_a_way("from_clients", _refuse),
    "client_way_half_open": _on_a_way("from_clients", _half_open),
    "client_way_slow": _on_a_way("from_clients", _delay),
    "client_replies_lost": _on_a_way("from_clients", _lose_replies, lasts=False),
    "clock_ahead": _clock(CLOCK_STEP_MS),
    "clock_behind": _clock(-CLOCK_STEP_MS),
}

LOSES_REDIS_DATA = ("flushall", "redis_restarted_empty", "redis_cut_aof", "redis_older_copy")
"""What was answered and is not yet recorded is then known to the server that answered, alone."""

ONE_KEY = ("counter_key_deleted", "hold_key_deleted", "expiry_set_deleted")
"""Found by `verify` within its period; until then a counter may be read as less than it is."""

ANY_TIME = tuple(name for name in FAULTS if name not in ONE_KEY)
"""Faults after each of which every invariant holds."""
