"""T1, T5: parallel reserves on four real servers never take a budget past its limit.

Goal: whichever budget is the tightest, exactly as many are granted as it has room for. Method: 200
callers at once over four `bursar serve` processes on one Redis, room for 50. That the check sees a
broken engine is shown with a script without its test, and with one that asks first and books later.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest
import redis.asyncio as redis
from engine_books import assert_books_balance
from engine_calls import MODELS, ask
from engine_processes import ServerProcess, connected, running_servers
from engine_state import counters
from engine_world import Server, World, open_world

from bursar.authority.identity import hold_name, reserve_fingerprint
from bursar.domain.offer import plan
from bursar.engine import shards
from bursar.engine.keys import Keys
from bursar.engine.operations import Granted, ReserveOperation
from bursar.engine.scripts import Script, load_script
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2 as types

CALLERS, ROOM = 200, 50
INPUT, OUTPUT = 100, 100

LEVELS = ("org", "team", "feature", "agent", "user", "task")
WINDOWS = ("month", "week", "day", "hour", "{rolling: 24h}", "{task: 1h}")

METERS = {
    "usd": ("0.0003", INPUT * 1_000 + OUTPUT * 2_000),
    "tokens": ("200", INPUT + OUTPUT),
    "requests": ("1", 1),
    "concurrency": ("1", 1),
}
"""By meter: what one caller needs, as a limit is written and as it is counted."""


def level_policy(org: str, tightest: str, spare: int) -> str:
    """Return a budget of tokens on every level, all of them roomy but one."""
    budgets = []
    for level, window in zip(LEVELS, WINDOWS, strict=True):
        room = ROOM * (INPUT + OUTPUT) + spare if level == tightest else 1_000_000
        per = "" if level == "org" else f"per: [{level}], "
        budgets.append(f"  - {{name: {level}, {per}limit: {{tokens: {room}}}, window: {window}}}")
    return "\n".join([f"org: {org}", "budgets:", *budgets])


def meter_policy(org: str, tightest: str) -> str:
    """Return one budget for each of four meters on four levels, all of them roomy but one."""
    budgets = []
    for level, (meter, (limit, _)) in zip(LEVELS, METERS.items(), strict=False):
        factor = ROOM if meter == tightest else 1_000
        amount = f"{float(limit) * factor:.4f}" if meter == "usd" else int(limit) * factor
        per = "" if level == "org" else f"per: [{level}], "
        window = "" if meter == "concurrency" else ", window: month"
        budgets.append(f"  - {{name: {meter}, {per}limit: {{{meter}: {amount}}}{window}}}")
    return "\n".join([f"org: {org}", "budgets:", *budgets, MODELS])


LEVEL_ORGS = {f"level-{level}": level_policy(f"level-{level}", level, 0) for level in LEVELS}
SPARE_ORGS = {"spare": level_policy("spare", "team", INPUT + OUTPUT - 1)}
METER_ORGS = {f"meter-{meter}": meter_policy(f"meter-{meter}", meter) for meter in METERS}
UNITS = {level: INPUT + OUTPUT for level in LEVELS} | {
    meter: unit for meter, (_, unit) in METERS.items()
}


@pytest.fixture(scope="module")
def namespace() -> str:
    return "a" + secrets.token_hex(4)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, namespace: str
) -> Iterator[list[ServerProcess]]:
    folder = tmp_path_factory.mktemp("servers")
    policies = LEVEL_ORGS | SPARE_ORGS | METER_ORGS
    with running_servers(folder, redis_url, namespace, policies, 0, 0, 0, 0) as running:
        yield running


def request_of(org: str, number: int) -> pb.ReserveRequest:
    who = {level: "one" for level in LEVELS if level != "org"}
    return pb.ReserveRequest(
        request_id=f"caller-{number}",
        subject=types.Subject(org=org, **who),
        target=types.Target(model="m"),
        estimate=types.Estimate(input_tokens=INPUT, max_output_tokens=OUTPUT),
    )


def assert_exactly_full(grants: int, held: dict[str, int]) -> None:
    """The check of T1: as many grants as there was room for, and each counter holds just these."""
    assert grants == ROOM
    assert held == {name: ROOM * UNITS[name] for name in held}


@pytest.mark.parametrize("org", [*LEVEL_ORGS, *SPARE_ORGS, *METER_ORGS])
async def test_t1_two_hundred_callers_and_room_for_fifty(
    servers: list[ServerProcess], redis_url: str, namespace: str, org: str
) -> None:
    """T1. Goal: exactly 50 grants, and 50 units held on every counter.

    Method: the tightest budget is on another level, or of another meter, each time.
    """
    async with connected(servers) as stubs:
        answers = await asyncio.gather(
            *(
                stubs[number % len(stubs)].Reserve(request_of(org, number), timeout=30)
                for number in range(CALLERS)
            )
        )
    decisions = [answer.decision for answer in answers]
    assert set(decisions) == {types.DECISION_GRANTED, types.DECISION_DENIED}
    async with redis.Redis.from_url(redis_url) as store:
        found = await counters(store, Keys(namespace, 4))
        await assert_books_balance(store, Keys(namespace, 4))
    held = {
        name.split(":")[1]: each["h"] for name, each in found.items() if name.startswith(f"{org}:")
    }
    assert len(held) == (len(METERS) if org in METER_ORGS else len(LEVELS))
    assert_exactly_full(decisions.count(types.DECISION_GRANTED), held)
    for answer in answers:
        if answer.decision == types.DECISION_DENIED:
            tightest = org.removeprefix("level-").removeprefix("meter-").replace("spare", "team")
            assert answer.denial.binding.budget == tightest
            assert answer.denial.kind == types.DENIAL_KIND_HELD


# T5: the same check on broken engines. Its servers are engines in this process, so that their
# script can be replaced.

NEGATIVE = level_policy("acme", "team", 0)
WHO = {level: "one" for level in LEVELS if level != "org"}
CAP_TESTS = (
    "    if room < 0 then return nil end\n",
    "      output = math.floor(room / slope)\n",
    "      while slope * output > room do output = output - 1 end  -- the division rounds\n",
)


@pytest.fixture
def uncapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the cap test out of the reserve script."""
    text = load_script("operate").text
    for test in CAP_TESTS:
        assert text.count(test) == 1, "the script has changed; name its cap test anew"
        text = text.replace(test, "")
    script = Script("operate", text, "0" * 40)  # An unknown SHA: it is sent whole.

    def load(name: str) -> Script:
        return script if name == "operate" else load_script(name)

    monkeypatch.setattr(shards, "load_script", load)


