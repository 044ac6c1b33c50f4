"""What it does to throughput and latency that whatever waits goes together (group commit).

A worker with one core takes everything that waits as soon as it is free, at most so much at once,
and is busy with it for `call + operation * n`. Arrivals are a Poisson process.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from bench.scaling.costs import Cost


@dataclass(frozen=True, slots=True)
class Queue:
    """How a worker did.

    Attributes:
        per_s: Operations that arrived each second.
        busy: Part of the time in which it worked.
        mean_batch: Operations that went together.
        mean_us: From the arrival of an operation to its end.
        p99_us: The same, of the slowest of a hundred.
    """

    per_s: float
    busy: float
    mean_batch: float
    mean_us: float
    p99_us: float


def simulate(cost: Cost, per_s: float, batch_max: int, operations: int, random: Random) -> Queue:
    """Let operations arrive and be worked on.

    Args:
        cost: Of what the worker does.
        per_s: Arrivals a second.
        batch_max: Operations that go together at most; 1 means one by one.
        operations: How many arrive in all.
        random: Seeded.
    """
    gap_us = 1e6 / per_s
    arrivals, now_us = list[float](), 0.0
    for _ in range(operations):
        now_us += random.expovariate(1) * gap_us
        arrivals.append(now_us)
    took_us, busy_us, free_us, batches, first = list[float](), 0.0, 0.0, 0, 0
    while first < operations:
        begin_us = max(free_us, arrivals[first])
        last = first + 1
        while last < min(operations, first + batch_max) and arrivals[last] <= begin_us:
            last += 1
        free_us = begin_us + cost.of(last - first)
        busy_us += cost.of(last - first)
        took_us += [free_us - each for each in arrivals[first:last]]
        batches += 1
        first = last
    took_us.sort()
    return Queue(
        per_s=per_s,
        busy=busy_us / free_us,
        mean_batch=operations / batches,
        mean_us=sum(took_us) / operations,
        p99_us=took_us[operations * 99 // 100],
    )


def md1_wait_us(service_us: float, busy: float) -> float:
    """Return the mean time that an arrival waits where each takes the same time (M/D/1).

    Pollaczek's and Khinchine's formula without variance of the service time.

    Args:
        service_us: Of each.
        busy: Arrivals a second times service time, below 1.
    """
    return service_us * busy / (2 * (1 - busy))


def steady_batch(cost: Cost, per_s: float) -> float:
    """Return the batch whose work lasts until as many more have arrived, at high load.

    It is the fixed point n = rate * (call + operation * n). Operations alone must not fill the
    worker: there is none else.
    """
    per_us = per_s / 1e6
    return per_us * cost.call_us / (1 - per_us * cost.operation_us)
