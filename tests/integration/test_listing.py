"""Listing open holds page by page: none twice, none left out, and none of anybody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_calls import ask, commit, granted, release
from engine_world import SECOND, World, open_world

from bursar.domain.answer import OpenHold, ReserveAnswer
from bursar.domain.subject import OrgId, Subject

POLICY = "org: acme\nbudgets: [{name: day, limit: {tokens: unlimited}, window: day}]"
OTHER = POLICY.replace("org: acme", "org: umbrella")


@pytest.fixture
async def world(redis_url: str, key_namespace: str) -> AsyncIterator[World]:
    """Two orgs that share the only shard."""
    async with open_world(redis_url, key_namespace, POLICY, OTHER) as world:
        yield world


async def fill(world: World, org: str, count: int, **given: object) -> list[str]:
    """Reserve so many times in batches; return the reservations."""
    found = []
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        batch = [ask(f"r{number}", org=org, input_tokens=number, **given) for number in numbers]
        answers = await world.authority.batch(batch)
        found += [each.reservation_id for each in answers if isinstance(each, ReserveAnswer)]
    return found


async def pages(world: World, size: int, **subject: str) -> tuple[list[OpenHold], list[str]]:
    """Return all open holds of a subject of acme, and the tokens on the way."""
    who, token = Subject(OrgId("acme"), **subject), ""
    found: list[OpenHold] = []
    tokens: list[str] = []
    while True:
        page = await world.authority.list_holds(who, size, token)
        assert len(page.holds) <= size
        found += page.holds
        token = page.next_page_token
        if not token:
            return found, tokens
        tokens.append(token)


@pytest.mark.parametrize("size", [1_000, 999, 300])
async def test_many_that_end_at_the_same_time(world: World, size: int) -> None:
    """Goal: more holds of one expiry than a page looks at are all listed, once.

    Method: 2,500 of acme and as many of another org on its shard, all made at one instant; then
    three more that end earlier and later.
    """
    mine = await fill(world, "acme", 2_500)
    await fill(world, "umbrella", 2_500)
    others = [
        await granted(world.authority, ask(f"s{ms}", ttl_ms=ms)) for ms in (1_000, 59_999, 60_001)
    ]
    found, _ = await pages(world, size)
    assert sorted(each.reservation_id for each in found) == sorted(
        mine + [each.reservation_id for each in others]
    )
    assert [each.expire_ms for each in found] == sorted(each.expire_ms for each in found)


async def test_a_token_names_nobodys_hold(world: World) -> None:
    """Goal: where a page ends among another org's holds, its token tells nothing of them.

    Method: 1,500 of umbrella's are passed on the way to one of acme's.
    """
    theirs = await fill(world, "umbrella", 1_500)
    mine = await granted(world.authority, ask("mine", ttl_ms=90 * SECOND))
    found, tokens = await pages(world, 10)
    assert [each.reservation_id for each in found] == [mine.reservation_id]
    assert len(tokens) == 1
    assert "umbrella" not in tokens[0]
    assert not [each for each in theirs if each.partition(".")[2] in tokens[0]]


async def test_only_what_is_open_and_matches(world: World) -> None:
    """Goal: settled and expired holds, and those of other subjects, are not listed.

    Method: holds of two users, of which each user's first ones are committed, released and expired.
    """
    for user in ("u1", "u2"):
        holds = [
            await granted(world.authority, ask(f"{user}-{n}", user=user, ttl_ms=ms))
            for n, ms in enumerate((60_000, 60_000, 1_000, 60_000, 60_000))
        ]
        await world.authority.settle(commit(holds[0], input_tokens=1))
        await world.authority.settle(release(holds[1]))
        await world.authority.settle(commit(holds[3], part=1, output_tokens=1))
    world.clock.at_ms += SECOND
    await world.authority.sweep(10)
    for user in ("u1", "u2"):
        found, _ = await pages(world, 2, user=user)
        assert sorted(each.request_id for each in found) == [f"{user}-3", f"{user}-4"]
        assert {each.amounts[0].amount for each in found} == {0, 1}
    assert len((await pages(world, 3))[0]) == 4
