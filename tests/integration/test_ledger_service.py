"""Goal: what the ledger knows is answered over gRPC, whole and page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import grpc
import pytest
from ledger_rows import Entry, instant, ms, store
from ledger_service import CLEAN, LedgerService, serving_ledger
from service_server import failure

from bursar.ledger.differences import Difference, DifferenceKind, VerifyReport
from bursar.ledger.status import ShardState, ShardStatus, Verification
from bursar.pb import admin_service_pb2 as admin_pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as pb

START = {"seconds": ms("2026-03-05") // 1_000}


REBUILD = (
    "INSERT INTO rebuilds (shard, epoch, cause, server_id, "
    "started_at, finished_at, counters, holds, committed_nano_usd, held_nano_usd, resent) "
    "VALUES ($1, $2, $3, $4, $5, $6, 10, 11, 2^70::numeric, 13, 14)"
)


def rebuilds_of(shards: int, at: datetime, after_s: int = 0) -> list[tuple[object, ...]]:
    """Return rows of shards that were rebuilt one after the other, a second each."""
    return [
        (
            shard,
            f"n{shard}-{after_s}",
            "data gone",
            "server-2",
            at + timedelta(seconds=after_s),
            at + timedelta(seconds=after_s + shard),
        )
        for shard in range(shards)
    ]


@pytest.fixture
async def service(database_url: str, redis_url: str) -> AsyncIterator[LedgerService]:
    async with serving_ledger(database_url, redis_url) as service:
        yield service


async def test_usage(service: LedgerService) -> None:
    await store(
        service.database,
        [
            Entry(
                ms("2026-03-05T10:00"), 1, team="a", input_tokens=10, output_tokens=5,
                cache_read_tokens=4, cost_nano_usd=2**62,
            ),
            Entry(ms("2026-03-06T10:00"), 2, team="a", input_tokens=1, cost_nano_usd=None),
            Entry(ms("2026-03-06T11:00"), 3, team="b", model="O4", input_tokens=2),
        ],
    )  # fmt: skip
    request = pb.QueryUsageRequest(
        subject={"org": "acme"},
        start_time=START,
        group_by=[pb.USAGE_DIMENSION_TEAM, pb.USAGE_DIMENSION_MODEL],
        interval=pb.USAGE_INTERVAL_DAY,
        page_size=2,
    )
    first = await service.usage.QueryUsage(request)
    assert [(row.subject.team, row.target.model, row.start_time.seconds) for row in first.rows] == [
        ("a", "gpt-5", ms("2026-03-05") // 1_000),
        ("a", "gpt-5", ms("2026-03-06") // 1_000),
    ]
    row = first.rows[0]
    assert (row.subject.org, row.end_time.seconds) == ("acme", ms("2026-03-06") // 1_000)
    assert row.tokens == pb.TokenCounts(input_tokens=10, output_tokens=5, cache_read_tokens=4)
    assert (row.request_count, row.cost_nano_usd, row.unpriced_count) == (1, 2**62, 0)
    assert (row.HasField("denial_count"), row.denial_count) == (True, 0)
    assert not row.HasField("token_count")
    assert (first.rows[1].cost_nano_usd, first.rows[1].unpriced_count) == (0, 1)
    assert not first.HasField("record_time")
    request.page_token = first.next_page_token
    second = await service.usage.QueryUsage(request)
    assert [row.target.model for row in second.rows] == ["o4"]
    assert second.next_page_token == ""
    request.page_token = ""
    request.group_by[:] = [pb.USAGE_DIMENSION_TOKEN_CLASS]
    request.interval = pb.USAGE_INTERVAL_NONE
    by_class = (await service.usage.QueryUsage(request)).rows
    assert [(row.token_class, row.token_count) for row in by_class] == [
        (pb.TOKEN_CLASS_INPUT, 13),
        (pb.TOKEN_CLASS_OUTPUT, 5),
    ]
    for name in ("tokens", "request_count", "cost_nano_usd", "unpriced_count", "denial_count"):
        assert not by_class[0].HasField(name)


async def test_entries(service: LedgerService) -> None:
    shard = service.keys.shard_of("acme")
    entry = Entry(
        ms("2026-03-05T10:00:00.001"), 3, team="a", input_tokens=10, cost_nano_usd=None,
        shard=shard, epoch="x", ordinal=2, outcome="cancelled", labels={"tier": "free"},
        custom_meters={"pages": 3}, detail="why", late=True,
        counter_ids=["acme:d:cost::day@1772668800000", "acme:r:pages:user=%3A:rolling-60000@0"],
        slots=[0, 5], held=[-1, 0], committed=[2, 3], credit=[0, -4],
    )  # fmt: skip
    release = Entry(
        ms("2026-03-05T09:00"), 2, "release", requests=0, cost_nano_usd=None,
        provider="", model="", outcome="",
    )  # fmt: skip
    await store(service.database, [entry, release])
    async with service.database.connection() as connection:
        await connection.execute(
            "INSERT INTO journal_position (shard, epoch, recorded_at) VALUES ($1, 'e', $2)",
            shard,
            instant(ms("2026-03-05T11:00")),
        )
    request = pb.ListLedgerEntriesRequest(subject={"org": "acme"})
    answer = await service.usage.ListLedgerEntries(request)
    assert answer.record_time.seconds == ms("2026-03-05T11:00") // 1_000
    newest, oldest = answer.entries
    assert newest == pb.LedgerEntry(
        create_time={"seconds": ms("2026-03-05T10:00") // 1_000, "nanos": 1_000_000},
        verb=pb.LEDGER_VERB_COMMIT,
        reservation_id="acme:r",
        request_id="r",
        subject={"org": "acme", "team": "a", "labels": {"tier": "free"}},
        target={"provider": "openai", "model": "gpt-5"},
        outcome=types_pb.OUTCOME_CANCELLED,
        late=True,
        usage={"input_tokens": 10, "requests": 1, "custom_meters": {"pages": 3}},
        policy_version="v1",
        detail="why",
        changes=[
            pb.CounterChange(
                budget="d",
                meter=types_pb.METER_COST,
                window_start_time=START,
                held=-1,
                committed=2,
            ),
            pb.CounterChange(
                budget="r",
                partition={"user": ":"},
                meter=types_pb.METER_CUSTOM,
                custom_meter="pages",
                committed=3,
                credit=-4,
            ),
        ],
        shard=shard,
        epoch="x",
        sequence=3,
        ordinal=2,
    )
    assert oldest.verb == pb.LEDGER_VERB_RELEASE
    for name in ("usage", "cost_nano_usd", "target"):
        assert not oldest.HasField(name)
    request.order = pb.LEDGER_ORDER_OLDEST_FIRST
    request.page_size = 1
    page = await service.usage.ListLedgerEntries(request)
    assert list(page.entries) == [oldest]
    request.page_token = page.next_page_token
    assert list((await service.usage.ListLedgerEntries(request)).entries) == [newest]


async def test_verify_goes_from_shard_to_shard(service: LedgerService) -> None:
    found = Difference(2, DifferenceKind.COUNTER, "acme:d", "committed", 5, None, repaired=True)
    lost = Difference(2, DifferenceKind.HOLD, "acme:h", "state", None, 1)
    service.shards.reports[2] = VerifyReport(7, 1, (found, lost), 1_002, 1)
    request, answers = pb.VerifyRequest(deep=True, repair=True), []
    while not answers or answers[-1].next_page_token:
        request.page_token = answers[-1].next_page_token if answers else ""
        answers.append(await service.usage.Verify(request))
    assert service.shards.verified == [(shard, "", True, True) for shard in range(4)]
    assert [list(each.shards) for each in answers] == [[0], [1], [2], [3]]
    assert {each.shard_count for each in answers} == {4}
    assert answers[0].checked_counter_count == CLEAN.checked_counters
    third = answers[2]
    assert (third.checked_counter_count, third.checked_hold_count) == (7, 1)
    assert (third.difference_count, third.repaired_count) == (1_002, 1)
    first, second = third.differences
    assert (first.kind, first.ledger, first.repaired) == (pb.Difference.KIND_COUNTER, 5, True)
    assert not first.HasField("found")
    assert (second.kind, second.found, second.HasField("ledger")) == (
        pb.Difference.KIND_HOLD, 1, False,
    )  # fmt: skip


async def test_verify_of_an_org_is_one_page(service: LedgerService) -> None:
    answer = await service.usage.Verify(pb.VerifyRequest(org="umbrella"))
    shard = service.keys.shard_of("umbrella")
    assert (list(answer.shards), answer.shard_count, answer.next_page_token) == ([shard], 1, "")
    assert service.shards.verified == [(shard, "umbrella", False, False)]


async def test_a_verify_token_belongs_to_its_request(service: LedgerService) -> None:
    token = (await service.usage.Verify(pb.VerifyRequest())).next_page_token
    for request in (
        pb.VerifyRequest(deep=True, page_token=token),
        pb.VerifyRequest(repair=True, page_token=token),
        pb.VerifyRequest(org="acme", page_token=token),
        pb.VerifyRequest(page_token=token[:-4]),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.usage.Verify(request)
        assert set(failure(caught.value).violations) == {"page_token"}
    assert len(service.shards.verified) == 1


async def test_status(service: LedgerService) -> None:
    service.shards.states[1] = ShardStatus(1, "e1", ShardState.REPLAYING, 12, 1_500, "server-2")
    service.shards.last = Verification(ms("2026-03-05T10:00"), 5, 6, 7)
    at = instant(ms("2026-03-05T11:00"))
    async with service.database.connection() as connection:
        await connection.execute("INSERT INTO journal_position VALUES (1, 'e1', '5-0', 99, $1)", at)
        await connection.executemany(REBUILD, [*rebuilds_of(24, at), *rebuilds_of(3, at, 11)])
        await connection.execute("INSERT INTO servers VALUES ('server-1', '1.2.3.4:5')")
        await connection.execute(
            "INSERT INTO servers VALUES ('server-0', '', now(), now() - interval '2 hours')"
        )
        for number in (1, 2):
            await connection.execute(
                "INSERT INTO policies (org, number, version, document, applied_by, applied_at) "
                "VALUES ('acme', $1, 'v' || $1::bigint, '', 'ann', $2)",
                number,
                at,
            )
        for number in range(12):
            await connection.execute(
                "INSERT INTO journal_rejects VALUES (3, 'e', $1, '', 'not msgpack')", f"{number}-0"
            )
    answer = await service.admin.GetStatus(admin_pb.GetStatusRequest())
    assert answer.server_id == "server-1"
    live, replaying = answer.shards[:2]
    assert (live.state, live.waiting_count, live.HasField("record_time")) == (
        admin_pb.ShardStatus.STATE_LIVE, 0, False,
    )  # fmt: skip
    assert (replaying.state, replaying.waiting_count, replaying.lag.ToMilliseconds()) == (
        admin_pb.ShardStatus.STATE_REPLAYING, 12, 1_500,
    )  # fmt: skip
    assert (replaying.owner_server_id, replaying.recorded_sequence) == ("server-2", 99)
    assert replaying.record_time.seconds == ms("2026-03-05T11:00") // 1_000
    assert (answer.verification.checked_counter_count, answer.verification.difference_count) == (
        5, 7,
    )  # fmt: skip
    assert (replaying.rebuild.epoch, replaying.rebuild.counter_count) == ("n1-11", 10)
    assert (live.rebuild.cause, live.rebuild.HasField("end_time")) == ("data gone", True)
    assert answer.shards[3].rebuild.epoch == "n3-0"
    newest, oldest = answer.rebuilds
    assert (list(newest.shards), list(oldest.shards)) == ([0, 1, 2], list(range(24)))
    assert newest.start_time.seconds - oldest.start_time.seconds == 11
    assert oldest.end_time.seconds - oldest.start_time.seconds == 23
    assert (oldest.cause, oldest.server_id, oldest.counter_count) == ("data gone", "server-2", 240)
    assert (oldest.hold_count, oldest.held_nano_usd, oldest.resent_count) == (264, 312, 336)
    assert oldest.committed_nano_usd == 2**63 - 1
    assert [(each.server_id, each.address) for each in answer.servers] == [
        ("server-1", "1.2.3.4:5")
    ]
    acme, umbrella = answer.policies
    assert (acme.org, acme.newest_version, acme.newest_number) == ("acme", "v2", 2)
    assert acme.version not in ("", "v2")
    assert (umbrella.newest_version, umbrella.HasField("apply_time")) == ("", False)
    assert (answer.reject_count, len(answer.rejects)) == (12, 10)
    assert answer.rejects[0].fault == "not msgpack"


async def test_rebuilds_at_about_the_same_time_are_one(service: LedgerService) -> None:
    at = instant(ms("2026-03-05T11:00"))
    rows = [
        # Seconds after the hour, cause, server, whether it has ended.
        (0, "data gone", "a", True),
        (10, "data gone", "a", False),
        (21, "data gone", "a", True),
        (5, "data gone", "b", True),
        (6, "by hand", "a", True),
    ]
    async with service.database.connection() as connection:
        await connection.executemany(
            REBUILD,
            [
                (
                    shard, f"n{shard}", cause, server, at + timedelta(seconds=after),
                    at + timedelta(seconds=after) if ended else None,
                )
                for shard, (after, cause, server, ended) in enumerate(rows)
            ],
        )  # fmt: skip
    answer = await service.admin.GetStatus(admin_pb.GetStatusRequest())
    assert [(list(each.shards), each.HasField("end_time")) for each in answer.rebuilds] == [
        ([2], True),
        ([4], True),
        ([3], True),
        ([0, 1], False),
    ]


async def test_status_shows_the_newest_rebuilds(service: LedgerService) -> None:
    at = instant(ms("2026-03-05T11:00"))
    async with service.database.connection() as connection:
        await connection.executemany(
            REBUILD,
            [row for minute in range(25) for row in rebuilds_of(2, at, 60 * minute)],
        )
    rebuilds = (await service.admin.GetStatus(admin_pb.GetStatusRequest())).rebuilds
    starts = [each.start_time.seconds - int(at.timestamp()) for each in rebuilds]
    assert starts == [60 * minute for minute in range(24, 4, -1)]


async def test_status_of_a_server_that_did_nothing_yet(service: LedgerService) -> None:
    answer = await service.admin.GetStatus(admin_pb.GetStatusRequest())
    assert not answer.HasField("verification")
    assert len(answer.shards) == 4
    assert not answer.rebuilds and not answer.servers and not answer.rejects


async def test_rebuild(service: LedgerService) -> None:
    shard = service.keys.shard_of("acme")
    answer = await service.admin.Rebuild(admin_pb.RebuildRequest(org="acme"))
    assert [(each.shard, each.epoch) for each in answer.shards] == [(shard, f"e{shard}")]
    answer = await service.admin.Rebuild(admin_pb.RebuildRequest(shard=0))
    assert [each.shard for each in answer.shards] == [0]
    answer = await service.admin.Rebuild(admin_pb.RebuildRequest(all=True))
    assert [each.shard for each in answer.shards] == [0, 1, 2, 3]
    assert service.shards.rebuilt == [shard, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (admin_pb.RebuildRequest(), "target"),
        (admin_pb.RebuildRequest(all=False), "all"),
        (admin_pb.RebuildRequest(shard=-1), "shard"),
        (admin_pb.RebuildRequest(shard=4), "shard"),
        (admin_pb.RebuildRequest(org="A"), "org"),
        (admin_pb.RebuildRequest(org=""), "org"),
    ],
)
async def test_a_rebuild_names_a_shard_that_there_is(
    service: LedgerService, request_: admin_pb.RebuildRequest, path: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.admin.Rebuild(request_)
    assert set(failure(caught.value).violations) == {path}
    assert service.shards.rebuilt == []


async def test_an_org_must_be_known(service: LedgerService) -> None:
    for call in (
        service.usage.QueryUsage(pb.QueryUsageRequest(subject={"org": "other"}, start_time=START)),
        service.usage.ListLedgerEntries(pb.ListLedgerEntriesRequest(subject={"org": "other"})),
        service.usage.Verify(pb.VerifyRequest(org="other")),
        service.admin.Rebuild(admin_pb.RebuildRequest(org="other")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert failure(caught.value).reason == "ORG_ACCESS_DENIED"


async def test_without_its_database_it_is_unavailable(service: LedgerService) -> None:
    await service.database.close()
    request = pb.QueryUsageRequest(subject={"org": "acme"}, start_time=START)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.usage.QueryUsage(request)
    found = failure(caught.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "LEDGER_UNAVAILABLE")
