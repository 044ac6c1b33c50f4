"""Callers that all reserve at the same moment, of several orgs on one shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine_calls import MODELS, ask, release
from engine_world import World

from bursar.authority.identity import hold_name
from bursar.domain.answer import Decision, ReserveAnswer
from bursar.domain.subject import OrgId
from bursar.engine.turns import OPERATIONS_MAX, PIPELINES_MAX

POLICY = f"""
org: ORG
budgets:
  - {{name: day, limit: {{tokens: 1000000}}, window: day}}
  - {{name: user, per: [user], limit: {{tokens: 1000000}}, window: {{rolling: 1h}}}}
  - {{name: once, limit: {{input_tokens: 1000}}, window: request}}
{MODELS}
"""
ORGS = ("acme", "umbrella", "initech", "globex")
DOCUMENTS = tuple(POLICY.replace("ORG", org) for org in ORGS)


def reserving(world: World, count: int, name: str = "r") -> list[asyncio.Task[ReserveAnswer]]:
    """Start as many callers that reserve at the same moment."""
    authority = world.servers[-1].authority
    return [
        asyncio.ensure_future(authority.reserve(ask(f"{name}{number}", input_tokens=9)))
        for number in range(count)
    ]


async def warm_up(world: World) -> None:
    """Have as many connections as there may be calls under way, and leave nothing behind."""
    count = PIPELINES_MAX * OPERATIONS_MAX
    answers = await asyncio.gather(*reserving(world, count, "warm"))
    authority = world.servers[-1].authority
    await asyncio.gather(*(authority.settle(release(each)) for each in answers))


def hold_key(world: World, number: int, name: str = "r") -> str:
    """Return where the hold of a caller is."""
    org = OrgId("acme")
    return world.keys.hold(0, org, hold_name(org, f"{name}{number}").hold_id)


def assert_granted(results: Sequence[object]) -> None:
    """Check that all are grants, and none a repetition."""
    kinds = {type(each) for each in results}
    assert kinds == {ReserveAnswer}, f"these are {kinds}"
    answers = [each for each in results if isinstance(each, ReserveAnswer)]
    assert {(each.decision, each.replayed) for each in answers} == {(Decision.GRANTED, False)}
