"""One operation of a client, tried again with the same content until its deadline.

What is known of it at the end: ok with an answer, fail where it certainly changed nothing, info
where some attempt may have been carried out and nobody heard of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bursar_client.pb import budget_authority_service_pb2 as pb
from bursar_client.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar_client.pb import types_pb2

REPLAYED_KEY = "bursar-replayed"
STATUS_KEY = "grpc-status-details-bin"

AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        # A connection that ends in the middle of an answer.
        grpc.StatusCode.UNKNOWN,
    }
)

NOTHING_CHANGED = frozenset(
    {
        "STORE_FULL",
        "SHARD_COLD",
        "CLOCK_BEHIND",
        "DRAINING",
        "SERVER_OVERLOADED",
        "CONCURRENT_CHANGE",
        "JOURNAL_FULL",
    }
)
"""Reasons to try again that say that this attempt changed nothing."""

DECISIONS = {
    number: name.removeprefix("DECISION_").lower() for name, number in types_pb2.Decision.items()
}
METERS = {number: name.removeprefix("METER_").lower() for name, number in types_pb2.Meter.items()}


@dataclass
class Result:
    """What came of an operation, in the words of the history.

    Attributes:
        answer: The message, where there is one.
        servers: Which servers were asked, in order.
    """

    outcome: str
    answer: Message | None = None
    attempts: int = 0
    unknown: int = 0
    reason: str = ""
    replayed: bool = False
    servers: list[int] = field(default_factory=list)


class Servers:
    """The clients' channels to every server, through whatever stands between."""

    def __init__(self, ports: Sequence[int]) -> None:
        # A connection that was lost is tried again soon, not after gRPC's two minutes.
        options = (
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for port in ports
        ]
        self.stubs = [pb_grpc.BudgetAuthorityServiceStub(each) for each in self._channels]

    async def close(self) -> None:
        """End every connection."""
        await asyncio.gather(*(channel.close() for channel in self._channels))


class Caller:
    """Tries calls on one server after another.

    Attributes:
        deadline_ms: How long an operation may take with all its attempts.
        attempt_ms: How long one attempt may take.
    """

    def __init__(
        self, servers: Servers, chance: random.Random, *, deadline_ms: int, attempt_ms: int
    ) -> None:
        self._servers = servers
        self._chance = chance
        self.deadline_ms = deadline_ms
        self.attempt_ms = attempt_ms

    async def call(self, method: str, request: Message) -> Result:
        """Carry out an operation."""
        result = Result("info")
        deadline_s = time.monotonic() + self.deadline_ms / 1_000
        while (left_s := deadline_s - time.monotonic()) > 0:
            server = self._chance.randrange(len(self._servers.stubs))
            result.servers.append(server)
            result.attempts += 1
            call = getattr(self._servers.stubs[server], method)(
                request, timeout=min(left_s, self.attempt_ms / 1_000)
            )
            try:
                result.answer = await call
                trailing = dict(await call.trailing_metadata() or ())
                result.replayed = REPLAYED_KEY in trailing
                result.outcome, result.reason = "ok", ""
                return result
            except grpc.aio.AioRpcError as error:
                result.reason = reason_of(error)
                if error.code() not in AGAIN:
                    result.outcome = "fail"
                    return result
                result.unknown += result.reason not in NOTHING_CHANGED
            # Some milliseconds between two attempts, as the SDKs do.
            await asyncio.sleep(min(left_s, self._chance.uniform(0.02, 0.1)))
        result.outcome = "info" if result.unknown else "fail"
        return result


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason that an error names, or that of gRPC's code."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY:
            status = status_pb2.Status.FromString(value)
            info = error_details_pb2.ErrorInfo()
            for detail in status.details:
                if detail.Unpack(info):
                    return info.reason
    return error.code().name


def counters_of(answer: Any) -> list[dict[str, Any]]:
    """Return the counters of an answer as the history tells them."""
    org = ""
    found = []
    for counter in answer.counters:
        org = answer.reservation_id.partition(".")[0]
        begins = 0
        if counter.HasField("window_end_time"):
            begins = counter.window_start_time.ToMilliseconds()
        partition = ",".join(f"{name}={value}" for name, value in counter.partition.items())
        found.append(
            {
                "id": f"{org}:{counter.budget}:{METERS[counter.meter]}:{partition}@{begins}",
                "committed": counter.committed,
                "held": counter.held,
                "credit": counter.credit,
                "amount": counter.amount,
            }
        )
    return found


def usage_amounts(usage: Mapping[str, int]) -> dict[str, int]:
    """Return what a usage comes to by meter, at the chaos policy's prices."""
    input_tokens, output_tokens = usage["input_tokens"], usage["output_tokens"]
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "requests": usage.get("requests", 1),
        # 1 and 10 USD for a million tokens, in nano-USD.
        "cost": 1_000 * input_tokens + 10_000 * output_tokens,
    }


__all__ = ["Caller", "Result", "Servers", "counters_of", "pb", "reason_of", "usage_amounts"]
