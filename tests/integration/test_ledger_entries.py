"""Goal: entries are listed whole, in order, each once, whatever pages they come in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from ledger_rows import Entry, instant, ms, opened, store

from bursar.domain.errors import FieldInvalid
from bursar.domain.subject import OrgId, Subject
from bursar.ledger.database import Database
from bursar.ledger.entry_query import EntryQuestion, LedgerEntry, Verb, list_entries

ACME = Subject(OrgId("acme"))
ALL = EntryQuestion(ACME)
AT_MS = ms("2026-03-31T23:59:59.990")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


async def ask(
    database: Database, asked: EntryQuestion, page_size: int = 1_000
) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    token = ""
    while True:
        page = await list_entries(database, 0, asked, page_size, token)
        entries += page.entries
        if not (token := page.next_page_token):
            return entries
        assert len(page.entries) == page_size


def place(entry: LedgerEntry) -> tuple[int, int, str, int, int]:
    return entry.at_ms, entry.shard, entry.epoch, entry.sequence, entry.ordinal


@pytest.mark.parametrize("page_size", [1, 2, 7, 1_000])
async def test_each_entry_comes_once_and_in_order(database: Database, page_size: int) -> None:
    # Over the end of a month, several in one millisecond, of two epochs.
    stored = [
        Entry(AT_MS + sequence // 3 * 4, sequence, epoch=epoch, ordinal=ordinal)
        for epoch in ("é", "a", "B")
        for sequence in range(12)
        for ordinal in range(2)
    ]
    await store(database, [*stored, Entry(AT_MS, 1, org="umbrella")])
    wanted = sorted(
        [(each.at_ms, 0, each.epoch, each.sequence, each.ordinal) for each in stored],
        key=lambda key: (key[0], key[1], key[2].encode(), *key[3:]),
    )
    oldest_first = await ask(database, replace(ALL, newest_first=False), page_size)
    assert list(map(place, oldest_first)) == wanted
    assert list(map(place, await ask(database, ALL, page_size))) == wanted[::-1]


async def test_pages_hold_while_entries_are_added(database: Database) -> None:
    await store(database, [Entry(AT_MS + each, each) for each in range(5)])
    first = await list_entries(database, 0, ALL, 2, "")
    await store(database, [Entry(AT_MS + 50, 50)])
    second = await list_entries(database, 0, ALL, 5, first.next_page_token)
    assert [each.sequence for each in (*first.entries, *second.entries)] == [4, 3, 2, 1, 0]


async def test_everything_that_was_booked_is_shown(database: Database) -> None:
    await store(
        database,
        [
            Entry(
                AT_MS, 7, "commit", team="t", feature="f", agent="a", user="u", task="k",
                labels={"tier": "free"}, requests=1, input_tokens=2, output_tokens=3,
                cache_read_tokens=1, reasoning_tokens=2, cost_nano_usd=12, late=True,
                estimated=True, outcome="failed", custom_meters={"pages": 2**53 - 1},
                detail="why", ordinal=1,
                counter_ids=["acme:day:total_tokens:user=u%3A1:day-Asia.Kolkata@1700000000000"],
                slots=[0], held=[-9], committed=[5], credit=[0],
            ),
            Entry(AT_MS + 1, 8, "reserve", requests=0, cost_nano_usd=None, outcome=""),
        ],
    )  # fmt: skip
    reserve, commit = await ask(database, ALL)
    assert (reserve.usage, reserve.cost_nano_usd, reserve.verb) == (None, None, Verb.RESERVE)
    assert commit.subject == Subject(OrgId("acme"), "t", "f", "a", "u", "k", {"tier": "free"})
    assert commit.usage is not None and commit.usage.custom_meters == {"pages": 2**53 - 1}
    assert (commit.usage.input_tokens, commit.usage.reasoning_tokens) == (2, 2)
    assert (commit.cost_nano_usd, commit.late, commit.estimated) == (12, True, True)
    assert (commit.outcome, commit.detail, commit.policy_version) == ("failed", "why", "v1")
    [change] = commit.changes
    assert (change.counter.budget, change.counter.partition) == ("day", (("user", "u:1"),))
    assert (change.held, change.committed, change.credit) == (-9, 5, 0)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (EntryQuestion(replace(ACME, user="u1")), [1, 0]),
        (EntryQuestion(replace(ACME, user="u1", team="b")), [1]),
        (EntryQuestion(replace(ACME, labels={"tier": "free"})), [2, 0]),
        (EntryQuestion(replace(ACME, labels={"tier": "free", "x": "y"})), [2]),
        (EntryQuestion(ACME, reservation_id="acme:2"), [2]),
        (EntryQuestion(ACME, request_id="q1"), [1]),
        (EntryQuestion(ACME, verbs=(Verb.RELEASE, Verb.COMMIT)), [1, 0]),
        (EntryQuestion(ACME, start_ms=AT_MS + 1), [2, 1]),
        (EntryQuestion(ACME, end_ms=AT_MS + 1), [0]),
        (EntryQuestion(ACME, start_ms=AT_MS, end_ms=AT_MS + 2), [1, 0]),
        (EntryQuestion(replace(ACME, user="'; DROP TABLE ledger_entries; --")), []),
        (EntryQuestion(Subject(OrgId("umbrella"))), []),
    ],
)
async def test_filters(database: Database, asked: EntryQuestion, found: list[int]) -> None:
    await store(
        database,
        [
            Entry(AT_MS, 0, user="u1", labels={"tier": "free"}, request_id="q0"),
            Entry(AT_MS + 1, 1, "release", user="u1", team="b", request_id="q1"),
            Entry(
                AT_MS + 2, 2, "expire", reservation_id="acme:2", labels={"tier": "free", "x": "y"}
            ),
        ],
    )
    assert [each.sequence for each in await ask(database, asked, 1)] == found


async def test_a_token_belongs_to_its_question(database: Database) -> None:
    await store(database, [Entry(AT_MS + each, each) for each in range(3)])
    token = (await list_entries(database, 0, ALL, 1, "")).next_page_token
    for other in (
        replace(ALL, newest_first=False),
        replace(ALL, verbs=(Verb.COMMIT,)),
        replace(ALL, subject=Subject(OrgId("umbrella"))),
    ):
        with pytest.raises(FieldInvalid, match="page_token: is not from a page before"):
            await list_entries(database, 0, other, 1, token)


@pytest.mark.parametrize(("page_size", "length"), [(0, 50), (1_000, 1_000), (5_000, 1_000)])
async def test_a_page_has_a_bound(database: Database, page_size: int, length: int) -> None:
    await store(database, [Entry(AT_MS, each) for each in range(1_001)])
    page = await list_entries(database, 0, ALL, page_size, "")
    assert len(page.entries) == length
    assert page.next_page_token


async def test_a_deep_page_costs_no_more_than_the_first(
    database: Database, database_url: str
) -> None:
    start_ms = ms("2026-03-01")
    await store(database, [Entry(start_ms + each * 60_000, each) for each in range(20_000)])
    async with database.connection() as connection:
        await connection.execute("ANALYZE ledger_entries")
    asked = replace(ALL, newest_first=False)
    token = ""
    for _ in range(15):
        token = (await list_entries(database, 0, asked, 1_000, token)).next_page_token
    # What a connection read is known once it says so itself.
    alone = Database(database_url, connections_max=1)
    await alone.open()
    try:
        before = await _rows_read(alone)
        page = await list_entries(alone, 0, asked, 100, token)
        assert page.entries[0].sequence == 15_000
        assert 100 < await _rows_read(alone) - before < 1_000
    finally:
        await alone.close()


async def _rows_read(database: Database) -> int:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return int(
            await connection.fetchval(
                "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables "
                "WHERE relname LIKE 'ledger_entries%'"
            )
        )


async def test_it_says_how_fresh_it_is(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO journal_position (shard, epoch, recorded_at) VALUES (0, 'e', $1)",
            instant(AT_MS),
        )
    assert (await list_entries(database, 0, ALL, 1, "")).recorded_at_ms == AT_MS
    assert (await list_entries(database, 1, ALL, 1, "")).recorded_at_ms is None
