"""Counts what is answered while it is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import grpc
import grpc.aio

from bench.cpu import cpu_s
from bench.load import Load, Result, percentiles
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2

TOO_LATE = "too late"
"""Why an answer of an open load counts as none: its caller has left, as from the plan."""

REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED.name
_DENIED = types_pb2.DECISION_DENIED


class Tally:
    """What came of a load, from the end of its warm-up on.

    Attributes:
        ended: Whether no more is to be begun.
    """

    def __init__(self) -> None:
        self._result = Result()
        self._latencies_ms: list[float] = []
        self._refusals_ms: list[float] = []
        self._measures = self.ended = False

    async def measure(self, load: Load, watched: Mapping[str, Sequence[int]]) -> Result:
        """Wait for the warm-up and the measurement, and return what came of it.

        Args:
            load: How long.
            watched: Processes whose time is counted, by name.
        """
        await asyncio.sleep(load.warm_s)
        before, begin_s = cpu_s(watched), time.perf_counter()
        self._measures = True
        await asyncio.sleep(load.seconds)
        self._measures = False
        result = self._result
        result.seconds = time.perf_counter() - begin_s
        after = cpu_s(watched)
        self.ended = True
        result.cpu_s = {name: after[name] - before[name] for name in watched}
        result.latency_ms = percentiles(self._latencies_ms)
        result.refusal_ms = percentiles(self._refusals_ms)
        return result

    def answered(self, latency_s: float, answer: pb.ReserveResponse | None) -> bool:
        """Note an answer.

        Args:
            latency_s: How long it took.
            answer: What it was, where it was a reserve's.

        Returns:
            Whether something is held that has to be committed.
        """
        denied = answer is not None and answer.decision == _DENIED
        if self._measures:
            self._result.answered += 1
            self._result.denied += denied
            self._latencies_ms.append(latency_s * 1_000)
        return answer is not None and not denied

    def answered_in_time(self, meant_s: float, latency_s: float, late: bool) -> None:
        """Note when an operation of an open load was meant to begin, and how long it took."""
        if self._measures:
            self._result.series.append((meant_s * 1_000, latency_s * 1_000))
            self._result.late += late

    def not_begun(self) -> None:
        """Note an operation of an open load for which the generator had no room."""
        if self._measures:
            self._result.late += 1

    def failed(self, why: str, latency_s: float = 0.0) -> None:
        """Note a failure, and how long after its sending it came."""
        if self._measures:
            if why == REFUSED:
                self._refusals_ms.append(latency_s * 1_000)
            self._result.failed[why] = self._result.failed.get(why, 0) + 1


def reason(error: grpc.aio.AioRpcError) -> str:
    """Return why a call failed, shortly."""
    return str(error.code().name)
