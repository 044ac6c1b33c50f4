"""BudgetAuthorityService: decode, ask the authority, encode."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from bursar.authority.authority import Answer, Authority
from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.domain.errors import BursarError, Fault, FieldInvalid, LimitExceeded
from bursar.domain.request import Operation
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import budget_authority_service_pb2_grpc as pb_grpc
from bursar.service.alerts import Alerts
from bursar.service.decode import Decoder
from bursar.service.encode import (
    encode_commit,
    encode_extend,
    encode_record,
    encode_release,
    encode_reserve,
    encode_result,
)
from bursar.service.errors import known_error, to_operation_error
from bursar.service.metrics import count_decision, count_error, count_replay

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

REPLAYED_KEY = "bursar-replayed"
"""Trailing metadata of an answer that was given before."""

BATCH = f"/{pb.DESCRIPTOR.services_by_name['BudgetAuthorityService'].full_name}/Batch"


class BudgetAuthorityServicer(pb_grpc.BudgetAuthorityServiceServicer):
    """Decides and books."""

    def __init__(self, authority: Authority, decoder: Decoder, operations_max: int) -> None:
        self._authority = authority
        self._decoder = decoder
        self._operations_max = operations_max
        self._alerts = Alerts()

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
        if count > self._operations_max:
            raise LimitExceeded("operations", "entries", count, self._operations_max)
        decoded = [
            self._operation(f"operations[{position}]", operation)
            for position, operation in enumerate(request.operations)
        ]
        valid = [each for each in decoded if not isinstance(each, BursarError)]
        answers = iter(await self._authority.batch(valid))
        results = []
        for position, each in enumerate(decoded):
            operation = request.operations[position]
            if isinstance(each, BursarError):
                results.append(_failed(each))
            else:
                results.append(self._result(next(answers), position, operation))
        return pb.BatchResponse(results=results)

    def _operation(self, path: str, message: pb.Operation) -> Operation | BursarError:
        kind = message.WhichOneof("operation")
        try:
            match kind:
                case "reserve":
                    return self._decoder.reserve(message.reserve)
                case "commit":
                    return self._decoder.commit(message.commit)
                case "release":
                    return self._decoder.release(message.release)
                case "extend":
                    return self._decoder.extend(message.extend)
                case "record":
                    return self._decoder.record(message.record)
                case _:
                    return FieldInvalid(Fault(path, "has no operation"))
        except FieldInvalid as error:
            return _within(f"{path}.{kind}", error)

    def _result(
        self, answer: Answer | BursarError, position: int, operation: pb.Operation
    ) -> pb.OperationResult:
        """Count and encode what one operation answered."""
        kind = operation.WhichOneof("operation") or ""
        if isinstance(answer, FieldInvalid):
            return _failed(_within(f"operations[{position}].{kind}", answer))
        if isinstance(answer, BursarError):
            return _failed(answer)
        if isinstance(answer, SettleAnswer):
            self._alerts.tell(answer)
            count_replay(kind.capitalize(), answer.replayed)
        elif isinstance(answer, ReserveAnswer):
            if not operation.reserve.validate_only:
                count_decision(answer)
            count_replay("Reserve", answer.replayed)
        return encode_result(answer, kind)


def _failed(error: BursarError) -> pb.OperationResult:
    known = known_error(error, BATCH)
    count_error(BATCH, known.reason)
    return pb.OperationResult(error=to_operation_error(known))


def _within(path: str, error: FieldInvalid) -> FieldInvalid:
    """Return the same error with paths that begin at the batch."""
    faults = (Fault(f"{path}.{each.path}", each.description) for each in error.faults)
    moved = FieldInvalid(*faults)
    moved.reason, moved.metadata = error.reason, error.metadata
    return moved


def _say_replayed(context: Context, method: str, replayed: bool) -> None:
    if replayed:
        context.set_trailing_metadata(((REPLAYED_KEY, "true"),))
    count_replay(method, replayed)
