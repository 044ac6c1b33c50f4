"""Whether the ledger has what the callers committed, each commit once, and agrees with Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc.aio

from bursar.cli.printing import plural
from bursar.cli.recount import Committed, cost_nano_usd
from bursar.cli.render import money_text
from bursar.cli.summary import Check, first_of
from bursar_client.pb import usage_service_pb2 as pb
from bursar_client.pb.types_pb2 import Subject
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    from bursar_client.pb.usage_service_pb2_grpc import UsageServiceAsyncStub

    Stub: TypeAlias = UsageServiceAsyncStub

Answer = TypeVar("Answer")

_PAGE = 1_000
_CALL_S = 20.0
_POLL_S = 0.2


async def ledger_checks(
    address: str, org: str, commits: Sequence[Committed], wait_s: float
) -> list[Check]:
    """Return the checks of the ledger.

    Args:
        address: Of a server.
        org: Whose commits.
        commits: What the callers committed.
        wait_s: How long what they committed may take to be recorded, and a server that is away to
            come back.
    """
    deadline_s = time.monotonic() + wait_s
    certain = {each.request_id for each in commits if each.certain}
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Stub = UsageServiceStub(channel)
        while True:
            entries = await _entries(stub, org, deadline_s)
            missing = certain - {entry.request_id for entry in entries}
            if not missing or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(_POLL_S)
        return [
            _commits_check(commits, entries),
            await _agreement_check(stub, org, deadline_s),
        ]


async def _entries(stub: Stub, org: str, deadline_s: float) -> list[pb.LedgerEntry]:
    """Return every commit in the ledger."""
    entries: list[pb.LedgerEntry] = []
    request = pb.ListLedgerEntriesRequest(
        subject=Subject(org=org), verbs=[pb.LEDGER_VERB_COMMIT], page_size=_PAGE
    )
    while True:
        page = await _patiently(stub.ListLedgerEntries, request, deadline_s)
        entries += page.entries
        if not page.next_page_token:
            return entries
        request.page_token = page.next_page_token


def _commits_check(commits: Sequence[Committed], entries: Sequence[pb.LedgerEntry]) -> Check:
    times = Counter(entry.request_id for entry in entries)
    by_id = {entry.request_id: entry for entry in entries}
    faults = [f"{request_id} is recorded {n} times" for request_id, n in times.items() if n > 1]
    money = 0
    for commit in commits:
        entry = by_id.get(commit.request_id)
        if entry is None:
            faults += [f"{commit.request_id} is missing"] if commit.certain else []
            continue
        money += entry.cost_nano_usd
        ours = (commit.input_tokens, commit.output_tokens, cost_nano_usd(commit))
        theirs = (entry.usage.input_tokens, entry.usage.output_tokens, entry.cost_nano_usd)
        if ours != theirs:
            faults.append(f"{commit.request_id}: recorded {theirs}, the caller says {ours}")
    name = (
        f"the ledger has each of {plural(len(commits), 'commit')} once, {money_text(money)} in all"
    )
    return Check(name, first_of(faults))


async def _agreement_check(stub: Stub, org: str, deadline_s: float) -> Check:
    answer = await _patiently(stub.Verify, pb.VerifyRequest(org=org, deep=True), deadline_s)
    what = plural(answer.checked_counter_count, "counter")
    faults = [f"{each.name} {each.field}: {each.found}, not {each.ledger}"
              for each in answer.differences]  # fmt: skip
    return Check(f"the ledger agrees exactly with {what} in Redis", first_of(faults))


async def _patiently(
    call: Callable[..., Awaitable[Answer]], request: object, deadline_s: float
) -> Answer:
    """Call, again and again while the server is away."""
    while True:
        try:
            return await call(request, timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(_POLL_S)
