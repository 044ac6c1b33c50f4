"""Goal: the commands show what the ledger says, and end as they say they do.

Method: the commands in a thread, over gRPC, against a server with rows in its PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from ledger_rows import Entry, instant, ms, store
from ledger_service import LedgerService, serving_ledger
from typer.testing import CliRunner

from bursar.cli.commands import program
from bursar.ledger.differences import Difference, DifferenceKind, VerifyReport
from bursar.ledger.status import ShardState, ShardStatus, Verification

APP = program()
SPAN = ("--since", "2026-03-05", "--until", "2026-03-07")


@pytest.fixture
async def service(database_url: str, redis_url: str) -> AsyncIterator[LedgerService]:
    async with serving_ledger(database_url, redis_url) as service:
        yield service


async def bursar(service: LedgerService, *arguments: str, given: str = "") -> Result:
    """Run a command to its end."""
    environment = {"COLUMNS": "140", "NO_COLOR": "1", "BURSAR_ADDRESS": service.address}
    runner = CliRunner(env=environment)
    result: Result = await asyncio.to_thread(runner.invoke, APP, arguments, input=given)
    return result


async def bursar_json(service: LedgerService, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    result = await bursar(service, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def lines(result: Result) -> list[list[str]]:
    """Return the words of each line, without rules and bars."""
    found = [line.split() for line in result.stdout.splitlines()]
    return [[word for word in line if word.strip("─█·")] for line in found if line]


async def used(service: LedgerService) -> None:
    await store(
        service.database,
        [
            Entry(
                ms("2026-03-05T10:00"), 1, team="eng", model="gpt-5", input_tokens=1_000,
                output_tokens=50, cache_read_tokens=400, cost_nano_usd=1_000_000_000,
            ),
            Entry(
                ms("2026-03-05T20:00"), 2, team="ops", model="o4", input_tokens=7,
                cost_nano_usd=3_000_000_000,
            ),
            Entry(ms("2026-03-06T10:00"), 3, team="eng", input_tokens=5, cost_nano_usd=None),
        ],
    )  # fmt: skip


async def test_usage(service: LedgerService) -> None:
    await used(service)
    result = await bursar(service, "usage", "org=acme", *SPAN, "--group-by", "team")
    assert result.exit_code == 0, result.output
    title, head, _, ops, eng, total, recorded = lines(result)
    assert " ".join(title) == "Usage of acme"
    assert " ".join(head) == "team cost requests input tokens output tokens unpriced"
    assert ops == ["ops", "$3.0000", "1", "7", "0", "0"]
    assert eng == ["eng", "$1.0000", "2", "1,005", "50", "1"]
    assert total == ["in", "all", "$4.0000", "3", "1,012", "50", "1"]
    assert " ".join(recorded) == "nothing has been recorded yet"
    assert "█" * 10 in result.stdout and "███·······" in result.stdout


async def test_usage_by_day_of_a_zone(service: LedgerService) -> None:
    await used(service)
    zone = ("--by", "day", "--zone", "Asia/Kolkata")
    result = await bursar(service, "usage", "org=acme", *SPAN, *zone, "--group-by", "model")
    rows = lines(result)[3:-2]
    assert rows == [
        ["2026-03-05", "gpt-5", "$1.0000", "1", "1,000", "50", "0"],
        ["2026-03-06", "o4", "$3.0000", "1", "7", "0", "0"],
        ["2026-03-06", "gpt-5", "$0", "1", "5", "0", "1"],
    ]


async def test_usage_by_class_of_token(service: LedgerService) -> None:
    await used(service)
    result = await bursar(service, "usage", "org=acme", *SPAN, "--group-by", "token_class")
    assert lines(result)[3:-1] == [
        ["input", "1,012"], ["cache", "read", "400"], ["output", "50"],
    ]  # fmt: skip
    assert "in all" not in result.stdout


async def test_usage_of_some(service: LedgerService) -> None:
    await used(service)
    filters = ("org=acme", "team=eng", "--model", "GPT-5", "--provider", "OpenAI")
    result = await bursar(service, "usage", *filters, *SPAN)
    assert lines(result)[3] == ["$1.0000", "2", "1,005", "50", "1"]
    result = await bursar(service, "usage", "org=umbrella", *SPAN)
    assert lines(result)[0] == ["Nothing", "was", "used."]


async def test_usage_as_json_is_exact(service: LedgerService) -> None:
    big = Entry(ms("2026-03-05T10:00"), 1, cost_nano_usd=2**63 - 1, team="a")
    await store(service.database, [big])
    found = await bursar_json(service, "usage", "org=acme", *SPAN, "--group-by", "team")
    [row] = found["rows"]
    assert row["cost_nano_usd"] == 2**63 - 1
    assert row["subject"]["team"] == "a"
    assert row["start_time"] == "2026-03-05T00:00:00+00:00"
    assert (row["token_class"], row["token_count"]) == ("unspecified", None)
    assert (row["target"], found["more"]) == (None, False)
    assert found["record_time"] is None


async def test_usage_reads_every_page(service: LedgerService) -> None:
    at_ms = ms("2026-03-05T10:00")
    await store(service.database, [Entry(at_ms, each, user=f"u{each}") for each in range(2_100)])
    found = await bursar_json(service, "usage", "org=acme", *SPAN, "--group-by", "user")
    assert len({row["subject"]["user"] for row in found["rows"]}) == 2_100


async def test_usage_is_of_the_last_week_by_itself(service: LedgerService) -> None:
    now = datetime.now(UTC)
    hours = {now - timedelta(days=6): "a", now - timedelta(days=8): "b"}
    async with service.database.connection() as connection:
        for at, team in hours.items():
            await connection.execute(
                'INSERT INTO usage_hourly (hour, org, team, feature, agent, "user", task, '
                "provider, model, requests) VALUES (date_trunc('hour', $1::timestamptz), 'acme', "
                "$2, '', '', '', '', '', '', 1)",
                at,
                team,
            )
    # The server's clock of the tests stands still long before.
    until = ("--until", (now + timedelta(hours=1)).isoformat())
    found = await bursar_json(service, "usage", "org=acme", "--group-by", "team", *until)
    assert [row["subject"]["team"] for row in found["rows"]] == ["a"]
    longer = ("--last", "9d", *until)
    found = await bursar_json(service, "usage", "org=acme", "--group-by", "team", *longer)
    assert [row["subject"]["team"] for row in found["rows"]] == ["a", "b"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--group-by", "tea"),
        ("--group-by", "team,"),
        ("--by", "week"),
        ("--zone", "Mars"),
        ("--last", "7"),
        ("--since", "yesterday"),
        ("--until", "2026-13-01"),
    ],
)
async def test_usage_names_what_it_does_not_know(
    service: LedgerService, arguments: tuple[str, str]
) -> None:
    result = await bursar(service, "usage", "org=acme", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


async def test_an_error_of_the_server_is_one_line(service: LedgerService) -> None:
    result = await bursar(service, "usage", "org=other", *SPAN)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("ORG_ACCESS_DENIED: ")


async def booked(service: LedgerService) -> None:
    await store(
        service.database,
        [
            Entry(
                ms("2026-03-05T10:00"), 1, "reserve", user="u1", requests=0, cost_nano_usd=None,
                reservation_id="acme.a", counter_ids=["acme:d:cost::day@1772668800000"],
                slots=[0], held=[2_000_000_000], committed=[0], credit=[0],
            ),
            Entry(
                ms("2026-03-05T10:00:01.250"), 2, user="u1", reservation_id="acme.a", late=True,
                input_tokens=1, output_tokens=2, cost_nano_usd=1_500_000_000,
                counter_ids=[
                    "acme:d:cost::day@1772668800000", "acme:t:total_tokens:user=u1:task@0",
                ],
                slots=[0, 0], held=[-2_000_000_000, 0], committed=[1_500_000_000, 3], credit=[0, 0],
            ),
            Entry(
                ms("2026-03-05T11:00"), 3, "adjust", requests=0, cost_nano_usd=None, model="",
                detail="goodwill", labels={"tier": "free"}, reservation_id="acme.c",
                counter_ids=["acme:p:pages::day@1772668800000"],
                slots=[0], held=[0], committed=[0], credit=[1],
            ),
        ],
    )  # fmt: skip


async def test_ledger(service: LedgerService) -> None:
    await booked(service)
    result = await bursar(service, "ledger", "org=acme", "--zone", "America/New_York")
    assert result.exit_code == 0, result.output
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "2026-03-05 06:00:00.000  adjust  acme.c",
        "    org=acme labels.tier=free",
        "    p: credit +1 pages",
        "    because: goodwill",
        "2026-03-05 05:00:01.250  commit (late)  acme.a",
        "    org=acme user=u1, gpt-5: 1 input token, 2 output tokens, $1.5000",
        "    d: held -$2.0000, committed +$1.5000",
        "    t [user=u1]: committed +3 tokens",
        "2026-03-05 05:00:00.000  reserve  acme.a",
        "    org=acme user=u1, gpt-5",
        "    d: held +$2.0000",
        "nothing has been recorded yet",
    ]


@pytest.mark.parametrize(
    ("arguments", "sequences", "more"),
    [
        (("org=acme", "--oldest-first"), [1, 2, 3], False),
        (("org=acme", "--limit", "2"), [3, 2], True),
        (("org=acme", "user=u1"), [2, 1], False),
        (("org=acme", "labels.tier=free"), [3], False),
        (("org=acme", "--reservation", "acme.a", "--verb", "reserve"), [1], False),
        (("org=acme", "--verb", "commit", "--verb", "adjust"), [3, 2], False),
        (("org=acme", "--since", "2026-03-05T10:00:01", "--until", "2026-03-05T11:00"), [2], False),
        (("org=acme", "--request", "r"), [3, 2, 1], False),
    ],
)
async def test_ledger_of_some(
    service: LedgerService, arguments: tuple[str, ...], sequences: list[int], more: bool
) -> None:
    await booked(service)
    found = await bursar_json(service, "ledger", *arguments)
    assert [each["sequence"] for each in found["entries"]] == sequences
    assert found["more"] is more


async def test_ledger_goes_over_pages(service: LedgerService) -> None:
    at_ms = ms("2026-03-05T10:00")
    await store(service.database, [Entry(at_ms, each) for each in range(2_300)])
    found = await bursar_json(service, "ledger", "org=acme", "--limit", "2150")
    assert [each["sequence"] for each in found["entries"]] == list(range(2_299, 149, -1))
    result = await bursar(service, "ledger", "org=acme", "--verb", "commits")
    assert result.exit_code == 2


async def test_verify_without_a_difference(service: LedgerService) -> None:
    result = await bursar(service, "verify")
    assert result.exit_code == 0
    assert result.stdout == "40 counters and 8 holds compared with the ledger: no difference\n"
    result = await bursar(service, "verify", "--org", "acme", "--deep")
    assert result.stdout == "10 counters and 2 holds compared with the ledger: no difference\n"
    assert service.shards.verified[-1] == (service.keys.shard_of("acme"), "acme", True, False)


async def test_verify_with_differences(service: LedgerService) -> None:
    lost = Difference(2, DifferenceKind.COUNTER, "acme:d", "committed", 5_000, None)
    report = VerifyReport(3, 1, (lost,), 1_001, 0)
    service.shards.reports[2] = report
    result = await bursar(service, "verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "counter acme:d (shard 2)",
        "    committed: the ledger says 5,000, there is nothing",
        "and 1,000 more",
        "33 counters and 7 holds compared with the ledger: 1,001 differences",
    ]
    service.shards.reports[2] = VerifyReport(3, 1, (lost,), 1, 1)
    found = await bursar_json(service, "verify", "--repair")
    assert (found["difference_count"], found["repaired_count"]) == (1, 1)
    assert found["differences"][0]["kind"] == "counter"
    assert found["differences"][0]["found"] is None


async def test_verify_waits_for_a_shard_that_is_rebuilt(service: LedgerService) -> None:
    """Goal: a shard that answers soon is waited for, one that does not is an error in the end.

    Method: a shard that answers from the third time on.
    """
    service.shards.cold_answers = 2
    result = await bursar(service, "verify", "--org", "acme")
    assert (result.exit_code, len(service.shards.verified)) == (0, 3)


async def test_rebuild(service: LedgerService) -> None:
    async with service.database.connection() as connection:
        for epoch, counters in (("e3", 7), ("e3+", 1_200)):
            await connection.execute(
                "INSERT INTO rebuilds (shard, epoch, cause, "
                "server_id, counters, holds) VALUES (3, $1, 'by hand', 's', $2, 1)",
                epoch,
                counters,
            )
    result = await bursar(service, "rebuild", "--shard", "3", "--yes")
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 shard loaded, with 1,200 counters and 1 hold\n"
    result = await bursar(service, "rebuild", "--all", given="y\n")
    assert result.exit_code == 0, result.output
    # Shard 3 goes on from the epoch that its row is of.
    assert result.stdout.endswith("4 shards loaded, with 0 counters and 0 holds\n")
    assert service.shards.rebuilt == [3, 0, 1, 2, 3]


async def test_a_rebuild_that_is_not_wanted(service: LedgerService) -> None:
    result = await bursar(service, "rebuild", "--org", "acme", given="n\n")
    assert result.exit_code == 1
    for wrong in ((), ("--all", "--shard", "1"), ("--org", "acme", "--all")):
        assert (await bursar(service, "rebuild", *wrong, "--yes")).exit_code == 2
    assert service.shards.rebuilt == []


async def test_a_rebuild_that_takes_too_long(service: LedgerService) -> None:
    class Stuck(list[ShardStatus]):
        def __setitem__(self, at: Any, value: Any) -> None:  # noqa: ANN401
            if value.state is ShardState.REBUILDING:
                super().__setitem__(at, value)

    service.shards.states = Stuck(service.shards.states)
    result = await bursar(service, "rebuild", "--shard", "1", "--yes", "--wait-s", "1")
    assert result.exit_code == 1
    assert "shard 1: rebuilding" in result.stdout
    assert "not all is loaded after 1 s" in result.stderr


async def test_status_of_what_is_well(service: LedgerService) -> None:
    service.shards.last = Verification(ms("2026-03-05T10:00"), 1_200, 1, 0)
    result = await bursar(service, "status")
    assert result.exit_code == 0, result.output
    shown = result.stdout.splitlines()
    assert shown[:2] == ["4 of 4 shards live", "ledger: up to date"]
    assert shown[2].startswith("drift: 0 differences in 1,200 counters and 1 hold, compared at ")
    assert shown[3].startswith("policy of acme: version ")
    assert len(shown) == 5


async def test_status_of_what_is_not(service: LedgerService) -> None:
    states = service.shards.states
    states[1] = ShardStatus(1, "e1", ShardState.COLD)
    states[2] = ShardStatus(2, "e2", ShardState.LIVE, 12, 95_000)
    service.shards.last = Verification(ms("2026-03-05T10:00"), 5, 5, 2)
    at = instant(ms("2026-03-05T11:00"))
    async with service.database.connection() as connection:
        await connection.execute(
            "INSERT INTO rebuilds (shard, epoch, cause, "
            "server_id, started_at, finished_at, counters, holds, committed_nano_usd, "
            "held_nano_usd, resent) VALUES (3, 'n', 'data gone', 's', $1, $2, 10, 11, "
            "12345000000000, 2500000000, 14)",
            at,
            at + timedelta(milliseconds=2_300),
        )
        await connection.execute("INSERT INTO servers VALUES ('server-1', '1.2.3.4:5')")
        await connection.execute(
            "INSERT INTO journal_rejects VALUES (3, 'e', '7-0', '', 'not msgpack')"
        )
    result = await bursar(service, "status")
    assert result.exit_code == 1
    for text in (
        "3 of 4 shards live",
        "    shard 1: cold",
        "ledger: 1 min 35 s behind, 12 entries waiting",
        "    nobody records 1 shard",
        "    1 journal entry could not be read and are kept aside",
        "        shard 3, 7-0: not msgpack",
        "drift: 2 differences in 5 counters and 5 holds",
        "server server-1 at 1.2.3.4:5, since ",
    ):
        assert text in result.stdout
    [row] = [line for line in lines(result) if "gone" in line]
    assert row[3:] == [
        "data", "gone", "3", "s", "1", "10", "11", "$12,345.00", "$2.5000", "14",
    ]  # fmt: skip
    found = await bursar(service, "status", "--json")
    assert found.exit_code == 1
    shown = json.loads(found.stdout)
    assert (shown["shards"][2]["lag_ms"], shown["shards"][1]["state"]) == (95_000, "cold")
    assert shown["rebuilds"][0]["committed_nano_usd"] == 12_345_000_000_000
    assert shown["policies"][0]["apply_time"] is None
