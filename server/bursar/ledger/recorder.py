"""Writes a batch of the journal in one transaction: all of it, and each event once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bursar.domain.errors import BursarError
from bursar.failpoints import failpoint
from bursar.ledger.database import Connection, Database
from bursar.ledger.fold import Batch, LedgerRow
from bursar.ledger.times import to_time

_COLUMNS = (
    "at", "shard", "epoch", "stream_id", "sequence", "ordinal", "verb", "org", "reservation_id",
    "request_id", "team", "feature", "agent", "user", "task", "labels", "provider", "model",
    "outcome", "late",
    "estimated", "requests", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "input_audio_tokens", "reasoning_tokens", "output_audio_tokens",
    "cost_nano_usd", "custom_meters", "policy_version", "detail", "counter_ids", "slots", "held",
    "committed", "credit",
)  # fmt: skip

_BALANCES = """
INSERT INTO counter_balances AS balance (counter_id, slot, shard, kind, p1, p2, committed, held,
    credit, used_at_ms, expire_at_ms)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[], $4::int[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
ON CONFLICT (counter_id, slot) DO UPDATE SET
    committed = balance.committed + excluded.committed,
    held = balance.held + excluded.held,
    credit = balance.credit + excluded.credit,
    used_at_ms = greatest(balance.used_at_ms, excluded.used_at_ms),
    expire_at_ms = greatest(balance.expire_at_ms, excluded.expire_at_ms)
"""

_HOLDS = """
INSERT INTO open_holds (org, hold_id, shard, state, expire_at_ms, keep_until_ms, hold)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::bigint[], $6::bigint[],
    $7::bytea[])
ON CONFLICT (org, hold_id) DO UPDATE SET
    state = excluded.state,
    expire_at_ms = excluded.expire_at_ms,
    keep_until_ms = excluded.keep_until_ms,
    hold = excluded.hold
"""

_USAGE = """
INSERT INTO usage_hourly AS usage (hour, org, team, feature, agent, "user", task, provider, model,
    requests, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    input_audio_tokens, reasoning_tokens, output_audio_tokens, cost_nano_usd, unpriced)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[],
    $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
    $19::bigint[])
ON CONFLICT (org, hour, team, feature, agent, "user", task, provider, model) DO UPDATE SET
    requests = usage.requests + excluded.requests,
    input_tokens = usage.input_tokens + excluded.input_tokens,
    output_tokens = usage.output_tokens + excluded.output_tokens,
    cache_read_tokens = usage.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = usage.cache_write_tokens + excluded.cache_write_tokens,
    input_audio_tokens = usage.input_audio_tokens + excluded.input_audio_tokens,
    reasoning_tokens = usage.reasoning_tokens + excluded.reasoning_tokens,
    output_audio_tokens = usage.output_audio_tokens + excluded.output_audio_tokens,
    cost_nano_usd = usage.cost_nano_usd + excluded.cost_nano_usd,
    unpriced = usage.unpriced + excluded.unpriced
"""

_REJECTS = """
INSERT INTO journal_rejects (shard, epoch, stream_id, entry, fault)
SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::bytea[], $5::text[])
ON CONFLICT DO NOTHING
"""

_MOVES = """
UPDATE journal_position AS position
SET stream_id = move.after_id, sequence = move.after_sequence, recorded_at = now()
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS move (shard, epoch, before_id, after_id, after_sequence)
WHERE position.shard = move.shard AND position.epoch = move.epoch
    AND position.stream_id = move.before_id
RETURNING position.shard
"""


class PositionMoved(BursarError):
    """Another one has recorded what this one read; nothing of the batch was written."""


class Recorder:
    """Writes batches, and knows which months have a place in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._months: set[tuple[int, int]] = set()

    async def write(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            PositionMoved: A shard's journal is not where the batch begins: nothing was written.
            LedgerUnavailable: PostgreSQL is away; the batch was written or was not.
        """
        async with self._database.transaction() as connection:
            # First, so that of two that read the same entries the second waits here, and fails.
            await _move(connection, batch)
            await self._ensure_months(connection, batch.rows)
            await connection.copy_records_to_table(
                "ledger_entries", records=[_record(row) for row in batch.rows], columns=_COLUMNS
            )
            await _add(connection, batch)
            failpoint("before_ledger_commit")
        self._months |= {_month(row.at_ms) for row in batch.rows}
        failpoint("after_ledger_commit")

    async def _ensure_months(self, connection: Connection, rows: Iterable[LedgerRow]) -> None:
        for year, month in sorted({_month(row.at_ms) for row in rows} - self._months):
            await ensure_month(connection, year, month)


async def ensure_month(connection: Connection, year: int, month: int) -> None:
    """Make a place for the ledger's entries of a month (UTC), if there is none."""
    name = f"ledger_entries_{year:04d}_{month:02d}"
    if await connection.fetchval("SELECT to_regclass($1)", name) is not None:
        return
    # Two writers may need a new month at the same moment.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('ledger_entries'))")
    start = f"{year:04d}-{month:02d}-01 00:00:00+00"
    end = f"{year + month // 12:04d}-{month % 12 + 1:02d}-01 00:00:00+00"
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF ledger_entries "
        f"FOR VALUES FROM ('{start}') TO ('{end}')"
    )


