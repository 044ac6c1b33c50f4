"""ApplyPolicy and what it leaves behind, over gRPC and on real stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from policy_world import POLICY, PolicyServer, PolicyWorld, open_policy_world
from service_server import failure

from bursar.domain.policy_text import parse_policy
from bursar.pb import budget_pb2 as budget_pb
from bursar.pb import policy_pb2 as policy_pb
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import types_pb2 as types_pb

Opened = tuple[PolicyWorld, PolicyServer]


@pytest.fixture
async def opened(redis_url: str, database_url: str, key_namespace: str) -> AsyncIterator[Opened]:
    async with open_policy_world(redis_url, database_url, key_namespace) as world:
        yield world


@pytest.fixture
def server(opened: Opened) -> PolicyServer:
    return opened[1]


async def versions(server: PolicyServer) -> list[pb.PolicyVersionEntry]:
    answer = await server.policy.ListPolicyVersions(pb.ListPolicyVersionsRequest(org="acme"))
    return list(answer.versions)


async def test_a_document_becomes_a_version(server: PolicyServer) -> None:
    """Goal: an applied document decides at once, and its history says who, why and what.

    Method: apply one, change it, apply it unchanged again.
    """
    first = await server.apply(POLICY, reason="the beginning")
    assert (first.org, first.version.number, first.version.actor) == ("acme", 1, "ann")
    assert [each.budget for each in first.changes if each.budget] == ["month", "user-day"]
    assert (await server.reserve()).policy_version == first.version.policy_version
    second = await server.apply(POLICY.replace("1000}, window: m", "2000}, window: m"))
    [change] = second.changes
    assert (change.budget, change.setting) == ("month", "limit")
    assert (change.before, change.after) == ("$1,000.00", "$2,000.00")
    assert second.version.number == 2
    same = await server.apply(POLICY.replace("usd: 1000", "usd: 2000.00") + "# as before\n")
    assert not same.changes
    assert same.version == second.version
    history = await versions(server)
    assert [each.version.number for each in history] == [2, 1]
    assert history[1].version.reason == "the beginning"
    assert list(history[0].changes) == [change]


async def test_validate_only_changes_nothing(server: PolicyServer) -> None:
    """Goal: a look changes nothing and needs no name. Method: look at a new org and a known one."""
    answer = await server.apply(POLICY, actor="", validate_only=True)
    assert answer.changes
    assert not answer.HasField("version")
    await server.apply(POLICY)
    answer = await server.apply(POLICY.replace("user-day", "user"), validate_only=True)
    assert {(each.kind, each.budget) for each in answer.changes} == {
        (policy_pb.PolicyChange.KIND_REMOVED, "user-day"),
        (policy_pb.PolicyChange.KIND_ADDED, "user"),
    }
    assert len(await versions(server)) == 1


async def test_faults_have_their_path(server: PolicyServer) -> None:
    """Goal: every fault of a document comes back with its path. Method: three in one document."""
    broken = POLICY.replace("usd: 1000", "usd: -1").replace("window: day", "window: fortnight")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await server.apply(broken + "\nunknown: 1\n")
    found = failure(raised.value)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(found.violations) == {"budgets[0].limit.usd", "budgets[1].window", "unknown"}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"actor": ""}, "actor"),
        ({"actor": "x" * 257}, "actor"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"document": ""}, "document"),
        ({"document": "- a list"}, "(document)"),
    ],
)
async def test_what_is_missing_or_too_long(
    server: PolicyServer, changed: dict[str, str], path: str
) -> None:
    """Goal: each field has its bound. Method: one fault at a time."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await server.apply(**{"document": POLICY, **changed})
    assert path in failure(raised.value).violations


async def test_an_etag_that_is_stale(server: PolicyServer) -> None:
    """Goal: nobody overwrites what he has not seen. Method: etags of none, this and a past one."""
    await server.apply(POLICY, etag="0")
    changed = POLICY.replace("usd: 1000", "usd: 3")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await server.apply(changed, etag="0")
    found = failure(raised.value)
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "POLICY_CONFLICT")
    assert found.metadata["etag"] == "1"
    assert (await server.apply(changed, etag="1")).version.number == 2


