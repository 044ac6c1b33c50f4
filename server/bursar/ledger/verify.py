"""Compares Redis with the record while both are in use, and repairs Redis from it.

Redis is ahead of the record by what waits in the journal. Counters, their shard's journal and its
number are read in one step, so what is recorded and what waits must come to what is there, exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bursar.domain.errors import ShardCold
from bursar.engine.journal import JournalEntry, is_after
from bursar.engine.keys import Tombstones
from bursar.engine.shard_data import GoneRow, HoldRow, Row, ShardData
from bursar.engine.store import Store
from bursar.engine.wire import decode_hold
from bursar.ledger.comparison import compare_counter, compare_held, with_waiting
from bursar.ledger.database import Connection, Database
from bursar.ledger.differences import (
    DIFFERENCES_MAX,
    Difference,
    DifferenceKind,
    VerifyReport,
)
from bursar.ledger.fold import Batch, Position, fold
from bursar.ledger.live_rows import Balance, balances_of, live_balances, live_holds

_PAGE = 200
_TRIES = 50
_WAITING_MAX = 5_000
_MARGIN_MS = 60_000
"""A counter that Redis is about to forget is not compared: the clocks may differ."""

_OPEN = "SELECT org, hold_id, expire_at_ms, hold FROM open_holds WHERE shard = $1 AND "

_SUMS = """
WITH entry AS (
    SELECT unnest(counter_ids) AS counter_id, unnest(slots) AS slot, unnest(held) AS held,
        unnest(committed) AS committed, unnest(credit) AS credit
    FROM ledger_entries WHERE shard = $1 AND ($2 = '' OR org = $2)
), total AS (
    SELECT counter_id, slot, sum(held)::bigint AS held, sum(committed)::bigint AS committed,
        sum(credit)::bigint AS credit FROM entry GROUP BY counter_id, slot
)
SELECT counter_id, slot, balance.held, balance.committed, balance.credit,
    coalesce(total.held, 0) AS held_sum, coalesce(total.committed, 0) AS committed_sum,
    coalesce(total.credit, 0) AS credit_sum
FROM counter_balances AS balance LEFT JOIN total USING (counter_id, slot)
WHERE balance.shard = $1 AND ($2 = '' OR split_part(counter_id, ':', 1) = $2)
    AND (balance.held, balance.committed, balance.credit) IS DISTINCT FROM
        (coalesce(total.held, 0), coalesce(total.committed, 0), coalesce(total.credit, 0))
