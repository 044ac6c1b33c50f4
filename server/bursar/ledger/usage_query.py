"""Usage added up by level, target and time.

Whole hours come from the hourly sums. Hours that an interval begins or ends in (a day of India
begins at half past) are added up from the ledger's entries, so that every row is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.subject import CASELESS, LEVELS, Subject, Target
from bursar.domain.usage_report import HOUR_MS, Dimension, TokenClass, UsageQuestion
from bursar.ledger.database import Database
from bursar.ledger.page_token import read_page_token, write_page_token
from bursar.ledger.times import to_ms, to_time

PAGE_DEFAULT = 100
PAGE_MAX = 1_000

UNPRICED = "e.cost_nano_usd IS NULL AND (e.requests, e.input_tokens, e.output_tokens) <> (0, 0, 0)"
"""Which entries e count as usage without a price, here and in the hourly sums."""

_INT64_MAX = (1 << 63) - 1
_TOKENS = tuple(TokenClass)
_AMOUNTS = ("requests", *_TOKENS, "cost_nano_usd", "unpriced", "denials")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one group used in one interval.

    Attributes:
        start_ms: First instant of the interval.
        end_ms: First instant after it.
        subject: The org, and the levels that are grouped by.
        target: Provider and model where they are grouped by.
        token_class: Which class `tokens` has, where classes are rows of their own.
        tokens: By class.
        requests: Calls of the model; this and what follows is None with a token class.
        cost_nano_usd: What it cost.
        unpriced: Settlements without a known price.
        denials: Reserves that were denied, or None where that is not known so finely.
    """

    start_ms: int
    end_ms: int
    subject: Subject
    target: Target
    token_class: TokenClass | None
    tokens: Mapping[TokenClass, int]
    requests: int | None
    cost_nano_usd: int | None
    unpriced: int | None
    denials: int | None


@dataclass(frozen=True, slots=True)
class UsagePage:
    """A page of rows, where the next begins ("" at the end), and when the ledger last recorded."""

    rows: tuple[UsageRow, ...]
    next_page_token: str
    recorded_at_ms: int | None


@dataclass(frozen=True, slots=True)
class _Cut:
    """How the time of a question is cut.

    Attributes:
        bounds_ms: Where intervals begin, and where the last one ends.
        cut_hours_ms: Hours that are not whole in any interval.
    """

    bounds_ms: Sequence[int]
    cut_hours_ms: Sequence[int]

    @classmethod
    def of(cls, question: UsageQuestion, end_ms: int) -> _Cut:
        bounds = question.bounds_ms(end_ms)
        cut = {bound - bound % HOUR_MS for bound in bounds if bound % HOUR_MS}
        return cls(bounds, sorted(cut))


async def query_usage(
    database: Database,
    shard: int,
    question: UsageQuestion,
    page_size: int,
    page_token: str,
    now_ms: int,
) -> UsagePage:
    """Return a page of rows, by interval and then by what they are grouped by.

    Args:
        database: The ledger.
        shard: That the org lives on.
        question: Whose usage, of what time.
        page_size: 0 for the default.
        page_token: From the page before, or "".
        now_ms: Since the epoch.

    Raises:
        FieldInvalid: The time is too long, the token is of another question, or a sum does not
            fit the contract's numbers.
        LedgerUnavailable: PostgreSQL is away or too slow.
    """
    size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
    end_ms = question.end_ms if question.end_ms is not None else now_ms - now_ms % HOUR_MS + HOUR_MS
    position: list[str | int] = []
    if page_token:
        groups = (str,) * len(question.group_by)
        kinds = (int, int, *groups, int)
        end_ms, *position = read_page_token(question, page_token, kinds)  # type: ignore[assignment]
    cut = _Cut.of(question, end_ms)
    if position and not 1 <= int(position[0]) < len(cut.bounds_ms):
        raise FieldInvalid(Fault("page_token", "is not from a page before; start again without it"))
    statement, values = _statement(question, cut, position, size + 1)
    async with database.transaction(snapshot=True) as connection:
        recorded_at = await connection.fetchval(
            "SELECT recorded_at FROM journal_position WHERE shard = $1", shard
        )
        found = await connection.fetch(statement, *values)
    rows = tuple(_row(question, cut, record) for record in found[:size])
    token = ""
    if len(found) > size:
        last = found[size - 1]
        parts = [last["part"], *(last[each] for each in question.group_by), last["class"]]
        token = write_page_token(question, [end_ms, *parts])
    return UsagePage(rows, token, to_ms(recorded_at) if recorded_at else None)