async def outcome(world: World, decisions: list[bool]) -> tuple[int, dict[str, int]]:
    found = await counters(world.redis, world.keys)
    return sum(decisions), {name.split(":")[1]: each["h"] for name, each in found.items()}


async def ask_all(world: World) -> list[bool]:
    """Let every caller reserve, on all servers in turn."""
    answers = await asyncio.gather(
        *(
            world.servers[number % 4].authority.reserve(
                ask(str(number), input_tokens=INPUT, max_output_tokens=OUTPUT, **WHO)
            )
            for number in range(CALLERS)
        )
    )
    return [answer.reservation_id != "" for answer in answers]


async def test_t5_the_check_passes_on_the_engine_itself(redis_url: str, key_namespace: str) -> None:
    """T5. Goal: what makes the next two tests fail is the fault alone. Method: no fault."""
    async with open_world(redis_url, key_namespace, NEGATIVE, servers=4) as world:
        assert_exactly_full(*await outcome(world, await ask_all(world)))


async def test_t5_without_the_cap_test_the_check_fails(
    redis_url: str, key_namespace: str, uncapped: None
) -> None:
    """T5. Goal: T1 sees an engine that does not look. Method: the script without its cap test."""
    async with open_world(redis_url, key_namespace, NEGATIVE, servers=4) as world:
        decisions = await ask_all(world)
        assert sum(decisions) == CALLERS
        with pytest.raises(AssertionError):
            assert_exactly_full(*await outcome(world, decisions))


async def check_then_add(world: World, server: Server, number: int, asked: asyncio.Barrier) -> bool:
    """Reserve in two steps: read the counters and decide, then book whatever was decided."""
    policy = server.policies.of("acme")
    request = ask(str(number), input_tokens=INPUT, max_output_tokens=OUTPUT, **WHO)
    planned = plan(request, policy, world.clock.now_ms())
    [offer] = planned.offers
    values = await server.engine.read([use.counter for use in offer.uses], planned.now_ms)
    for use, found in zip(offer.uses, values, strict=True):
        assert use.ceiling is not None
        if found.committed + found.held + use.amount(OUTPUT) > use.ceiling:
            return False
    await asked.wait()
    [booked] = await server.engine.reserve(
        [
            ReserveOperation(
                org=policy.org,
                hold_id=hold_name(policy.org, request.request_id).hold_id,
                fingerprint=reserve_fingerprint(request),
                offers=(offer,),
                expire_ms=planned.now_ms + request.ttl_ms,
                ttl_ms=request.ttl_ms,
                payload=b"",
            )
        ],
        planned.now_ms,
    )
    return isinstance(booked, Granted)


async def test_t5_checking_first_and_adding_later_overshoots(
    redis_url: str, key_namespace: str, uncapped: None
) -> None:
    """T5. Goal: T1 sees a check that is apart from the booking.

    Method: callers read, decide, and book in a second call; one after another that is exact, and
    60 that read before any books all get in.
    """
    async with open_world(redis_url, key_namespace, NEGATIVE, servers=4) as world:
        alone = asyncio.Barrier(1)
        in_turn = [await check_then_add(world, world.servers[0], n, alone) for n in range(60)]
        assert_exactly_full(*await outcome(world, in_turn))
    async with open_world(redis_url, key_namespace + "b", NEGATIVE, servers=4) as world:
        together = asyncio.Barrier(60)
        racing = await asyncio.gather(
            *(check_then_add(world, world.servers[n % 4], n, together) for n in range(60))
        )
        assert all(racing)
        with pytest.raises(AssertionError):
            assert_exactly_full(*await outcome(world, racing))
