"""Alert thresholds: whoever listens hears of each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from service_metrics import Counts
from service_server import Service, commit_request, record_request, reserve_request, serving
from structlog.testing import capture_logs

from bursar.pb import budget_authority_service_pb2 as pb
from fault_proxy import FaultProxy

POLICY = """
org: acme
budgets:
  - {name: hot, scope: {feature: hot}, limit: {tokens: 1000}, window: day, alerts: [50, 80, 100]}
  - {name: each, per: [user], limit: {tokens: 100}, window: day, alerts: [50], mode: observe}
"""
PATIENT_S = 30
Event = dict[str, Any]


@pytest_asyncio.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def service(redis_url: str, proxy: FaultProxy) -> AsyncIterator[Service]:
    async with serving(
        redis_url, store_url=proxy.url, policies=(POLICY,), redis_timeout_ms=1_000 * PATIENT_S
    ) as service:
        yield service


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def logged() -> Iterator[list[Event]]:
    with capture_logs() as logged:
        yield logged


def told(logged: list[Event]) -> list[tuple[str, int]]:
    """Return budget and percent of every crossing that was logged."""
    return [
        (line["budget"], line["percent"])
        for line in logged
        if line["event"] == "budget_threshold_crossed"
    ]


def usage(tokens: int) -> dict[str, int]:
    return {"input_tokens": tokens, "output_tokens": 0}


async def held(service: Service, tokens: int, **subject: str) -> str:
    """Reserve so many tokens."""
    answer = await service.authority.Reserve(
        reserve_request(
            subject={"org": "acme", **subject},
            estimate={"input_tokens": tokens - 1, "max_output_tokens": 1},
        ),
        timeout=PATIENT_S,
    )
    assert answer.reservation_id
    return answer.reservation_id


async def test_parallel_and_repeated_commits(
    service: Service, counts: Counts, logged: list[Event]
) -> None:
    """Goal: each threshold is told once, whoever crosses it.

    Method: 50 reservations of 20 tokens on a limit of 1,000, all committed at once, each three
    times at once.
    """
    reservations = await asyncio.gather(*(held(service, 20, feature="hot") for _ in range(50)))
    commits = [commit_request(each, usage=usage(20)) for each in reservations]
    await asyncio.gather(
        *(service.authority.Commit(commit, timeout=PATIENT_S) for commit in commits * 3)
    )
    assert sorted(told(logged)) == [("hot", 50), ("hot", 80), ("hot", 100)]
    assert counts.of("bursar.thresholds.crossed", "percent") == {50: 1, 80: 1, 100: 1}
    assert counts.of("bursar.replays", "method") == {"Commit": 100}


async def test_what_is_told(service: Service, logged: list[Event]) -> None:
    """Goal: the line says what a reader needs. Method: one record over the half."""
    await service.authority.Record(
        record_request(subject={"org": "acme", "feature": "hot"}, usage=usage(512))
    )
    [line] = [line for line in logged if line["event"] == "budget_threshold_crossed"]
    assert line.pop("window_start_ms") % 86_400_000 == 0
    assert line == {
        "event": "budget_threshold_crossed",
        "log_level": "warning",
        "org": "acme",
        "budget": "hot",
        "partition": {},
        "percent": 50,
        "committed": "512 tokens",
        "limit": "1,000 tokens",
    }


async def test_exactly_at_the_threshold(service: Service, logged: list[Event]) -> None:
    """Goal: 50 % is reached at 50 %, not before. Method: 499, 1 and 1 more tokens."""
    subject = {"org": "acme", "feature": "hot"}
    expected: list[list[tuple[str, int]]] = [[], [("hot", 50)], [("hot", 50)]]
    for tokens, lines in zip((499, 1, 1), expected, strict=True):
        await service.authority.Record(record_request(subject=subject, usage=usage(tokens)))
        assert told(logged) == lines


async def test_each_partition_has_its_own(
    service: Service, counts: Counts, logged: list[Event]
) -> None:
    """Goal: a threshold of one user hides none of another's. Method: three users, a batch."""
    operations = [
        {"record": record_request(subject={"org": "acme", "user": user}, usage=usage(30))}
        for user in ("a", "b", "c", "a", "b", "a", "a")
    ]
    await service.authority.Batch(pb.BatchRequest(operations=operations))
    assert told(logged) == [("each", 50)] * 2
    partitions = [line["partition"] for line in logged if "partition" in line]
    assert partitions == [{"user": "a"}, {"user": "b"}]
    assert counts.of("bursar.thresholds.crossed", "percent") == {50: 2}


async def test_one_large_commit_crosses_all(service: Service, logged: list[Event]) -> None:
    """Goal: none is skipped. Method: 5 times the limit at once, by a call and its partial ones."""
    reservation = await held(service, 20, feature="hot")
    part = commit_request(reservation, usage=usage(600), partial=True, sequence=1)
    for _ in range(2):
        await service.authority.Commit(part)
    assert told(logged) == [("hot", 50)]
    await service.authority.Commit(commit_request(reservation, usage=usage(5_000)))
    assert sorted(told(logged)) == [("hot", 50), ("hot", 80), ("hot", 100)]


async def test_releases_and_reserves_cross_nothing(service: Service, logged: list[Event]) -> None:
    """Goal: what is only held is not spent. Method: hold it all and give it back."""
    reservation = await held(service, 1_000, feature="hot")
    await service.authority.Release(pb.ReleaseRequest(reservation_id=reservation))
    assert told(logged) == []


@pytest.mark.parametrize("method", ["Commit", "Record"])
async def test_a_crossing_whose_reply_was_lost(
    service: Service, proxy: FaultProxy, logged: list[Event], method: str
) -> None:
    """Goal: an alert is not lost with the reply of Redis.

    Method: the settlement that crosses is booked, its reply is lost; its caller repeats it, and
    once more.
    """
    request: pb.CommitRequest | pb.RecordRequest
    if method == "Commit":
        request = commit_request(await held(service, 900, feature="hot"), usage=usage(900))
    else:
        subject = {"org": "acme", "feature": "hot"}
        request = record_request(subject=subject, usage=usage(900))
    # So that the script is known to Redis, and one command is all there is.
    other = await held(service, 10, user="other")
    await service.authority.Commit(commit_request(other, usage=usage(1)))
    await service.authority.Record(record_request(usage=usage(1)))
    proxy.lose_replies("EVALSHA", 1, cut=True)
    with pytest.raises(grpc.aio.AioRpcError):
        await service.call(method, request)
    assert told(logged) == []
    for _ in range(2):
        await service.call(method, request)
        assert told(logged) == [("hot", 50), ("hot", 80)]
