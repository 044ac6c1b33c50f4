"""The `bursar` command as people use it, against a real server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bursar_processes import BURSAR, environment, run_bursar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bursar import __version__
from bursar.cli.commands import program
from bursar.cli.demo import EXAMPLES, DemoServer
from postgres_data import make_postgres_data


def who(user: str) -> tuple[str, ...]:
    """Return a subject; each test that spends has a user of its own."""
    return ("org=acme", "team=engineering", "feature=chatbot", f"user={user}", "labels.tier=free")


APP = program()
SUBJECT = who("cli-nobody")
DENIED = 3
ESCAPE = "\x1b"
NOWHERE = "127.0.0.1:1"
TRACE = EXAMPLES / "azure_llm_2023_conv.csv"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that enforces examples/acme.yaml."""
    folder = tmp_path_factory.mktemp("server")
    make_postgres_data(folder / "postgres")
    server = DemoServer(folder, EXAMPLES / "acme.yaml")
    yield server.start()
    server.stop()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def in_process(*arguments: str, **env: str) -> Ended:
    """Run the command as a process of its own."""
    result = run_bursar(*arguments, env=environment(**env))
    assert "Traceback" not in result.stderr
    return Ended(result.returncode, result.stdout, result.stderr)


def in_here(*arguments: str, **env: str) -> Ended:
    """Run the command in this process, which is faster and otherwise the same."""
    result = CliRunner().invoke(APP, arguments, env={"COLUMNS": "120", "NO_COLOR": "1", **env})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def bursar(
    *arguments: str | Path,
    address: str = NOWHERE,
    expect: int = 0,
    run: Callable[..., Ended] = in_here,
    **env: str,
) -> Ended:
    """Run the command and check its exit code, and that a pipe gets no escape codes."""
    ended = run(*map(str, arguments), BURSAR_ADDRESS=address, **env)
    assert ended.code == expect, ended.stdout + ended.stderr
    assert ESCAPE not in ended.stdout + ended.stderr
    return ended


def bursar_json(*arguments: str | Path, address: str = NOWHERE, expect: int = 0) -> Any:  # noqa: ANN401
    """Run the command with --json and return what it prints; no number in it is a float."""
    text = bursar(*arguments, "--json", address=address, expect=expect).stdout
    return json.loads(text, parse_float=lambda number: pytest.fail(f"a float: {number}"))


def test_one_call_by_hand(address: str) -> None:
    """Goal: every command has JSON with exact amounts. Method: a call from reserve to balance."""
    subject = who("cli-hand")
    grant = bursar_json(
        *("reserve", "gpt-5-mini", *subject, "--input-tokens", "1000"),
        *("--max-output-tokens", "200", "--ttl-s", "90"),
        address=address,
    )
    assert grant["decision"] == "granted"
    assert grant["max_output_tokens"] == 200
    assert grant["ttl_ms"] == 90_000
    [hold] = bursar_json("holds", "org=acme", "user=cli-hand", address=address)
    assert hold["reservation_id"] == grant["reservation_id"]
    settled = bursar_json(
        *("commit", grant["reservation_id"], "--model", "gpt-5-mini"),
        *("--input-tokens", "1000", "--output-tokens", "50"),
        address=address,
    )
    assert settled["state"] == "committed"
    counters = {
        counter["budget"]: counter
        for counter in bursar_json("balances", "org=acme", *subject[3:], address=address)
    }
    assert counters["free-users"]["committed"] == 1_050
    assert counters["free-users"]["held"] == 0
    # 1,000 input tokens at $0.25 and 50 output tokens at $2 a million, in nano-USD.
    charge = next(each for each in settled["charges"] if each["meter"] == "cost")
    assert charge["amount"] == 350_000
    explained = bursar_json("explain", "gpt-5-mini", *subject, address=address)
    assert explained["price"]["output_nano_usd_per_million_tokens"] == 2_000_000_000
    applied = {each["budget"]: each["applies"] for each in explained["budgets"]}
    assert applied["free-users"] is True
    assert applied["each-task"] is False


def test_release_gives_back(address: str) -> None:
    """Goal: a released hold leaves nothing. Method: reserve, release, release again, look."""
    grant = bursar_json(
        *("reserve", "gpt-5-mini", "org=acme", "user=cli-release", "--input-tokens", "10"),
        address=address,
    )
    for _ in range(2):
        released = bursar_json("release", grant["reservation_id"], address=address)
        assert released["state"] == "released"
    assert bursar_json("holds", "org=acme", "user=cli-release", address=address) == []


