"""A failover with the old primary alive: two Redis that both take writes (T37)."""

from __future__ import annotations

from pathlib import Path

from engine_calls import MODELS, ask, commit, granted, refused
from ledger_world import open_ledger_world

from bursar.domain.errors import ShardCold
from engine_redis import own_redis
from polling import eventually

LIMIT_TOKENS = 100_000
POLICY = f"""
org: acme
budgets:
  - {{name: day, limit: {{tokens: {LIMIT_TOKENS}}}, window: day}}
{MODELS}
"""


async def test_t37_the_old_side_is_stopped(
    database_url: str, key_namespace: str, tmp_path: Path
) -> None:
    """Goal: the side that nobody records decides only until its server looks at the record.

    Method: a replica is promoted while the old primary lives on. One server stays with the old one,
    another is on the new one and keeps the shard. Both answer calls. At its next beat the first
    server misses what it answered in the record, stops its side, and decides nothing more; the
    other goes on, with what was recorded before and all of its own.
    """
    with own_redis(tmp_path / "old") as old:
        replica_of = ("--replicaof", "127.0.0.1", str(old.port))
        with own_redis(tmp_path / "new", *replica_of) as new:
            eventually(lambda: new.client().info("replication")["master_link_status"] == "up")
            async with open_ledger_world(old.url, database_url, key_namespace, POLICY) as world:
                left = world.servers[0]
                first = await granted(left.authority, ask("before", input_tokens=999))
                await world.record_all()
                offset = old.client().info("replication")["master_repl_offset"]
                eventually(lambda: new.client().info("replication")["slave_repl_offset"] >= offset)
                new.client().replicaof("NO", "ONE")
                await left.ledger.keeper._locks.release()
                right = await world.server(redis_url=new.url)
                for number in range(3):
                    await granted(left.authority, ask(f"left{number}", input_tokens=99))
                for number in range(5):
                    await granted(right.authority, ask(f"right{number}", input_tokens=99))
                await right.ledger.look()
                await right.ledger.record()
                await left.ledger.beat()
                error = await refused(left.authority, ask("left", input_tokens=99))
                assert isinstance(error, ShardCold)
                await right.authority.settle(commit(first, input_tokens=999))
                await granted(right.authority, ask("right", input_tokens=99))
                await right.ledger.record()
                rows = await world.rows(
                    "SELECT request_id FROM ledger_entries WHERE verb = 'reserve'"
                )
                recorded = {row["request_id"] for row in rows}
                assert recorded == {"before", *(f"right{n}" for n in range(5)), "right"}
                report = await right.ledger.verifier(0, org="", deep=True, repair=False)
                assert report.difference_count == 0
