"""Budgets one by one over gRPC: created, read, changed by field, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from policy_world import POLICY, PolicyServer, open_policy_world, refused

from bursar.domain.budget import Budget
from bursar.domain.policy import compile_policy
from bursar.domain.policy_document import BudgetDocument, PolicyDocument
from bursar.domain.policy_text import parse_policy
from bursar.pb import budget_pb2 as budget_pb
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import types_pb2 as types_pb
from bursar.service.budget_message import BUDGET_FIELDS, decode_budget, encode_budget, with_units

USD = 1_000_000_000
KIND = budget_pb.BudgetWindow


@pytest.fixture
async def server(
    redis_url: str, database_url: str, key_namespace: str
) -> AsyncIterator[PolicyServer]:
    async with open_policy_world(redis_url, database_url, key_namespace) as (_, opened):
        await opened.apply(POLICY)
        yield opened


def budget(**changed: Any) -> budget_pb.Budget:  # noqa: ANN401 - as the message takes it
    given: dict[str, Any] = {
        "name": "new",
        "limit": budget_pb.BudgetLimit(meter=types_pb.METER_REQUESTS, amount=5),
        "window": budget_pb.BudgetWindow(kind=KIND.KIND_DAY),
    }
    return budget_pb.Budget(**{**given, **changed})


async def create(server: PolicyServer, **changed: Any) -> pb.CreateBudgetResponse:  # noqa: ANN401 - as the message takes it
    request = pb.CreateBudgetRequest(org="acme", budget=budget(**changed), actor="ann")
    answer: pb.CreateBudgetResponse = await server.policy.CreateBudget(request)
    return answer


async def update(server: PolicyServer, *paths: str, **given: Any) -> pb.UpdateBudgetResponse:  # noqa: ANN401 - as the message takes it
    etag = given.pop("etag", "")
    request = pb.UpdateBudgetRequest(
        org="acme",
        budget=budget_pb.Budget(**given),
        update_mask=FieldMask(paths=paths),
        etag=etag,
        actor="ann",
    )
    answer: pb.UpdateBudgetResponse = await server.policy.UpdateBudget(request)
    return answer


async def get(server: PolicyServer, name: str) -> budget_pb.Budget:
    answer = await server.policy.GetBudget(pb.GetBudgetRequest(org="acme", budget=name))
    found: budget_pb.Budget = answer.budget
    return found


EVERY_SETTING = """
org: acme
meters: [pages]
budgets:
  - name: whole
    description: All of it.
    scope: {team: [a, "b*"], provider: openai, labels: {tier: free}}
    per: [user, labels.region]
    limit: {usd: 12.5}
    window: month
    timezone: Asia/Kolkata
    anchor_day: 15
    mode: warn
    overdraft: {usd: 1.25}
    priority_headroom: {low: 70, normal: 0}
    on_expiry: charge
    alerts: [50, 80]
    default_output_tokens: 300
    backfill: false
    carry_over: {unused: true, max: {usd: 3}}
    ladder:
      - {at: 60, switch_model: {from: "gpt-5*", to: gpt-5-mini, to_provider: openai}}
      - {at: 70, cap_output: 64}
      - {at: 80, finish: true, message: "{percent} used"}
      - {at: 90, notify: true, message: soon}
      - {at: 95, serve_cached: true}
      - {at: 97, queue: {max_wait: 15m}}
      - {at: 100, deny: true}
  - {name: w, limit: {tokens: unlimited}, window: week, week_start: sunday}
  - {name: r, limit: {input_tokens: 0}, window: {rolling: 90s}, overdraft: {percent: 0}}
  - {name: t, per: [task], limit: {pages: 7}, window: {task: 2h}}
  - {name: t2, per: [task], limit: {output_tokens: 7}, window: task}
  - {name: q, limit: {output_tokens: 7}, window: request}
  - {name: c, limit: {concurrency: 7}}
  - {name: o, limit: {requests: 7}, window: day, on_unavailable: open}
  - name: f
    limit: {requests: 7}
    window: {from: "2026-01-01T00:00:00+05:30", until: "2026-02-01T00:00:00.250Z"}
