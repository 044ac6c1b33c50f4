"""Load over sessions at intended times, whatever is answered.

What is due goes together, in one message after another, as client libraries gather it. What could
not be sent before its caller would have left is not sent any more.
"""

from __future__ import annotations

import asyncio
import time
from itertools import cycle

import grpc.aio

from bench.channel import Connections, RawChannel
from bench.load import Load
from bench.session import RESERVE, Feed, head_of, pb_reason, session_operation
from bench.tally import TOO_LATE, Tally
from bench.unary import Ids
from bench.workload import Call
from bursar.pb import budget_authority_service_pb2 as pb

OPERATIONS_MAX = 256
"""In one message."""

NOT_SENT = "not sent"
"""Why an operation came to nothing without the server."""

_TICK_S = 0.005
"""How long is gathered: about as long as the loop of a busy client takes to come round."""


async def at_their_times(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Begin reserves at a steady rate, spread over connections."""
    connections = Connections(load.address, load.connections)
    rate_per_s = load.rate_per_s / load.connections
    streams = [
        _Stream(channel, rate_per_s, load.timeout_s, tally) for channel in connections.channels
    ]
    await asyncio.gather(*(each.run(cycle(calls), ids) for each in streams))
    await connections.close()


class _Stream:
    """One session."""

    def __init__(
        self, channel: RawChannel, rate_per_s: float, timeout_s: float, tally: Tally
    ) -> None:
        self._stream = channel.session()
        self._rate_per_s = rate_per_s
        self._timeout_s = timeout_s
        self._tally = tally
        self._begin_s = time.perf_counter()
        self._epoch_s = time.time() - self._begin_s
        self._sent_s: dict[int, float] = {}

    async def run(self, feed: Feed, ids: Ids) -> None:
        """Send and read until it is over."""
        reading = asyncio.create_task(self._read())
        number = 0
        while not self._tally.ended:
            now_s = time.perf_counter()
            due = int((now_s - self._begin_s) * self._rate_per_s)
            while number < due and self._due_s(number) < now_s - self._timeout_s:
                self._tally.failed(NOT_SENT)
                number += 1
            count = min(due - number, OPERATIONS_MAX)
            if not count:
                await asyncio.sleep(_TICK_S)
                continue
            message = b"".join(
                session_operation(head_of(each), RESERVE, next(feed).reserve_as(next(ids)))
                for each in range(number, number + count)
            )
            self._sent_s.update(dict.fromkeys(range(number, number + count), now_s))
            number += count
            await self._stream.write(message)
        await self._stream.done_writing()
        await reading

    def _due_s(self, number: int) -> float:
        return self._begin_s + number / self._rate_per_s

    async def _read(self) -> None:
        while (data := await self._stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            now_s = time.perf_counter()
            for each in pb.SessionResponse.FromString(data).results:
                self._answered(each, now_s)

    def _answered(self, answer: pb.SessionResult, now_s: float) -> None:
        sent_s, due_s = self._sent_s.pop(answer.correlation_id), self._due_s(answer.correlation_id)
        if answer.result.WhichOneof("result") == "error":
            self._tally.failed(pb_reason(answer.result), now_s - sent_s)
        elif now_s - due_s > self._timeout_s:
            self._tally.failed(TOO_LATE)
        else:
            self._tally.answered(now_s - due_s, answer.result.reserve)
            self._tally.answered_in_time(self._epoch_s + due_s, now_s - due_s, late=False)
