"""Goal: usage is added up exactly, however it is grouped and cut.

Method: entries in PostgreSQL, and the same sums made of them in Python.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from ledger_rows import Entry, instant, ms, opened, store

from bursar.domain.errors import FieldInvalid
from bursar.domain.subject import OrgId, Subject, Target
from bursar.domain.usage_report import Dimension, Interval, TokenClass, UsageQuestion
from bursar.ledger.database import Database
from bursar.ledger.usage_query import UsageRow, query_usage

ACME = Subject(OrgId("acme"))
ANY = Target("", "")
HOUR_MS = 3_600_000
NOW_MS = ms("2026-12-01T00:00")
LEVELS = ("team", "feature", "agent", "user", "task")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


def question(start: str, end: str, *group_by: Dimension, **more: object) -> UsageQuestion:
    asked = UsageQuestion(ACME, ANY, ms(start), ms(end), group_by)
    return replace(asked, **more)  # type: ignore[arg-type]


async def ask(
    database: Database, asked: UsageQuestion, page_size: int = 1_000, now_ms: int = NOW_MS
) -> list[UsageRow]:
    """Return every row, read page by page."""
    rows: list[UsageRow] = []
    token = ""
    while True:
        page = await query_usage(database, 0, asked, page_size, token, now_ms)
        assert len(page.rows) <= page_size
        rows += page.rows
        if not (token := page.next_page_token):
            return rows
        assert len(page.rows) == page_size


def random_entries(chance: random.Random, count: int) -> list[Entry]:
    entries = []
    for sequence in range(count):
        # Often on the edge of an hour or of half of one.
        at_ms = ms("2026-03-05T00:00") + chance.randrange(6 * 48) * (HOUR_MS // 2)
        at_ms += chance.choice([-1, 0, 0, 1, chance.randrange(HOUR_MS)])
        used = chance.random() < 0.8
        tokens = chance.randrange(10**9) if used else 0
        entries.append(
            Entry(
                at_ms,
                sequence,
                verb=chance.choice(["commit", "record", "expire"]) if used else "reserve",
                org=chance.choice(["acme", "acme", "acme", "umbrella"]),
                team=chance.choice(["", "a", "b", "é", "B", "_"]),
                feature=chance.choice(["", "chat"]),
                user=chance.choice(["u1", "u2", "U2"]),
                task=chance.choice(["", "t1"]),
                model=chance.choice(["gpt-5", "GPT-5", "o4"]),
                requests=1 if used else 0,
                input_tokens=tokens,
                output_tokens=tokens // 3,
                cache_read_tokens=tokens // 5,
                reasoning_tokens=tokens // 7,
                cost_nano_usd=(chance.choice([None, tokens * 7]) if used else None),
            )
        )
    return entries


def local_part(at_ms: int, asked: UsageQuestion) -> str:
    """Return the name of the local hour, day or month of an instant, apart from the server's."""
    time = instant(at_ms).astimezone(ZoneInfo(asked.timezone))
    form = {"hour": "%Y-%m-%d %H %z", "day": "%Y-%m-%d", "month": "%Y-%m", "none": ""}
    return time.strftime(form[asked.interval])


def expected(entries: list[Entry], asked: UsageQuestion) -> dict[tuple[str, ...], Counter[str]]:
    sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    assert asked.end_ms is not None
    for each in entries:
        if each.org != "acme" or not asked.start_ms <= each.at_ms < asked.end_ms:
            continue
        if any(getattr(asked.subject, level) not in ("", getattr(each, level)) for level in LEVELS):
            continue
        if asked.target.model.lower() not in ("", each.model.lower()) or each.verb == "reserve":
            continue
        values = {**{level: getattr(each, level) for level in LEVELS}, "model": each.model.lower()}
        key = (local_part(each.at_ms, asked), *(values[name] for name in asked.group_by))
        for name in (*TokenClass, "requests"):
            sums[key][name] += getattr(each, name)
        sums[key]["cost"] += each.cost_nano_usd or 0
        sums[key]["unpriced"] += each.cost_nano_usd is None
    return sums


