"""Operations over one stream of a session: those of one moment in one message, answers as found."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import error_reason_pb2 as reasons

FIELD_OF_KIND = {
    "ReserveRequest": "reserve",
    "CommitRequest": "commit",
    "ReleaseRequest": "release",
    "ExtendRequest": "extend",
    "RecordRequest": "record",
}
"""Where an operation has each request that a session takes."""


class OperationFailed(Exception):
    """A session answered with an error in place of an answer."""

    def __init__(self, error: pb.OperationError) -> None:
        super().__init__(error.message)
        self.error = error

    @property
    def described(self) -> dict[str, Any]:
        """The error as scenarios describe it."""
        reason = reasons.ErrorReason.Name(self.error.reason).removeprefix("ERROR_REASON_")
        fields = [each.field for each in self.error.field_violations]
        return {"error": reason, **({"fields": fields} if fields else {})}


class SessionStream:
    """A stream that any number of callers share."""

    def __init__(self, call: Any) -> None:
        """Begins to read.

        Args:
            call: The stream, as grpc opens it.
        """
        self._call = call
        self._waiting = pb.SessionRequest()
        self._asked: dict[int, asyncio.Future[pb.SessionResult]] = {}
        self._count = 0
        self._reading = asyncio.ensure_future(self._read())
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, request: Message) -> tuple[Message, bool]:
        """Return the answer to a request, and whether it was given before.

        Raises:
            OperationFailed: It is an error.
        """
        self._count += 1
        number, kind = self._count, FIELD_OF_KIND[request.DESCRIPTOR.name]
        operation = pb.Operation(**{kind: request})
        self._waiting.operations.add(correlation_id=number, operation=operation)
        self._asked[number] = asyncio.get_running_loop().create_future()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())
        result = await asyncio.wait_for(self._asked[number], 10)
        if result.result.HasField("error"):
            raise OperationFailed(result.result.error)
        assert result.result.WhichOneof("result") == kind
        return getattr(result.result, kind), result.replayed

    async def close(self) -> None:
        """End the stream in good order."""
        await self._call.done_writing()
        await asyncio.wait_for(self._reading, 10)
        assert not self._asked, "operations were not answered"

    async def _write(self) -> None:
        while self._waiting.operations:
            message, self._waiting = self._waiting, pb.SessionRequest()
            await self._call.write(message)

    async def _read(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            for result in message.results:
                # One that nobody asked for, or that came twice, is a KeyError that ends the stream.
                self._asked.pop(result.correlation_id).set_result(result)
