"""P1 to P4: what a decision costs, alone and together."""

from __future__ import annotations

import asyncio
from statistics import median

from bench.load import Result
from bench.raw_redis import NoOp, captured
from bench.rows import ABSOLUTE, FAR_OFF_WAITING, Row
from bench.stage import HOT, SCARCE, Stage

BATCH = 32


def cpu_figures(result: Result, prefix: str = "") -> dict[str, float]:
    """Return what an operation cost each process, and how much the generator had left."""
    names = {name: round(result.cpu_us(name), 1) for name in result.cpu_s}
    return {
        f"{prefix}operations_per_s": round(result.per_s),
        **{f"{prefix}{name}_cpu_us": value for name, value in names.items()},
        **{f"{prefix}{name}_ms": value for name, value in result.latency_ms.items()},
        f"{prefix}denied": result.denied,
        f"{prefix}failed": sum(result.failed.values()),
        f"{prefix}generator_headroom": round(result.headroom, 2),
    }


async def round_trip(stage: Stage) -> Result:
    """Return how long Redis needs for a script that does nothing, one at a time."""
    async with captured(stage.world.redis.url) as found:
        await stage.load("unary", 0.5, callers=1)
    no_op = NoOp(stage.world.redis.url, found)
    result = await asyncio.to_thread(no_op.run, stage.scale.time, 1, {})
    no_op.close()
    return result


async def p1(stage: Stage) -> list[Row]:
    """Measure how long one Reserve takes where nothing else is in flight."""
    redis = await round_trip(stage)
    ours, echo = [], []
    for _ in range(stage.scale.rounds):
        ours.append(await stage.load("unary", 1.5, callers=1, settles=False))
        echo.append(await stage.echo(1, callers=1))
    ours_ms, echo_ms, redis_ms = (
        median(each.latency_ms["p50"] for each in rounds) for rounds in (ours, echo, [redis])
    )
    return [
        Row(
            "P1",
            "unary Reserve, 1 in flight: p50 less one Redis round trip",
            f"{ours_ms - redis_ms:.3f} ms",
            f"echo {echo_ms:.3f} ms",
            (ours_ms - redis_ms) / echo_ms,
            1.6,
            far_off_from=FAR_OFF_WAITING,
            figures={"reserve_p50_ms": ours_ms, "echo_p50_ms": echo_ms,
                     "redis_round_trip_ms": redis_ms, **cpu_figures(ours[-1])},
        )
    ]  # fmt: skip


async def p2(stage: Stage) -> list[Row]:
    """Measure what a unary Reserve costs the server where it is busy."""
    ours, echo = Result(), Result()
    for _ in range(stage.scale.rounds):
        ours = ours.plus(await stage.load("unary", 2, settles=False))
        echo = echo.plus(await stage.echo(1.5, callers=64))
    return [
        Row(
            "P2",
            "unary Reserve, 64 in flight: server CPU of a call",
            f"{ours.cpu_us('server'):.0f} us",
            f"echo {echo.cpu_us('server'):.0f} us",
            ours.cpu_us("server") / echo.cpu_us("server"),
            1.7,
            figures={**cpu_figures(ours), **cpu_figures(echo, "echo_")},
        )
    ]


async def p3(stage: Stage) -> list[Row]:
    """Measure how much more a session carries than unary calls."""
    if not await stage.has_session():
        return [Row("P3", "Session, 64 callers: decisions/s", note="the server has no Session")]
    unary, session = await stage.peak("unary"), await stage.peak("session")
    client = await stage.load("client", 4)
    reserves = await stage.load("session", 2, settles=False)
    crowd = await stage.load("session", 2, callers=256)
    denials = await stage.load("session", 2, orgs=(SCARCE,))
    what = "Session, 64 callers, reserve and commit:"
    figures = {
        **cpu_figures(session),
        **cpu_figures(unary, "unary_"),
        **cpu_figures(client, "client_"),
        **cpu_figures(reserves, "reserve_only_"),
        **cpu_figures(crowd, "callers_256_"),
        **cpu_figures(denials, "half_denied_"),
    }
    return [
        Row(
            "P3",
            f"{what} decisions/s",
            f"{session.per_s:,.0f}/s",
            f"unary {unary.per_s:,.0f}/s",
            session.per_s / unary.per_s,
            8,
            "least",
            figures=figures,
        ),
        Row(
            "P3 cpu",
            f"{what} server CPU of a decision, in us",
            f"{session.cpu_us('server'):.0f} us",
            ratio=session.cpu_us("server"),
            reach=60,
            far_off_from=ABSOLUTE,
        ),
        Row(
            "P3 client",
            "the same by one Python client: decisions/s",
            f"{client.per_s:,.0f}/s",
            f"unary {unary.per_s:,.0f}/s",
            client.per_s / unary.per_s,
            note="bounded by the client's own process: "
            f"{client.cpu_us('load'):.0f} us of it for each decision",
        ),
    ]


async def p4(stage: Stage) -> list[Row]:
    """Measure what a decision in a batch costs Redis."""
    async with captured(stage.world.redis.url) as found:
        await stage.load("unary", 0.5, callers=1)
    no_op = NoOp(stage.world.redis.url, found)
    watched = {"redis": stage.world.watched(stage.server)["redis"]}
    ours, plain = Result(), Result()
    for _ in range(stage.scale.rounds):
        ours = ours.plus(await stage.load("batch", 2, per_batch=BATCH, callers=4 * BATCH))
        stage.say("yardstick: no-op script")
        plain = plain.plus(
            await asyncio.to_thread(no_op.run, 1.5 * stage.scale.time, BATCH, watched)
        )
    no_op.close()
    sizes = [len(each) - 1 for each in found]
    return [
        Row(
            "P4",
            f"Redis CPU of a decision in batches of {BATCH}",
            f"{ours.cpu_us('redis'):.1f} us",
            f"no-op script {plain.cpu_us('redis'):.1f} us",
            ours.cpu_us("redis") / plain.cpu_us("redis"),
            2,
            figures={
                **cpu_figures(ours),
                "no_op_redis_cpu_us": round(plain.cpu_us("redis"), 2),
                "no_op_keys_and_arguments": round(sum(sizes) / len(sizes), 1),
                "no_op_bytes": round(sum(len(w) for each in found for w in each) / len(found)),
                "org": HOT,
            },
        )
    ]