def _month(at_ms: int) -> tuple[int, int]:
    at = to_time(at_ms)
    return at.year, at.month


async def _move(connection: Connection, batch: Batch) -> None:
    shards = sorted(batch.moves)
    moves = [batch.moves[shard] for shard in shards]
    moved = await connection.fetch(
        _MOVES,
        shards,
        [before.epoch for before, _ in moves],
        [before.stream_id for before, _ in moves],
        [after.stream_id for _, after in moves],
        [after.sequence for _, after in moves],
    )
    lost = sorted(set(shards) - {row["shard"] for row in moved})
    if lost:
        raise PositionMoved(f"the journals of shards {lost} are recorded by another server")


async def _add(connection: Connection, batch: Batch) -> None:
    # In one order everywhere, so that writers of other shards cannot wait for each other in a ring.
    balances = sorted(batch.balances.items())
    if balances:
        await connection.execute(
            _BALANCES,
            [counter_id for (counter_id, _), _ in balances],
            [slot for (_, slot), _ in balances],
            [delta.shard for _, delta in balances],
            [delta.entry.kind for _, delta in balances],
            [delta.entry.p1 for _, delta in balances],
            [delta.entry.p2 for _, delta in balances],
            [delta.committed for _, delta in balances],
            [delta.held for _, delta in balances],
            [delta.credit for _, delta in balances],
            [delta.used_at_ms for _, delta in balances],
            [delta.expire_at_ms for _, delta in balances],
        )
    holds = sorted(batch.holds.items())
    if holds:
        await connection.execute(
            _HOLDS,
            [org for (org, _), _ in holds],
            [hold_id for (_, hold_id), _ in holds],
            [after.shard for _, after in holds],
            [int(after.state) for _, after in holds],
            [after.expire_at_ms for _, after in holds],
            [after.keep_until_ms for _, after in holds],
            [after.packed for _, after in holds],
        )
    usage = sorted(batch.usage.items())
    if usage:
        await connection.execute(
            _USAGE,
            [to_time(key[0]) for key, _ in usage],
            *([key[at] for key, _ in usage] for at in range(1, 9)),
            *([getattr(delta, name) for _, delta in usage] for name in _USAGE_FIELDS),
        )
    if batch.rejects:
        await connection.execute(
            _REJECTS,
            [each.shard for each in batch.rejects],
            [each.epoch for each in batch.rejects],
            [each.stream_id for each in batch.rejects],
            [each.entry for each in batch.rejects],
            [each.fault for each in batch.rejects],
        )


_USAGE_FIELDS = (
    "requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "input_audio_tokens", "reasoning_tokens", "output_audio_tokens", "cost_nano_usd", "unpriced",
)  # fmt: skip


def _record(row: LedgerRow) -> tuple[object, ...]:
    subject, usage = row.subject, row.usage
    return (
        to_time(row.at_ms), row.shard, row.epoch, row.stream_id, row.sequence, row.ordinal,
        row.verb, subject.org, row.reservation_id, row.request_id, subject.team, subject.feature,
        subject.agent,
        subject.user, subject.task, json.dumps(dict(subject.labels)), row.target.provider,
        row.target.model, row.outcome, row.late, row.estimated, row.requests, row.input_tokens,
        row.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.input_audio_tokens, usage.reasoning_tokens, usage.output_audio_tokens,
        row.cost_nano_usd, json.dumps(dict(usage.custom_meters)), row.policy_version, row.detail,
        [entry.counter_id for entry in row.entries], [entry.slot for entry in row.entries],
        row.deltas[0::3], row.deltas[1::3], row.deltas[2::3],
    )  # fmt: skip
