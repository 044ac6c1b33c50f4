"""The ledger's entries, page by page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bursar.domain.budget import CounterName, parse_counter_id
from bursar.domain.meter import Usage
from bursar.domain.subject import LEVELS, OrgId, Subject, Target
from bursar.ledger.database import Database
from bursar.ledger.page_token import read_page_token, write_page_token
from bursar.ledger.times import from_us, to_ms, to_time, to_us

PAGE_DEFAULT = 50
PAGE_MAX = 1_000

_KEY = ("at", "shard", "epoch", "sequence", "ordinal", "stream_id")
_KEY_SQL = 'at, shard, epoch COLLATE "C", sequence, ordinal, stream_id COLLATE "C"'
_COLUMNS = (
    *_KEY,
    "verb",
    "reservation_id",
    "request_id",
    *LEVELS,
    "labels",
    "provider",
    "model",
    "outcome",
    "late",
    "estimated",
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "cost_nano_usd",
    "custom_meters",
    "policy_version",
    "detail",
    "counter_ids",
    "held",
    "committed",
    "credit",
)


class Verb(StrEnum):
    """What an entry records."""

    RESERVE = "reserve"
    COMMIT = "commit"
    COMMIT_PARTIAL = "commit_partial"
    RELEASE = "release"
    EXTEND = "extend"
    EXPIRE = "expire"
    RECORD = "record"
    ADJUST = "adjust"


@dataclass(frozen=True, slots=True)
class EntryQuestion:
    """Which entries.

    Attributes:
        subject: Every level and label given must match.
        reservation_id: Of one reservation, or "".
        request_id: Of one request, or "".
        verbs: Of these kinds; empty for all.
        start_ms: From when, or None.
        end_ms: Until before when, or None.
        newest_first: Whether the newest comes first, or the oldest.
    """

    subject: Subject
    reservation_id: str = ""
    request_id: str = ""
    verbs: tuple[Verb, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class CounterChange:
    """What an entry added to one counter, in its meter's unit."""

    counter: CounterName
    held: int
    committed: int
    credit: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing that was booked; `usage` is None where it used nothing."""

    at_ms: int
    shard: int
    epoch: str
    sequence: int
    ordinal: int
    verb: Verb
    reservation_id: str
    request_id: str
    subject: Subject
    target: Target
    outcome: str
    late: bool
    estimated: bool
    usage: Usage | None
    cost_nano_usd: int | None
    policy_version: str
    detail: str
    changes: tuple[CounterChange, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of entries, where the next begins, and when the ledger last recorded."""

    entries: tuple[LedgerEntry, ...]
    next_page_token: str
    recorded_at_ms: int | None


async def list_entries(
    database: Database, shard: int, question: EntryQuestion, page_size: int, page_token: str
) -> EntryPage:
    """Return a page of entries in the order of their booking.

    Args:
        database: The ledger.
        shard: That the org lives on.
        question: Which entries.
        page_size: 0 for the default.
        page_token: From the page before, or "".

    Raises:
        FieldInvalid: The token is of another question.
        LedgerUnavailable: PostgreSQL is away or too slow.
    """
    size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
    after: list[object] | None = None
    if page_token:
        at_us, *rest = read_page_token(question, page_token, (int, int, str, int, int, str))
        after = [_instant(int(at_us)), *rest]
    statement, values = _statement(question, after, size + 1)
    async with database.transaction(snapshot=True) as connection:
        recorded_at = await connection.fetchval(
            "SELECT recorded_at FROM journal_position WHERE shard = $1", shard
        )
        found = await connection.fetch(statement, *values)
    entries = tuple(_entry(question.subject.org, record) for record in found[:size])
    token = ""
    if len(found) > size:
        at, *rest = (found[size - 1][name] for name in _KEY)
        token = write_page_token(question, [to_us(at), *rest])
    return EntryPage(entries, token, to_ms(recorded_at) if recorded_at else None)