def knows_denials(question: UsageQuestion, cut_hours: Sequence[int]) -> bool:
    """Tell whether denials, which are kept by whole hours and without tasks, can be answered."""
    by_task = Dimension.TASK in question.group_by or question.subject.task
    return not (cut_hours or by_task or question.by_token_class)


def _statement(
    question: UsageQuestion, cut: _Cut, position: Sequence[str | int], limit: int
) -> tuple[str, list[object]]:
    """Return the SQL of a page and its values. Names in it are of closed sets, values never are."""
    values = _Values()
    groups = [f'"{each}"' for each in question.group_by]
    # What lies before the interval that the page goes on in need not be added up again.
    first_ms = cut.bounds_ms[int(position[0]) - 1] if position else cut.bounds_ms[0]
    org = values.add(question.subject.org)
    span = (values.add(to_time(first_ms)), values.add(to_time(cut.bounds_ms[-1])))
    cut_hours = values.add([to_time(each) for each in cut.cut_hours_ms])
    starts = values.add([to_time(each) for each in cut.bounds_ms[:-1]])
    sources = [
        _hours(question, values, org, span, cut_hours),
        _entries(question, values, org, span, cut_hours),
    ]
    if knows_denials(question, cut.cut_hours_ms):
        sources.append(_denials(question, values, org, span))
    sums = ", ".join(f"sum({name}) AS {name}" for name in _AMOUNTS)
    keys = ["part", *groups, "class"]
    grouped = f"SELECT width_bucket(at, {starts}::timestamptz[]) AS part"
    grouped += "".join(f", {each}" for each in groups) + f", {sums} FROM source"
    grouped += f" GROUP BY {', '.join(map(str, range(1, len(groups) + 2)))}"
    conditions = ["true"]
    if question.by_token_class:
        pairs = ", ".join(f"({number}, {name})" for number, name in enumerate(_TOKENS, 1))
        classes = f"(VALUES {pairs}) AS classes (class, tokens)"
        conditions.append("tokens <> 0")
    else:
        classes = "(VALUES (0, 0)) AS classes (class, tokens)"
    if position:
        casts = ["int", *(["text"] * len(groups)), "int"]
        after = [f"{values.add(each)}::{cast}" for each, cast in zip(position, casts, strict=True)]
        conditions.append(f"({', '.join(keys)}) > ({', '.join(after)})")
    statement = (
        f"WITH source AS ({' UNION ALL '.join(sources)}), grouped AS ({grouped}) "  # noqa: S608
        f"SELECT grouped.*, class, tokens FROM grouped CROSS JOIN LATERAL {classes} "
        f"WHERE {' AND '.join(conditions)} ORDER BY {', '.join(keys)} LIMIT {limit}"
    )
    return statement, values.given