ORDER BY counter_id, slot
"""


class ShardBusy(ShardCold):
    """So many calls came between that a page could not be compared or repaired."""


@dataclass(slots=True)
class _Findings:
    """What was compared so far."""

    counters: int = 0
    holds: int = 0
    count: int = 0
    repaired: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, differences: Sequence[Difference], *, repaired: bool = False) -> None:
        self.count += len(differences)
        self.repaired += len(differences) if repaired else 0
        room = DIFFERENCES_MAX - len(self.differences)
        self.differences += [replace(each, repaired=repaired) for each in differences[:room]]


@dataclass(frozen=True, slots=True)
class _Moment:
    """A shard at one moment, and what Redis said of it."""

    sequence: int
    waiting: Batch
    replies: list[Any]


class Verifier:
    """Compares shards; see `differences.Verify` for what a call promises."""

    def __init__(
        self,
        database: Database,
        store: Store,
        data: ShardData,
        tombstones: Tombstones,
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._data = data
        self._keys = data.keys
        self._tombstones = tombstones
        self._now_ms = now_ms

    async def __call__(self, shard: int, *, org: str, deep: bool, repair: bool) -> VerifyReport:
        """Compare a shard. See `differences.Verify`."""
        findings = _Findings()
        if deep:
            await self._compare_sums(findings, shard, org, repair)
        await self._compare_held(findings, shard, org)
        await self._compare_counters(findings, shard, org, repair)
        await self._compare_holds(findings, shard, org, repair)
        if deep:
            await self._find_unknown(findings, shard, org, repair)
        return VerifyReport(
            findings.counters,
            findings.holds,
            tuple(findings.differences),
            findings.count,
            findings.repaired,
        )

    async def _compare_sums(self, findings: _Findings, shard: int, org: str, repair: bool) -> None:
        """Compare balances with the sums of all entries; repairing waits for the recorder."""
        async with self._database.transaction() as connection:
            if repair:
                await connection.execute(
                    "SELECT 1 FROM journal_position WHERE shard = $1 FOR UPDATE", shard
                )
            rows = await connection.fetch(_SUMS, shard, org, timeout=600)
            found = [
                Difference(
                    shard, DifferenceKind.BALANCE, f"{row['counter_id']} slot {row['slot']}",
                    name, row[f"{name}_sum"], row[name],
                )
                for row in rows for name in ("held", "committed", "credit")
                if row[name] != row[f"{name}_sum"]
            ]  # fmt: skip
            if repair and rows:
                await connection.executemany(
                    "UPDATE counter_balances SET held = $3, committed = $4, credit = $5 "
                    "WHERE counter_id = $1 AND slot = $2",
                    [
                        (row["counter_id"], row["slot"], row["held_sum"], row["committed_sum"],
                         row["credit_sum"])
                        for row in rows
                    ],
                )  # fmt: skip
        findings.add(found, repaired=repair)

    async def _compare_held(self, findings: _Findings, shard: int, org: str) -> None:
        """Compare what counters hold with the open holds on them, both as recorded."""
        held: dict[str, int] = defaultdict(int)
        async with self._database.transaction(snapshot=True) as connection:
            async for page in live_holds(connection, shard, 2**62, _PAGE):
                for row in page:
                    for entry in decode_hold(row.packed).entries:
                        held[entry.counter_id] += entry.held
            async for balances in live_balances(connection, shard, 0, _PAGE):
                wanted = [each for each in balances if _is_of(org, each.counter_id)]
                findings.add(compare_held(shard, wanted, held))
        findings.add(
            [
                Difference(shard, DifferenceKind.HELD_SUM, counter_id, "held", amount, None)
                for counter_id, amount in sorted(held.items())
                if amount and _is_of(org, counter_id)
            ]
        )

    async def _compare_counters(
        self, findings: _Findings, shard: int, org: str, repair: bool
    ) -> None:
        after = ""
        while True:
            for _ in range(_TRIES):
                position, balances = await self._balances(shard, org, after)
                if not balances:
                    return
                keys = [self._keys.counter_prefix(shard) + each.counter_id for each in balances]
                moment = await self._moment(shard, position, [("HGETALL", key) for key in keys])
                if moment is None:
                    continue
                whole = [with_waiting(each, moment.waiting.balances) for each in balances]
                differences: list[Difference] = []
                rows: list[Row] = []
                for balance, reply in zip(whole, moment.replies, strict=True):
                    found = compare_counter(shard, balance, _pairs(reply))
                    if found:
                        differences += found
                        rows.append(balance.row(self._now_ms()))
                if not await self._settle_page(findings, shard, differences, rows, moment, repair):
                    continue
                findings.counters += len(balances)
                after = balances[-1].counter_id
                break
            else:
                raise _busy(shard)

    async def _balances(self, shard: int, org: str, after: str) -> tuple[Position, list[Balance]]:
        now_ms = self._now_ms()
        async with self._database.transaction(snapshot=True) as connection:
            position = await _position(connection, shard)
            rows = await connection.fetch(
                "SELECT * FROM counter_balances WHERE counter_id = ANY(ARRAY("
                "SELECT counter_id FROM counter_balances WHERE shard = $1 AND counter_id > $2 "
                "AND ($3 = '' OR split_part(counter_id, ':', 1) = $3) GROUP BY counter_id "
                "HAVING max(expire_at_ms) > $4 ORDER BY counter_id LIMIT $5)) "
                "ORDER BY counter_id, slot",
                shard,
                after,
                org,
                now_ms + _MARGIN_MS,
                _PAGE,
            )
        return position, balances_of(rows)

    async def _compare_holds(self, findings: _Findings, shard: int, org: str, repair: bool) -> None:
        after = ("", "")
        while True:
            for _ in range(_TRIES):
                async with self._database.transaction(snapshot=True) as connection:
                    position = await _position(connection, shard)
                    rows = await connection.fetch(
                        _OPEN + "keep_until_ms = 0 AND (org, hold_id) > ($2, $3) "
                        "AND ($4 = '' OR org = $4) ORDER BY org, hold_id LIMIT $5",
                        shard,
                        *after,
                        org,
                        _PAGE,
                    )
                if not rows:
                    return
                names = [self._keys.hold(shard, row["org"], row["hold_id"]) for row in rows]
                commands: list[tuple[str, ...]] = [("GET", name) for name in names]
                commands += [("ZSCORE", self._keys.expiries(shard), name) for name in names]
                moment = await self._moment(shard, position, commands)
                if moment is None:
                    continue
                differences, repairs = _differing_holds(shard, rows, moment)
                if not await self._settle_page(
                    findings, shard, differences, repairs, moment, repair
                ):
                    continue
                findings.holds += len(rows)
                after = (rows[-1]["org"], rows[-1]["hold_id"])
                break
            else:
                raise _busy(shard)

    async def _find_unknown(self, findings: _Findings, shard: int, org: str, repair: bool) -> None:
        """Look for counters in Redis that the record does not know."""
        prefix = self._keys.counter_prefix(shard)
        async for names in self._store.scan(f"{prefix}*", 1_000, self._keys.meta(shard)):
            ids = sorted({name.decode().removeprefix(prefix) for name in names})
            wanted = [each for each in ids if _is_of(org, each)]
            for _ in range(_TRIES):
                async with self._database.transaction(snapshot=True) as connection:
                    position = await _position(connection, shard)
                    rows = await connection.fetch(
                        "SELECT DISTINCT counter_id FROM counter_balances "
                        "WHERE counter_id = ANY($1::text[])",
                        wanted,
                    )
                known = {row["counter_id"] for row in rows}
                strange = [each for each in wanted if each not in known]
                if not strange:
                    break
                moment = await self._moment(
                    shard, position, [("HGETALL", prefix + each) for each in strange]
                )
                if moment is None:
                    continue
                waiting = {counter_id for counter_id, _ in moment.waiting.balances}
                found = [
                    Difference(shard, DifferenceKind.COUNTER, each, "committed", None,
                               int(_pairs(reply).get(b"c", 0)))
                    for each, reply in zip(strange, moment.replies, strict=True)
                    if each not in waiting and reply
                ]  # fmt: skip
                gone: list[Row] = [GoneRow(counter_id=each.name) for each in found]
                if await self._settle_page(findings, shard, found, gone, moment, repair):
                    break
            else:
                raise _busy(shard)

    async def _moment(
        self, shard: int, position: Position, commands: Sequence[tuple[str, ...]]
    ) -> _Moment | None:
        """Read keys with what is not recorded of their shard; None where more was recorded since.

        Raises:
            ShardCold: The shard is not what is in force.
        """
        meta, *replies, entries = await self._store.together(
            ("HMGET", self._keys.meta(shard), "epoch", "seq", "trimmed", "replaying"),
            *commands,
            ("XRANGE", self._keys.journal(shard), f"({position.stream_id}", "+", "COUNT",
             str(_WAITING_MAX)),
        )  # fmt: skip
        epoch, sequence, trimmed, replaying = meta
        if epoch is None or epoch.decode() != position.epoch or replaying:
            raise ShardCold(
                f"shard {shard} is being rebuilt; compare it afterwards", shard=str(shard)
            )
        dropped = trimmed.decode() if trimmed else ""
        if is_after(dropped, position.stream_id) or len(entries) == _WAITING_MAX:
            return None
        journal = [JournalEntry(stream_id.decode(), fields) for stream_id, fields in entries]
        waiting = fold({shard: journal}, {shard: position}, self._tombstones)
        return _Moment(int(sequence or 0), waiting, replies)

    async def _settle_page(
        self,
        findings: _Findings,
        shard: int,
        differences: Sequence[Difference],
        rows: Sequence[Row],
        moment: _Moment,
        repair: bool,
    ) -> bool:
        """Note a page's differences, repaired if they are to be; False where calls came between."""
        if not differences or not repair:
            findings.add(differences)
            return True
        if not await self._data.load(shard, rows, sequence=moment.sequence):
            return False
        findings.add(differences, repaired=True)
        return True


