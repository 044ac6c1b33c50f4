"""The calls of the contract as steps, without input or output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from bursar_client._answers import (
    CounterStatus,
    Denial,
    Extension,
    Grant,
    Hold,
    Settlement,
)
from bursar_client._decode import (
    decode_commit,
    decode_counters,
    decode_extend,
    decode_record,
    decode_release,
    decode_reserve,
)
from bursar_client._decode_usage import decode_explain, decode_hold
from bursar_client._encode import (
    encode_check,
    encode_extend,
    encode_operation,
    encode_reserve,
    encode_subject,
    encode_target,
)
from bursar_client._errors import BudgetDenied, BursarError, InternalError
from bursar_client._explanation import Explanation
from bursar_client._operations import ExtendOperation, Operation, ReserveOperation
from bursar_client._settings import Settings
from bursar_client._status import error_of_operation
from bursar_client._steps import (
    BATCH,
    CHECK,
    EXPLAIN,
    EXTEND,
    GET_BALANCES,
    LIST_HOLDS,
    QUERY_USAGE,
    RESERVE,
    Steps,
    call,
)
from bursar_client._usage_report import UsageReport, UsageRow, decode_row, encode_report
from bursar_client._values import Subject, Target
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import usage_service_pb2 as usage_pb

Item = TypeVar("Item")

OperationResult: TypeAlias = Grant | Denial | Settlement | Extension | BursarError
"""What one operation of a batch answered: a value, or the error that it ended with."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a list, and the token of the next part; empty at the end."""

    items: tuple[Item, ...]
    next_page_token: str


def reserve(operation: ReserveOperation, settings: Settings) -> Steps[Grant | Denial]:
    """Reserve, and return the decision."""
    answer = yield from call(RESERVE, encode_reserve(operation), settings.reserve_timeout_s)
    return decode_reserve(answer)


def check(operation: ReserveOperation, settings: Settings) -> Steps[Grant | Denial]:
    """Ask what a reserve would answer."""
    answer = yield from call(CHECK, encode_check(operation), settings.reserve_timeout_s)
    return decode_reserve(answer.decision)


def extend(operation: ExtendOperation, settings: Settings) -> Steps[Extension]:
    """Change an open hold.

    Raises:
        BudgetDenied: A budget has no room for it to grow.
    """
    answer = yield from call(EXTEND, encode_extend(operation), settings.reserve_timeout_s)
    decoded = decode_extend(answer)
    if isinstance(decoded, Denial):
        raise BudgetDenied(decoded)
    return decoded


def batch(
    operations: Sequence[Operation], settings: Settings
) -> Steps[tuple[OperationResult, ...]]:
    """Carry out operations and return their results in the same order."""
    request = authority_pb.BatchRequest(operations=[encode_operation(each) for each in operations])
    answer = yield from call(BATCH, request, settings.call_timeout_s)
    if len(answer.results) != len(operations):
        raise InternalError(
            f"the server answered {len(answer.results)} of {len(operations)} operations",
            reason="INTERNAL",
        )
    return tuple(_result(each) for each in answer.results)


def balances_page(
    subject: Subject, page_size: int, page_token: str, settings: Settings
) -> Steps[Page[CounterStatus]]:
    """Read a page of counters."""
    request = usage_pb.GetBalancesRequest(
        subject=encode_subject(subject), page_size=page_size, page_token=page_token
    )
    answer = yield from call(GET_BALANCES, request, settings.call_timeout_s)
    return Page(decode_counters(answer.counters), answer.next_page_token)


def holds_page(
    subject: Subject, page_size: int, page_token: str, settings: Settings
) -> Steps[Page[Hold]]:
    """Read a page of holds."""
    request = usage_pb.ListHoldsRequest(
        subject=encode_subject(subject), page_size=page_size, page_token=page_token
    )
    answer = yield from call(LIST_HOLDS, request, settings.call_timeout_s)
    return Page(tuple(decode_hold(each) for each in answer.holds), answer.next_page_token)


def usage_page(
    subject: Subject,
    report: UsageReport,
    page_size: int,
    page_token: str,
    settings: Settings,
) -> Steps[Page[UsageRow]]:
    """Read a page of past usage."""
    request = encode_report(subject, report, page_size, page_token)
    answer = yield from call(QUERY_USAGE, request, settings.call_timeout_s)
    return Page(tuple(decode_row(each) for each in answer.rows), answer.next_page_token)


def explain(subject: Subject, target: Target, settings: Settings) -> Steps[Explanation]:
    """Ask which budgets apply, why, and how they stand."""
    request = usage_pb.ExplainRequest(subject=encode_subject(subject), target=encode_target(target))
    answer = yield from call(EXPLAIN, request, settings.call_timeout_s)
    return decode_explain(answer)


def _result(message: authority_pb.OperationResult) -> OperationResult:
    match message.WhichOneof("result"):
        case "reserve":
            return decode_reserve(message.reserve)
        case "commit":
            return decode_commit(message.commit)
        case "release":
            return decode_release(message.release)
        case "extend":
            return decode_extend(message.extend)
        case "record":
            return decode_record(message.record)
        case "error":
            return error_of_operation(message.error)
        case _:
            return InternalError("the server answered nothing to it", reason="INTERNAL")