class _Values:
    """Collects the values of a statement and hands out their names."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def add(self, value: object) -> str:
        self.given.append(value)
        return f"${len(self.given)}"


_Span = tuple[str, str]


def _hours(question: UsageQuestion, values: _Values, org: str, span: _Span, cut_hours: str) -> str:
    amounts = ", ".join(f"h.{name}" for name in _AMOUNTS[:-1])
    return (
        f"SELECT h.hour AS at{_groups(question, 'h')}, {amounts}, 0::numeric AS denials "  # noqa: S608
        f"FROM usage_hourly AS h WHERE h.org = {org} AND h.hour >= {span[0]} AND h.hour < {span[1]}"
        f" AND h.hour <> ALL ({cut_hours}::timestamptz[]){_filters(question, values, 'h')}"
    )


def _entries(
    question: UsageQuestion, values: _Values, org: str, span: _Span, cut_hours: str
) -> str:
    tokens = ", ".join(f"e.{name}" for name in _TOKENS)
    return (
        f"SELECT e.at{_groups(question, 'e')}, e.requests, {tokens}, "  # noqa: S608
        f"coalesce(e.cost_nano_usd, 0), CASE WHEN {UNPRICED} THEN 1 ELSE 0 END, 0 "
        f"FROM unnest({cut_hours}::timestamptz[]) AS cut (hour) JOIN ledger_entries AS e "
        f"ON e.org = {org} AND e.at >= cut.hour AND e.at < cut.hour + interval '1 hour' "
        f"AND e.at >= {span[0]} AND e.at < {span[1]}{_filters(question, values, 'e')} "
        # Most entries use nothing; groups of which all do are no rows of the hourly sums either.
        f"WHERE e.requests <> 0 OR e.cost_nano_usd <> 0 OR e.input_tokens <> 0 "
        f"OR e.output_tokens <> 0"
    )


def _denials(question: UsageQuestion, values: _Values, org: str, span: _Span) -> str:
    zeros = ", ".join("0" for _ in _AMOUNTS[:-1])
    return (
        f"SELECT d.hour{_groups(question, 'd')}, {zeros}, d.denials "  # noqa: S608
        f"FROM denials_hourly AS d WHERE d.org = {org} AND d.hour >= {span[0]} "
        f"AND d.hour < {span[1]}{_filters(question, values, 'd')}"
    )


def _groups(question: UsageQuestion, table: str) -> str:
    # The order of bytes is the same in every database, and pages follow it.
    return "".join(f', {_text(table, each)} COLLATE "C" AS "{each}"' for each in question.group_by)


def _filters(question: UsageQuestion, values: _Values, table: str) -> str:
    wanted = [
        *((level, getattr(question.subject, level)) for level in LEVELS),
        *((name, getattr(question.target, name).lower()) for name in CASELESS),
    ]
    return "".join(
        f" AND {_text(table, name)} = {values.add(value)}" for name, value in wanted if value
    )


def _text(table: str, name: str) -> str:
    column = f'{table}."{name}"'
    return f"lower({column})" if name in CASELESS else column


def _row(question: UsageQuestion, cut: _Cut, record: Any) -> UsageRow:  # noqa: ANN401 - of asyncpg
    part = record["part"]
    grouped: dict[str, str] = {str(each): record[each] for each in question.group_by}
    levels: dict[str, Any] = {level: grouped.get(level, "") for level in LEVELS}
    token_class = _TOKENS[record["class"] - 1] if question.by_token_class else None
    row = UsageRow(
        start_ms=cut.bounds_ms[part - 1],
        end_ms=cut.bounds_ms[part],
        subject=replace(Subject(question.subject.org), **levels),
        target=Target(grouped.get("provider", ""), grouped.get("model", "")),
        token_class=token_class,
        tokens={},
        requests=None,
        cost_nano_usd=None,
        unpriced=None,
        denials=None,
    )
    if token_class is not None:
        return replace(row, tokens={token_class: _int64("token_count", record["tokens"])})
    known = knows_denials(question, cut.cut_hours_ms)
    return replace(
        row,
        tokens={each: _int64(each, record[each]) for each in _TOKENS},
        requests=_int64("request_count", record["requests"]),
        cost_nano_usd=_int64("cost_nano_usd", record["cost_nano_usd"]),
        unpriced=_int64("unpriced_count", record["unpriced"]),
        denials=_int64("denial_count", record["denials"]) if known else None,
    )


def _int64(name: str, total: Decimal) -> int:
    """Return a sum as the contract's number.

    Raises:
        FieldInvalid: It does not fit.
    """
    whole = int(total)
    if abs(whole) > _INT64_MAX:
        fault = f"a row's {name} is {whole}, more than 2^63 - 1; ask for finer groups or less time"
        raise FieldInvalid(Fault("group_by", fault))
    return whole