@pytest.mark.parametrize("seed", range(6))
async def test_sums_are_those_of_the_entries(database: Database, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - tests, not secrets
    entries = random_entries(chance, 1_500)
    await store(database, entries)
    dimensions = [each for each in Dimension if each not in (Dimension.PROVIDER, Dimension.AGENT)]
    for _ in range(12):
        start_ms = ms("2026-03-05T00:00") + chance.choice([0, HOUR_MS // 2, 12_345_678])
        asked = UsageQuestion(
            subject=Subject(OrgId("acme"), user=chance.choice(["", "u1"])),
            target=Target("", chance.choice(["", "Gpt-5"])),
            start_ms=start_ms,
            end_ms=start_ms + chance.choice([HOUR_MS // 3, 24 * HOUR_MS, 130 * HOUR_MS + 999]),
            group_by=tuple(chance.sample(dimensions, chance.randrange(4))),
            interval=chance.choice(list(Interval)),
            timezone=chance.choice(
                ["UTC", "Asia/Kolkata", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"]
            ),
        )
        rows = await ask(database, asked, chance.choice([7, 100, 1_000]))
        found = {
            (local_part(row.start_ms, asked), *_groups(row, asked)): Counter(
                {
                    **row.tokens,
                    "requests": row.requests,
                    "cost": row.cost_nano_usd,
                    "unpriced": row.unpriced,
                }
            )
            for row in rows
        }
        assert len(found) == len(rows)
        assert found == expected(entries, asked), asked
        keys = [(row.start_ms, *(each.encode() for each in _groups(row, asked))) for row in rows]
        assert keys == sorted(keys)


def _groups(row: UsageRow, asked: UsageQuestion) -> list[str]:
    return [
        row.target.model if each is Dimension.MODEL else getattr(row.subject, each)
        for each in asked.group_by
    ]


async def test_a_day_of_india_begins_at_half_past(database: Database) -> None:
    await store(
        database,
        [
            Entry(ms("2026-03-04T18:29:59.999"), 1, input_tokens=1),
            Entry(ms("2026-03-04T18:30:00.000"), 2, input_tokens=10),
            Entry(ms("2026-03-05T12:00:00.000"), 3, input_tokens=100),
            Entry(ms("2026-03-05T18:29:59.999"), 4, input_tokens=1_000),
            Entry(ms("2026-03-05T18:30:00.000"), 5, input_tokens=10_000),
        ],
    )
    start, end = "2026-03-04T00:00+05:30", "2026-03-07T00:00+05:30"
    asked = question(start, end, interval=Interval.DAY, timezone="Asia/Kolkata")
    rows = await ask(database, asked)
    assert [(row.start_ms, row.tokens[TokenClass.INPUT]) for row in rows] == [
        (ms("2026-03-04T00:00+05:30"), 1),
        (ms("2026-03-05T00:00+05:30"), 1_110),
        (ms("2026-03-06T00:00+05:30"), 10_000),
    ]
    # Kept by whole hours of UTC, they cannot be told apart here.
    assert {row.denials for row in rows} == {None}


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08", 23), ("2026-03-09", 24), ("2026-11-01", 25)]
)
async def test_days_of_23_and_25_hours(database: Database, day: str, hours: int) -> None:
    zone = ZoneInfo("America/New_York")
    midnight_ms = int(datetime.fromisoformat(day).replace(tzinfo=zone).timestamp() * 1_000)
    span = range(midnight_ms - HOUR_MS, midnight_ms + 26 * HOUR_MS, HOUR_MS)
    await store(database, [Entry(at_ms, at_ms % 10**6, input_tokens=1) for at_ms in span])
    for interval in (Interval.DAY, Interval.HOUR):
        asked = UsageQuestion(
            ACME, ANY, midnight_ms, midnight_ms + hours * HOUR_MS,
            interval=interval, timezone="America/New_York",
        )  # fmt: skip
        rows = await ask(database, asked)
        assert sum(row.requests or 0 for row in rows) == hours
        assert len(rows) == (1 if interval is Interval.DAY else hours)
        assert rows[0].start_ms == midnight_ms
        assert all(one.end_ms == other.start_ms for one, other in pairwise(rows))
        assert rows[-1].end_ms == midnight_ms + hours * HOUR_MS
    longer = replace(asked, start_ms=span[0], end_ms=span[-1] + 1, interval=Interval.DAY)
    by_day = {row.start_ms: row.requests for row in await ask(database, longer)}
    assert by_day[midnight_ms] == hours


async def test_classes_of_token_are_rows(database: Database) -> None:
    used = Entry(
        ms("2026-03-05T10:00"), 1, team="a", input_tokens=100, output_tokens=50,
        cache_read_tokens=40, cache_write_tokens=30, reasoning_tokens=20,
    )  # fmt: skip
    await store(database, [used, replace(used, sequence=2, team="b")])
    asked = question("2026-03-05", "2026-03-06", Dimension.TEAM, by_token_class=True)
    rows = await ask(database, asked, page_size=3)
    amounts = [
        (TokenClass.INPUT, 100),
        (TokenClass.OUTPUT, 50),
        (TokenClass.CACHE_READ, 40),
        (TokenClass.CACHE_WRITE, 30),
        (TokenClass.REASONING, 20),
    ]
    assert [(row.subject.team, *row.tokens.items()) for row in rows] == [
        (team, amount) for team in ("a", "b") for amount in amounts
    ]
    assert {(row.requests, row.cost_nano_usd, row.unpriced, row.denials) for row in rows} == {
        (None, None, None, None)
    }


async def _deny(database: Database, hour: str, team: str, model: str, count: int) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO denials_hourly VALUES ($1, 'acme', $2, '', '', 'u1', 'openai', $3, 'day', "
            "'spent', $4)",
            instant(ms(hour)), team, model, count,
        )  # fmt: skip


async def test_denials_stand_beside_usage(database: Database) -> None:
    await store(database, [Entry(ms("2026-03-05T10:00"), 1, team="a", model="GPT-5")])
    await _deny(database, "2026-03-05T10:00", "a", "gpt-5", 3)
    await _deny(database, "2026-03-05T11:00", "a", "gpt-5", 4)
    await _deny(database, "2026-03-05T11:00", "b", "o4", 5)
    await _deny(database, "2026-03-06T00:00", "a", "gpt-5", 9)
    asked = question("2026-03-05", "2026-03-06", Dimension.TEAM, Dimension.MODEL)
    rows = await ask(database, asked)
    assert [(row.subject.team, row.target.model, row.requests, row.denials) for row in rows] == [
        ("a", "gpt-5", 1, 7),
        ("b", "o4", 0, 5),
    ]
    by_task = await ask(database, replace(asked, group_by=(Dimension.TASK,)))
    assert [row.denials for row in by_task] == [None]
    of_task = await ask(database, replace(asked, subject=replace(ACME, task="t")))
    assert of_task == []
    cut = await ask(database, replace(asked, start_ms=asked.start_ms + 1))
    assert [row.denials for row in cut] == [None]


async def test_a_sum_beyond_int64_is_an_error(database: Database) -> None:
    most = 2**63 - 1
    async with database.connection() as connection:
        for team, cost in (("a", most), ("b", 1)):
            await connection.execute(
                "INSERT INTO usage_hourly VALUES ($1, 'acme', $2, '', '', '', '', '', '', 1, 0, 0, "
                "0, 0, 0, 0, 0, $3, 0)",
                instant(ms("2026-03-05")), team, cost,
            )  # fmt: skip
    asked = question("2026-03-05", "2026-03-06", Dimension.TEAM)
    assert [row.cost_nano_usd for row in await ask(database, asked)] == [most, 1]
    with pytest.raises(FieldInvalid, match=f"cost_nano_usd is {most + 1}, more than") as caught:
        await ask(database, replace(asked, group_by=()))
    assert caught.value.faults[0].path == "group_by"


@pytest.mark.parametrize("count", [99, 100, 101])
async def test_a_page_is_as_long_as_it_may_be(database: Database, count: int) -> None:
    at_ms = ms("2026-03-05")
    await store(database, [Entry(at_ms, each, user=f"u{each:04}") for each in range(count)])
    asked = question("2026-03-05", "2026-03-06", Dimension.USER)
    first = await query_usage(database, 0, asked, 0, "", NOW_MS)
    assert len(first.rows) == min(count, 100)
    assert bool(first.next_page_token) == (count > 100)


async def test_a_page_is_never_longer_than_a_thousand(database: Database) -> None:
    at_ms = ms("2026-03-05")
    await store(database, [Entry(at_ms, each, user=f"u{each:04}") for each in range(1_001)])
    asked = question("2026-03-05", "2026-03-06", Dimension.USER)
    first = await query_usage(database, 0, asked, 5_000, "", NOW_MS)
    assert len(first.rows) == 1_000
    second = await query_usage(database, 0, asked, 5_000, first.next_page_token, NOW_MS)
    assert [row.subject.user for row in second.rows] == ["u1000"]


async def test_a_token_belongs_to_its_question(database: Database) -> None:
    at_ms = ms("2026-03-05")
    await store(database, [Entry(at_ms, each, user=f"u{each}") for each in range(3)])
    asked = question("2026-03-05", "2026-03-06", Dimension.USER)
    token = (await query_usage(database, 0, asked, 1, "", NOW_MS)).next_page_token
    for other in (
        replace(asked, group_by=(Dimension.TEAM,)),
        replace(asked, start_ms=asked.start_ms + 1),
        replace(asked, interval=Interval.DAY),
        replace(asked, subject=Subject(OrgId("umbrella"))),
    ):
        with pytest.raises(FieldInvalid, match="page_token: is not from a page before"):
            await query_usage(database, 0, other, 1, token, NOW_MS)
    for foreign in ("x", "AAAA", token[:-8], token + "AAAA", "W10=", "W1tbW1tb", "ééé"):
        with pytest.raises(FieldInvalid, match="page_token: is not from a page before"):
            await query_usage(database, 0, asked, 1, foreign, NOW_MS)


async def test_without_an_end_it_is_that_of_the_hour(database: Database) -> None:
    await store(
        database,
        [
            Entry(ms("2026-03-05T10:59:59.999"), 1, user="a"),
            Entry(ms("2026-03-05T10:30"), 2, user="b"),
            Entry(ms("2026-03-05T11:00"), 3, user="c"),
        ],
    )
    asked = replace(question("2026-03-05", "2026-03-06", Dimension.USER), end_ms=None)
    first = await query_usage(database, 0, asked, 1, "", ms("2026-03-05T10:40"))
    assert [row.subject.user for row in first.rows] == ["a"]
    assert first.rows[0].end_ms == ms("2026-03-05T11:00")
    assert first.rows[0].denials == 0
    # The next page is of the same time, although the hour has turned.
    token = first.next_page_token
    second = await query_usage(database, 0, asked, 5, token, ms("2026-03-05T11:20"))
    assert [(row.subject.user, row.end_ms) for row in second.rows] == [
        ("b", ms("2026-03-05T11:00"))
    ]


@pytest.mark.parametrize(
    ("interval", "days"),
    [(Interval.NONE, 3_700), (Interval.HOUR, 32), (Interval.DAY, 400), (Interval.MONTH, 3_700)],
)
async def test_time_has_a_bound(database: Database, interval: Interval, days: int) -> None:
    start_ms = ms("2026-03-05")
    asked = UsageQuestion(
        ACME, ANY, start_ms, start_ms + days * 24 * HOUR_MS,
        interval=interval, timezone="Asia/Kolkata",
    )  # fmt: skip
    assert asked.end_ms is not None
    assert await ask(database, asked) == []
    with pytest.raises(FieldInvalid, match=f"end_time: must be at most {days} days"):
        await ask(database, replace(asked, end_ms=asked.end_ms + 1))
    for end_ms in (start_ms, start_ms - 1):
        with pytest.raises(FieldInvalid, match="end_time: must be after start_time"):
            await ask(database, replace(asked, end_ms=end_ms))


async def test_it_says_how_fresh_it_is(database: Database) -> None:
    asked = question("2026-03-05", "2026-03-06")
    assert (await query_usage(database, 3, asked, 0, "", NOW_MS)).recorded_at_ms is None
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO journal_position (shard, epoch, recorded_at) VALUES (3, 'e', $1)",
            instant(ms("2026-03-05T01:02:03.004")),
        )
    page = await query_usage(database, 3, asked, 0, "", NOW_MS)
    assert page.recorded_at_ms == ms("2026-03-05T01:02:03.004")