def _statement(
    question: EntryQuestion, after: list[object] | None, limit: int
) -> tuple[str, list[object]]:
    values: list[object] = []

    def add(value: object, cast: str = "") -> str:
        values.append(value)
        return f"${len(values)}{cast}"

    subject = question.subject
    conditions = [f"org = {add(subject.org)}"]
    for level in LEVELS:
        if value := getattr(subject, level):
            conditions.append(f'"{level}" = {add(value)}')
    if subject.labels:
        conditions.append(f"labels @> {add(json.dumps(dict(subject.labels)), '::jsonb')}")
    for name in ("reservation_id", "request_id"):
        if value := getattr(question, name):
            conditions.append(f"{name} = {add(value)}")
    if question.verbs:
        conditions.append(f"verb = ANY ({add([str(each) for each in question.verbs], '::text[]')})")
    if question.start_ms is not None:
        conditions.append(f"at >= {add(to_time(question.start_ms))}")
    if question.end_ms is not None:
        conditions.append(f"at < {add(to_time(question.end_ms))}")
    direction, beyond = ("DESC", "<") if question.newest_first else ("ASC", ">")
    if after is not None:
        at = add(after[0])
        casts = ("::int", "::text", "::bigint", "::int", "::text")
        rest = ", ".join(add(each, cast) for each, cast in zip(after[1:], casts, strict=True))
        # The first of the two is what an index and the choice of partitions understand.
        conditions.append(f"at {beyond}= {at} AND ({_KEY_SQL}) {beyond} ({at}, {rest})")
    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    order = ", ".join(f"{each} {direction}" for each in _KEY_SQL.split(", "))
    statement = (
        f"SELECT {columns} FROM ledger_entries WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY {order} LIMIT {limit}"
    )
    return statement, values


def _entry(org: OrgId, record: Any) -> LedgerEntry:  # noqa: ANN401 - a record of asyncpg
    verb = Verb(record["verb"])
    return LedgerEntry(
        at_ms=to_ms(record["at"]),
        shard=record["shard"],
        epoch=record["epoch"],
        sequence=record["sequence"],
        ordinal=record["ordinal"],
        verb=verb,
        reservation_id=record["reservation_id"],
        request_id=record["request_id"],
        subject=Subject(
            org,
            record["team"],
            record["feature"],
            record["agent"],
            record["user"],
            record["task"],
            labels=_mapping(record["labels"]),
        ),
        target=Target(record["provider"], record["model"]),
        outcome=record["outcome"],
        late=record["late"],
        estimated=record["estimated"],
        usage=_usage(record),
        cost_nano_usd=record["cost_nano_usd"],
        policy_version=record["policy_version"],
        detail=record["detail"],
        changes=tuple(
            CounterChange(parse_counter_id(counter_id), held, committed, credit)
            for counter_id, held, committed, credit in zip(
                record["counter_ids"],
                record["held"],
                record["committed"],
                record["credit"],
                strict=True,
            )
        ),
    )


def _usage(record: Any) -> Usage | None:  # noqa: ANN401 - a record of asyncpg
    custom = _mapping(record["custom_meters"])
    used = (record["requests"], record["input_tokens"], record["output_tokens"])
    if not any(used) and not custom:
        return None
    return Usage(
        input_tokens=record["input_tokens"],
        output_tokens=record["output_tokens"],
        cache_read_tokens=record["cache_read_tokens"],
        cache_write_tokens=record["cache_write_tokens"],
        input_audio_tokens=record["input_audio_tokens"],
        reasoning_tokens=record["reasoning_tokens"],
        output_audio_tokens=record["output_audio_tokens"],
        requests=record["requests"],
        custom_meters={name: int(amount) for name, amount in custom.items()},
    )


def _mapping(value: str | Mapping[str, Any]) -> dict[str, Any]:
    # asyncpg hands JSON over as text unless its connection was told otherwise.
    return dict(json.loads(value) if isinstance(value, str) else value)


def _instant(at_us: int) -> object:
    try:
        return from_us(at_us)
    except OverflowError:
        return from_us(0)
