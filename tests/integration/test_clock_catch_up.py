"""A server that a shard refuses as being behind goes along with the time of the others.

Method: two authorities on one Redis, and a reference time that steps forward by an hour, as Redis's
clock does when somebody corrects it. The one that starts after the step takes it over whole; the
one from before would follow for hours in small steps.
"""

from __future__ import annotations

import pytest

from bursar.authority.authority import Authority
from bursar.authority.clock import CorrectedClock
from bursar.authority.policies import Policies
from bursar.domain.errors import ClockBehind
from bursar.domain.meter import Estimate
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from shards import open_shards

TRUE_MS = 1_773_144_000_000
HOUR_MS = 3_600_000
POLICY = "{org: acme, budgets: [{name: day, limit: {tokens: 1000}, window: day}]}"


def request(request_id: str) -> ReserveRequest:
    return ReserveRequest(
        request_id, Subject(OrgId("acme")), Target("", "m"), Estimate(max_output_tokens=1), 60_000
    )


class Server:
    """An authority whose clock is set by a reference that the test moves."""

    def __init__(self, store: Store, key_namespace: str, reference_ms: int) -> None:
        self.reference_ms = reference_ms
        self.engine = RedisEngine(Shards(store, Keys(key_namespace, 1), EngineLimits()))
        self.clock = CorrectedClock(lambda: 0, lambda: 0)
        self.clock.correct(reference_ms, 0)
        policies = Policies([compile_policy(parse_policy(POLICY, "test"))])
        self.stuck = Authority(self.engine, policies, self.clock)
        self.authority = Authority(self.engine, policies, self.clock, self.catch_up)

    async def open(self) -> None:
        shards = self.engine.shards
        await open_shards(shards.store, shards.keys, self.engine, "first")

    async def catch_up(self) -> None:
        self.clock.catch_up(self.reference_ms, 0)


async def test_a_server_from_before_a_step_goes_on(redis_url: str, key_namespace: str) -> None:
    """Goal: a step of the reference stops no server that was running. Method: see above.

    Negative control: without catching up the older server is refused.
    """
    store = Store(redis_url)
    older = Server(store, key_namespace, TRUE_MS)
    await older.open()
    await older.authority.reserve(request("a"))
    newer = Server(store, key_namespace, TRUE_MS + HOUR_MS)
    await newer.open()
    await newer.authority.reserve(request("b"))
    with pytest.raises(ClockBehind):
        await older.stuck.reserve(request("c"))
    older.reference_ms = TRUE_MS + HOUR_MS
    await older.authority.reserve(request("c"))
    assert older.clock.now_ms() == newer.clock.now_ms()
    await store.close()


async def test_it_never_goes_back(redis_url: str, key_namespace: str) -> None:
    """Goal: a reference that went back is not followed at once. Method: it is an hour behind."""
    store = Store(redis_url)
    server = Server(store, key_namespace, TRUE_MS)
    server.reference_ms = TRUE_MS - HOUR_MS
    await server.catch_up()
    assert server.clock.now_ms() == TRUE_MS
    await store.close()
