"""The `bursar` command as people use it, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bursar.cli.demo import EXAMPLES, DemoServer

SUBJECT = ("org=acme", "team=engineering", "feature=chatbot", "user=cli-user", "labels.tier=free")
DENIED = 3


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that enforces examples/acme.yaml."""
    server = DemoServer(tmp_path_factory.mktemp("server"), EXAMPLES / "acme.yaml")
    yield server.start()
    server.stop()


def bursar(
    *arguments: str, address: str = "", expect: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command and check its exit code."""
    environment = {**os.environ, "BURSAR_ADDRESS": address, "COLUMNS": "120", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "bursar.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
        cwd=cwd,
    )
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def bursar_json(*arguments: str, address: str, expect: int = 0) -> Any:  # noqa: ANN401
    """Run the command with --json and return what it prints."""
    return json.loads(bursar(*arguments, "--json", address=address, expect=expect).stdout)


def test_reserve_commit_and_look(address: str) -> None:
    """Goal: one call by hand. Method: reserve, see the hold, commit, see the balance."""
    grant = bursar_json(
        "reserve",
        "gpt-5-mini",
        *SUBJECT,
        "--input-tokens",
        "1000",
        "--max-output-tokens",
        "200",
        address=address,
    )
    assert grant["decision"] == "granted"
    assert grant["max_output_tokens"] == 200
    [hold] = bursar_json("holds", "org=acme", "user=cli-user", address=address)
    assert hold["reservation_id"] == grant["reservation_id"]
    settled = bursar_json(
        "commit",
        grant["reservation_id"],
        "--model",
        "gpt-5-mini",
        "--input-tokens",
        "1000",
        "--output-tokens",
        "50",
        address=address,
    )
    assert settled["state"] == "committed"
    counters = {
        counter["budget"]: counter
        for counter in bursar_json("balances", "org=acme", *SUBJECT[3:], address=address)
    }
    assert counters["free-users"]["committed"] == 1_050
    assert counters["free-users"]["held"] == 0
    # 1,000 input tokens at $0.25 and 50 output tokens at $2 a million.
    charge = next(each for each in settled["charges"] if each["meter"] == "cost")
    assert charge["amount"] == 350_000


def test_release_gives_back(address: str) -> None:
    """Goal: a released hold leaves nothing. Method: reserve, release, release again, look."""
    grant = bursar_json(
        "reserve",
        "gpt-5-mini",
        "org=acme",
        "user=cli-release",
        "--input-tokens",
        "10",
        address=address,
    )
    for _ in range(2):
        released = bursar_json("release", grant["reservation_id"], address=address)
        assert released["state"] == "released"
    assert bursar_json("holds", "org=acme", "user=cli-release", address=address) == []


def test_denial_says_what_would_fit(address: str) -> None:
    """Goal: a denial is an answer with exit code 3. Method: more tokens than the tier has."""
    result = bursar(
        "reserve",
        "gpt-5-mini",
        *SUBJECT,
        "--input-tokens",
        "200000",
        address=address,
        expect=DENIED,
    )
    assert "free-users has no room" in " ".join(result.stdout.split())
    denial = bursar_json(
        "reserve",
        "gpt-5-mini",
        *SUBJECT,
        "--input-tokens",
        "200000",
        address=address,
        expect=DENIED,
    )
    assert denial["kind"] == "never"
    assert denial["binding"]["budget"] == "free-users"


def test_tables_for_people(address: str) -> None:
    """Goal: the same for people. Method: each command's text names what it is about."""
    assert "org-monthly" in bursar("balances", "org=acme", address=address).stdout
    explained = bursar("explain", "gpt-5", *SUBJECT, address=address).stdout
    assert "60 % switch_model" in " ".join(explained.split())
    assert "a million input tokens" in " ".join(explained.split())
    assert "Nothing is held" in bursar("holds", "org=acme", "user=nobody", address=address).stdout


def test_errors_can_be_acted_on(address: str) -> None:
    """Goal: what is wrong is said once, without a trace. Method: typical mistakes."""
    unknown = bursar("balances", "org=nobody", address=address, expect=1)
    assert "org 'nobody' is not known here" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert "org=NAME is required" in bursar("balances", "team=x", address=address, expect=2).stderr
    gone = bursar("release", "acme.aaaaaaaaaaaaaaaaaaaaaaaa", address=address, expect=1)
    assert "RESERVATION_NOT_FOUND" in gone.stderr


def test_check_policy(tmp_path: Path) -> None:
    """Goal: faults come with their paths, warnings do not refuse. Method: one file each."""
    report = bursar_json("check-policy", str(EXAMPLES / "acme.yaml"), address="")
    assert report[0]["errors"] == []
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "org: acme\nbudgets: [{name: a, limit: {usd: 1}, window: month, anchor_dy: 3}]\n",
        encoding="utf-8",
    )
    result = bursar("check-policy", str(broken), expect=1)
    assert "budgets[0].anchor_dy" in result.stdout


def test_replay_recounts(address: str) -> None:
    """Goal: a replay against a running server recounts too. Method: 150 calls of the trace."""
    trace = EXAMPLES / "azure_llm_2023_conv.csv"
    result = bursar(
        "replay",
        str(trace),
        "--workload",
        str(EXAMPLES / "acme-workload.yaml"),
        "--policy",
        str(EXAMPLES / "acme.yaml"),
        "--requests",
        "150",
        address=address,
    )
    assert "FAIL" not in result.stdout
    assert "ok   no budget was ever seen past its limit" in result.stdout


def test_demo(tmp_path: Path) -> None:
    """Goal: the demo ends well and leaves nothing. Method: 200 calls in a folder of its own."""
    result = bursar("demo", "--requests", "200", "--data-dir", "demo", cwd=tmp_path)
    assert "FAIL" not in result.stdout
    assert result.stdout.count("ok   ") == 5
    assert not (tmp_path / "demo").exists()
