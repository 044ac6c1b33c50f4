"""The journal: everything that a ledger needs, in order, in the same step as what it tells of.

`engine_books` adds the journal up without looking at anything else. Here it is shown that nothing
is missing from it, and that the sums would not agree if anything were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from engine_books import assert_books_balance, read_books
from engine_calls import (
    MODELS,
    TTL_MS,
    ask,
    carry_out,
    commit,
    extend,
    granted,
    record,
    refused,
    release,
    seeded,
    used,
)
from engine_state import Entry, everything, journal, kept_hold, unpack
from engine_world import MINUTE, NOON_MS, SECOND, HandClock, World, open_world

from bursar.domain.answer import Decision, ReserveAnswer
from bursar.domain.errors import BursarError, InternalError, JournalFull
from bursar.domain.request import Operation, Outcome, ReserveRequest
from bursar.engine.journal import Journal
from bursar.engine.shards import EngineLimits

POLICY = f"""
org: acme
meters: [bytes]
budgets:
  - {{name: day, limit: {{tokens: 60000}}, window: day}}
  - {{name: money, limit: {{usd: 1}}, window: minute}}
  - {{name: users, per: [user], limit: {{tokens: 20000}}, window: {{rolling: 10m}}}}
  - {{name: tasks, per: [task], limit: {{tokens: 9000}}, window: {{task: 3m}}}}
  - {{name: charged, scope: {{team: red}}, limit: {{usd: 2}}, window: hour, on_expiry: charge}}
  - {{name: at-once, per: [user], limit: {{concurrency: 8}}}}
  - {{name: bytes, limit: {{bytes: 5000}}, window: {{rolling: 7m}}, on_expiry: charge}}
  - {{name: q, scope: {{provider: q}}, limit: {{tokens: 20000}}, window: {{rolling: 5m}}}}
  - {{name: q-tasks, scope: {{provider: q}}, per: [task], limit: {{tokens: 9000}}, window: task}}
  - {{name: by-model, per: [model, team], limit: {{requests: 1000}}, window: day}}
  - {{name: watched, limit: {{tokens: 10}}, window: day, mode: observe}}
{MODELS}
"""


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    async with open_world(redis_url, key_namespace, POLICY) as world:
        yield world


async def sequence(world: World) -> int:
    return int(await world.redis.hget(world.keys.meta(0), "seq") or 0)


async def entries(world: World) -> list[Entry]:
    return await journal(world.redis, world.keys, 0)


async def test_each_writing_call_is_one_entry(world: World) -> None:
    """Goal: every call that changes something appends one entry and raises the sequence by one.

    Method: each verb in turn; the entry has the shard's epoch, the new sequence number, the time
    of the call and its event.
    """
    one = await granted(world.authority, ask("one", input_tokens=9))
    two = await granted(world.authority, ask("two", input_tokens=9))
    await granted(world.authority, ask("leak", input_tokens=9, ttl_ms=SECOND))
    for number, (kind, operation) in enumerate(
        [
            ("reserve", ask("new", input_tokens=9)),
            ("commit_partial", commit(one, part=1, input_tokens=1)),
            ("extend", extend(one, ttl_ms=TTL_MS)),
            ("extend", extend(one, max_output_tokens=9)),
            ("commit", commit(one, input_tokens=1)),
            ("release", release(two)),
            ("record", record("used", input_tokens=1)),
            ("expire", None),
        ],
        start=1,
    ):
        world.clock.at_ms = NOON_MS + 1_000 * number
        if operation is None:
            assert (await world.authority.sweep(10)).expired == 1
        else:
            await carry_out(world.authority, operation)
        found = await entries(world)
        assert len(found) == 3 + number
        last = found[-1]
        assert [event[0].decode() for event in last.events] == [kind]
        assert (last.epoch, last.sequence) == (b"first", 3 + number)
        assert last.time_ms == world.clock.at_ms
        assert await sequence(world) == 3 + number


async def test_what_changes_nothing_is_not_journaled(world: World) -> None:
    """Goal: repetitions, refusals, denials and looks leave the journal as it is.

    Method: one of each. They raise the sequence number all the same, so that each call's order
    among the others is known; reading and sweeping nothing raises none.
    """
    one = await granted(world.authority, ask("one", input_tokens=9))
    await world.authority.settle(commit(one, input_tokens=1))
    assert len(await entries(world)) == 2
    before = await sequence(world)
    calls = [
        ask("one", input_tokens=9),
        ask("much", input_tokens=90_000),
        commit(one, input_tokens=1),
    ]
    for operation in calls:
        await carry_out(world.authority, operation)
    for operation in (release(one), commit(one, input_tokens=2), ask("one", input_tokens=8)):
        with pytest.raises(BursarError):
            await carry_out(world.authority, operation)
    assert await sequence(world) == before + 6
    await world.authority.sweep(10)
    await used(world.authority, "day")
    assert await sequence(world) == before + 6
    assert len(await entries(world)) == 2


async def test_a_batch_is_one_entry(world: World) -> None:
    """Goal: what one call does is one entry, with its events in order.

    Method: a batch of five reserves, of which one is denied and one repeated.
    """
    asked = [ask(name, input_tokens=tokens) for name, tokens in
             (("a", 9), ("b", 9), ("much", 90_000), ("a", 9), ("c", 9))]  # fmt: skip
    answers = await world.authority.batch(asked)
    ids = [
        each.reservation_id.partition(".")[2] for each in answers if isinstance(each, ReserveAnswer)
    ]
    [entry] = await entries(world)
    assert [event[0] for event in entry.events] == [b"reserve"] * 3
    told = [event[1].decode().rpartition(":")[2] for event in entry.events]
    assert told == [ids[0], ids[1], ids[4]]


@pytest.mark.parametrize("seed", range(4))
async def test_the_journal_accounts_for_everything(
    redis_url: str, key_namespace: str, seed: int
) -> None:
    """Goal: committed and held of every counter, and every hold, follow from the journal alone.

    Method: 400 random calls of every kind by three servers on two orgs, with windows that roll,
    tasks that begin anew, models that change between parts, and clocks that are not quite equal;
    the books are compared with Redis every 50 calls.
    """
    documents = POLICY, POLICY.replace("org: acme", "org: umbrella")
    async with open_world(redis_url, key_namespace, *documents, shards=2) as world:
        for offset_ms in (-900, 900):
            await world.server(clock=OffsetClock(world.clock, offset_ms))
        run = RandomRun(world, seed)
        for number in range(400):
            await run.step(number)
            if number % 50 == 49:
                await assert_books_balance(world.redis, world.keys)
        books = await assert_books_balance(world.redis, world.keys)
        kinds = Counter(kind for kind, _ in books.events)
        assert set(kinds) == {"reserve", "commit", "commit_partial", "release", "extend", "record",
                              "expire"}  # fmt: skip
        assert min(kinds.values()) >= 3, kinds
        assert run.denials >= 3


class OffsetClock:
    """A clock that is ahead of another, or behind it."""

    def __init__(self, clock: HandClock, offset_ms: int) -> None:
        self._clock, self._offset_ms = clock, offset_ms

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._offset_ms


class RandomRun:
    """Calls as they come."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.dice = world, seeded(seed)
        self.holds: list[tuple[str, int]] = []
        self.denials = 0

    async def step(self, number: int) -> None:
        """Make one call, or let holds expire."""
        dice = self.dice
        self.world.clock.at_ms += dice.choice((0, 0, 1, 500, 7_000, 20_000, 50_000))
        verb = dice.choices(
            ("reserve", "commit", "part", "release", "extend", "record", "sweep", "batch"),
            weights=(10, 4, 5, 2, 4, 2, 2, 2),
        )[0]
        try:
            await self._call(verb, number)
        except InternalError:
            raise
        except BursarError:
            pass  # Out of order, over or expired: that is part of it.

    async def _call(self, verb: str, number: int) -> None:
        dice, authority = self.dice, self.dice.choice(self.world.servers).authority
        if verb == "sweep":
            await authority.sweep(dice.choice((1, 100)))
        elif verb == "reserve":
            self._keep(await authority.reserve(self._ask(f"r{number}")))
        elif verb == "batch":
            asked = [self._ask(f"r{number}-{n}") for n in range(3)]
            parts = [self._settle("part", at) for at in range(min(2, len(self.holds)))]
            for answer in await authority.batch([*asked, *parts, *parts[:1], *asked[:1]]):
                if isinstance(answer, ReserveAnswer) and not answer.replayed:
                    self._keep(answer)
        elif verb == "record":
            who = self._who()
            await authority.record(
                record(f"r{number}", model=dice.choice(("m", "other")), **who,
                       input_tokens=dice.randint(0, 300), meters={"bytes": dice.randint(0, 30)})
            )  # fmt: skip
        elif self.holds:
            await carry_out(authority, self._settle(verb, dice.randrange(len(self.holds))))

    def _who(self) -> dict[str, str]:
        dice = self.dice
        return {
            "org": dice.choice(("acme", "umbrella")),
            "team": dice.choice(("red", "blue")),
            "user": dice.choice(("u1", "u2")),
            "task": dice.choice(("t1", "t2", "t3")),
        }

    def _ask(self, request_id: str) -> ReserveRequest:
        dice = self.dice
        return ask(
            request_id,
            **self._who(),
            model=dice.choice(("m", "m", "other")),
            input_tokens=dice.randint(0, 900),
            max_output_tokens=dice.randint(1, 900),
            min_output_tokens=1,
            meters={"bytes": dice.randint(0, 60)},
            ttl_ms=dice.choice((5 * SECOND, MINUTE, 5 * MINUTE)),
        )

    def _keep(self, answer: ReserveAnswer) -> None:
        if answer.decision is Decision.DENIED:
            self.denials += 1
        else:
            self.holds.append((answer.reservation_id, 0))

    def _settle(self, verb: str, at: int) -> Operation:
        dice = self.dice
        name, parts = self.holds[at]
        model = dice.choice(("m", "m", "other", "nobody-knows-this-model"))
        usage = {
            "input_tokens": dice.randint(0, 600),
            "output_tokens": dice.randint(0, 600),
            "meters": {"bytes": dice.randint(0, 50)},
        }
        match verb:
            case "part":
                self.holds[at] = name, parts + 1
                return commit(name, part=parts + 1, model=model, **usage)
            case "commit":
                return commit(name, model=model, **usage)
            case "release":
                return release(name)
            case _:
                given = ({"ttl_ms": MINUTE}, {"max_output_tokens": dice.randint(1, 900)})
                return extend(name, **dice.choice(given))


