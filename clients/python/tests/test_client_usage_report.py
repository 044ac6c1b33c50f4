"""Goal: past usage is asked for and read as the contract says, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from flavours import AnyClient
from scripted_server import ScriptedServer

from bursar_client import (
    Subject,
    Target,
    TokenClass,
    UsageDimension,
    UsageInterval,
    UsageReport,
)
from bursar_client.pb import usage_service_pb2 as pb

START = datetime(2026, 3, 5, tzinfo=UTC)


async def test_the_question_is_sent_whole(client: AnyClient, server: ScriptedServer) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    report = UsageReport(
        start_time=datetime(2026, 3, 5, tzinfo=india),
        end_time=START,
        group_by=(UsageDimension.TEAM, UsageDimension.TOKEN_CLASS),
        interval=UsageInterval.MONTH,
        time_zone="Asia/Kolkata",
        provider="openai",
        model="gpt-5",
    )
    rows = client.query_usage(report, org="acme", user="u1", page_size=7)
    assert [each async for each in rows] == []
    [request] = server.requests("QueryUsage")
    assert request == pb.QueryUsageRequest(
        subject={"org": "acme", "user": "u1"},
        target={"provider": "openai", "model": "gpt-5"},
        start_time={"seconds": int(START.timestamp()) - 19_800},
        end_time={"seconds": int(START.timestamp())},
        group_by=[pb.USAGE_DIMENSION_TEAM, pb.USAGE_DIMENSION_TOKEN_CLASS],
        interval=pb.USAGE_INTERVAL_MONTH,
        time_zone="Asia/Kolkata",
        page_size=7,
    )


async def test_rows_of_all_pages(client: AnyClient, server: ScriptedServer) -> None:
    server.usage_rows = [
        pb.UsageRow(
            start_time={"seconds": int(START.timestamp())},
            end_time={"seconds": int(START.timestamp()) + 3_600},
            subject={"org": "acme", "team": f"t{number}"},
            target={"model": "gpt-5"},
            tokens={"input_tokens": 10, "cache_read_tokens": 4},
            request_count=2,
            cost_nano_usd=2**62,
            unpriced_count=0,
        )
        for number in range(3)
    ]
    report = UsageReport(start_time=START)
    rows = [each async for each in client.query_usage(report, org="acme", page_size=2)]
    assert [each.subject for each in rows] == [
        Subject(org="acme", team=f"t{number}") for number in range(3)
    ]
    assert len(server.requests("QueryUsage")) == 2
    row = rows[0]
    assert (row.start_time, row.end_time) == (START, START + timedelta(hours=1))
    assert row.target == Target("gpt-5")
    assert row.tokens == {TokenClass.INPUT: 10, TokenClass.CACHE_READ: 4}
    assert (row.request_count, row.unpriced_count, row.denial_count) == (2, 0, None)
    assert row.cost_usd == Decimal(2**62) / 10**9


async def test_rows_of_a_class_of_token(client: AnyClient, server: ScriptedServer) -> None:
    server.usage_rows = [
        pb.UsageRow(subject={"org": "acme"}, token_class=token_class, token_count=5)
        for token_class in (pb.TOKEN_CLASS_REASONING, 99)
    ]
    report = UsageReport(start_time=START, group_by=(UsageDimension.TOKEN_CLASS,))
    rows = [each async for each in client.query_usage(report, org="acme")]
    assert [each.tokens for each in rows] == [{TokenClass.REASONING: 5}, {TokenClass.UNKNOWN: 5}]
    assert (rows[0].request_count, rows[0].cost_nano_usd, rows[0].cost_usd) == (None, None, None)


def test_every_name_of_the_contract_is_known() -> None:
    for mine, theirs, prefix in (
        (UsageDimension, pb.UsageDimension, "USAGE_DIMENSION_"),
        (UsageInterval, pb.UsageInterval, "USAGE_INTERVAL_"),
        (TokenClass, pb.TokenClass, "TOKEN_CLASS_"),
    ):
        known = {each.name for each in mine} - {"UNKNOWN"}
        assert known == {name.removeprefix(prefix) for name in theirs.keys()[1:]}
    fields = {each.name for each in pb.TokenCounts.DESCRIPTOR.fields}
    assert fields == {f"{each}_tokens" for each in TokenClass if each is not TokenClass.UNKNOWN}


def test_a_time_without_a_zone_is_refused() -> None:
    for times in (
        {"start_time": datetime(2026, 3, 5)},
        {"start_time": START, "end_time": datetime(2026, 3, 5)},
    ):
        with pytest.raises(ValueError, match="must have a time zone"):
            UsageReport(**times)
