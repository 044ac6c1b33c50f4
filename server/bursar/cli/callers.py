"""Many callers at once that make the calls of a trace through the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bursar.cli.commit_log import ATTEMPT, BOOKED
from bursar.cli.connection import levels
from bursar.cli.recount import Committed, CounterKey, counter_key
from bursar.cli.tally import Tally
from bursar.cli.workload import Call
from bursar_client import (
    AsyncClient,
    BudgetDenied,
    BudgetMode,
    BursarError,
    CounterStatus,
    DeadlineExceeded,
    Denial,
    Grant,
    Subject,
    Unavailable,
)

RETRY_EVERY_S = 0.2
RETRY_FOR_S = 60.0

Record = Callable[[str, Committed], None]
"""Told ATTEMPT before a commit is sent and BOOKED after it was acknowledged."""


class CallFailed(Exception):
    """A caller's own failure before it called the model."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How calls are made.

    Attributes:
        concurrency: Callers at once.
        ttl_s: How long their holds last.
        call_s: How long a call of the model takes for each output token.
        run_id: Begins every request id.
    """

    concurrency: int
    ttl_s: float
    call_s: float
    run_id: str


async def run_calls(
    client: AsyncClient,
    calls: Iterable[Call],
    pace: Pace,
    tally: Tally,
    record: Record,
) -> None:
    """Make the calls and count what happens.

    Args:
        client: Connected to the server.
        calls: In the order in which they begin.
        pace: How.
        tally: Counts go here.
        record: Told of each commit, before and after.
    """
    waiting: Iterator[Call] = iter(calls)

    async def caller() -> None:
        for call in waiting:
            await _make(client, call, pace, tally, record)
            tally.done += 1
            end_if_cancelled()

    async with asyncio.TaskGroup() as group:
        for _ in range(pace.concurrency):
            group.create_task(caller())
    end_if_cancelled()


def end_if_cancelled() -> None:
    """End this task if it was cancelled: Python 3.11 loses that where it meets the end of a wait.

    Raises:
        CancelledError: It was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _make(client: AsyncClient, call: Call, pace: Pace, tally: Tally, record: Record) -> None:
    """Make one call; while the server is away, with the same request id again and again."""
    deadline = asyncio.get_running_loop().time() + RETRY_FOR_S
    while True:
        try:
            await _attempt(client, call, pace, tally, record)
            return
        except BudgetDenied as denied:
            tally.count_denial(denied.denial, call.subject)
            return
        except CallFailed:
            tally.released += 1
            return
        except (Unavailable, DeadlineExceeded) as error:
            if asyncio.get_running_loop().time() > deadline:
                tally.failed[error.reason] += 1
                return
            tally.retried += 1
            await asyncio.sleep(RETRY_EVERY_S)
        except BursarError as error:
            tally.failed[error.reason] += 1
            return


async def _attempt(
    client: AsyncClient, call: Call, pace: Pace, tally: Tally, record: Record
) -> None:
    arguments: dict[str, Any] = {
        **levels(call.subject),
        "request_id": f"{pace.run_id}-{call.number}",
        "model": call.target.model,
        "provider": call.target.provider,
        "input_tokens": call.input_tokens,
        "max_output_tokens": call.max_output_tokens,
        "accepts": call.accepts,
        "ttl": timedelta(seconds=pace.ttl_s),
    }
    if call.dies:
        answer = await client.try_reserve(**arguments)
        if isinstance(answer, Denial):
            tally.count_denial(answer, call.subject)
        else:
            tally.count_grant(answer.grant, call.subject)
            tally.abandoned += 1
        return
    async with client.reserve(**arguments) as reservation:
        tally.count_grant(reservation.grant, call.subject)
        if call.fails:
            raise CallFailed
        reservation.call_started()
        sent = call.input_tokens
        if reservation.max_input_tokens is not None:
            sent = min(sent, reservation.max_input_tokens)
        answered = min(call.output_tokens, reservation.max_output_tokens)
        await asyncio.sleep(answered * pace.call_s)
        committed = Committed(
            subject=call.subject,
            target=reservation.grant.target,
            input_tokens=sent,
            output_tokens=answered,
            reserve_time=_reserve_time(reservation.grant, pace),
            request_id=reservation.request_id,
        )
        record(ATTEMPT, committed)
        settlement = await reservation.commit(input_tokens=sent, output_tokens=answered)
        tally.count_commit(committed, settlement)
        if not settlement.queued:
            record(BOOKED, committed)


def _reserve_time(grant: Grant, pace: Pace) -> datetime:
    """Return when the server decided, which says which windows the amounts belong to."""
    if grant.expire_time is None:
        return datetime.now(UTC)
    return grant.expire_time - timedelta(seconds=pace.ttl_s)


async def read_counters(
    client: AsyncClient, org: str, subjects: Iterable[Subject]
) -> list[CounterStatus]:
    """Return every counter of an org and of some subjects, each once."""
    found: dict[CounterKey, CounterStatus] = {}
    for subject in (Subject(org=org), *subjects):
        async for counter in client.get_balances(**levels(subject)):
            found.setdefault(counter_key(counter), counter)
    return list(found.values())


def over_limit(counters: Iterable[CounterStatus]) -> list[CounterStatus]:
    """Return the enforced counters whose committed and held exceed what they may hold."""
    return [
        counter
        for counter in counters
        if not counter.unlimited
        and counter.mode is BudgetMode.ENFORCE
        and counter.committed + counter.held > counter.ceiling + counter.credit
    ]
