"""Calls of the authority in few words, and what to expect of their answers."""

from __future__ import annotations

import random

import pytest

from bursar.authority.authority import Answer, Authority
from bursar.domain.answer import Decision, ReserveAnswer
from bursar.domain.budget import CounterValues
from bursar.domain.errors import BursarError
from bursar.domain.meter import Estimate, Usage
from bursar.domain.request import (
    CommitRequest,
    ExtendRequest,
    Operation,
    RecordRequest,
    ReleaseRequest,
    ReserveRequest,
)
from bursar.domain.subject import OrgId, Subject, Target

TTL_MS = 60_000
MODEL = "m"

MODELS = """
models:
  - {match: m, provider: p, price: {input: 1, output: 2}}
  - {match: other, provider: q, price: {input: 10, output: 20}}
"""
"""A token of m costs 1,000 nano-USD as input and 2,000 as output, one of other ten times that."""

Reservation = str | ReserveAnswer
"""Its id, or the answer that has it."""

_ESTIMATE = ("input_tokens", "max_output_tokens", "min_output_tokens", "requests")
_USAGE = ("input_tokens", "output_tokens", "requests")
_LEVELS = ("team", "feature", "agent", "user", "task")


def ask(
    request_id: str, *, org: str = "acme", model: str = MODEL, ttl_ms: int = TTL_MS, **given: object
) -> ReserveRequest:
    """Return a reserve: levels, estimate, `meters`, `labels` and the request's own fields by name.

    One output token is asked for where nothing else is said.
    """
    given.setdefault("max_output_tokens", 1)
    return ReserveRequest(
        request_id=request_id,
        subject=_subject(org, given),
        target=Target("", model),
        estimate=Estimate(custom_meters=given.pop("meters", {}), **_taken(given, _ESTIMATE)),
        ttl_ms=ttl_ms,
        **given,
    )


def commit(reservation: Reservation, *, model: str = MODEL, **given: object) -> CommitRequest:
    """Return a commit: usage, `meters` and the request's own fields by name; `part` numbers one."""
    part = given.pop("part", 0)
    return CommitRequest(
        reservation_id=_id(reservation),
        usage=Usage(custom_meters=given.pop("meters", {}), **_taken(given, _USAGE)),
        target=Target("", model),
        partial=part > 0,
        sequence=part,
        **given,
    )


def release(reservation: Reservation) -> ReleaseRequest:
    """Return a release."""
    return ReleaseRequest(_id(reservation))


def extend(reservation: Reservation, **given: object) -> ExtendRequest:
    """Return an extend, with `ttl_ms` and `max_output_tokens`."""
    return ExtendRequest(_id(reservation), **given)


def record(
    request_id: str, *, org: str = "acme", model: str = MODEL, **given: object
) -> RecordRequest:
    """Return a record: levels, usage, `meters` and `labels` by name."""
    return RecordRequest(
        request_id=request_id,
        subject=_subject(org, given),
        target=Target("", model),
        usage=Usage(custom_meters=given.pop("meters", {}), **_taken(given, _USAGE)),
        **given,
    )


def _id(reservation: Reservation) -> str:
    return reservation if isinstance(reservation, str) else reservation.reservation_id


def _taken(given: dict[str, object], names: tuple[str, ...]) -> dict[str, object]:
    return {name: given.pop(name) for name in names if name in given}


def _subject(org: str, given: dict[str, object]) -> Subject:
    return Subject(OrgId(org), labels=given.pop("labels", {}), **_taken(given, _LEVELS))


def seeded(seed: int) -> random.Random:
    """Return dice that fall the same way each time."""
    return random.Random(seed)  # noqa: S311 - chance, not secrets


async def granted(authority: Authority, request: ReserveRequest) -> ReserveAnswer:
    """Reserve, and expect a grant as asked."""
    answer = await authority.reserve(request)
    assert answer.decision is Decision.GRANTED, answer.denial
    return answer


async def denied(authority: Authority, request: ReserveRequest) -> ReserveAnswer:
    """Reserve, and expect a denial."""
    answer = await authority.reserve(request)
    assert answer.decision is Decision.DENIED, answer
    assert answer.reservation_id == ""
    return answer


async def refused(authority: Authority, operation: Operation) -> BursarError:
    """Carry out one operation, and expect the error that it returns."""
    with pytest.raises(BursarError) as caught:
        await carry_out(authority, operation)
    return caught.value


async def carry_out(authority: Authority, operation: Operation) -> Answer:
    """Carry out one operation of any kind."""
    match operation:
        case ReserveRequest():
            return await authority.reserve(operation)
        case ExtendRequest():
            return await authority.extend(operation)
        case RecordRequest():
            return await authority.record(operation)
        case _:
            return await authority.settle(operation)


async def balance(authority: Authority, budget: str, **levels: object) -> CounterValues:
    """Return what a budget's counter holds for a subject."""
    subject = _subject(levels.pop("org", "acme"), levels)
    page = await authority.balances(subject, 1_000, "")
    [status] = [each for each in page.counters if each.counter.budget.name == budget]
    return status.values


async def used(authority: Authority, budget: str, **levels: object) -> tuple[int, int]:
    """Return committed and held of a budget's counter for a subject."""
    values = await balance(authority, budget, **levels)
    return values.committed, values.held
