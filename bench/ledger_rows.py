"""P10: whether the ledger keeps up with what is decided."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from statistics import linear_regression
from typing import Any

import asyncpg
import grpc.aio

from bench.calls_rows import cpu_figures
from bench.cpu import cpu_s
from bench.load import Load, percentiles
from bench.rows import FAR_OFF_WAITING, Row
from bench.stage import HOT, Stage
from bursar.pb import admin_service_pb2, admin_service_pb2_grpc

_EVERY_S = 0.1
_DRAIN_S = 30.0
_KEEPS_UP = 0.97
"""Rates of the same seconds, seen by two processes, differ by a little."""

# With indexes; of a partitioned table all parts.
_BYTES = """
SELECT name, coalesce(
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(name::regclass)),
    pg_total_relation_size(name::regclass)
)::bigint AS bytes
FROM unnest(ARRAY['ledger_entries', 'usage_hourly', 'counter_balances', 'open_holds']) AS name
"""


@dataclass(slots=True)
class _Seen:
    """What was seen of the ledger, moment by moment."""

    at_s: list[float] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)


async def p10(stage: Stage) -> list[Row]:
    """Measure how fast and how late decisions are recorded."""
    how = await stage.batched()
    connection = await asyncpg.connect(stage.world.postgres.url)
    idle = await _idle(stage)
    channel = grpc.aio.insecure_channel(stage.server.address)
    admin = admin_service_pb2_grpc.AdminServiceStub(channel)
    before = await _sizes(connection)
    seen, seconds = _Seen(), 6.0
    load = Load(how, stage.server.address, seconds * stage.scale.time, orgs=(HOT,))
    stage.say(f"{how}, and looking at the ledger")
    watching = asyncio.create_task(_watch(connection, admin, seen))
    result = await stage.generator.make(load, stage.world.watched(stage.server))
    watching.cancel()
    drain_s = await _drain_s(admin)
    after = await _sizes(connection)
    await connection.close()
    await channel.close(None)
    # The load had begun before it was measured, and it ended a little before this.
    inside = [at for at, moment in enumerate(seen.at_s) if moment <= seen.at_s[-1] - 0.2]
    rate = linear_regression(
        [seen.at_s[at] for at in inside[len(inside) // 5 :]],
        [seen.entries[at] for at in inside[len(inside) // 5 :]],
    ).slope
    lag_ms = percentiles(seen.lags_ms)
    rows = after["rows"] - before["rows"]
    figures = {
        **cpu_figures(result),
        "drain_s": round(drain_s, 2),
        **{f"lag_{name}_ms": value for name, value in lag_ms.items()},
        **{
            f"{name}_bytes_an_operation": round((after[name] - before[name]) / max(rows, 1))
            for name in before
            if name != "rows"
        },
        **idle,
    }
    return [
        Row(
            "P10",
            "journal to ledger: recorded/s while as many are decided",
            f"{rate:,.0f}/s",
            f"decided {result.per_s:,.0f}/s",
            rate / result.per_s,
            _KEEPS_UP,
            "least",
            figures=figures,
        ),
        Row(
            "P10 lag",
            "journal to ledger: lag p99, in s",
            f"{lag_ms['p99']:.0f} ms",
            ratio=lag_ms["p99"] / 1_000,
            reach=1,
            far_off_from=FAR_OFF_WAITING,
        ),
    ]


async def _watch(connection: Any, admin: Any, seen: _Seen) -> None:  # noqa: ANN401 - untyped
    while True:
        seen.at_s.append(time.monotonic())
        seen.entries.append(await connection.fetchval("SELECT count(*) FROM ledger_entries"))
        status = await admin.GetStatus(admin_service_pb2.GetStatusRequest(), timeout=10)
        lags = [each.lag.seconds * 1_000 + each.lag.nanos / 1e6 for each in status.shards]
        seen.lags_ms.append(max(lags))
        await asyncio.sleep(_EVERY_S)


async def _drain_s(admin: Any) -> float:  # noqa: ANN401 - untyped
    """Return how long it takes until nothing waits to be recorded."""
    begin_s = time.monotonic()
    while (took_s := time.monotonic() - begin_s) < _DRAIN_S:
        status = await admin.GetStatus(admin_service_pb2.GetStatusRequest(), timeout=10)
        if not any(each.waiting_count for each in status.shards):
            break
        await asyncio.sleep(0.02)
    return took_s


async def _sizes(connection: Any) -> dict[str, int]:  # noqa: ANN401 - untyped
    sizes = {row["name"]: row["bytes"] for row in await connection.fetch(_BYTES)}
    return {"rows": await connection.fetchval("SELECT count(*) FROM ledger_entries"), **sizes}


async def _idle(stage: Stage) -> dict[str, float]:
    """Return what each process takes where nobody calls."""
    watched = stage.world.watched(stage.server)
    stage.say("idle")
    before, seconds = cpu_s(watched), 2 * stage.scale.time
    await asyncio.sleep(seconds)
    after = cpu_s(watched)
    return {
        f"idle_{name}_cpu_ms_per_s": round((after[name] - before[name]) * 1_000 / seconds, 1)
        for name in watched
    }
