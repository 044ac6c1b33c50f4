"""Freezes over gRPC: a subtree spends nothing from one moment on, and what is open settles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from policy_world import POLICY, PolicyServer, PolicyWorld, open_policy_world, refused

from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as usage_pb

Opened = tuple[PolicyWorld, PolicyServer]


@pytest.fixture
async def opened(redis_url: str, database_url: str, key_namespace: str) -> AsyncIterator[Opened]:
    async with open_policy_world(redis_url, database_url, key_namespace) as world:
        await world[1].apply(POLICY)
        yield world


@pytest.fixture
def server(opened: Opened) -> PolicyServer:
    return opened[1]


async def freeze(server: PolicyServer, **given: Any) -> pb.FreezeResponse:  # noqa: ANN401 - as the message takes it
    levels = {key: value for key, value in given.items() if key not in ("actor", "reason")}
    request = pb.FreezeRequest(
        subject={"org": "acme", **levels},
        actor=given.get("actor", "ann"),
        reason=given.get("reason", "runs away"),
    )
    answer: pb.FreezeResponse = await server.policy.Freeze(request)
    return answer


async def unfreeze(server: PolicyServer, **levels: str) -> pb.UnfreezeResponse:
    request = pb.UnfreezeRequest(subject={"org": "acme", **levels}, actor="bob")
    answer: pb.UnfreezeResponse = await server.policy.Unfreeze(request)
    return answer


async def test_a_frozen_subtree(server: PolicyServer) -> None:
    """Goal: the denial says who froze what and why; others go on. Method: freeze a team (T64)."""
    frozen = await freeze(server, team="red")
    denied = await server.reserve(team="red", user="u1")
    assert denied.decision == types_pb.DECISION_DENIED
    assert denied.policy_version == frozen.policy_version
    denial = denied.denial
    assert denial.kind == types_pb.DENIAL_KIND_NEVER
    assert denial.binding.budget == f"frozen_{frozen.freeze.freeze_id}"
    assert denial.affordable_output_tokens == 0
    for text in (denial.explanation, denied.directive.message):
        assert "org=acme team=red was frozen by ann" in text
        assert "runs away" in text
    assert (await server.reserve(team="blue", user="u1")).reservation_id
    assert (await server.reserve(user="u1")).reservation_id


async def test_what_is_open_settles(server: PolicyServer) -> None:
    """Goal: a freeze stops what comes, not what runs. Method: freeze the org with a hold open."""
    granted = await server.reserve(output=100)
    await freeze(server)
    assert (await server.reserve()).decision == types_pb.DECISION_DENIED
    settled = await server.commit(granted.reservation_id, 40)
    [counter] = [each for each in settled.counters if each.budget == "user-day"]
    assert (counter.committed, counter.held) == (40, 0)


async def test_what_is_open_does_not_grow(server: PolicyServer) -> None:
    """Goal: a long call gets time to end, and nothing more. Method: extend both, then shrink."""
    granted = await server.reserve(output=100, team="red")
    await freeze(server, team="red")

    async def extend(**given: Any) -> authority_pb.ExtendResponse:  # noqa: ANN401 - as Extend
        request = authority_pb.ExtendRequest(reservation_id=granted.reservation_id, **given)
        answer: authority_pb.ExtendResponse = await server.authority.Extend(request)
        return answer

    larger = await extend(max_output_tokens=200)
    assert larger.decision == types_pb.DECISION_DENIED
    assert "was frozen by ann" in larger.denial.explanation
    assert larger.max_output_tokens == 100
    assert (await extend(ttl=Duration(seconds=300))).decision == types_pb.DECISION_GRANTED
    smaller = await extend(max_output_tokens=50)
    assert (smaller.decision, smaller.max_output_tokens) == (types_pb.DECISION_GRANTED, 50)


async def test_a_repeat_from_before_the_freeze(server: PolicyServer) -> None:
    """Goal: the same call answers the same, frozen or not. Method: repeat it in every state."""
    first = await server.reserve(request_id="r-1", team="red")
    await freeze(server, team="red")
    assert await server.reserve(request_id="r-1", team="red") == first
    other = await server.reserve(request_id="r-2", team="blue")
    await unfreeze(server, team="red")
    # Granted under a policy with a freeze that is gone.
    assert await server.reserve(request_id="r-2", team="blue") == other
    assert other.policy_version != first.policy_version


async def test_unfreeze(server: PolicyServer) -> None:
    """Goal: what is lifted spends again, under the policy of before. Method: two nested freezes."""
    before = (await server.reserve(team="red")).policy_version
    await freeze(server, team="red")
    await freeze(server, team="red", agent="a1")
    lifted = await unfreeze(server, team="red")
    assert (lifted.freeze.lift_actor, lifted.freeze.actor) == ("bob", "ann")
    assert (await server.reserve(team="red")).reservation_id
    assert not (await server.reserve(team="red", agent="a1")).reservation_id
    last = await unfreeze(server, team="red", agent="a1")
    assert last.policy_version == before
    assert (await server.reserve(team="red", agent="a1")).policy_version == before
    found = await refused(unfreeze(server, team="red"))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_FOUND")


async def test_a_freeze_twice_is_one(server: PolicyServer) -> None:
    """Goal: freezing again changes nothing, whoever does it. Method: the first one answers."""
    first = await freeze(server, team="red")
    assert await freeze(server, team="red", actor="bob", reason="other") == first
    listed = await server.policy.ListFreezes(pb.ListFreezesRequest(org="acme"))
    assert list(listed.freezes) == [first.freeze]


async def test_pages_of_freezes(server: PolicyServer) -> None:
    """Goal: each freeze once, newest first. Method: pages of two, with and without lifted ones."""
    for number in range(4):
        await freeze(server, user=f"u{number}")
    await unfreeze(server, user="u2")

    async def users(**given: bool) -> list[str]:
        found, token = [], ""
        while True:
            request = pb.ListFreezesRequest(org="acme", page_size=2, page_token=token, **given)
            page = await server.policy.ListFreezes(request)
            found += [each.subject.user for each in page.freezes]
            if not (token := page.next_page_token):
                return found

    assert await users() == ["u3", "u1", "u0"]
    assert await users(include_lifted=True) == ["u3", "u2", "u1", "u0"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"actor": ""}, "actor"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"labels": {"tier": "free"}}, "subject.labels"),
        ({"team": "x" * 257}, "subject.team"),
        ({"org": ""}, "subject.org"),
    ],
)
async def test_what_is_missing(server: PolicyServer, given: dict[str, Any], path: str) -> None:
    """Goal: each field has its bound. Method: one fault at a time."""
    assert path in (await refused(freeze(server, **given))).violations


async def test_an_unknown_org(server: PolicyServer) -> None:
    """Goal: nobody freezes what is not there. Method: an org without a policy."""
    found = await refused(freeze(server, org="nobody"))
    assert found.reason == "ORG_ACCESS_DENIED"


async def test_explain_shows_the_freeze(server: PolicyServer) -> None:
    """Goal: people see what denies. Method: Explain of a frozen and another subject."""
    frozen = await freeze(server, team="red")
    for team, applies in (("red", True), ("blue", False)):
        answer = await server.usage.Explain(
            usage_pb.ExplainRequest(subject={"org": "acme", "team": team}, target={"model": "m1"})
        )
        [found] = [each for each in answer.budgets if each.budget.startswith("frozen_")]
        assert found.budget == f"frozen_{frozen.freeze.freeze_id}"
        assert found.applies is applies


async def test_every_server_follows(opened: Opened) -> None:
    """Goal: a freeze on one server is one on all, in one step. Method: a second server watches."""
    world, server = opened
    other = await world.server()
    assert (await other.reserve(team="red")).reservation_id
    frozen = await freeze(server, team="red")
    await other.cases.watch.refresh()
    denied = await other.reserve(team="red")
    assert denied.policy_version == frozen.policy_version
    assert denied.decision == types_pb.DECISION_DENIED
