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
from bursar.service.alerts import tell_crossings
from bursar.service.decode import Decoder
from bursar.service.encode import (
    encode_commit,
    encode_extend,
    encode_record,
    encode_release,
    encode_reserve,
    encode_result,
)
from bursar.service.errors import to_operation_error
from bursar.service.metrics import count_decision

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

REPLAYED_KEY = "bursar-replayed"
"""Trailing metadata of an answer that was given before."""


class BudgetAuthorityServicer(pb_grpc.BudgetAuthorityServiceServicer):
    """Decides and books."""

    def __init__(self, authority: Authority, decoder: Decoder, operations_max: int) -> None:
        self._authority = authority
        self._decoder = decoder
        self._operations_max = operations_max

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.ReserveResponse:
        """Decide whether a call may be made, and hold its amounts."""
        answer = await self._authority.reserve(self._decoder.reserve(request))
        count_decision(answer)
        _say_replayed(context, answer.replayed)
        return encode_reserve(answer)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.CommitResponse:
        """Book what a call used."""
        answer = await self._authority.settle(self._decoder.commit(request))
        tell_crossings(answer)
        _say_replayed(context, answer.replayed)
        return encode_commit(answer)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """Give back what was held."""
        answer = await self._authority.settle(self._decoder.release(request))
        _say_replayed(context, answer.replayed)
        return encode_release(answer)

    async def Extend(self, request: pb.ExtendRequest, context: Context) -> pb.ExtendResponse:
        """Change an open hold."""
        return encode_extend(await self._authority.extend(self._decoder.extend(request)))

    async def Record(self, request: pb.RecordRequest, context: Context) -> pb.RecordResponse:
        """Book usage that had no reservation."""
        answer = await self._authority.record(self._decoder.record(request))
        tell_crossings(answer)
        _say_replayed(context, answer.replayed)
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
        answered = await self._authority.batch(valid)
        for answer in answered:
            if isinstance(answer, SettleAnswer):
                tell_crossings(answer)
            elif isinstance(answer, ReserveAnswer):
                count_decision(answer)
        answers = iter(answered)
        results = [each if isinstance(each, BursarError) else next(answers) for each in decoded]
        return pb.BatchResponse(
            results=[
                _result(result, operation)
                for result, operation in zip(results, request.operations, strict=True)
            ]
        )

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
            prefix = f"{path}.{kind}"
            faults = (Fault(f"{prefix}.{each.path}", each.description) for each in error.faults)
            return FieldInvalid(*faults)


def _result(result: Answer | BursarError, operation: pb.Operation) -> pb.OperationResult:
    if isinstance(result, BursarError):
        return pb.OperationResult(error=to_operation_error(result))
    return encode_result(result, operation.WhichOneof("operation") or "")


def _say_replayed(context: Context, replayed: bool) -> None:
    if replayed:
        context.set_trailing_metadata(((REPLAYED_KEY, "true"),))