async def test_changes_at_once_all_count(opened: Opened) -> None:
    """Goal: changes of different budgets from several servers are all there.

    Method: two servers create ten budgets at once, and one budget under its etag by both.
    """
    world, server = opened
    await server.apply(POLICY)
    other = await world.server()

    def budget(name: str) -> budget_pb.Budget:
        return budget_pb.Budget(
            name=name,
            limit=budget_pb.BudgetLimit(meter=types_pb.METER_REQUESTS, amount=1),
            window=budget_pb.BudgetWindow(kind=budget_pb.BudgetWindow.KIND_DAY),
        )

    async def create(at: PolicyServer, name: str) -> None:
        request = pb.CreateBudgetRequest(org="acme", budget=budget(name), actor="ann")
        await at.policy.CreateBudget(request)

    names = [f"n-{number}" for number in range(6)]
    await asyncio.gather(
        *(create((server, other)[place % 2], name) for place, name in enumerate(names))
    )
    listed = await server.policy.ListBudgets(pb.ListBudgetsRequest(org="acme"))
    assert {each.name for each in listed.budgets} == {"month", "user-day", *names}
    numbers = [each.version.number for each in await versions(server)]
    assert numbers == list(range(len(names) + 1, 0, -1))


async def test_pages_of_versions(server: PolicyServer) -> None:
    """Goal: every version once, in order. Method: pages of two; a token of another question."""
    for limit in range(1, 6):
        await server.apply(POLICY.replace("usd: 1000", f"usd: {limit}"))
    numbers, token = [], ""
    while True:
        page = await server.policy.ListPolicyVersions(
            pb.ListPolicyVersionsRequest(org="acme", page_size=2, page_token=token)
        )
        assert len(page.versions) <= 2
        numbers += [each.version.number for each in page.versions]
        if not (token := page.next_page_token):
            break
        request = pb.ListBudgetsRequest(org="acme", page_token=token)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await server.policy.ListBudgets(request)
        assert "page_token" in failure(raised.value).violations
    assert numbers == [5, 4, 3, 2, 1]


async def test_pages_with_many_changes(server: PolicyServer) -> None:
    """Goal: a page fits into an answer. Method: three versions of 600 changes each."""
    budgets = "".join(
        f"  - {{name: b-{place}, limit: {{usd: LIMIT}}, window: day}}\n" for place in range(600)
    )
    for limit in range(3):
        await server.apply(f"org: acme\nbudgets:\n{budgets.replace('LIMIT', str(limit))}")
    numbers, token = [], ""
    while True:
        request = pb.ListPolicyVersionsRequest(org="acme", page_token=token)
        page = await server.policy.ListPolicyVersions(request)
        numbers.append([each.version.number for each in page.versions])
        assert sum(len(each.changes) for each in page.versions) <= 1_000
        if not (token := page.next_page_token):
            break
    assert numbers == [[3], [2], [1]]


async def test_a_policy_comes_back_as_it_was_written(server: PolicyServer) -> None:
    """Goal: a document is kept word for word, and each version can be had. Method: two of them."""
    commented = POLICY + "# our budgets\n"
    await server.apply(commented)
    await server.apply(POLICY.replace("usd: 1000", "usd: 5"))
    first = await server.policy.GetPolicy(pb.GetPolicyRequest(org="acme", number=1))
    assert first.document == commented
    newest = await server.policy.GetPolicy(pb.GetPolicyRequest(org="acme"))
    assert newest.version.number == 2
    assert newest.deciding_policy_version == newest.version.policy_version
    assert parse_policy(newest.document, "newest").budgets[0].limit.value == 5
    for org, number, reason in (
        ("acme", 3, "POLICY_NOT_FOUND"),
        ("nobody", 0, "ORG_ACCESS_DENIED"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await server.policy.GetPolicy(pb.GetPolicyRequest(org=org, number=number))
        assert failure(raised.value).reason == reason


async def test_files_at_start(opened: Opened) -> None:
    """Goal: several servers that start with the same file make one version.

    Method: apply the file on two servers at once, again, and after a change by hand.
    """
    world, server = opened
    other = await world.server()
    files = [("acme.yaml", POLICY)]
    both = (server.cases.admin, other.cases.admin)
    await asyncio.gather(*(each.apply_files(files) for each in both))
    await asyncio.gather(*(each.apply_files(files) for each in both))
    [entry] = await versions(server)
    assert entry.version.actor == "file acme.yaml"
    assert server.inner.policies.knows("acme")
    assert other.inner.policies.number("acme") in (0, 1)
