"""What `bench` reports, how it compares, and how it makes its messages. Nothing is timed here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from bench import compare
from bench import page as bench_page
from bench.__main__ import BASELINE
from bench.compare import differences
from bench.cpu import cpu_s
from bench.page import filled, marks, sizing, table
from bench.raw_redis import monitored_words
from bench.report import Report, ReportUnreadable
from bench.rows import Row
from bench.workload import (
    DEPTH_MAX,
    TTL_S,
    calls,
    depth_policy,
    scarce_policy,
    workload_policy,
)
from bursar.authority.identity import hold_name
from bursar.domain.policy import compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.subject import OrgId, Subject, Target
from bursar.pb import budget_authority_service_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {
    "commit": "0123456789abcdef",
    "changed": False,
    "time": "2026-11-28T12:00:00+00:00",
    "cores": 2,
    "processor": "a processor",
    "python": "3.11.7",
    "grpcio": "1.85.1",
    "scale": "short",
    "seconds": 9,
    "load_average_before": 0.1,
}
COST = Row("P2", "server CPU of a call", "300 us", "echo 200 us", 1.5, 1.7, figures={"a_us": 1.5})
RATE = Row("P3", "decisions/s", "9,000/s", "unary 1,000/s", 9.0, 8, "least")
PROCESSES = ("server", "redis", "postgres")
AWAY = Row("P9", "workers", note="too few cores")


def exit_code(command: Callable[..., None], *arguments: object) -> int:
    try:
        command(*arguments)
    except typer.Exit as end:
        return end.exit_code
    return 0


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


def written(folder: Path, name: str, *rows: Row) -> Path:
    file = folder / name
    file.write_text(Report(ABOUT, rows).to_json(), encoding="utf-8")
    return file


def test_a_run_prints_well_formed_json() -> None:
    """Goal: whoever reads the JSON finds what was measured. Method: a real row, without servers."""
    done = run_bench("--only", "p8", "--short", "--json", "-")
    # How fast this machine is decides whether it is far off; that is no matter here.
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert {"commit", "cores", "python", "redis_server", "load", "where"} <= set(found["about"])
    [row] = found["rows"]
    assert row["name"] == "P8"
    assert row["ratio"] > 0
    assert row["verdict"] in ("reached", "short")
    assert set(row["figures"]) == {"match_us", "few_match_us", "compile_s"}


def test_a_row_that_does_not_exist_is_refused() -> None:
    done = run_bench("--only", "P8,P99")
    assert done.returncode == 2
    assert "P99" in done.stderr


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = (COST, RATE, AWAY)
    assert Report.read(written(tmp_path, "a.json", *rows)) == Report(ABOUT, rows)


@pytest.mark.parametrize("text", ["", "[]", '{"about": {}}', '{"about": {}, "rows": [{"a": 1}]}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ReportUnreadable, match=r"a\.json"):
        Report.read(file)
    assert exit_code(compare.main, file, file) == 2


@pytest.mark.parametrize(
    ("row", "ratio", "verdict"),
    [
        (COST, 1.7, "reached"),
        (COST, 1.71, "short"),
        (RATE, 8.0, "reached"),
        (RATE, 7.9, "short"),
        (RATE, 0.0, "short"),
        (replace(COST, reach=0), 0, "reached"),
        (replace(COST, reach=0), 1, "short"),
        (replace(COST, judged=False), 9.0, ""),
        (COST, None, ""),
    ],
)
def test_a_row_is_judged(row: Row, ratio: float | None, verdict: str) -> None:
    assert replace(row, ratio=ratio).verdict == verdict


@pytest.mark.parametrize(
    ("row", "before", "after", "far_off"),
    [
        (COST, 3.4, 3.4 * 2.4, False),
        (COST, 3.4, 3.4 * 2.6, True),
        # What reached it before may become a little worse than its reach.
        (COST, 0.1, 1.7 * 2.4, False),
        (COST, 0.1, 1.7 * 2.6, True),
        (RATE, 4.0, 1.7, False),
        (RATE, 4.0, 1.5, True),
        (RATE, 80.0, 8.0, False),
        (RATE, 4.0, 0.0, True),
        (COST, 3.4, None, False),
        (COST, None, 9.0, False),
        (replace(COST, far_off_from=None), 1.7, 99.0, False),
    ],
)
def test_a_row_is_far_off(
    row: Row, before: float | None, after: float | None, far_off: bool
) -> None:
    assert replace(row, ratio=after).is_far_off(replace(row, ratio=before)) is far_off


def test_there_is_a_run_to_be_judged_by() -> None:
    usual = Report.read(BASELINE)
    names = {row.name.split()[0] for row in usual.rows}
    assert names == {f"P{number}" for number in range(1, 14)}
    assert all(row.ratio is not None for row in usual.rows if row.judged)


@pytest.mark.parametrize(
    ("row", "after", "change"),
    [
        (COST, 1.5 * 1.3, "worse"),
        (COST, 1.5 / 1.3, "better"),
        (COST, 1.5 * 1.2, "same"),
        (RATE, 9 / 1.3, "worse"),
        (RATE, 9 * 1.3, "better"),
        (RATE, 9 / 1.2, "same"),
        (RATE, None, "gone"),
    ],
)
def test_two_runs_are_compared(row: Row, after: float | None, change: str) -> None:
    [found] = differences(Report(ABOUT, (row,)), Report(ABOUT, (replace(row, ratio=after),)))
    assert found.change == change


def test_compare_finds_a_regression_in_two_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(tmp_path, "before.json", COST, RATE)
    after = written(tmp_path, "after.json", COST, replace(RATE, ratio=5.0))
    assert exit_code(compare.main, before, after) == 1
    assert re.search(r"P2 .* same\b.*\n.*P3 .* worse\b", capsys.readouterr().out)
    assert exit_code(compare.main, before, before) == 0
    # What is better is no reason to fail.
    assert exit_code(compare.main, after, before) == 0


def test_a_run_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    (table_begin, table_end), (sizing_begin, sizing_end) = marks("measured"), marks("sizing")
    page = tmp_path / "page.md"
    page.write_text(
        f"# Page\n\n{table_begin}\nold\n{table_end}\n\nMore.\n\n{sizing_begin}\n{sizing_end}\n",
        encoding="utf-8",
    )
    names = [f"{prefix}{name}_cpu_us" for prefix in ("", "unary_") for name in PROCESSES]
    growth = {"redis_bytes_a_counter": 200, "redis_bytes_an_open_hold": 1_000}
    rows = (
        replace(RATE, figures=dict.fromkeys(names, 50.0)),
        Row("P7", "growth", figures=growth),
        Row("P10", "ledger", figures={"ledger_entries_bytes_an_operation": 500}),
        AWAY,
    )
    run = written(tmp_path, "a.json", *rows)
    for _ in range(2):
        assert exit_code(bench_page.main, run, page) == 0
    text, report = page.read_text(encoding="utf-8"), Report.read(run)
    assert text == (
        f"# Page\n\n{table_begin}\n\n{table(report)}\n\n{table_end}\n\nMore.\n\n"
        f"{sizing_begin}\n\n{sizing(report)}\n\n{sizing_end}\n"
    )
    assert "| P3 | decisions/s | 9,000/s | unary 1,000/s | 9.00 | >= 8 | reached |" in text
    assert "20,000 operations/s on a core of server" in text
    # 500 bytes, twice for each of 100 calls a second, for 30 days.
    assert "259 GB of PostgreSQL a month" in text


def test_a_page_without_marks_or_a_run_without_rows_changes_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with_marks = "\n".join("\n".join(marks(name)) for name in ("measured", "sizing"))
    for before, rows in (("no marks", (RATE,)), (with_marks, (RATE,))):
        page.write_text(before, encoding="utf-8")
        assert exit_code(bench_page.main, written(tmp_path, "a.json", *rows), page) == 2
        assert page.read_text(encoding="utf-8") == before
    with pytest.raises(ReportUnreadable):
        filled("no marks", Report(ABOUT, (RATE,)))


def test_messages_are_what_protobuf_would_write() -> None:
    call = calls(["acme"])[0]
    for request_id in ("r", "r" * 127, "r" * 128, "r" * 256):
        reserve = pb.ReserveRequest.FromString(call.reserve_as(request_id))
        assert (reserve.request_id, reserve.subject.user) == (request_id, call.user)
        assert reserve.ttl.seconds == TTL_S
        commit = pb.CommitRequest.FromString(call.commit_of(request_id))
        name = hold_name(OrgId("acme"), request_id).reservation_id
        assert (commit.reservation_id, commit.usage.output_tokens) == (name, call.output_tokens)


def test_the_workload_is_as_large_as_it_says() -> None:
    made = calls(["acme"])
    assert len({call.user for call in made}) == 1_000
    assert len({call.task for call in made}) == 5_000
    assert len({(call.task, call.user) for call in made}) == len({call.task for call in made})
    # Many users are as many as there are calls.
    assert len({call.user for call in calls(["acme"], users=1_000_000)}) == len(made)


def test_every_policy_of_the_workload_is_accepted() -> None:
    who = Subject(OrgId("acme"), team="t", feature="f", user="u", task="t"), Target("", "m")
    now_ms = 1_900_000_000_000
    for text in (workload_policy("acme"), workload_policy("acme", "minute"), scarce_policy("acme")):
        policy = compile_policy(parse_policy(text, "policy"))
        assert len(policy.counters(*who, now_ms)) == 6
    for depth in range(1, DEPTH_MAX + 1):
        policy = compile_policy(parse_policy(depth_policy("acme", depth), "policy"))
        assert len(policy.counters(*who, now_ms)) == depth


def test_a_monitored_command_is_read_back() -> None:
    line = (
        rb'+1795904377.38 [0 unix:/tmp/a b] "EVALSHA" "a1" "2" "{b00}:m" "\x93\x00\n\\\"]\xff" ""'
    )
    assert monitored_words(line) == [
        b"EVALSHA", b"a1", b"2", b"{b00}:m", b'\x93\x00\n\\"]\xff', b"",
    ]  # fmt: skip


def test_time_of_a_process_and_of_its_ended_children_is_counted() -> None:
    """Goal: nothing that a server starts is free. Method: a grandchild works, and ends."""
    work = "import time\nwhile time.process_time() < 0.2: pass"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}], check=True);"
        "print('worked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"worked\n"
        assert cpu_s({"it": [process.pid], "none": []})["it"] >= 0.2
        process.communicate()
