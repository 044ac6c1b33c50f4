"""Measure how much memory of Redis a counter, a hold and a tombstone take.

It starts a private redis-server in a folder of its own, makes real calls of the authority and
asks Redis for the `MEMORY USAGE` of what they left there:

    .venv/bin/python scripts/measure_memory.py

`docs/operate/capacity.md` quotes what it prints.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import redis

from bursar.authority.authority import Authority
from bursar.authority.policies import Policies
from bursar.domain.meter import Estimate, Usage
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.request import CommitRequest, ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store

CALLS = 150
TTL_MS = 120_000
INPUT_TOKENS, MAX_OUTPUT_TOKENS, OUTPUT_TOKENS = 1_200, 500, 87
ROLLING_BUDGET = "user-rate"

WINDOWS = ("month", "day", "hour", "{task: 2h}", "month", "month", "month", "month")


def policy_text(counters: int) -> str:
    """Return a policy in which a request of a user and a task has that many counters."""
    budgets = [
        f"  - {{name: budget-{number}, per: [task], limit: {{usd: 1000}}, window: {window}}}"
        for number, window in enumerate(WINDOWS[:counters])
    ]
    return "org: acme\nbudgets:\n" + "\n".join(budgets) + "\n"


ROLLING = f"""
org: acme
budgets:
  - {{name: {ROLLING_BUDGET}, per: [user], limit: {{requests: 1000}}, window: {{rolling: 1m}}}}
"""


class WallClock:
    """This machine's clock, moved on where a rolling window has to fill up."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        """Return ms since the epoch."""
        return time.time_ns() // 1_000_000 + self.ahead_ms


async def make_calls(url: str, policy: str, namespace: str, step_ms: int, settle: bool) -> None:
    """Make calls, each of a user and a task of its own unless the clock moves on in between.

    Args:
        url: Of the Redis.
        policy: The policy's text.
        namespace: Keeps these keys apart.
        step_ms: How far the clock moves on after each call; then all are of one user.
        settle: Whether the calls are committed.
    """
    store, clock = Store(url), WallClock()
    shards = Shards(store, Keys(namespace, 1), EngineLimits())
    engine = RedisEngine(shards)
    await shards.data.fence(0, token="measured")  # noqa: S106 - no secret
    for replaying in (True, False):
        await shards.data.open(0, "measured", "measured", sequence=0, now_ms=0, replaying=replaying)
    shards.adopt(0, "measured", 0)
    authority = Authority(engine, Policies([compile_policy(parse_policy(policy, "policy"))]), clock)
    for number in range(CALLS):
        who = 0 if step_ms else number
        request = ReserveRequest(
            request_id=f"7e2f6c1a-0000-4000-8000-{number:012}",
            subject=Subject(
                OrgId("acme"), team="engineering", user=f"user-{who:06}", task=f"t-{who:06}"
            ),
            target=Target("openai", "gpt-5"),
            estimate=Estimate(input_tokens=INPUT_TOKENS, max_output_tokens=MAX_OUTPUT_TOKENS),
            ttl_ms=TTL_MS,
        )
        answer = await authority.reserve(request)
        if settle:
            usage = Usage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)
            await authority.settle(CommitRequest(answer.reservation_id, usage, request.target))
        clock.ahead_ms += step_ms
    await store.close()


def mean_bytes(client: redis.Redis, pattern: str) -> int:
    """Return the mean `MEMORY USAGE` of the keys of a pattern, all of each key counted."""
    keys = list(client.scan_iter(pattern))
    return round(sum(client.memory_usage(key, samples=0) for key in keys) / len(keys))


def entry_bytes(client: redis.Redis, key: str, count: int) -> int:
    """Return what each of the entries of a key takes."""
    return round(client.memory_usage(key, samples=0) / count)


def measure(url: str) -> list[str]:
    """Return a line for each thing that is kept."""
    client = redis.Redis.from_url(url)
    lines = []
    for counters in (1, 2, 4, 8):
        for settle, what in ((False, "open hold"), (True, "tombstone")):
            namespace = f"m{counters}{'s' if settle else 'o'}"
            asyncio.run(make_calls(url, policy_text(counters), namespace, 0, settle))
            size = mean_bytes(client, f"{{{namespace}00}}:h:*")
            lines.append(f"{what} with {counters} counter{'s' * (counters > 1)}: {size} bytes")
    lines.sort()
    lines.append(f"counter of a calendar window: {mean_bytes(client, '{m1s00}:c:*')} bytes")
    # A rolling window is at its largest when each of its 60 buckets has something.
    asyncio.run(make_calls(url, ROLLING, "roll", 1_000, True))
    lines.append(f"counter of a rolling window, full: {mean_bytes(client, '{roll00}:c:*')} bytes")
    lines.append(
        f"open hold's place in the expiries: {entry_bytes(client, '{m4o00}:x', CALLS)} bytes"
    )
    lines.append(
        f"journal, a call with 4 counters: {entry_bytes(client, '{m4s00}:j', 2 * CALLS)} bytes"
    )
    return [f"Redis {client.info('server')['redis_version']}", *lines]


def main() -> int:
    """Print what each thing takes."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        sys.stdout.write("\n".join(measure(server.url)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
