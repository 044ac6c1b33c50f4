"""Goal: every denial is counted once, in memory and in a ledger that stay within their bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from ledger_rows import instant, ms, opened

from bursar.authority.denials import DenialTally
from bursar.domain.answer import (
    CounterOffer,
    Decision,
    Denial,
    DenialKind,
    ReserveAnswer,
)
from bursar.domain.budget import CounterStatus, CounterValues
from bursar.domain.errors import BursarError, LedgerUnavailable, ShardCold
from bursar.domain.meter import Estimate
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target
from bursar.ledger.database import Database
from bursar.ledger.denials import DenialKey

HOUR_MS = 3_600_000
AT_MS = ms("2026-03-05T10:20")
POLICY = compile_policy(
    parse_policy("org: acme\nbudgets: [{name: day, limit: {tokens: 1}, window: day}]", "policy")
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


def request(user: str = "u1", model: str = "GPT-5", **more: object) -> ReserveRequest:
    subject = Subject(OrgId("acme"), "t", "f", "a", user, "k")
    return ReserveRequest("r", subject, Target("", model), Estimate(), 1_000, **more)  # type: ignore[arg-type]


def denied(kind: DenialKind = DenialKind.SPENT, model: str = "GPT-5") -> ReserveAnswer:
    subject = Subject(OrgId("acme"))
    [counter] = POLICY.counters(subject, Target("", "m"), AT_MS)
    binding = CounterStatus(counter, CounterValues(1, 0), 1)
    offer = CounterOffer(Target("OpenAI", model), 0, "day", kind, None)
    denial = Denial(kind, binding, 0, None, None, (offer,), "why")
    return ReserveAnswer(Decision.DENIED, "v", denial=denial)


def key(user: str = "u1", model: str = "gpt-5", **more: object) -> DenialKey:
    made = DenialKey(
        ms("2026-03-05T10:00"), "acme", "t", "f", "a", user, "openai", model, "day", "spent"
    )
    return made._replace(**more)  # type: ignore[arg-type]


async def kept(database: Database) -> Counter[DenialKey]:
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM denials_hourly")
    return Counter(
        {
            DenialKey(
                (each["hour"] - instant(0)).days * 24 * HOUR_MS
                + (each["hour"] - instant(0)).seconds * 1_000,
                *list(each.values())[1:-1],
            ): each["denials"]
            for each in rows
        }
    )


def test_only_what_is_meant_and_denied_is_counted() -> None:
    tally = DenialTally()
    answers: list[ReserveAnswer | BursarError] = [
        denied(),
        denied(),
        denied(DenialKind.HELD),
        ReserveAnswer(Decision.GRANTED, "v"),
        ShardCold("cold"),
        denied(),
    ]
    requests = [request()] * 5 + [request(validate_only=True)]
    tally.add(requests, answers, AT_MS)
    assert tally.pending() == {key(): 2, key(kind="held"): 1}


def test_a_denial_without_a_counter_is_counted_by_its_kind() -> None:
    denial = Denial(DenialKind.UNPRICED, None, 0, None, None, (), "no price")
    answer = ReserveAnswer(Decision.DENIED, "v", denial=denial)
    tally = DenialTally()
    tally.add([request()], [answer], AT_MS)
    assert tally.pending() == {key(provider="", budget="", kind="unpriced"): 1}


def test_too_many_keys_are_counted_more_coarsely_and_none_is_lost() -> None:
    tally = DenialTally(keys_max=3)
    for user in range(10):
        tally.add([request(f"u{user}")] * 2, [denied()] * 2, AT_MS)
    coarse = key(user="", model="")
    assert tally.pending() == {key("u0"): 2, key("u1"): 2, key("u2"): 2, coarse: 14}
    for team in range(10):
        subject = Subject(OrgId("acme"), f"t{team}", "f", "a", "u1")
        made_up = ReserveRequest("r", subject, Target("", "m"), Estimate(), 1_000)
        tally.add([made_up], [denied()], AT_MS)
    pending = tally.pending()
    assert pending[coarse._replace(team="", feature="", agent="", provider="")] == 8
    assert sum(pending.values()) == 30
    assert len(pending) == 3 + 3 + 1


async def test_flushes_add_up(database: Database) -> None:
    one, other = DenialTally(), DenialTally()
    for tally in (one, other, one):
        tally.add([request(), request("u2")], [denied(), denied()], AT_MS)
        await asyncio.gather(one.flush(database), other.flush(database))
        assert tally.pending() == {}
    assert await kept(database) == {key(): 3, key("u2"): 3}


async def test_the_bound_is_that_of_an_hour_not_of_a_flush(database: Database) -> None:
    tally = DenialTally(keys_max=2)
    for user in range(6):
        tally.add([request(f"u{user}")], [denied()], AT_MS)
        await tally.flush(database)
    assert await kept(database) == {key("u0"): 1, key("u1"): 1, key(user="", model=""): 4}
    tally.add([request("u9")], [denied()], AT_MS + HOUR_MS)
    assert tally.pending() == {key("u9", hour_ms=ms("2026-03-05T11:00")): 1}


async def test_what_cannot_be_written_is_kept_within_the_bound(database: Database) -> None:
    tally = DenialTally(keys_max=2)
    away = Database(database.url)
    for hour in range(5):
        for user in range(4):
            tally.add([request(f"u{user}")], [denied()], AT_MS + hour * HOUR_MS)
        with pytest.raises(LedgerUnavailable):
            await tally.flush(away)
    pending = tally.pending()
    assert sum(pending.values()) == 20
    # Two of each fineness, and those that only org, budget, kind and hour tell apart.
    assert len(pending) <= 2 + 2 + 5
    await tally.flush(database)
    assert await kept(database) == pending


async def test_many_keys_are_written_in_parts(database: Database) -> None:
    tally = DenialTally()
    for user in range(10_001):
        tally.add([request(f"u{user}")], [denied()], AT_MS)
    await tally.flush(database)
    written = await kept(database)
    assert len(written) == 10_001
    assert written.total() == 10_001
    assert written[key(user="", model="")] == 1
