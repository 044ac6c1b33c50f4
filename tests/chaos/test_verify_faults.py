"""T39: one key of Redis is deleted, and found and repaired by the comparison in the background."""

from __future__ import annotations

import random
from functools import partial

import pytest
import redis
from chaos_calls import Caller, Servers
from chaos_clients import Client, Pace, Request
from chaos_run import Run, chaos_run

from polling import eventually_async

PERIOD_MS = 500
TTL_MS = 120_000
REPAIRED_WITHIN_S = 20.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(200)]


async def hold_something(run: Run) -> list[tuple[Request, str]]:
    """Reserve for longer than the test takes, as clients of their own."""
    servers = Servers(run.cluster.client_ports)
    pace = Pace(ttl_ms=TTL_MS)
    caller = Caller(servers, random.Random(run.seed), deadline_ms=5_000, attempt_ms=1_000)
    client = Client(caller, run.history, random.Random(run.seed), pace)
    held = []
    for number in range(3):
        request = Request(f"kept {number}", "acme", f"v{number}", 10, 20, TTL_MS)
        reserved = await client.reserve(request)
        assert reserved is not None
        held.append((request, reserved.reservation_id))
    await servers.close()
    return held


async def settle(run: Run, held: list[tuple[Request, str]]) -> None:
    """Commit everything; the checker sees whether it was there."""
    servers = Servers(run.cluster.client_ports)
    caller = Caller(servers, random.Random(run.seed), deadline_ms=5_000, attempt_ms=1_000)
    client = Client(caller, run.history, random.Random(run.seed), Pace(ttl_ms=TTL_MS))
    for request, name in held:
        await client.commit(request, name)
    await servers.close()


def contents(client: redis.Redis) -> dict[bytes, object]:
    """Return all that holds and counters say, without what is settled."""
    found: dict[bytes, object] = {}
    with client:
        for key in client.scan_iter("{b*}:c:*", 1_000):
            fields = client.hgetall(key)
            found[key] = {name: int(fields.get(name, 0)) for name in (b"c", b"h", b"k")}
        for key in client.scan_iter("{b*}:x", 1_000):
            found[key] = sorted(client.zrange(key, 0, -1))
            found |= {name: client.get(name) for name in client.zrange(key, 0, -1)}
    return found


@pytest.mark.parametrize("kind", ["counter", "hold", "expiries"])
async def test_t39_one_key_is_deleted(seed: int, kind: str) -> None:
    """T39: found within the period and put back as the ledger has it; what was held can settle.

    Method: three holds that outlast the test, then no load, then one key less.
    """
    settings = {"BURSAR_VERIFY_INTERVAL_MS": str(PERIOD_MS)}
    async with chaos_run(seed, settings=settings, pace=Pace(room=10)) as run:
        held = await hold_something(run)
        await run.load.stop()
        hold = f"{{b00}}:h:acme:{held[0][1].partition('.')[2]}".encode()
        await eventually_async(partial(_only_open, run, len(held)), 20)
        await run.until_recorded()
        before = contents(run.cluster.redis.client())
        counters = sorted(key for key in before if b":c:acme:org-minute:" in key)
        key = {"counter": counters[-1], "hold": hold, "expiries": b"{b00}:x"}[kind]
        run.history.mark("fault", f"{kind} deleted")
        with run.cluster.redis.client() as client:
            assert client.delete(key) == 1

        async def as_before() -> bool:
            return contents(run.cluster.redis.client()) == before

        await eventually_async(as_before, REPAIRED_WITHIN_S)
        await settle(run, held)
        run.history.mark("load_ended")
        await run.until_recorded()
        await run.check()


async def _only_open(run: Run, count: int) -> bool:
    with run.cluster.redis.client() as client:
        return sum(client.zcard(f"{{b{shard:02d}}}:x") for shard in (0, 1)) == count
