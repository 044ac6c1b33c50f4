"""How long it takes to give Redis its counters again, from the record.

    python bench/rebuild.py [--counters 1000000] [--holds 10000] [--orgs 1] [--json]

Starts a PostgreSQL and a Redis of its own, records that many live counters, and lets a server begin
with an empty Redis. The yardstick is to write the same counters with plain pipelined HSETs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import redis.asyncio as redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.ledger import Ledger
from bursar.ledger.positions import Positions
from bursar.ledger.schema import migrate
from bursar.ledger.watch import Confirmations

SHARDS = 64
PIPELINE = 1_000


async def fill(database: Database, keys: Keys, counters: int, holds: int, orgs: int) -> None:
    """Record live counters of users and open holds on some of them."""
    now_ms = time.time_ns() // 1_000_000
    async with database.connection() as connection:
        for number in range(orgs):
            org = f"org{number}"
            await connection.execute(
                "INSERT INTO counter_balances SELECT $1 || ':user-month:cost:user=u' || n || "
                "':month@0', 0, $2, 0, 0, 0, n * 1000, CASE WHEN n <= $5::int THEN 500 ELSE 0 END, "
                "0, $3::bigint, $3::bigint + 3600000 FROM generate_series(1, $4::int) AS n",
                org, keys.shard_of(org), now_ms, counters // orgs, holds // orgs, timeout=600,
            )  # fmt: skip
            await connection.copy_records_to_table(
                "open_holds",
                records=[
                    (org, f"h{n}", keys.shard_of(org), 1, now_ms + 600_000, 0, hold(org, n, now_ms))
                    for n in range(1, holds // orgs + 1)
                ],
                timeout=600,
            )
        await connection.execute("VACUUM ANALYZE counter_balances", timeout=600)


def hold(org: str, number: int, now_ms: int) -> bytes:
    """Return an open hold on a user's counter, as the scripts keep it."""
    entry = [f"{org}:user-month:cost:user=u{number}:month@0", 0, 3_600_000, 0, 0, 0, "cost", 0,
             500, 500, 0]  # fmt: skip
    fields: list[Any] = [1, b"f", now_ms + 600_000, 600_000, 1, 1, now_ms, b"", "p\x1fm", [entry],
                         [], b"", 0, [], {}, 0, 0, 1, 1]  # fmt: skip
    packed: bytes = msgpack.packb(fields, use_bin_type=False)
    return packed


async def rebuild(console: Console, folder: Path, counters: int, holds: int, orgs: int) -> float:
    """Return how many seconds a server needs to have every shard live."""
    keys = Keys("b", SHARDS)
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedRedis(folder / "redis") as own:
        await asyncio.to_thread(migrate, postgres.url)
        database, store = Database(postgres.url, timeout_ms=60_000), Store(own.url)
        await database.open()
        await Positions(database).install(SHARDS, "b")
        with console.status(f"recording {counters:,} counters and {holds:,} holds"):
            await fill(database, keys, counters, holds, orgs)
        engine = RedisEngine(Shards(store, keys, EngineLimits()))
        ledger = Ledger(
            database=database,
            engine=engine,
            confirmations=Confirmations(Positions(database), 1_000, engine.shards.epoch),
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        begin_s = time.perf_counter()
        await ledger.open("")
        with Progress(TextColumn("rebuild"), BarColumn(), MofNCompleteColumn(),
                      TimeElapsedColumn(), console=console) as bar:  # fmt: skip
            task = bar.add_task("rebuild", total=counters)
            while engine.shards.cold or not ledger.keeper.kept.shards:
                await ledger.look()
                progress = ledger.keeper.progress
                bar.update(task, completed=progress.counters if progress else 0)
                await asyncio.sleep(0.1)
            bar.update(task, completed=counters)
        took_s = time.perf_counter() - begin_s
        async with redis.Redis.from_url(own.url) as client:
            found = await client.dbsize()
        assert found >= counters + holds, f"{found} keys of {counters + holds}"
        await ledger.close()
        await store.close()
    return took_s


async def yardstick(folder: Path, counters: int) -> float:
    """Return how many seconds plain pipelines need to write as many counters."""
    with EmbeddedRedis(folder / "plain") as own:
        async with redis.Redis.from_url(own.url) as client:
            begin_s = time.perf_counter()
            for at in range(0, counters, PIPELINE):
                pipeline = client.pipeline(transaction=False)
                for number in range(at, min(at + PIPELINE, counters)):
                    key = f"{{b00}}:c:org0:user-month:cost:user=u{number}:month@0"
                    pipeline.hset(key, mapping={"c": number * 1_000, "h": 0})
                    pipeline.pexpire(key, 3_600_000)
                await pipeline.execute()
            return time.perf_counter() - begin_s


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counters", type=int, default=1_000_000)
    parser.add_argument("--holds", type=int, default=10_000)
    parser.add_argument("--orgs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as name:
        took_s = asyncio.run(rebuild(console, Path(name), given.counters, given.holds, given.orgs))
        plain_s = asyncio.run(yardstick(Path(name), given.counters))
    figures = {
        "counters": given.counters,
        "holds": given.holds,
        "orgs": given.orgs,
        "rebuild_s": round(took_s, 2),
        "counters_per_s": round(given.counters / took_s),
        "plain_hset_s": round(plain_s, 2),
        "ratio": round(took_s / plain_s, 2),
    }
    if given.json:
        print(json.dumps(figures))
        return
    table = Table("", "")
    for figure, value in figures.items():
        table.add_row(figure, f"{value:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