def test_denial_says_what_would_fit(address: str) -> None:
    """Goal: a denial is an answer with exit code 3. Method: more tokens than the tier has."""
    arguments = ("reserve", "gpt-5-mini", *SUBJECT, "--input-tokens", "200000")
    result = bursar(*arguments, address=address, expect=DENIED)
    assert "free-users has no room" in result.stdout
    denial = bursar_json(*arguments, address=address, expect=DENIED)
    assert denial["kind"] == "never"
    assert denial["binding"]["budget"] == "free-users"


def test_texts_for_people(address: str) -> None:
    """Goal: the same for people. Method: each command's text names what it is about."""
    subject = who("cli-texts")
    asked = ("reserve", "gpt-5-mini", *subject, "--input-tokens", "1", "--max-output-tokens", "1")
    granted = bursar(*asked, address=address, run=in_process).stdout
    assert granted.startswith("granted: call gpt-5-mini for at most 1 output token\n")
    reservation = granted.splitlines()[1].removeprefix("reservation ")
    held = bursar("holds", "org=acme", "user=cli-texts", address=address).stdout
    assert held.startswith(f"{reservation}\n")
    assert "labels.tier=free" in held
    assert "free-users 2 tokens" in held
    committed = ("commit", reservation, "--model", "gpt-5-mini", "--input-tokens", "3")
    settled = bursar(*committed, "--output-tokens", "2", address=address).stdout
    assert settled.startswith(f"committed {reservation}\n")
    assert "3 tokens" in settled, "5 tokens were used and 2 were held"
    assert "org-monthly" in bursar("balances", "org=acme", address=address).stdout
    explained = bursar("explain", "gpt-5", *subject, address=address).stdout
    assert "at 60 % switch_model" in explained
    assert "$1.25 a million input tokens, $10 a million output tokens" in explained
    assert (
        bursar("holds", "org=acme", "user=nobody", address=address).stdout == "Nothing is held.\n"
    )
    assert bursar("--version").stdout == f"bursar {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(
            ["balances", "org=nobody"], 1, "ORG_ACCESS_DENIED: org 'nobody' is not known", id="org"
        ),
        pytest.param(
            ["release", "acme.aaaaaaaaaaaaaaaaaaaaaaaa"], 1, "RESERVATION_NOT_FOUND: ", id="gone"
        ),
        pytest.param(
            ["reserve", "", "org=acme", "--input-tokens", "1"],
            1,
            "FIELD_INVALID: target.model: is required",
            id="field",
        ),
        pytest.param(["balances", "team=x"], 2, "org=NAME is required", id="no org"),
        pytest.param(["balances", "org=a", "org=b"], 2, "org is given twice", id="twice"),
        pytest.param(["balances", "org=a", "city=x"], 2, "'city=x' is not NAME=VALUE", id="level"),
        pytest.param(["balances", "org=a", "--address", "x"], 2, "is not HOST:PORT", id="address"),
        pytest.param(
            ["reserve", "m", "org=a", "--input-tokens", "1" + "0" * 30], 2, "1000000000", id="huge"
        ),
        pytest.param(
            ["reserve", "m", "org=a", "--input-tokens", "1", "--ttl-s", "nan"],
            2,
            "'--ttl-s'",
            id="nan",
        ),
        pytest.param(["fly"], 2, "No such command 'fly'", id="command"),
    ],
)
def test_errors_can_be_acted_on(address: str, arguments: list[str], code: int, says: str) -> None:
    """Goal: what is wrong is said once, on stderr. Method: typical mistakes."""
    result = bursar(*arguments, address=address, expect=code)
    assert says in result.stderr
    assert result.stdout == ""
    if code == 1:
        assert len(result.stderr.splitlines()) == 1


def test_what_is_no_text_is_an_error() -> None:
    """Goal: no traceback either for bytes that are no UTF-8. Method: such an argument."""
    result = bursar("balances", "org=a", "user=\udcff", run=in_process, expect=2)
    assert result.stderr == "an argument is no valid UTF-8\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("balances", "org=acme"), id="balances"),
        pytest.param(("holds", "org=acme", "--json"), id="json"),
        pytest.param(("reserve", "m", "org=acme", "--input-tokens", "1"), id="reserve"),
        pytest.param(("replay", TRACE, "--workload", EXAMPLES / "acme-workload.yaml"), id="replay"),
    ],
)
def test_no_server_is_said_in_one_line(arguments: tuple[str | Path, ...]) -> None:
    """Goal: whoever forgot to start one knows what to do, at once. Method: a closed port."""
    began_s = time.monotonic()
    result = bursar(*arguments, address=NOWHERE, expect=1, run=in_process)
    assert time.monotonic() - began_s < 10
    [line] = result.stderr.splitlines()
    assert line.startswith(f"no server at {NOWHERE}: start one with `bursar serve --policy FILE`")
    assert result.stdout == ""


