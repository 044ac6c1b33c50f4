"""Rows of the ledger as its writer would have made them, for tests of what is read from it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from bursar.ledger.database import Database

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARTS = ("2026-01-01", "2026-04-01", "2026-11-01", "2027-03-01")
"""Where the ledger's partitions begin and end."""


def ms(text: str) -> int:
    """Return an instant given in ISO form in ms; without an offset it is UTC."""
    time = datetime.fromisoformat(text)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (time - EPOCH) // timedelta(milliseconds=1)


def instant(at_ms: int) -> datetime:
    """Return an instant as PostgreSQL takes it."""
    return EPOCH + timedelta(milliseconds=at_ms)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the ledger; by default a commit of one request."""

    at_ms: int
    sequence: int
    verb: str = "commit"
    org: str = "acme"
    team: str = ""
    feature: str = ""
    agent: str = ""
    user: str = ""
    task: str = ""
    provider: str = "openai"
    model: str = "gpt-5"
    reservation_id: str = "acme:r"
    request_id: str = "r"
    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    cost_nano_usd: int | None = 0
    shard: int = 0
    epoch: str = "e1"
    stream_id: str = ""
    ordinal: int = 0
    outcome: str = "succeeded"
    late: bool = False
    estimated: bool = False
    policy_version: str = "v1"
    detail: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    custom_meters: dict[str, int] = field(default_factory=dict)
    counter_ids: Sequence[str] = ()
    slots: Sequence[int] = ()
    held: Sequence[int] = ()
    committed: Sequence[int] = ()
    credit: Sequence[int] = ()


COLUMNS = ("at", *(each.name for each in fields(Entry) if each.name != "at_ms"))

FOLD = """
INSERT INTO usage_hourly
SELECT date_trunc('hour', at, 'UTC'), org, team, feature, agent, "user", task, provider, model,
    sum(requests), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(input_audio_tokens), sum(reasoning_tokens),
    sum(output_audio_tokens), sum(coalesce(cost_nano_usd, 0)),
    count(*) FILTER (WHERE cost_nano_usd IS NULL)
FROM ledger_entries WHERE verb IN ('commit', 'commit_partial', 'record', 'expire')
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""


async def store(database: Database, entries: Sequence[Entry]) -> None:
    """Insert entries, and make the hourly sums anew."""
    async with database.transaction() as connection:
        await connection.copy_records_to_table(
            "ledger_entries", records=[_record(each) for each in entries], columns=COLUMNS
        )
        await connection.execute("TRUNCATE usage_hourly")
        await connection.execute(FOLD)


def _record(entry: Entry) -> tuple[object, ...]:
    values: dict[str, object] = {name: getattr(entry, name) for name in COLUMNS[1:]}
    values["stream_id"] = entry.stream_id or f"{entry.at_ms}-{entry.sequence}"
    values["labels"] = json.dumps(entry.labels)
    values["custom_meters"] = json.dumps(entry.custom_meters)
    for name in ("counter_ids", "slots", "held", "committed", "credit"):
        values[name] = list(values[name])  # type: ignore[call-overload]
    return (instant(entry.at_ms), *values.values())


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open a database whose ledger has partitions for the times of the tests."""
    database = Database(url, timeout_ms=30_000, connections_max=4)
    await database.open()
    try:
        async with database.connection() as connection:
            for first, following in pairwise(PARTS):
                name = f"ledger_entries_{first[:7].replace('-', '_')}"
                await connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF ledger_entries "
                    f"FOR VALUES FROM ('{first}+00') TO ('{following}+00')"
                )
        yield database
    finally:
        await database.close()