"""


@pytest.mark.parametrize(
    "document", parse_policy(EVERY_SETTING, "here").budgets, ids=lambda each: each.name
)
def test_a_budget_survives_the_wire(document: BudgetDocument) -> None:
    """Goal: the message says all that a document says. Method: there and back, for each form."""
    faults: list[Any] = []
    content = with_units(decode_budget(faults, encode_budget(document)))
    assert not faults
    back = BudgetDocument.model_validate(content)
    # Durations and times may be written in another way; all else is the same.
    assert replaced(back, window=None, ladder=[]) == replaced(document, window=None, ladder=[])
    assert compiled(back) == compiled(document)


def replaced(document: BudgetDocument, **changed: object) -> BudgetDocument:
    return document.model_copy(update=changed)


def compiled(document: BudgetDocument) -> Budget:
    policy = PolicyDocument(org="acme", meters=["pages"], budgets=[document])
    return compile_policy(policy).budgets[0].budget


def test_the_message_has_every_setting() -> None:
    """Goal: a setting that is new in documents is not forgotten here. Method: compare names."""
    assert set(BUDGET_FIELDS) | {"name"} == set(BudgetDocument.model_fields)


async def test_a_new_budget_decides(server: PolicyServer) -> None:
    """Goal: what is created counts from then on. Method: a budget of one request."""
    created = await create(
        server, limit=budget_pb.BudgetLimit(meter=types_pb.METER_REQUESTS, amount=1), per=["user"]
    )
    assert created.version.number == 2
    assert created.budget.etag
    assert await get(server, "new") == created.budget
    assert (await server.reserve()).reservation_id
    denied = await server.reserve()
    assert denied.denial.binding.budget == "new"


async def test_fields_that_a_mask_names(server: PolicyServer) -> None:
    """Goal: a mask changes what it names and nothing else. Method: limit, then a field unset."""
    before = await get(server, "month")
    limit = budget_pb.BudgetLimit(meter=types_pb.METER_COST, amount=3 * USD)
    after = (
        await update(server, "limit", name="month", limit=limit, mode="BUDGET_MODE_WARN")
    ).budget
    assert after.limit.amount == 3 * USD
    assert after.mode == types_pb.BUDGET_MODE_ENFORCE
    assert after.etag != before.etag
    share = budget_pb.BudgetShare(amount=USD // 2)
    after = (
        await update(server, "overdraft", "alerts", name="month", overdraft=share, alerts=[9])
    ).budget
    assert (after.overdraft.amount, list(after.alerts)) == (USD // 2, [9])
    after = (await update(server, "overdraft", name="month")).budget
    assert not after.HasField("overdraft")
    assert list(after.alerts) == [9]
    changes = (
        (await server.policy.ListPolicyVersions(pb.ListPolicyVersionsRequest(org="acme")))
        .versions[0]
        .changes
    )
    assert [(each.setting, each.before, each.after) for each in changes] == [
        ("overdraft", "$0.50", "not set")
    ]


async def test_without_a_mask_all_is_replaced(server: PolicyServer) -> None:
    """Goal: the whole message counts without a mask. Method: a budget with one setting less."""
    await create(server, alerts=[50], description="first")
    after = (
        await update(server, **{each.name: value for each, value in budget().ListFields()})
    ).budget
    assert not after.alerts
    assert not after.description


async def test_an_etag_of_one_budget(server: PolicyServer) -> None:
    """Goal: a change of another budget is no conflict, one of the same is. Method: both."""
    month, day = await get(server, "month"), await get(server, "user-day")
    await update(server, "alerts", name="user-day", alerts=[10], etag=day.etag)
    await update(server, "alerts", name="month", alerts=[20], etag=month.etag)
    found = await refused(update(server, "alerts", name="month", alerts=[30], etag=month.etag))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "POLICY_CONFLICT")
    assert found.metadata["etag"] == (await get(server, "month")).etag
    delete = pb.DeleteBudgetRequest(org="acme", budget="month", etag=month.etag, actor="ann")
    assert (await refused(server.policy.DeleteBudget(delete))).reason == "POLICY_CONFLICT"
    delete.etag = found.metadata["etag"]
    await server.policy.DeleteBudget(delete)
    found = await refused(server.policy.DeleteBudget(delete))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_FOUND")


FAULTS = {
    "name-taken": ({"name": "month"}, "budget.name"),
    "no-name": ({"name": ""}, "budget.name"),
    "no-limit": ({"limit": None}, "budget.limit.meter"),
    "negative": (
        {"limit": budget_pb.BudgetLimit(meter=types_pb.METER_COST, amount=-1)},
        "budget.limit.usd",
    ),
    "no-such-meter": (
        {"limit": budget_pb.BudgetLimit(meter=types_pb.METER_CUSTOM, custom_meter="x", amount=1)},
        "budget.limit.x",
    ),
    "no-window": ({"window": None}, "budget.window"),
    "no-kind": ({"window": budget_pb.BudgetWindow()}, "budget.window.kind"),
    "length": (
        {"window": budget_pb.BudgetWindow(kind=KIND.KIND_DAY, length=Duration(seconds=1))},
        "budget.window.length",
    ),
    "no-length": (
        {"window": budget_pb.BudgetWindow(kind=KIND.KIND_ROLLING)},
        "budget.window.rolling",
    ),
    "times": (
        {
            "window": budget_pb.BudgetWindow(
                kind=KIND.KIND_FIXED,
                start_time=Timestamp(seconds=2),
                end_time=Timestamp(seconds=1),
            )
        },
        "budget.window",
    ),
    "mode": ({"mode": 99}, "budget.mode"),
    "rung": ({"ladder": [budget_pb.BudgetRung(at_percent=0, deny=True)]}, "budget.ladder[0].at"),
    "per": ({"per": ["planet"]}, "budget.per[0]"),
}


@pytest.mark.parametrize(("changed", "path"), FAULTS.values(), ids=FAULTS)
async def test_faults_of_a_budget(server: PolicyServer, changed: dict[str, Any], path: str) -> None:
    """Goal: every fault has its path, and nothing is changed. Method: one at a time."""
    found = await refused(create(server, **changed))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT, found
    assert path in found.violations, found.violations
    policy = await server.policy.GetPolicy(pb.GetPolicyRequest(org="acme"))
    assert policy.version.number == 1


async def test_a_mask_of_nothing_known(server: PolicyServer) -> None:
    """Goal: a misspelt path is refused. Method: paths that no budget has, or that go deeper."""
    found = await refused(update(server, "limits", "limit.amount", name="month"))
    assert set(found.violations) == {"update_mask.paths[0]", "update_mask.paths[1]"}


async def test_pages_of_budgets(server: PolicyServer) -> None:
    """Goal: each budget once, in the policy's order. Method: pages of one; a change in between."""
    await create(server)
    names, token = [], ""
    while True:
        request = pb.ListBudgetsRequest(org="acme", page_size=1, page_token=token)
        page = await server.policy.ListBudgets(request)
        names += [each.name for each in page.budgets]
        if not (token := page.next_page_token):
            break
        last = token
    assert names == ["month", "user-day", "new"]
    await update(server, "alerts", name="month", alerts=[5])
    request = pb.ListBudgetsRequest(org="acme", page_token=last)
    assert "page_token" in (await refused(server.policy.ListBudgets(request))).violations