# Odd words: empty, spaces, markup of the terminal library, equals signs, what looks like options.
WORDS = st.one_of(
    st.sampled_from(["", " ", "=", "org=", "org==", "[bold]", "[/]", "-", "-1", "--json", "\x00"]),
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
)
COMMANDS = st.sampled_from(["balances", "holds", "explain", "reserve", "commit", "release"])
RIGHT = st.sampled_from(
    ["org=acme", "user=u", "labels.a=b", "gpt-5", "--input-tokens", "--model", "--ttl-s", "1"]
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(command=COMMANDS, words=st.lists(st.one_of(WORDS, RIGHT), max_size=8))
def test_odd_arguments_never_break_it(address: str, command: str, words: list[str]) -> None:
    """Goal: no arguments end in anything but an answer or a message. Method: random ones."""
    result = CliRunner().invoke(APP, [command, *words], env={"BURSAR_ADDRESS": address})
    assert result.exit_code in (0, 1, 2, DENIED), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output


def on_terminal(*arguments: str, **env: str) -> str:
    """Run the command on a terminal of its own and return what it writes there."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [*BURSAR, *arguments], stdin=its, stdout=its, stderr=its, env=environment(**env)
    ) as command:
        os.close(its)
        written = b""
        try:
            while part := os.read(ours, 65_536):
                written += part
        except OSError:
            pass  # How Linux says that the other end is closed.
        finally:
            os.close(ours)
    assert command.returncode == 0, written
    return written.decode().replace("\r\n", "\n")


def test_colors_only_where_they_are_wanted(address: str) -> None:
    """Goal: no escape codes for who asks for none. Method: a terminal, with NO_COLOR and without.

    That a pipe gets none is checked with each other command of this file.
    """
    arguments = ("explain", "gpt-5", *SUBJECT)
    env = {"BURSAR_ADDRESS": address, "TERM": "xterm-256color"}
    plain = on_terminal(*arguments, **env)
    assert ESCAPE not in plain
    assert "org-monthly" in plain
    assert ESCAPE in on_terminal(*arguments, **env, NO_COLOR="")


@pytest.mark.parametrize("columns", [60, 80])
def test_narrow_terminals_can_be_read(address: str, columns: int) -> None:
    """Goal: nothing is cut off. Method: a table in few columns has every budget and number."""
    table = bursar("balances", "org=acme", "user=cli", address=address, COLUMNS=str(columns)).stdout
    lines = table.splitlines()
    assert max(map(len, lines)) <= columns
    for whole in ("engineering-monthly", "$50,000.00", "100,000", "tokens"):
        assert whole in table
    assert "…" not in table
    assert ("resets" in table) is (columns >= 80)


def test_check_policy(tmp_path: Path) -> None:
    """Goal: all faults with their paths, then warnings; the exit code suits a pipeline.

    Method: a good, a broken and an odd file, alone and together.
    """
    good = EXAMPLES / "acme.yaml"
    broken, odd = tmp_path / "broken.yaml", tmp_path / "odd[bold].yaml"
    broken.write_text(
        "org: acme\nbudgets:\n"
        "  - {name: a, limit: {usd: 1}, window: month, anchor_dy: 3}\n"
        "  - {name: b, limit: {usd: 1}, window: fortnight}\n",
        encoding="utf-8",
    )
    odd.write_text(
        "org: acme\nbudgets:\n"
        "  - {name: all, limit: {usd: 1}, window: month}\n"
        "  - {name: part, scope: {team: a}, limit: {usd: 2}, window: month}\n",
        encoding="utf-8",
    )
    assert bursar("check-policy", good).stdout == f"accepted {good}: org acme, 10 budgets\n"
    [report] = bursar_json("check-policy", good)
    assert report["errors"] == report["warnings"] == []
    refused = bursar("check-policy", good, broken, expect=1).stdout
    assert "accepted" in refused
    assert "error budgets[0].anchor_dy: " in refused
    assert "error budgets[1].window: " in refused
    warned = bursar("check-policy", odd).stdout
    assert warned.startswith(f"accepted {odd}: org acme, 2 budgets\n  warning budgets[")
    assert bursar("check-policy", odd, "--strict", expect=1).stdout == warned
    [report] = bursar_json("check-policy", odd, "--strict", expect=1)
    assert report["errors"] == []
    assert len(report["warnings"]) == 1
    missing = bursar("check-policy", tmp_path / "nowhere", expect=1).stdout
    assert "(file): cannot be read" in missing


WORKLOAD = """
org: acme
profiles:
  - {weight: 1, team: marketing, model: gpt-5-mini, max_output_tokens: 100, dies: 4, fails: 5}
"""


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A workload in which every fourth call is never settled."""
    file = tmp_path / "workload.yaml"
    file.write_text(WORKLOAD, encoding="utf-8")
    return file


def test_replay_recounts(address: str, workload: Path) -> None:
    """Goal: a replay against a running server recounts too, while holds are open on purpose.

    Method: 30 calls of the trace; then with a policy that is not the server's.
    """
    arguments = ("replay", TRACE, "--workload", workload, "--requests", "30", "--policy")
    text = bursar(*arguments, EXAMPLES / "acme.yaml", address=address).stdout
    assert "FAIL" not in text
    assert "ok   no hold is open but of 7 calls that never settled" in text
    assert "ok   what is held is what the open holds add up to" in text
    report = bursar_json(*arguments, EXAMPLES / "acme.yaml", address=address)
    assert (report["calls"], report["granted"], report["abandoned"]) == (30, 30, 7)
    assert report["released"] + report["abandoned"] + report["committed"]["calls"] == 30
    assert all(check["passed"] for check in report["checks"])
    other = workload.with_name("other.yaml")
    other.write_text("org: acme\nbudgets: [{name: x, limit: {usd: 1}}]", encoding="utf-8")
    result = bursar(*arguments, other, address=address, expect=2)
    assert "has no budget 'org-monthly': it is not the server's policy" in result.stderr


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        pytest.param("ContextTokens,GeneratedTokens\n1,2\n1,two\n", "line 3", id="no number"),
        pytest.param("ContextTokens,GeneratedTokens\n1,-2\n", "line 2", id="negative"),
        pytest.param("ContextTokens,GeneratedTokens\n1,2000000000\n", "line 2", id="too large"),
        pytest.param("ContextTokens,GeneratedTokens\n1\n", "line 2", id="too short"),
        pytest.param("a,b\n1,2\n", "line 2", id="other columns"),
        pytest.param("", "has no calls", id="empty"),
    ],
)
def test_a_broken_trace_is_refused(tmp_path: Path, workload: Path, trace: str, says: str) -> None:
    """Goal: the line and the reason are said before any call is made. Method: one fault each."""
    file = tmp_path / "trace.csv"
    file.write_text(trace, encoding="utf-8")
    result = bursar("replay", file, "--workload", workload, expect=2)
    [line] = result.stderr.splitlines()
    assert line.startswith(str(file))
    assert says in line