@pytest.mark.parametrize(
    "kind", ["reserve", "commit", "commit_partial", "release", "extend", "record", "expire"]
)
async def test_the_books_see_a_missing_event(world: World, kind: str) -> None:
    """Goal: the comparison with the books can fail.

    Method: one of each event; the entry of one kind is taken out of the journal.
    """
    world.lossy = True
    one = await granted(world.authority, ask("one", user="u", input_tokens=99))
    two = await granted(world.authority, ask("two", user="u", input_tokens=99))
    await granted(world.authority, ask("leak", user="u", input_tokens=99, ttl_ms=SECOND))
    await world.authority.settle(commit(one, part=1, input_tokens=5))
    await world.authority.extend(extend(one, max_output_tokens=20))
    await world.authority.settle(commit(two, input_tokens=5))
    three = await granted(world.authority, ask("three", user="u", input_tokens=99))
    await world.authority.settle(release(three))
    await world.authority.record(record("used", user="u", input_tokens=5))
    world.clock.at_ms += SECOND
    await world.authority.sweep(10)
    await assert_books_balance(world.redis, world.keys)
    stream = world.keys.shard_keys(0)[2]
    found = await world.redis.xrange(stream)
    ids = [at for at, fields in found if unpack(fields[b"d"])[0].decode() == kind]
    await world.redis.xdel(stream, ids[-1])
    with pytest.raises((AssertionError, KeyError)):
        await assert_books_balance(world.redis, world.keys)


