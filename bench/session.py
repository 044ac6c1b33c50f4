"""Load over one Session without a client library, and by batches: bytes in, bytes out.

The callers of a session are slots: each has one operation in flight. What the server answers in one
message is followed by one message with the next operation of each slot, as a client library that
gathers would send it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import grpc
import grpc.aio

from bench.channel import Connections, RawChannel
from bench.load import Load
from bench.tally import Tally, reason
from bench.unary import Ids
from bench.workload import Call, field
from bursar.pb import budget_authority_service_pb2 as pb

Feed = Iterator[Call]

# Numbers of fields.
RESERVE = pb.Operation.DESCRIPTOR.fields_by_name["reserve"].number
COMMIT = pb.Operation.DESCRIPTOR.fields_by_name["commit"].number
_OPERATIONS = pb.SessionRequest.DESCRIPTOR.fields_by_name["operations"].number
_OPERATION = pb.SessionOperation.DESCRIPTOR.fields_by_name["operation"].number
_BATCHED = pb.BatchRequest.DESCRIPTOR.fields_by_name["operations"].number


def head_of(correlation_id: int) -> bytes:
    """Return what a SessionOperation begins with."""
    return pb.SessionOperation(correlation_id=correlation_id).SerializeToString()


def session_operation(head: bytes, kind: int, request: bytes) -> bytes:
    """Return an operation as part of a SessionRequest: several, one behind the other, are one."""
    return field(_OPERATIONS, head + field(_OPERATION, field(kind, request)))


class _Slot:
    """A caller: reserves, commits what it got, and again."""

    def __init__(self, number: int) -> None:
        # Correlation ids up to 127 take one byte; larger ones are rare and may cost more.
        self.head = head_of(number)
        self.begun_s = 0.0
        self.to_commit: tuple[Call, str] | None = None
        self.reserved: tuple[Call, str]

    def next(self, feed: Feed, ids: Ids, now_s: float) -> bytes:
        """Return the next operation as a SessionOperation in a SessionRequest."""
        self.begun_s = now_s
        if self.to_commit is not None:
            call, request_id = self.to_commit
            return session_operation(self.head, COMMIT, call.commit_of(request_id))
        self.reserved = call, request_id = next(feed), next(ids)
        return session_operation(self.head, RESERVE, call.reserve_as(request_id))

    def answered(self, result: pb.OperationResult, settles: bool, tally: Tally) -> None:
        """Take the answer to what was sent last."""
        kind = result.WhichOneof("result")
        was_reserve, self.to_commit = self.to_commit is None, None
        if kind == "error":
            tally.failed(pb_reason(result))
            return
        latency_s = time.perf_counter() - self.begun_s
        if tally.answered(latency_s, result.reserve if was_reserve else None) and settles:
            self.to_commit = self.reserved


def pb_reason(result: pb.OperationResult) -> str:
    """Return why an operation failed, shortly."""
    return str(grpc_code_name(result.error.code))


def grpc_code_name(number: int) -> str:
    """Return the name of a status code."""
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


async def slots(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Keep every slot's operation in flight until it is over.

    Raises:
        grpc.aio.AioRpcError: The stream broke.
    """
    connections = Connections(load.address, load.connections)
    share = load.callers // load.connections
    await asyncio.gather(
        *(_stream(channel, share, load, cycle(calls), ids, tally)
          for channel in connections.channels)
    )  # fmt: skip
    await connections.close()


async def _stream(channel: RawChannel, callers: int, load: Load, feed: Feed, ids: Ids,
                  tally: Tally) -> None:  # fmt: skip
    every = {number: _Slot(number) for number in range(1, callers + 1)}
    stream = channel.session()
    now_s = time.perf_counter()
    await stream.write(b"".join(slot.next(feed, ids, now_s) for slot in every.values()))
    in_flight = callers
    while in_flight:
        data = await stream.read()
        results = pb.SessionResponse.FromString(data).results
        in_flight -= len(results)
        for each in results:
            every[each.correlation_id].answered(each.result, load.settles, tally)
        if not tally.ended:
            now_s = time.perf_counter()
            following = [every[each.correlation_id].next(feed, ids, now_s) for each in results]
            in_flight += len(following)
            await stream.write(b"".join(following))
    await stream.done_writing()


async def batches(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Send batches, each followed by a batch of its commits, until it is over."""
    connections = Connections(load.address, load.connections)
    feed = cycle(calls)

    async def caller() -> None:
        [method] = connections.unary("Batch")
        while not tally.ended:
            reserved = [(next(feed), next(ids)) for _ in range(load.per_batch)]
            held = await _batch(method, load, tally, reserved, RESERVE)
            if held and load.settles:
                await _batch(method, load, tally, held, COMMIT)

    await asyncio.gather(*(caller() for _ in range(max(load.callers // load.per_batch, 1))))
    await connections.close()


async def _batch(method: Any, load: Load, tally: Tally, made: list[tuple[Call, str]],  # noqa: ANN401 - grpc's own
                 kind: int) -> list[tuple[Call, str]]:  # fmt: skip
    """Send a batch, and return what is held now."""
    is_reserve = kind == RESERVE
    message = b"".join(
        field(_BATCHED, field(kind, call.reserve_as(name) if is_reserve else call.commit_of(name)))
        for call, name in made
    )
    begin_s = time.perf_counter()
    try:
        data = await method(message, timeout=load.timeout_s)
    except grpc.aio.AioRpcError as error:
        tally.failed(reason(error))
        return []
    latency_s = time.perf_counter() - begin_s
    held = []
    for each, result in zip(made, pb.BatchResponse.FromString(data).results, strict=True):
        if result.WhichOneof("result") == "error":
            tally.failed(pb_reason(result))
        elif tally.answered(latency_s, result.reserve if is_reserve else None):
            held.append(each)
    return held
