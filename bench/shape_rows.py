"""P5, P6 and P9: how cost and throughput change with counters, orgs and workers."""

from __future__ import annotations

import asyncio
import inspect
import os

from bench.calls_rows import cpu_figures
from bench.generator import Generator
from bench.load import Load, Result
from bench.rows import Row
from bench.stage import HOT, MANY, Stage, depth_org
from bench.workload import DEPTH_MAX
from bursar.cli.serve import serve

_WORKERS = 2
_CORES_NEEDED = 4
"""Two for the workers, and as many for Redis, PostgreSQL and the generators."""


async def p5(stage: Stage) -> list[Row]:
    """Measure what more counters cost."""
    how = await stage.batched()
    found: dict[int, Result] = {}
    for _ in range(min(stage.scale.rounds, 2)):
        for depth in (1, 2, 4, DEPTH_MAX):
            result = await stage.load(how, 1.2, orgs=(depth_org(depth),))
            found[depth] = found.get(depth, Result()).plus(result)
    costs_us = {depth: result.cpu_us("server", "redis") for depth, result in found.items()}
    figures = {}
    for depth, result in found.items():
        for name in ("server", "redis", "postgres"):
            figures[f"depth_{depth}_{name}_cpu_us"] = round(result.cpu_us(name), 1)
    return [
        Row(
            "P5",
            f"{DEPTH_MAX} counters a decision: CPU of server and Redis",
            f"{costs_us[DEPTH_MAX]:.0f} us",
            f"1 counter {costs_us[1]:.0f} us",
            costs_us[DEPTH_MAX] / costs_us[1],
            2,
            figures={"how": how, **figures},
        )
    ]


async def p6(stage: Stage) -> list[Row]:
    """Measure whether one busy org is slower than many."""
    how = await stage.batched()
    hot, many = Result(), Result()
    for _ in range(stage.scale.rounds):
        hot = hot.plus(await stage.load(how, 1.2, orgs=(HOT,)))
        many = many.plus(await stage.load(how, 1.2, orgs=MANY))
    return [
        Row(
            "P6",
            "one hot org: decisions/s",
            f"{hot.per_s:,.0f}/s",
            f"{len(MANY)} orgs {many.per_s:,.0f}/s",
            hot.per_s / many.per_s,
            0.8,
            "least",
            figures={"how": how, **cpu_figures(hot, "hot_"), **cpu_figures(many, "many_")},
        )
    ]


async def p9(stage: Stage) -> list[Row]:
    """Measure what a second worker brings."""
    what = f"workers 1 -> {_WORKERS}: unary calls/s"
    if "workers" not in inspect.signature(serve).parameters:
        return [Row("P9", what, note="this server has no --workers")]
    found = {}
    for workers in (1, _WORKERS):
        stage.say(f"starting a server with {workers} workers")
        await stage.serve_anew("--workers", str(workers))
        found[workers] = await _from_two_generators(stage)
    cores = len(os.sched_getaffinity(0))
    one, two = found[1], found[_WORKERS]
    return [
        Row(
            "P9",
            what,
            f"{two.per_s:,.0f}/s",
            f"1 worker {one.per_s:,.0f}/s",
            two.per_s / one.per_s,
            1.7,
            "least",
            judged=cores >= _CORES_NEEDED,
            note=""
            if cores >= _CORES_NEEDED
            else f"{cores} cores: the generator, Redis and PostgreSQL take what the second worker "
            f"would need; server CPU of a call with 1 and {_WORKERS} workers: "
            f"{one.cpu_us('server'):.0f} and {two.cpu_us('server'):.0f} us",
            figures={**cpu_figures(one, "one_"), **cpu_figures(two, "two_")},
        )
    ]


async def _from_two_generators(stage: Stage) -> Result:
    """Return what two generators get together, over several connections each."""
    other = Generator()
    load = Load("unary", stage.server.address, 3 * stage.scale.time, connections=8)
    watched = stage.world.watched(stage.server)
    try:
        await other.start()
        first, second = await asyncio.gather(
            stage.generator.make(load, watched), other.make(load, {})
        )
    finally:
        await other.close()
    first.answered += second.answered
    first.cpu_s["load"] += second.cpu_s["load"]
    return first
