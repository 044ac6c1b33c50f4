"""What was used in a window by whom and of what, as recorded, for counters that are new in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from bursar.domain.backfill import UsedBefore
from bursar.domain.subject import LABEL_PREFIX, LEVELS, OrgId, Subject, Target
from bursar.ledger.database import Connection
from bursar.ledger.times import to_time

ROWS_AT_ONCE = 1_000
STATEMENT_S = 3_600.0
"""A window may be a year, and have hundreds of millions of entries."""

OPEN_MS_MAX = 8 * 86_400_000
"""How long before its settlement a reservation is looked for: what is settled later than this in
its window was reserved in it. One that was kept open for longer counts when it was settled."""

_VERBS = "('commit', 'commit_partial', 'record', 'expire', 'release')"


@dataclass(frozen=True, slots=True)
class BackfillQuestion:
    """Which usage.

    Attributes:
        org: Whose.
        start_ms: Beginning of the window.
        counters: Budget and meter of each new counter.
        window: Code and beginning of their window, as counter ids have it.
        per: What they partition by: rows come in its order.
        bucket_ms: Length of the window's time buckets; 0 where it has none.
        custom_meters: Meters to sum besides the standard ones.
    """

    org: OrgId
    start_ms: int
    counters: tuple[tuple[str, str], ...]
    window: str
    per: tuple[str, ...]
    bucket_ms: int
    custom_meters: tuple[str, ...]


async def used_before(
    connection: Connection, question: BackfillQuestion
) -> AsyncIterator[UsedBefore]:
    """Yield sums of what was reserved in a window or recorded in it; in a transaction.

    A settlement belongs to the window of its reservation. What a counter of the question has
    counted already is told apart: it comes in rows of its own.

    Args:
        connection: In whose transaction.
        question: Which usage.
    """
    statement, values = _statement(question)
    cursor = connection.cursor(statement, *values, prefetch=ROWS_AT_ONCE, timeout=STATEMENT_S)
    async for row in cursor:
        yield _used(question, row)


def _statement(question: BackfillQuestion) -> tuple[str, list[object]]:
    """Return the query and its values; only constants and placeholders are put into its text."""
    values: list[object] = [
        question.org,
        to_time(question.start_ms),
        to_time(question.start_ms - OPEN_MS_MAX),
        [f"{budget}:{meter}" for budget, meter in question.counters],
        question.window,
        question.bucket_ms,
        to_time(question.start_ms + OPEN_MS_MAX),
    ]

    def add(value: object) -> str:
        values.append(value)
        return f"${len(values)}::text"

    order = "".join(f"{_attribute(name, add)}, " for name in question.per)
    custom = "".join(
        f", sum((custom_meters ->> {add(name)})::numeric) AS custom_{number}"
        for number, name in enumerate(question.custom_meters)
    )
    levels = ", ".join(f'"{level}"' for level in LEVELS)
    group = f"{levels}, labels, provider, model, counted, bucket"
    statement = f"""
        SELECT {group}, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
            sum(output_tokens) AS output_tokens, sum(cost_nano_usd) AS cost_nano_usd{custom}
        FROM (
            SELECT entry.*, CASE WHEN $6::bigint > 0 THEN
                div(extract(epoch FROM reserved_at) * 1000, $6)::bigint ELSE 0 END AS bucket,
                ARRAY(
                    SELECT counter_id FROM unnest(entry.counter_ids) AS counter_id
                    WHERE split_part(counter_id, ':', 2) || ':' || split_part(counter_id, ':', 3)
                        = ANY($4::text[]) AND split_part(counter_id, ':', 5) = $5
                ) AS counted
            FROM (
                SELECT settled.*, coalesce(reserved.at, settled.at) AS reserved_at
                FROM ledger_entries AS settled LEFT JOIN LATERAL (
                    SELECT at FROM ledger_entries
                    WHERE settled.verb <> 'record' AND ($6::bigint > 0 OR settled.at < $7)
                        AND reservation_id = settled.reservation_id AND verb = 'reserve'
                        AND at >= $3 AND at <= settled.at
                    LIMIT 1
                ) AS reserved ON true
                WHERE settled.org = $1 AND settled.at >= $2 AND settled.verb IN {_VERBS}
            ) AS entry
            WHERE reserved_at >= $2
        ) AS entry
        GROUP BY {group}
        ORDER BY {order}bucket
    """  # noqa: S608 - see above
    return statement, values


def _attribute(name: str, add: Any) -> str:  # noqa: ANN401 - a function of `_statement`
    """Return a part of a subject or target, in the spelling in which budgets compare it."""
    if name.startswith(LABEL_PREFIX):
        return f"labels ->> {add(name.removeprefix(LABEL_PREFIX))}"
    if name in LEVELS:
        return f'"{name}"'
    return "lower(provider)" if name == "provider" else "lower(model)"


def _used(question: BackfillQuestion, row: Mapping[str, Any]) -> UsedBefore:
    labels = json.loads(row["labels"])
    levels = {level: row[level] for level in LEVELS}
    return UsedBefore(
        subject=Subject(question.org, **levels, labels=labels),
        target=Target(row["provider"], row["model"]),
        counted=frozenset(row["counted"]),
        bucket=row["bucket"],
        requests=int(row["requests"]),
        input_tokens=int(row["input_tokens"]),
        output_tokens=int(row["output_tokens"]),
        cost_nano_usd=int(row["cost_nano_usd"] or 0),
        custom={
            name: int(row[f"custom_{number}"] or 0)
            for number, name in enumerate(question.custom_meters)
        },
    )
