"""A small server that keeps its promises, records what it is asked, and fails where told to."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from scripted_session import ScriptedSessions

from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar_client.pb import error_reason_pb2
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as usage_pb
from bursar_client.pb import usage_service_pb2_grpc as usage_grpc

Message: TypeAlias = Any
"""Generated messages and gRPC's contexts: what a handler takes and gives depends on its method."""

DEFAULT_MAX_OUTPUT_TOKENS = 1_000


@dataclass(frozen=True)
class Failure(Exception):
    """What a call ends with."""

    code: grpc.StatusCode
    reason: str = ""
    message: str = "scripted"
    metadata: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[tuple[str, str]] = ()
    retry_after_ms: int | None = None

    def status(self) -> grpc.Status:
        details = []
        if self.reason:
            details.append(
                error_details_pb2.ErrorInfo(
                    reason=self.reason, domain="bursar", metadata=self.metadata
                )
            )
        if self.fields:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=path, description=what)
                for path, what in self.fields
            ]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        if self.retry_after_ms is not None:
            delay = Duration(nanos=self.retry_after_ms * 1_000_000)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        number = code_pb2.Code.Value(self.code.name)
        return rpc_status.to_status(
            status_pb2.Status(code=number, message=self.message, details=packed)
        )

    def operation_error(self) -> authority_pb.OperationError:
        error = authority_pb.OperationError(
            code=code_pb2.Code.Value(self.code.name),
            reason=f"ERROR_REASON_{self.reason}" if self.reason else None,
            message=self.message,
            metadata=self.metadata,
            field_violations=[
                authority_pb.FieldViolation(field=path, description=what)
                for path, what in self.fields
            ],
        )
        if self.retry_after_ms is not None:
            error.retry_after.CopyFrom(Duration(nanos=self.retry_after_ms * 1_000_000))
        return error


UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
NOT_FOUND = Failure(grpc.StatusCode.NOT_FOUND, "RESERVATION_NOT_FOUND")


@dataclass(frozen=True)
class AnswerLost:
    """The call is carried out and its answer does not arrive."""


@dataclass
class Gate:
    """The call waits: `arrived` is set when it is there, and it goes on once `opened` is set."""

    arrived: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


@dataclass
class Booking:
    """One reservation or record."""

    request: Any
    state: str = "OPEN"
    sequence: int = 0
    settled_by: Any = None
    partials: dict[int, Any] = field(default_factory=dict)

    def tokens(self) -> tuple[int, int]:
        commits = [*self.partials.values()]
        if self.state == "COMMITTED":
            commits.append(self.settled_by)
        return (
            sum(each.usage.input_tokens for each in commits),
            sum(each.usage.output_tokens for each in commits),
        )


