"""P12 and P13: how long callers wait at half of the peak, and what is left at ten times it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from bench.calls_rows import cpu_figures
from bench.cpu import resident_bytes
from bench.generator import Generator, LoadFailed
from bench.load import How, Load, Result, percentiles
from bench.rows import FAR_OFF_WAITING, Row
from bench.stage import CLOCK, Scale, Stage

_MINUTE_MS = 60_000
_BOUNDARY_MS = 2_000
"""What is meant to begin within that after a boundary finds a new window."""

_OPEN_S = 16.0

_OVERLOAD = 10
_GENERATORS = 2
_IN_FLIGHT_MAX = 2_000
"""Of one generator: together more than the server has room for."""

_CONNECTIONS = 4
"""Of one generator."""

_IN_TIME_S = 1.0
"""An answer that comes later helps nobody."""

_RECOVERY_S = 20.0


async def p12(stage: Stage) -> list[Row]:
    """Measure latency at half of the peak, from the intended time, over a window's boundary."""
    peak = await stage.peak("unary")
    if stage.scale.name != "short":
        wait_s = until_p12_s(stage.scale)
        stage.say(f"waiting {wait_s:.0f} s, so that a minute begins in the middle")
        await asyncio.sleep(wait_s)
    result = await stage.load("open", _OPEN_S, rate_per_s=peak.per_s / 2, orgs=(CLOCK,),
                              callers=_IN_FLIGHT_MAX)  # fmt: skip
    after: list[float] = []
    others: list[float] = []
    for meant_ms, latency_ms in result.series:
        (after if meant_ms % _MINUTE_MS < _BOUNDARY_MS else others).append(latency_ms)
    usual, fresh = percentiles(others), percentiles(after)
    figures = {
        **cpu_figures(result),
        "intended_per_s": round(peak.per_s / 2),
        "late": result.late,
        **{f"reserve_{name}_ms": value for name, value in usual.items()},
        **{f"boundary_{name}_ms": value for name, value in fresh.items()},
    }
    rows = [
        Row(
            "P12",
            "unary at half of the peak, open loop: p99 of a Reserve",
            f"{usual['p99']:.2f} ms",
            f"p50 {usual['p50']:.2f} ms",
            usual["p99"] / usual["p50"],
            5,
            far_off_from=FAR_OFF_WAITING,
            figures=figures,
        )
    ]
    what = "the same, within 2 s after a minute began: p99"
    if not fresh:
        return [*rows, Row("P12 boundary", what, note="no minute began meanwhile")]
    return [
        *rows,
        Row(
            "P12 boundary",
            what,
            f"{fresh['p99']:.2f} ms",
            f"p50 {usual['p50']:.2f} ms",
            fresh["p99"] / usual["p50"],
            5,
            far_off_from=FAR_OFF_WAITING,
        ),
    ]


def until_p12_s(scale: Scale) -> float:
    """Return in how many seconds P12 has to begin, so that a minute begins in the middle of it."""
    return (60 - time.time() % 60 - _OPEN_S * scale.time / 2) % 60


async def p13(stage: Stage) -> list[Row]:
    """Measure what is answered in time under ten times the load, and how soon it is over.

    Over sessions, as client libraries ask; then by unary calls.
    """
    before_bytes = resident_bytes(stage.server.pid)
    peak = await stage.load("session", 4, settles=False)
    sessions = await _overload(stage, "P13", "open_session", "sessions", peak)
    recovery_s = await _recovery_s(stage, peak)
    unary = await _overload(stage, "P13 unary", "open", "unary calls", await stage.peak("unary"))
    sessions.figures["server_bytes_before"] = before_bytes
    sessions.figures["server_bytes_after"] = resident_bytes(stage.server.pid)
    recovery = Row(
        "P13 recovery",
        "after it: until sessions get 80 % of the peak again, in s",
        f"{recovery_s:.1f} s",
        ratio=recovery_s,
        reach=5,
        far_off_from=FAR_OFF_WAITING,
    )
    return [sessions, recovery, unary]


async def _overload(stage: Stage, name: str, how: How, what: str, peak: Result) -> Row:
    """Offer ten times the peak, and return what came of it as the row of that name."""
    load = Load(
        how,
        stage.server.address,
        stage.scale.overload_s,
        warm_s=1,
        settles=False,
        callers=_IN_FLIGHT_MAX,
        connections=_CONNECTIONS,
        rate_per_s=peak.per_s * _OVERLOAD / _GENERATORS,
        timeout_s=_IN_TIME_S,
    )
    generators = [Generator() for _ in range(_GENERATORS)]
    stage.say(f"{peak.per_s * _OVERLOAD:,.0f} operations/s are meant to begin by {what}")
    try:
        await asyncio.gather(*(each.start() for each in generators))
        watched = stage.world.watched(stage.server)
        # The server's time is counted once.
        found = await asyncio.gather(
            *(each.make(load, watched if each is generators[0] else {}) for each in generators)
        )
    finally:
        for each in generators:
            await each.close()
    result = _together(found)
    offered_per_s = (result.answered + sum(result.failed.values())) / result.seconds
    return Row(
        name,
        f"{_OVERLOAD} times the load for {stage.scale.overload_s:g} s by {what}: answered within "
        f"{_IN_TIME_S:g} s",
        f"{result.per_s:,.0f}/s",
        f"peak {peak.per_s:,.0f}/s",
        result.per_s / peak.per_s,
        0.8,
        "least",
        far_off_from=FAR_OFF_WAITING,
        note=f"the generators reached {offered_per_s / peak.per_s:.1f} times the peak, and took "
        f"{result.cpu_s['load'] / result.seconds:.2f} cores from the servers",
        figures={
            **cpu_figures(result),
            "offered_per_s": round(offered_per_s),
            "not_begun_or_late": result.late,
            "failures": result.failed,
            **{f"refusal_{name}_ms": value for name, value in result.refusal_ms.items()},
        },
    )


def _together(found: Sequence[Result]) -> Result:
    """Return what generators that ran at the same time did together."""
    first = found[0]
    for other in found[1:]:
        first.answered += other.answered
        first.late += other.late
        first.cpu_s["load"] += other.cpu_s["load"]
        first.failed = dict(Counter(first.failed) + Counter(other.failed))
    return first


async def _recovery_s(stage: Stage, peak: Result) -> float:
    """Return how long it takes until callers that wait get nearly as much as before."""
    begin_s = time.monotonic()
    while (began_s := time.monotonic() - begin_s) < _RECOVERY_S:
        load = Load("session", stage.server.address, 0.5, warm_s=0.0, settles=False)
        try:
            result = await stage.generator.make(load, {})
        except LoadFailed:
            continue
        if result.per_s >= 0.8 * peak.per_s:
            break
    return began_s
