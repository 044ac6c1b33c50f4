"""BudgetAuthorityService: decode, ask the authority, encode."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import grpc.aio

from bursar.authority.authority import Authority
from bursar.domain.errors import BursarError, Fault, FieldInvalid, LimitExceeded
from bursar.domain.request import Operation
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar.service.admission import Admission
from bursar.service.alerts import Alerts
from bursar.service.decode import Decoder
from bursar.service.encode import (
    encode_commit,
    encode_extend,
    encode_record,
    encode_release,
    encode_reserve,
)
from bursar.service.metrics import count_decision, count_replay
from bursar.service.operation import Operations
from bursar.service.session import SessionLimits, Sessions

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Value = TypeVar("Value")

REPLAYED_KEY = "bursar-replayed"
"""Trailing metadata of an answer that was given before."""

_SERVICE = pb.DESCRIPTOR.services_by_name["BudgetAuthorityService"].full_name


class BudgetAuthorityServicer(pb_grpc.BudgetAuthorityServiceServicer):
    """Decides and books.

    Attributes:
        sessions: The streams that are open.
    """

    def __init__(
        self,
        authority: Authority,
        decoder: Decoder,
        admission: Admission,
        batch_operations_max: int,
        session_limits: SessionLimits,
    ) -> None:
        self._authority = authority
        self._decoder = decoder
        self._batch_operations_max = batch_operations_max
        self._alerts = Alerts()
        self._operations = Operations(decoder, self._alerts, f"/{_SERVICE}/Batch")
        self.sessions = Sessions(
            authority,
            Operations(decoder, self._alerts, f"/{_SERVICE}/Session"),
            admission,
            session_limits,
        )

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.ReserveResponse:
        """Decide whether a call may be made, and hold its amounts."""
        answer = await self._authority.reserve(self._decoder.reserve(request))
        if not request.validate_only:
            count_decision(answer)
        _say_replayed(context, "Reserve", answer.replayed)
        return encode_reserve(answer)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:
        """Book what a call used."""
        answer = await self._authority.settle(self._decoder.commit(request))
        self._alerts.tell(answer)
        _say_replayed(context, "Commit", answer.replayed)
        return encode_commit(answer)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """Give back what was held."""
        answer = await self._authority.settle(self._decoder.release(request))
        _say_replayed(context, "Release", answer.replayed)
        return encode_release(answer)

    async def Extend(self, request: pb.ExtendRequest, context: Context) -> pb.ExtendResponse:
        """Change an open hold."""
        return encode_extend(await self._authority.extend(self._decoder.extend(request)))

    async def Record(self, request: pb.RecordRequest, context: Context) -> pb.RecordResponse:
        """Book usage that had no reservation."""
        answer = await self._authority.record(self._decoder.record(request))
        self._alerts.tell(answer)
        _say_replayed(context, "Record", answer.replayed)
        return encode_record(answer)

    async def Check(self, request: pb.CheckRequest, context: Context) -> pb.CheckResponse:
        """Answer as Reserve would, and hold nothing."""
        answer = await self._authority.reserve(self._decoder.check(request))
        return pb.CheckResponse(decision=encode_reserve(answer))

    async def Batch(self, request: pb.BatchRequest, context: Context) -> pb.BatchResponse:
        """Carry out a list of operations; each succeeds or fails on its own."""
        count = len(request.operations)
        if count == 0:
            raise FieldInvalid(Fault("operations", "is required: at least one"))
        if count > self._batch_operations_max:
            raise LimitExceeded("operations", "entries", count, self._batch_operations_max)
        asked: list[Operation | BursarError] = [
            self._operations.decode(operation) for operation in request.operations
        ]
        valid = [each for each in asked if not isinstance(each, BursarError)]
        answers = iter(await self._authority.batch(valid))
        response = pb.BatchResponse()
        for position, (operation, each) in enumerate(zip(request.operations, asked, strict=True)):
            answer = each if isinstance(each, BursarError) else next(answers)
            self._operations.put(
                response.results.add(), _in_batch(position, operation, answer), operation
            )
        return response

    async def Session(  # type: ignore[override] # It reads and writes by the context.
        self, request_iterator: object, context: Context
    ) -> None:
        """Carry out operations as they come, until the client or this server ends the stream."""
        await self.sessions.serve(context)


def _in_batch(position: int, operation: pb.Operation, value: Value) -> Value | FieldInvalid:
    """Return a value, or a fault in it with paths that begin at the batch."""
    if not isinstance(value, FieldInvalid):
        return value
    kind = operation.WhichOneof("operation")
    path = f"operations[{position}].{kind}" if kind else f"operations[{position}]"
    moved = FieldInvalid(*(Fault(f"{path}.{each.path}", each.description) for each in value.faults))
    moved.reason, moved.metadata = value.reason, value.metadata
    return moved


def _say_replayed(context: Context, method: str, replayed: bool) -> None:
    if replayed:
        context.set_trailing_metadata(((REPLAYED_KEY, "true"),))
    count_replay(method, replayed)