class ScriptedServer(
    authority_grpc.BudgetAuthorityServiceServicer, usage_grpc.UsageServiceServicer
):
    """Both services in memory.

    Attributes:
        calls: Every call that arrived: name and request.
        script: What the next calls of a method meet: a Failure, an AnswerLost or a Gate.
        always: What every call of a method meets.
        reservations: By id.
        records: By request_id.
        chaos: What a call meets that nothing was scripted for, by its method.
        decide: Makes the answer of a reserve.
        sessions: How the streams of operations behave; their operations are calls as others are.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.script: dict[str, deque[Failure | AnswerLost | Gate]] = defaultdict(deque)
        self.always: dict[str, Failure] = {}
        self.chaos: Callable[[str], Failure | AnswerLost | None] = lambda name: None
        self.reservations: dict[str, Booking] = {}
        self.records: dict[str, Booking] = {}
        self.decide: Callable[[authority_pb.ReserveRequest], authority_pb.ReserveResponse] = granted
        self.counters: list[types_pb.CounterStatus] = []
        self.holds: list[usage_pb.Hold] = []
        self.usage_rows: list[usage_pb.UsageRow] = []
        self.explanation = usage_pb.ExplainResponse()
        self._answers: dict[str, tuple[bytes, authority_pb.ReserveResponse]] = {}
        self._lock = threading.Lock()
        self.sessions = ScriptedSessions(self._result)
        # Each stream keeps a thread.
        self._server = grpc.server(ThreadPoolExecutor(max_workers=32))
        authority_grpc.add_BudgetAuthorityServiceServicer_to_server(self, self._server)
        usage_grpc.add_UsageServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        self._server.start()

    def stop(self) -> None:
        self.sessions.end()
        self._server.stop(grace=None).wait()

    def requests(self, name: str) -> list[Any]:
        return [request for called, request in list(self.calls) if called == name]

    def names(self) -> list[str]:
        return [name for name, _ in list(self.calls)]

    def only(self) -> Booking:
        (booking,) = self.reservations.values()
        return booking

    def Reserve(self, request: Message, context: Message) -> Message:
        return self._serve("Reserve", request, context)

    def Commit(self, request: Message, context: Message) -> Message:
        return self._serve("Commit", request, context)

    def Release(self, request: Message, context: Message) -> Message:
        return self._serve("Release", request, context)

    def Extend(self, request: Message, context: Message) -> Message:
        return self._serve("Extend", request, context)

    def Record(self, request: Message, context: Message) -> Message:
        return self._serve("Record", request, context)

    def Check(self, request: Message, context: Message) -> Message:
        return self._serve("Check", request, context)

    def Batch(self, request: Message, context: Message) -> Message:
        return self._serve("Batch", request, context)

    def Session(self, requests: Message, context: Message) -> Message:
        return self.sessions.serve(requests, context)

    def GetBalances(self, request: Message, context: Message) -> Message:
        return self._serve("GetBalances", request, context)

    def Explain(self, request: Message, context: Message) -> Message:
        return self._serve("Explain", request, context)

    def ListHolds(self, request: Message, context: Message) -> Message:
        return self._serve("ListHolds", request, context)

    def QueryUsage(self, request: Message, context: Message) -> Message:
        return self._serve("QueryUsage", request, context)

    def _serve(self, name: str, request: Message, context: Message) -> Message:
        try:
            return self._meet(name, request)
        except Failure as failure:
            context.abort_with_status(failure.status())

    def _result(self, operation: Message) -> Message:
        """Return what an operation of a session ends with."""
        kind = operation.WhichOneof("operation")
        try:
            answer = self._meet(kind.capitalize(), getattr(operation, kind))
        except Failure as failure:
            return authority_pb.OperationResult(error=failure.operation_error())
        return authority_pb.OperationResult(**{kind: answer})

    def _meet(self, name: str, request: Message) -> Message:
        """Carry out a call, with what the script says of it."""
        with self._lock:
            self.calls.append((name, request))
            scripted = self.script[name].popleft() if self.script[name] else self.chaos(name)
        if isinstance(scripted, Gate):
            scripted.arrived.set()
            scripted.opened.wait(10)
        for failure in (scripted, self.always.get(name)):
            if isinstance(failure, Failure):
                raise failure
        with self._lock:
            answer = getattr(self, f"_{name.lower()}")(request)
        if isinstance(scripted, AnswerLost):
            raise Failure(grpc.StatusCode.UNAVAILABLE, message="connection reset")
        return answer

    def _reserve(self, request: Message) -> Message:
        content = request.SerializeToString(deterministic=True)
        if request.request_id in self._answers:
            known, answer = self._answers[request.request_id]
            if known != content:
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
            return answer
        answer = self.decide(request)
        if answer.reservation_id:
            self._answers[request.request_id] = (content, answer)
            self.reservations[answer.reservation_id] = Booking(request)
        return answer

    def _commit(self, request: Message) -> Message:
        booking = self._booking(request.reservation_id)
        if request.partial:
            if booking.partials.get(request.sequence) != request:
                self._require(booking, "OPEN")
                if request.sequence != booking.sequence + 1:
                    raise Failure(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        "SEQUENCE_MISMATCH",
                        metadata={"expectedSequence": str(booking.sequence + 1)},
                    )
                booking.sequence += 1
                booking.partials[request.sequence] = request
            state = "OPEN"
        else:
            if booking.settled_by != request:
                self._require(booking, "OPEN")
                booking.state, booking.settled_by = "COMMITTED", request
            state = "COMMITTED"
        tokens = request.usage.input_tokens + request.usage.output_tokens
        return authority_pb.CommitResponse(
            reservation_id=request.reservation_id,
            state=f"HOLD_STATE_{state}",
            charges=[
                types_pb.Charge(meter="METER_TOTAL_TOKENS", amount=tokens),
                types_pb.Charge(meter="METER_COST", amount=tokens * 1_000, overage=1),
            ],
        )

    def _release(self, request: Message) -> Message:
        booking = self._booking(request.reservation_id)
        if booking.settled_by != request:
            self._require(booking, "OPEN")
            booking.state, booking.settled_by = "RELEASED", request
        return authority_pb.ReleaseResponse(
            reservation_id=request.reservation_id, state="HOLD_STATE_RELEASED"
        )

    def _extend(self, request: Message) -> Message:
        booking = self._booking(request.reservation_id)
        self._require(booking, "OPEN")
        return authority_pb.ExtendResponse(
            reservation_id=request.reservation_id,
            decision="DECISION_GRANTED",
            max_output_tokens=request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        )

    def _record(self, request: Message) -> Message:
        known = self.records.setdefault(request.request_id, Booking(request, "COMMITTED", 0))
        if known.request != request:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        return authority_pb.RecordResponse(reservation_id=f"acme/{request.request_id}")

    def _check(self, request: Message) -> Message:
        reserve = authority_pb.ReserveRequest(
            subject=request.subject, target=request.target, estimate=request.estimate
        )
        answer = self.decide(reserve)
        answer.ClearField("reservation_id")
        return authority_pb.CheckResponse(decision=answer)

    def _batch(self, request: Message) -> Message:
        results = []
        for operation in request.operations:
            name = operation.WhichOneof("operation")
            try:
                failure = self.always.get(name.capitalize())
                if failure is not None:
                    raise failure
                answer = getattr(self, f"_{name}")(getattr(operation, name))
            except Failure as failed:
                results.append(authority_pb.OperationResult(error=failed.operation_error()))
            else:
                results.append(authority_pb.OperationResult(**{name: answer}))
        return authority_pb.BatchResponse(results=results)

    def _getbalances(self, request: Message) -> Message:
        page, token = _page(self.counters, request)
        return usage_pb.GetBalancesResponse(counters=page, next_page_token=token)

    def _listholds(self, request: Message) -> Message:
        page, token = _page(self.holds, request)
        return usage_pb.ListHoldsResponse(holds=page, next_page_token=token)

    def _queryusage(self, request: Message) -> Message:
        page, token = _page(self.usage_rows, request)
        return usage_pb.QueryUsageResponse(rows=page, next_page_token=token)

    def _explain(self, request: Message) -> Message:
        return self.explanation

    def _booking(self, reservation_id: str) -> Booking:
        if reservation_id not in self.reservations:
            raise NOT_FOUND
        return self.reservations[reservation_id]

    def _require(self, booking: Booking, state: str) -> None:
        if booking.state != state:
            _refuse(booking.state)


def _refuse(state: str) -> NoReturn:
    raise Failure(
        grpc.StatusCode.FAILED_PRECONDITION, f"RESERVATION_{state}", metadata={"state": state}
    )


def _page(items: list[Any], request: Message) -> tuple[list[Any], str]:
    start = int(request.page_token or 0)
    end = start + (request.page_size or 100)
    return items[start:end], str(end) if end < len(items) else ""


def granted(request: authority_pb.ReserveRequest) -> authority_pb.ReserveResponse:
    estimate = request.estimate
    output = estimate.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    return authority_pb.ReserveResponse(
        reservation_id=f"{request.subject.org}/{request.request_id}",
        decision="DECISION_GRANTED",
        target=types_pb.Target(
            provider=request.target.provider or "openai", model=request.target.model
        ),
        max_output_tokens=output,
    )


REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name, number in error_reason_pb2.ErrorReason.items()
    if number
]
"""Every reason in the contract."""
