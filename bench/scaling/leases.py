"""A hot org whose servers decide by themselves, from leases on its budget.

Bursar has no leases yet; this shows what they would cost and bound. A server takes a lease, an
amount of the budget, from the shard, where it counts as held at once. It grants from it without
asking, asks for more when a quarter is left, and gives back what is left when the lease's time is
over. So the budget is never overshot while servers can reach the shard; what a server was cut off
with may be spent twice, once by it and once by those who were given it after.

All requests are of one unit. Arrivals are a Poisson process, and the servers get uneven parts.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

EARLY = 4
"""A server asks for more with one part in so many left."""

TOLD_MS = 20.0
"""How long a server that heard that nothing is left refuses without asking again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated.

    Attributes:
        budget: Units.
        servers: How many decide.
        lease: Units of a lease at the most.
        shrinking: Whether leases shrink with what is left: to its part in twice the servers.
        per_s: Requests a second at all servers.
        requests: How many arrive in all; more than the budget, so that it runs out.
        round_trip_ms: From asking for a lease to having it.
        lease_ms: How long a lease lasts.
        skew: Exponent of Zipf's law for the parts of the servers; 0 makes them equal.
    """

    budget: int = 100_000
    servers: int = 16
    lease: int = 100
    shrinking: bool = False
    per_s: float = 50_000
    requests: int = 110_000
    round_trip_ms: float = 1.0
    lease_ms: float = 1_000
    skew: float = 1.0

    @property
    def outstanding_max(self) -> int:
        """Units that can be out on leases at once: a lease each, and what is asked for early."""
        return self.servers * (self.lease + self.lease // EARLY)


@dataclass(slots=True)
class Outcome:
    """What came out.

    Attributes:
        granted: Requests.
        refused: Requests.
        calls: Asked of the shard until the first refusal.
        waited: Requests until then that had to wait for an answer of the shard.
        first_refusal_used: Units granted when the first was refused.
        refused_with_room: Refused while other servers, or the shard, had units.
        outstanding: Most units that were out on leases at once: the bound of what can be spent
            twice, were all servers cut off at once.
        seconds: Until the first refusal.
        left: Units that nobody got.
    """

    granted: int = 0
    refused: int = 0
    calls: int = 0
    waited: int = 0
    first_refusal_used: int = -1
    refused_with_room: int = 0
    outstanding: int = 0
    seconds: float = 0.0
    left: int = 0

    @property
    def calls_per_s(self) -> float:
        """Calls to the shard a second, until the first refusal."""
        return self.calls / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Server:
    units: int = 0
    waiting: int = 0
    low: int = 0
    asking: bool = False
    told_until_ms: float = -1.0
    ends_ms: float = 0.0


@dataclass(slots=True)
class _World:
    plan: Plan
    left: int
    servers: list[_Server]
    out: Outcome = field(default_factory=Outcome)
    answers: list[tuple[float, int, int]] = field(default_factory=list)
    now_ms: float = 0.0
    asked: int = 0


def simulate(plan: Plan, random: Random) -> Outcome:
    """Let requests arrive until the budget is used, and some more."""
    world = _World(plan, plan.budget, [_Server() for _ in range(plan.servers)])
    weights = list(_cumulated(plan.servers, plan.skew))
    numbers = range(plan.servers)
    next_ms = 0.0
    for _ in range(plan.requests):
        next_ms += random.expovariate(plan.per_s) * 1_000
        while world.answers and world.answers[0][0] <= next_ms:
            _answer(world, *heapq.heappop(world.answers))
        world.now_ms = next_ms
        [number] = random.choices(numbers, cum_weights=weights)
        _arrive(world, number)
    while world.answers:
        _answer(world, *heapq.heappop(world.answers))
    out = world.out
    out.left = world.left + sum(server.units for server in world.servers)
    if out.first_refusal_used < 0:
        out.first_refusal_used, out.seconds = out.granted, world.now_ms / 1_000
    return out


def _cumulated(servers: int, skew: float) -> Sequence[float]:
    total, found = 0.0, list[float]()
    for rank in range(1, servers + 1):
        total += rank**-skew
        found.append(total)
    return found


def _arrive(world: _World, number: int) -> None:
    server = world.servers[number]
    if server.units and world.now_ms >= server.ends_ms:
        world.left += server.units
        server.units = 0
    if server.units:
        server.units -= 1
        world.out.granted += 1
    elif world.now_ms < server.told_until_ms:
        _refuse(world, 1)
        return
    else:
        server.waiting += 1
        if world.out.refused == 0:
            world.out.waited += 1
    if server.units <= server.low and not server.asking:
        _ask(world, number)


def _ask(world: _World, number: int) -> None:
    server = world.servers[number]
    if world.now_ms < server.told_until_ms:
        return
    server.asking = True
    world.asked += 1
    if world.out.refused == 0:
        world.out.calls += 1
    at_ms = world.now_ms + world.plan.round_trip_ms
    heapq.heappush(world.answers, (at_ms, world.asked, number))


def _answer(world: _World, at_ms: float, _: int, number: int) -> None:
    plan, server, out = world.plan, world.servers[number], world.out
    world.now_ms = at_ms
    _take_back(world)
    size = plan.lease
    if plan.shrinking:
        size = max(1, min(size, world.left // (2 * plan.servers)))
    # Whatever waits is asked for with it: they were there when the answer was made.
    given = (
        min(size + server.waiting, world.left)
        if plan.lease > 1
        else min(max(server.waiting, 1), world.left)
    )
    world.left -= given
    server.units += given
    server.asking = False
    server.ends_ms = at_ms + plan.lease_ms
    served = min(server.waiting, server.units)
    server.units -= served
    out.granted += served
    out.outstanding = max(out.outstanding, sum(each.units for each in world.servers))
    if given == 0:
        server.told_until_ms = at_ms + TOLD_MS
    refused = server.waiting - served
    server.waiting = 0
    if refused:
        _refuse(world, refused)


def _take_back(world: _World) -> None:
    """Take leases back whose time is over."""
    for server in world.servers:
        if server.units and world.now_ms >= server.ends_ms:
            world.left += server.units
            server.units = 0


def _refuse(world: _World, count: int) -> None:
    out = world.out
    if out.refused == 0:
        out.first_refusal_used, out.seconds = out.granted, world.now_ms / 1_000
    out.refused += count
    room = world.left + sum(server.units for server in world.servers)
    out.refused_with_room += min(count, room)
