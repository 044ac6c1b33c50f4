"""Logic without input and output, written once for both clients.

A step function is a generator: it yields what it wants done (a call, a pause) and is sent the
answer, or thrown the error. The drivers below do it, one with await and one without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

from google.protobuf.message import Message

from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import usage_service_pb2 as usage_pb

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Result = TypeVar("Result")


@dataclass(frozen=True)  # A generic class with slots cannot be made in Python 3.11.
class Method(Generic[Request, Answer]):
    """One call of the contract."""

    service: str
    name: str


AUTHORITY = "BudgetAuthorityService"
USAGE = "UsageService"

RESERVE = Method[authority_pb.ReserveRequest, authority_pb.ReserveResponse](AUTHORITY, "Reserve")
COMMIT = Method[authority_pb.CommitRequest, authority_pb.CommitResponse](AUTHORITY, "Commit")
RELEASE = Method[authority_pb.ReleaseRequest, authority_pb.ReleaseResponse](AUTHORITY, "Release")
EXTEND = Method[authority_pb.ExtendRequest, authority_pb.ExtendResponse](AUTHORITY, "Extend")
RECORD = Method[authority_pb.RecordRequest, authority_pb.RecordResponse](AUTHORITY, "Record")
CHECK = Method[authority_pb.CheckRequest, authority_pb.CheckResponse](AUTHORITY, "Check")
BATCH = Method[authority_pb.BatchRequest, authority_pb.BatchResponse](AUTHORITY, "Batch")
GET_BALANCES = Method[usage_pb.GetBalancesRequest, usage_pb.GetBalancesResponse](
    USAGE, "GetBalances"
)
EXPLAIN = Method[usage_pb.ExplainRequest, usage_pb.ExplainResponse](USAGE, "Explain")
QUERY_USAGE = Method[usage_pb.QueryUsageRequest, usage_pb.QueryUsageResponse](USAGE, "QueryUsage")
LIST_HOLDS = Method[usage_pb.ListHoldsRequest, usage_pb.ListHoldsResponse](USAGE, "ListHolds")


@dataclass(frozen=True, slots=True)
class Call:
    """Make a call; a failure is thrown back as a BursarError."""

    service: str
    name: str
    request: Message
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Send an operation over a session; a failure is thrown back as a BursarError."""

    kind: str
    request: Message
    timeout_s: float


Effect: TypeAlias = Call | Pause | Ask
Steps: TypeAlias = Generator[Effect, object, Result]


def call(method: Method[Request, Answer], request: Request, timeout_s: float) -> Steps[Answer]:
    """Make a call and return its answer."""
    answer = yield Call(method.service, method.name, request, timeout_s)
    return cast(Answer, answer)


def run_sync(steps: Steps[Result], perform: Callable[[Effect], object]) -> Result:
    """Carry out steps to their end."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = perform(effect)
            except BaseException as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        return cast(Result, end.value)


async def run_async(steps: Steps[Result], perform: Callable[[Effect], Awaitable[object]]) -> Result:
    """Carry out steps to their end."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = await perform(effect)
            except BaseException as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as end:
        return cast(Result, end.value)


def abandon(steps: Steps[object], error: BaseException) -> None:
    """Tell steps that nothing can be done for them any more, so that they save what they can.

    Args:
        steps: Not yet started.
        error: Why.
    """
    try:
        next(steps)
        steps.throw(error)
    except StopIteration:
        pass
    except BaseException as raised:
        if raised is not error:
            raise