async def test_an_event_says_who_used_what(world: World) -> None:
    """Goal: the ledger can tell usage by subject, target, token class and outcome.

    Method: a commit and a record with every class of tokens; what their events keep.
    """
    hold = await granted(world.authority, ask("one", user="u", team="red", input_tokens=99))
    await world.authority.settle(
        commit(hold, model="other", input_tokens=7, output_tokens=3, meters={"bytes": 4},
               outcome=Outcome.FAILED, estimated=True)
    )  # fmt: skip
    await world.authority.record(record("used", user="u2", input_tokens=5, output_tokens=2))
    events = [event for entry in await entries(world) for event in entry.events]
    payload = unpack(kept_hold(events[0][2]).payload)
    assert payload[1:3] == [b"one", [b"red", b"", b"", b"u", b""]]
    target, outcome, estimated, *tokens, meters = unpack(events[1][4])
    assert (target, outcome, estimated) == (b"q\x1fother", b"failed", True)
    assert tokens == [7, 3, 0, 0, 0, 0, 0]
    assert meters == {b"bytes": 4}
    assert unpack(kept_hold(events[2][2]).payload)[1] == b"used"
    assert unpack(events[2][4])[:5] == [b"p\x1fm", b"succeeded", False, 5, 2]


async def test_a_full_journal_grants_nothing_new(redis_url: str, key_namespace: str) -> None:
    """Goal: the journal never has more to record than about as much as is set, and loses nothing.

    Method: at the bound nothing new is granted, alone or in a batch, and nothing is booked; what
    was granted is found again, extended and settled, usage is recorded and holds expire. All of it
    is in the journal. When it is trimmed, reserving goes on.
    """
    limits = EngineLimits(journal_entries_max=20)
    async with open_world(redis_url, key_namespace, POLICY, limits=limits) as world:
        world.lossy = True
        holds = [
            await granted(world.authority, ask(f"r{number}", input_tokens=9, ttl_ms=MINUTE))
            for number in range(20)
        ]
        before = await everything(world.redis, world.keys)
        error = await refused(world.authority, ask("more", input_tokens=9))
        assert isinstance(error, JournalFull)
        assert error.retry_after_ms is not None
        answers = await world.authority.batch([ask(name, input_tokens=9) for name in ("r0", "s")])
        assert isinstance(answers[0], ReserveAnswer)
        assert answers[0].replayed
        assert isinstance(answers[1], JournalFull)
        assert await everything(world.redis, world.keys) == before
        await world.authority.settle(commit(holds[0], input_tokens=5))
        await world.authority.settle(release(holds[1]))
        await world.authority.extend(extend(holds[2], ttl_ms=3 * MINUTE))
        await world.authority.record(record("used", input_tokens=5))
        world.clock.at_ms += 2 * MINUTE
        assert (await world.authority.sweep(100)).expired == 17
        kinds = Counter(kind for kind, _ in (await read_books(world.redis, world.keys)).events)
        assert kinds == {"reserve": 20, "commit": 1, "release": 1, "extend": 1, "record": 1,
                         "expire": 17}  # fmt: skip
        await assert_books_balance(world.redis, world.keys)
        assert isinstance(await refused(world.authority, ask("more", input_tokens=9)), JournalFull)
        await trimmed_but(world, 19)
        await granted(world.authority, ask("more", input_tokens=9))