def _differing_holds(
    shard: int, rows: Sequence[Any], moment: _Moment
) -> tuple[list[Difference], list[Row]]:
    differences: list[Difference] = []
    repairs: list[Row] = []
    held, due = moment.replies[: len(rows)], moment.replies[len(rows) :]
    for row, packed, score in zip(rows, held, due, strict=True):
        expected, due_ms = row["hold"], row["expire_at_ms"]
        after = moment.waiting.holds.get((row["org"], row["hold_id"]))
        if after is not None:
            if after.keep_until_ms:
                continue  # It has ended since.
            expected, due_ms = after.packed, after.expire_at_ms
        name = f"{row['org']}:{row['hold_id']}"
        found: list[Difference] = []
        if packed is None:
            found.append(Difference(shard, DifferenceKind.HOLD, name, "state", 1, None))
        elif packed != expected:
            found += _differing_fields(shard, name, expected, packed)
        if score is None or int(float(score)) != due_ms:
            at_ms = None if score is None else int(float(score))
            found.append(Difference(shard, DifferenceKind.HOLD, name, "due_ms", due_ms, at_ms))
        if found:
            differences += found
            repairs.append(HoldRow(row["org"], row["hold_id"], 0, expected, due_ms))
    return differences, repairs


def _differing_fields(shard: int, name: str, expected: bytes, found: bytes) -> list[Difference]:
    ours, theirs = decode_hold(expected), decode_hold(found)
    pairs = (
        ("state", int(ours.state), int(theirs.state)),
        ("revision", ours.revision, theirs.revision),
        ("held", sum(each.held for each in ours.entries),
         sum(each.held for each in theirs.entries)),
    )  # fmt: skip
    differing = [pair for pair in pairs if pair[1] != pair[2]] or [("content", 0, 1)]
    return [
        Difference(shard, DifferenceKind.HOLD, name, of, ledger, there)
        for of, ledger, there in differing
    ]


async def _position(connection: Connection, shard: int) -> Position:
    row = await connection.fetchrow(
        "SELECT epoch, stream_id, sequence FROM journal_position WHERE shard = $1", shard
    )
    assert row is not None
    return Position(row["epoch"], row["stream_id"], row["sequence"])


def _pairs(reply: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - a flat list or a map, by version
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _is_of(org: str, counter_id: str) -> bool:
    return not org or counter_id.startswith(f"{org}:")


def _busy(shard: int) -> ShardBusy:
    return ShardBusy(
        f"shard {shard} is too busy, or too much of it is not recorded yet; try again",
        shard=str(shard),
    )
