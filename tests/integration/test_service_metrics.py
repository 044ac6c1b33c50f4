"""What operators see of decisions, failures and expiries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from service_metrics import Counts
from service_server import (
    BUDGET_AUTHORITY,
    Service,
    commit_request,
    new_id,
    record_request,
    reserve_request,
    serving,
)

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from polling import eventually_async

POLICY = """
org: acme
unpriced: deny
budgets:
  - name: hard
    scope: {feature: hard}
    limit: {tokens: 200}
    window: day
    ladder: [{at: 50, cap_output: 10}]
  - {name: soft, scope: {feature: [soft, hard]}, limit: {tokens: 10}, window: day, mode: warn}
  - {name: seen, scope: {feature: soft}, limit: {tokens: 200}, window: day, mode: observe}
  - {name: charged, scope: {feature: charged}, limit: {tokens: 900}, window: day, on_expiry: charge}
  - {name: money, scope: {feature: money}, limit: {usd: 5}, window: day}
"""


@pytest_asyncio.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url, policies=(POLICY,), sweep_interval_ms=50) as service:
        yield service


@pytest.fixture
def counts() -> Counts:
    return Counts()


def reserve(feature: str, **changed: object) -> pb.ReserveRequest:
    return reserve_request(subject={"org": "acme", "user": "u1", "feature": feature}, **changed)


async def test_decisions(service: Service, counts: Counts) -> None:
    """Goal: each decision is counted once, by what it was. Method: one of each kind, and repeats.

    Neither a check nor a dry run nor a repeated call is a decision.
    """
    first = reserve("hard", estimate={"input_tokens": 50, "max_output_tokens": 50})
    shorter = reserve(
        "hard",
        estimate={"input_tokens": 40, "max_output_tokens": 50},
        accepts=[types_pb2.DEGRADATION_SHORTER_OUTPUT],
    )
    for request in (
        first,
        first,
        shorter,
        shorter,
        reserve("hard", estimate={"input_tokens": 9, "max_output_tokens": 11}),
        reserve("hard", estimate={"input_tokens": 201, "max_output_tokens": 1}),
        reserve("money", target={"model": "nobody-knows-it"}),
        reserve("other"),
        reserve("other", validate_only=True),
    ):
        await service.authority.Reserve(request)
    await service.authority.Check(
        pb.CheckRequest(subject=first.subject, target=first.target, estimate=first.estimate)
    )
    operations = [{"reserve": first}, {"reserve": reserve("other")}]
    operations.append({"reserve": reserve("other", validate_only=True)})
    await service.authority.Batch(pb.BatchRequest(operations=operations))
    assert counts.of("bursar.decisions", "decision", "kind", "unbudgeted") == {
        ("granted", "", False): 1,
        ("granted_degraded", "", False): 1,
        ("denied", "held", False): 1,
        ("denied", "never", False): 1,
        ("denied", "unpriced", False): 1,
        ("granted", "", True): 2,
    }
    assert counts.of("bursar.replays", "method") == {"Reserve": 3}


async def test_budgets_that_would_have_refused(service: Service, counts: Counts) -> None:
    """Goal: what a budget in mode warn or observe lets pass is counted, once for each grant.

    Method: grants within and beyond both, a repeat, and a denial by another budget.
    """
    first = reserve("soft", estimate={"input_tokens": 5, "max_output_tokens": 5})
    await service.authority.Reserve(first)
    assert counts.of("bursar.budgets.exceeded", "budget") == {}
    second = reserve("soft", estimate={"input_tokens": 50, "max_output_tokens": 50})
    for request in (second, second):
        await service.authority.Reserve(request)
    assert counts.of("bursar.budgets.exceeded", "org", "budget", "mode") == {
        ("acme", "soft", "warn"): 1
    }
    third = reserve("soft", estimate={"input_tokens": 50, "max_output_tokens": 50})
    await service.authority.Batch(pb.BatchRequest(operations=[{"reserve": third}]))
    denied = await service.authority.Reserve(
        reserve("hard", estimate={"input_tokens": 500, "max_output_tokens": 1})
    )
    assert denied.decision == types_pb2.DECISION_DENIED
    assert counts.of("bursar.budgets.exceeded", "org", "budget", "mode") == {
        ("acme", "soft", "warn"): 2,
        ("acme", "seen", "observe"): 1,
    }


async def test_replays(service: Service, counts: Counts) -> None:
    """Goal: repeated calls are seen, by method. Method: each call twice, alone and in a batch."""
    first, second = [
        (await service.authority.Reserve(reserve("other"))).reservation_id for _ in range(2)
    ]
    requests = {
        "Reserve": reserve("other", request_id=new_id()),
        "Commit": commit_request(first),
        "Release": pb.ReleaseRequest(reservation_id=second),
        "Record": record_request(),
    }
    for method, request in requests.items():
        for _ in range(2):
            await service.call(method, request)
    assert counts.of("bursar.replays", "method") == dict.fromkeys(requests, 1)
    operations = [pb.Operation(**{each.lower(): requests[each]}) for each in requests]
    await service.authority.Batch(pb.BatchRequest(operations=operations))
    assert counts.of("bursar.replays", "method") == dict.fromkeys(requests, 2)


async def test_failures(service: Service, counts: Counts) -> None:
    """Goal: every failure is counted by method and reason, also inside batches. Method: a few."""
    for request in (reserve_request(request_id=""), reserve_request(subject={"org": "nobody"})):
        with pytest.raises(grpc.RpcError):
            await service.authority.Reserve(request)
    operations = [
        {"reserve": reserve_request(request_id="")},
        {"commit": commit_request("acme." + "a" * 24)},
        {"reserve": reserve_request()},
    ]
    await service.authority.Batch(pb.BatchRequest(operations=operations))
    with pytest.raises(grpc.RpcError):
        await service.authority.Batch(pb.BatchRequest())
    path = f"/{BUDGET_AUTHORITY}"
    assert counts.of("bursar.errors", "method", "reason") == {
        (f"{path}/Reserve", "FIELD_INVALID"): 1,
        (f"{path}/Reserve", "ORG_ACCESS_DENIED"): 1,
        (f"{path}/Batch", "FIELD_INVALID"): 2,
        (f"{path}/Batch", "RESERVATION_NOT_FOUND"): 1,
    }


async def test_expiries(service: Service, counts: Counts) -> None:
    """Goal: holds that nobody settled are counted. Method: let two end, one of them charged."""
    for feature in ("soft", "charged"):
        answer = await service.authority.Reserve(reserve(feature, ttl={"seconds": 1}))
        assert answer.reservation_id

    async def both_ended() -> bool:
        return counts.of("bursar.holds.expired") == {(): 2}

    await eventually_async(both_ended)
    assert counts.of("bursar.holds.charged") == {(): 1}


async def test_no_subject_is_ever_a_label(service: Service, counts: Counts) -> None:
    """Goal: labels have few values, whoever calls. Method: calls with names of their own."""
    subject = {level: f"private-{level}" for level in ("team", "feature", "agent", "user", "task")}
    request = reserve_request(
        request_id="private-id",
        subject={"org": "acme", **subject, "labels": {"key": "private-label"}},
        target={"model": "private-model"},
    )
    held = (await service.authority.Reserve(request)).reservation_id
    await service.authority.Commit(commit_request(held))
    with pytest.raises(grpc.RpcError):
        await service.authority.Reserve(reserve_request(subject={"org": "private-org"}))
    values = counts.attributes()
    assert values
    assert not [value for value in values if "private" in str(value) or held in str(value)]