async def trimmed_but(world: World, left: int) -> None:
    """Drop a journal's oldest entries, as what has recorded them does."""
    found = await world.redis.xrange(world.keys.journal(0))
    recorded = found[-left - 1][0].decode()
    assert await Journal(world.servers[0].store, world.keys).trim(0, "first", recorded)
    assert await world.redis.xlen(world.keys.journal(0)) == left


async def test_only_what_is_recorded_is_dropped(world: World) -> None:
    """Goal: no entry is dropped before it is recorded, whatever generation is there.

    Method: many entries; trimming to one leaves exactly those after it, and says up to where; one
    who records another generation drops nothing.
    """
    world.lossy = True
    for number in range(300):
        await world.authority.record(record(f"r{number}", input_tokens=1))
    assert [entry.sequence for entry in await entries(world)] == list(range(1, 301))
    ids = [at.decode() for at, _ in await world.redis.xrange(world.keys.journal(0))]
    journal_of = Journal(world.servers[0].store, world.keys)
    assert not await journal_of.trim(0, "other", ids[99])
    assert len(await entries(world)) == 300
    assert await journal_of.trim(0, "first", ids[99])
    assert [entry.sequence for entry in await entries(world)] == list(range(101, 301))
    assert await world.redis.hget(world.keys.meta(0), "trimmed") == ids[99].encode()