async def test_an_org_without_a_policy(server: PolicyServer) -> None:
    """Goal: budgets belong to a policy. Method: every call for an org that has none."""
    calls = (
        server.policy.CreateBudget(
            pb.CreateBudgetRequest(org="nobody", budget=budget(), actor="ann")
        ),
        server.policy.GetBudget(pb.GetBudgetRequest(org="nobody", budget="x")),
        server.policy.ListBudgets(pb.ListBudgetsRequest(org="nobody")),
        server.policy.ListPolicyVersions(pb.ListPolicyVersionsRequest(org="nobody")),
    )
    for call in calls:
        assert (await refused(call)).reason == "ORG_ACCESS_DENIED"


async def test_a_deleted_budget_with_open_holds(server: PolicyServer) -> None:
    """Goal: holds on a budget that is gone settle. Method: delete it with one open (T64)."""
    granted = await server.reserve(output=600)
    await server.policy.DeleteBudget(
        pb.DeleteBudgetRequest(org="acme", budget="user-day", actor="ann")
    )
    # Nothing of it is left to deny by: 600 and 600 were more than 1,000.
    assert (await server.reserve(output=600)).reservation_id
    settled = await server.commit(granted.reservation_id, 500)
    [gone] = [each for each in settled.counters if each.budget == "user-day"]
    assert (gone.committed, gone.held, gone.mode) == (500, 0, types_pb.BUDGET_MODE_OFF)


async def test_a_limit_lowered_below_its_use(server: PolicyServer) -> None:
    """Goal: a lower limit denies at once and is never used beyond. Method: T64, then raise it."""
    granted = await server.reserve(output=600)
    await server.commit(granted.reservation_id, 600)
    limit = budget_pb.BudgetLimit(meter=types_pb.METER_TOTAL_TOKENS, amount=500)
    await update(server, "limit", name="user-day", limit=limit)
    denied = await server.reserve(output=1)
    assert (denied.denial.binding.budget, denied.denial.binding.remaining) == ("user-day", -100)
    assert denied.denial.affordable_output_tokens == 0
    limit.amount = 700
    await update(server, "limit", name="user-day", limit=limit)
    assert (await server.reserve(output=100)).reservation_id
    assert not (await server.reserve(output=1)).reservation_id
