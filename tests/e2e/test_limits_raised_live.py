"""A limit that is raised while servers decide: everywhere within a second, nothing forgotten."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bursar_processes import environment, run_bursar, serving

from bursar_client import Client, Denial
from databases import drop_database, new_database
from polling import eventually

POLICY = """
org: shop
budgets: [{{name: day, limit: {{tokens: {limit}}}, window: day}}]
"""
CALL_TOKENS = 100
BEFORE, AFTER = 2_000, 5_000
SERVERS = 3


def spend(client: Client) -> bool:
    """Make a call of 100 tokens, and say whether it was granted."""
    reservation = client.try_reserve(
        org="shop", model="gpt-5", input_tokens=CALL_TOKENS - 1, max_output_tokens=1
    )
    if isinstance(reservation, Denial):
        return False
    reservation.commit(input_tokens=CALL_TOKENS - 1, output_tokens=1)
    return True


def spend_all(client: Client) -> int:
    """Spend until a denial, and return how many calls were granted."""
    calls = 0
    while spend(client):
        calls += 1
    return calls


def test_a_raised_limit(
    tmp_path: Path, postgres_url: str, redis_url: str, key_namespace: str
) -> None:
    """Goal: `bursar apply` raises a limit on every server within a second, with no lost usage.

    Method: three processes on one Redis and one PostgreSQL; the budget is spent on all of them at
    once, raised through one of them, and spent again. Each of them grants within a second of the
    end of the command, and what all granted comes to the limits exactly.
    """
    database = new_database(postgres_url)
    shared = {
        "BURSAR_DATABASE_URL": database,
        "BURSAR_REDIS_URL": redis_url,
        "BURSAR_KEY_NAMESPACE": key_namespace,
        "BURSAR_SHARD_COUNT": "2",
    }
    policy = tmp_path / "shop.yaml"
    policy.write_text(POLICY.format(limit=BEFORE), encoding="utf-8")
    with ExitStack() as stack:
        addresses = []
        for number in range(SERVERS):
            folder = tmp_path / str(number)
            folder.mkdir()
            addresses.append(stack.enter_context(serving(policy, folder, **shared))[1])
        clients = [stack.enter_context(Client(address)) for address in addresses]
        pool = stack.enter_context(ThreadPoolExecutor(SERVERS))
        assert sum(pool.map(spend_all, clients)) == BEFORE // CALL_TOKENS
        policy.write_text(POLICY.format(limit=AFTER), encoding="utf-8")
        env = environment(BURSAR_ADDRESS=addresses[0])
        applied = run_bursar("apply", policy, "--yes", env=env)
        assert applied.returncode == 0, applied.stdout + applied.stderr
        applied_s = time.monotonic()

        def first_grant(client: Client) -> float:
            eventually(lambda: spend(client), 5.0)
            return time.monotonic() - applied_s

        assert max(pool.map(first_grant, clients)) <= 1.0
        more = SERVERS + sum(pool.map(spend_all, clients))
        assert more == (AFTER - BEFORE) // CALL_TOKENS
        [day] = clients[1].get_balances(org="shop")
        assert (day.committed, day.held, day.limit) == (AFTER, 0, AFTER)
    drop_database(postgres_url, database)