def test_files_of_a_replay_that_are_not_there(tmp_path: Path, workload: Path) -> None:
    """Goal: each is named. Method: a trace, a workload and a policy that are not there."""
    nowhere = tmp_path / "nowhere"
    for arguments in (
        (nowhere, "--workload", workload),
        (TRACE, "--workload", nowhere),
        (TRACE, "--workload", workload, "--policy", nowhere),
    ):
        assert str(nowhere) in bursar("replay", *arguments, expect=2).stderr


def test_demo(tmp_path: Path) -> None:
    """Goal: the demo ends well, shows what it did, and leaves nothing. Method: 200 calls."""
    result = bursar("demo", "--requests", "200", "--data-dir", tmp_path / "demo", run=in_process)
    text = result.stdout
    assert "FAIL" not in text
    assert text.count("  ok   ") == 8
    for shown in (
        "granted   as asked",
        "switch model (chatbot-monthly)",
        "input tokens",
        "chatbot-monthly",
        "free-users [user=",
        "fullest of",
    ):
        assert shown in text
    assert not (tmp_path / "demo").exists()


def test_demo_touches_nobodys_files(tmp_path: Path) -> None:
    """Goal: a folder with other files is left alone. Method: one with a file, and a file."""
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    result = bursar("demo", "--data-dir", tmp_path, expect=2)
    assert "has files that are no demo's, such as thesis.txt" in result.stderr
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    result = bursar("demo", "--data-dir", tmp_path / "thesis.txt", expect=2)
    assert "Not a directory" in result.stderr
