"""T31: a rolling window against a plain list of what was booked and when.

Goal: it never counts less than what was really booked within its length, and more by one bucket at
the most. Method: hypothesis makes up bookings, most of them at the edges of buckets, and looks; the
engine on a real Redis is compared with a list. Each example has a user, and so a counter, of its
own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest
from engine_calls import TTL_MS, ask, commit, record, release, used
from engine_world import NOON_MS, World, open_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar.domain.answer import Decision, DenialKind
from bursar.domain.window import Window, WindowKind, parse_duration_ms

LIMIT = 1_000

# The first four are whole numbers of buckets, as every multiple of 60 ms is; the others are not.
LENGTHS = ("60ms", "1m", "1h", "7d", "61ms", "997ms")


def bucket_ms(length: str) -> int:
    return Window(WindowKind.ROLLING, length_ms=parse_duration_ms(length)).bucket_ms


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(runner: asyncio.Runner, redis_url: str) -> Iterator[World]:
    budgets = "\n".join(
        f"  - {{name: last-{length}, scope: {{team: t{length}}}, per: [user], "
        f"limit: {{tokens: {LIMIT}}}, window: {{rolling: {length}}}}}"
        for length in LENGTHS
    )
    opened = open_world(redis_url, "r" + secrets.token_hex(4), f"org: acme\nbudgets:\n{budgets}")
    world = runner.run(opened.__aenter__())
    yield world
    runner.run(opened.__aexit__(None, None, None))


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, bool]]]:
    """A length, and steps in time with an amount each and whether to look: bursts and gaps."""
    length = draw(st.sampled_from(LENGTHS))
    bucket = bucket_ms(length)
    gap = st.one_of(
        st.just(0),
        st.sampled_from((1, bucket - 1, bucket, bucket + 1)),
        st.integers(0, 70).map(lambda buckets: buckets * bucket),
        st.integers(0, 70 * bucket),
    )
    return length, draw(
        st.lists(st.tuples(gap, st.integers(0, 300), st.booleans()), min_size=1, max_size=25)
    )


def bounds(booked: list[tuple[int, int]], length: str, now_ms: int) -> tuple[int, int]:
    """Return what is in the window at least, and with one bucket more at most."""
    length_ms, bucket = parse_duration_ms(length), bucket_ms(length)
    counted_ms = -(-length_ms // bucket) * bucket + bucket
    least = sum(amount for at_ms, amount in booked if at_ms > now_ms - length_ms)
    most = sum(amount for at_ms, amount in booked if at_ms > now_ms - counted_ms)
    return least, most


slowly = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@slowly
@given(drawn=steps())
def test_t31_what_a_window_counts(
    world: World, runner: asyncio.Runner, drawn: tuple[str, list[tuple[int, int, bool]]]
) -> None:
    """T31. Goal: see above. Method: records, and what a reader is told after some of them.

    A length that is no whole number of buckets counts as the next one that is.
    """
    length, taken = drawn
    who = {"team": f"t{length}", "user": secrets.token_hex(8)}

    async def play() -> None:
        now_ms, booked = world.clock.at_ms, []
        for gap_ms, amount, look in taken:
            world.clock.at_ms = now_ms = now_ms + gap_ms
            await world.authority.record(record(secrets.token_hex(8), input_tokens=amount, **who))
            booked.append((now_ms, amount))
            if look:
                least, most = bounds(booked, length, now_ms)
                committed, held = await used(world.authority, f"last-{length}", **who)
                assert least <= committed <= most
                assert held == 0

    runner.run(play())


@slowly
@given(drawn=steps())
def test_t31_what_a_window_grants(
    world: World, runner: asyncio.Runner, drawn: tuple[str, list[tuple[int, int, bool]]]
) -> None:
    """T31. Goal: no grant takes a true sliding sum past the limit, and no denial is without reason.

    What a denial says of when to come back is true. Method: reserves of which some are committed
    at once, and the others stay open until they expire.
    """
    length, taken = drawn
    who = {"team": f"t{length}", "user": secrets.token_hex(8)}

    async def play() -> None:
        now_ms, booked, held = world.clock.at_ms, [], []
        for gap_ms, amount, settle in taken:
            world.clock.at_ms = now_ms = now_ms + gap_ms
            held = [each for each in held if each[1] > now_ms]
            await world.authority.sweep(100)
            request = ask(secrets.token_hex(8), input_tokens=amount, **who)
            answer = await world.authority.reserve(request)
            least, most = bounds(booked, length, now_ms)
            open_now = sum(each for each, _ in held)
            if answer.decision is Decision.DENIED:
                assert most + open_now + amount + 1 > LIMIT
                assert answer.denial is not None
                if answer.denial.kind is DenialKind.SPENT and not held:
                    assert answer.denial.retry_after_ms is not None
                    world.clock.at_ms = now_ms = now_ms + answer.denial.retry_after_ms
                    again = await world.authority.reserve(request)
                    assert again.decision is Decision.GRANTED
                    await world.authority.settle(release(again))
                continue
            assert least + open_now + amount + 1 <= LIMIT
            if settle:
                await world.authority.settle(commit(answer, input_tokens=amount))
                booked.append((now_ms, amount))
            else:
                held.append((amount + 1, now_ms + TTL_MS))

    runner.run(play())


def test_t31_a_clock_that_lags(world: World, runner: asyncio.Runner) -> None:
    """T31. Goal: what a lagging server books counts, also where its own bucket is over for others.

    Method: a window of 60 ms; one server has been there, another whose clock is 4 s behind
    records and reserves.
    """
    who = {"team": "t60ms", "user": secrets.token_hex(8)}

    async def play() -> None:
        await world.authority.record(record(secrets.token_hex(8), input_tokens=1, **who))
        world.clock.at_ms -= 4_000
        await world.authority.record(record(secrets.token_hex(8), input_tokens=7, **who))
        hold = await world.authority.reserve(ask(secrets.token_hex(8), input_tokens=4, **who))
        await world.authority.settle(commit(hold, input_tokens=2))
        world.clock.at_ms += 4_000
        assert await used(world.authority, "last-60ms", **who) == (10, 0)

    runner.run(play())


@pytest.mark.parametrize("length", LENGTHS)
def test_t31_edges(world: World, runner: asyncio.Runner, length: str) -> None:
    """T31. Goal: what was booked counts for the whole length, and a bucket longer at the most.

    Method: one amount at the first and at the last instant of a bucket, seen from each instant
    near the end of its window.
    """
    length_ms, bucket = parse_duration_ms(length), bucket_ms(length)
    whole_ms = -(-length_ms // bucket) * bucket

    async def play() -> None:
        start_ms = (max(world.clock.at_ms, NOON_MS) // bucket + 100) * bucket
        for offset_ms in (0, bucket - 1):
            who = {"team": f"t{length}", "user": secrets.token_hex(8)}
            world.clock.at_ms = start_ms + offset_ms
            await world.authority.record(record(secrets.token_hex(8), input_tokens=7, **who))
            for age_ms in (0, length_ms - 1, length_ms, whole_ms + bucket - 1, whole_ms + bucket):
                world.clock.at_ms = start_ms + offset_ms + age_ms
                committed, _ = await used(world.authority, f"last-{length}", **who)
                counts = start_ms // bucket >= world.clock.at_ms // bucket - whole_ms // bucket
                assert committed == (7 if counts else 0)
                assert committed == 7 or age_ms >= length_ms
                assert committed == 0 or age_ms < whole_ms + bucket
            start_ms = (world.clock.at_ms // bucket + 1) * bucket

    runner.run(play())
