"""What the ledger says of the installation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bursar.ledger.database import Database
from bursar.ledger.status import (
    AppliedPolicy,
    LedgerStatus,
    Position,
    Rebuild,
    RebuildEvent,
    Reject,
    Server,
)
from bursar.ledger.times import to_ms

REBUILDS_MAX = 20
SERVERS_MAX = 1_000
POLICIES_MAX = 1_000
REJECTS_MAX = 10
_SEEN_WITHIN = "1 hour"

_RECENT_MAX = 20_000
_ONE_EVENT_WITHIN = timedelta(seconds=10)

# Rebuilds of one server and cause belong together where none is long after the one before it.
_EVENTS = """
WITH recent AS (
    SELECT * FROM rebuilds ORDER BY rebuild_id DESC LIMIT $1
), begun AS (
    SELECT *, coalesce(started_at - lag(started_at) OVER near > $2, true) AS begins
    FROM recent WINDOW near AS (PARTITION BY server_id, cause ORDER BY started_at, rebuild_id)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER near AS event
    FROM begun WINDOW near AS (PARTITION BY server_id, cause ORDER BY started_at, rebuild_id)
)
SELECT server_id, cause, array_agg(DISTINCT shard ORDER BY shard) AS shards,
    min(started_at) AS started_at,
    CASE WHEN bool_and(finished_at IS NOT NULL) THEN max(finished_at) END AS finished_at,
    sum(counters) AS counters, sum(holds) AS holds, sum(committed_nano_usd) AS committed_nano_usd,
    sum(held_nano_usd) AS held_nano_usd, sum(resent) AS resent
FROM numbered GROUP BY server_id, cause, event
ORDER BY min(started_at) DESC, max(rebuild_id) DESC LIMIT $3
"""

_INT64_MAX = (1 << 63) - 1


async def ledger_status(database: Database) -> LedgerStatus:
    """Return what the ledger says, all as of one moment.

    Raises:
        LedgerUnavailable: PostgreSQL is away or too slow.
    """
    async with database.transaction(snapshot=True) as connection:
        positions = await connection.fetch(
            "SELECT shard, epoch, sequence, recorded_at FROM journal_position ORDER BY shard"
        )
        rebuilds = await connection.fetch(_EVENTS, _RECENT_MAX, _ONE_EVENT_WITHIN, REBUILDS_MAX)
        newest = await connection.fetch(
            "SELECT DISTINCT ON (shard) * FROM rebuilds ORDER BY shard, rebuild_id DESC"
        )
        servers = await connection.fetch(
            "SELECT * FROM servers WHERE seen_at > now() - $1::text::interval "
            "ORDER BY server_id LIMIT $2",
            _SEEN_WITHIN,
            SERVERS_MAX,
        )
        policies = await connection.fetch(
            "SELECT DISTINCT ON (org) org, number, version, applied_at FROM policies "
            "ORDER BY org, number DESC LIMIT $1",
            POLICIES_MAX,
        )
        reject_count = await connection.fetchval("SELECT count(*) FROM journal_rejects")
        rejects = await connection.fetch(
            "SELECT shard, epoch, stream_id, fault, rejected_at FROM journal_rejects "
            "ORDER BY rejected_at DESC, shard, epoch, stream_id LIMIT $1",
            REJECTS_MAX,
        )
    return LedgerStatus(
        positions=tuple(
            Position(each["shard"], each["epoch"], each["sequence"], to_ms(each["recorded_at"]))
            for each in positions
        ),
        rebuilds=tuple(map(_event, rebuilds)),
        newest_rebuilds=tuple(map(_rebuild, newest)),
        servers=tuple(
            Server(
                each["server_id"],
                each["address"],
                to_ms(each["started_at"]),
                to_ms(each["seen_at"]),
            )
            for each in servers
        ),
        policies=tuple(
            AppliedPolicy(each["org"], each["number"], each["version"], to_ms(each["applied_at"]))
            for each in policies
        ),
        reject_count=reject_count,
        rejects=tuple(
            Reject(
                each["shard"],
                each["epoch"],
                each["stream_id"],
                each["fault"],
                to_ms(each["rejected_at"]),
            )
            for each in rejects
        ),
    )


def _rebuild(record: Any) -> Rebuild:  # noqa: ANN401 - a record of asyncpg
    finished_at = record["finished_at"]
    return Rebuild(
        shard=record["shard"],
        epoch=record["epoch"],
        cause=record["cause"],
        start_ms=to_ms(record["started_at"]),
        end_ms=to_ms(finished_at) if finished_at is not None else None,
        counters=record["counters"],
        holds=record["holds"],
    )


def _event(record: Any) -> RebuildEvent:  # noqa: ANN401 - a record of asyncpg
    finished_at = record["finished_at"]
    return RebuildEvent(
        shards=tuple(record["shards"]),
        cause=record["cause"],
        server_id=record["server_id"],
        start_ms=to_ms(record["started_at"]),
        end_ms=to_ms(finished_at) if finished_at is not None else None,
        counters=int(record["counters"]),
        holds=int(record["holds"]),
        # More than the contract's number can say is shown as the most that it can.
        committed_nano_usd=min(int(record["committed_nano_usd"]), _INT64_MAX),
        held_nano_usd=min(int(record["held_nano_usd"]), _INT64_MAX),
        resent=int(record["resent"]),
    )
