"""Policies, credits and freezes from the command line, against `bursar serve`."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bursar_processes import BURSAR, environment, serving
from typer.testing import CliRunner

from bursar.cli.commands import program
from databases import drop_database, new_database
from polling import eventually

APP = program()
POLICY = """
org: shop
budgets:
  - {name: month, limit: {usd: 500}, window: month}
  - {name: user-day, per: [user], limit: {tokens: 1000}, window: day}
"""
CHANGES, DENIED, USAGE = 4, 3, 2


class Shop:
    """An org with POLICY on a server, and commands for it."""

    def __init__(self, folder: Path, address: str, org: str = "shop") -> None:
        self.folder = folder
        self.address = address
        self.org = org
        self.policy = POLICY.replace("org: shop", f"org: {org}")

    def file(self, text: str, name: str = "new.yaml") -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str | Path, expect: int = 0) -> str:
        """Run a command in this process, which is faster; return what it wrote."""
        env = environment(BURSAR_ADDRESS=self.address)
        ended = CliRunner().invoke(APP, list(map(str, arguments)), env=env)
        said = ended.stdout + ended.stderr
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        assert ended.exit_code == expect, said
        return said

    def reserve(self, *subject: str, output: int = 10, expect: int = 0) -> str:
        return self.run(
            "reserve",
            "gpt-5-mini",
            f"org={self.org}",
            *subject,
            *("--input-tokens", "0", "--max-output-tokens", str(output)),
            expect=expect,
        )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that was started with POLICY in the file shop.yaml."""
    folder = tmp_path_factory.mktemp("server")
    policy = folder / "shop.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    with serving(policy, folder) as (_, found):
        yield found


@pytest.fixture
def shop(address: str, tmp_path: Path) -> Shop:
    """An org of the test's own, with one version."""
    made = Shop(tmp_path, address, f"shop-{secrets.token_hex(4)}")
    made.run("apply", made.file(made.policy), "--yes", "--who", "bob")
    return made


def test_plan_and_apply(shop: Shop) -> None:
    """Goal: a change is seen, applied and remembered. Method: plan, apply, history, going back."""
    assert "nothing changes" in shop.run("plan", shop.file(shop.policy))
    changed = shop.policy.replace("usd: 500", "usd: 800")
    new = shop.file(changed.replace("window: day", "window: hour"))
    planned = shop.run("plan", new, expect=CHANGES)
    assert "~ month limit: $500.00 -> $800.00" in planned
    assert "count anew" in planned
    [in_json] = json.loads(shop.run("plan", new, "--json", expect=CHANGES))
    assert {each["setting"] for each in in_json["changes"]} == {"limit", "window"}
    refused = shop.run("apply", new, expect=USAGE)
    assert "--yes" in refused
    assert "version 2" in shop.run("apply", new, "--yes", "--reason", "more", "--who", "ann")
    assert "nothing changes" in shop.run("apply", new, "--yes")
    history = json.loads(shop.run("policies", shop.org, "--json"))
    said = [(each["version"]["number"], each["version"]["actor"]) for each in history]
    assert said == [(2, "ann"), (1, "bob")]
    assert "more" in shop.run("policies", shop.org, "--limit", "1")
    assert shop.run("policy", shop.org, "--version", "1").strip() == shop.policy.strip()
    shop.run("apply", shop.file(shop.policy), "--yes")
    assert "nothing changes" in shop.run("plan", shop.file(shop.policy))


def test_a_document_that_is_refused(shop: Shop) -> None:
    """Goal: every fault with its path, and nothing applied. Method: two faults; no such file."""
    broken = shop.file(
        shop.policy.replace("usd: 500", "usd: -5").replace("window: day", "window: age")
    )
    for command in (("plan",), ("apply", "--yes")):
        said = shop.run(*command, broken, expect=1)
        assert "budgets[0].limit.usd" in said
        assert "budgets[1].window" in said
    assert "cannot be read" in shop.run("plan", shop.folder / "none.yaml", expect=1)
    assert len(json.loads(shop.run("policies", shop.org, "--json"))) == 1


@pytest.mark.parametrize(("answer", "applied"), [("y", True), ("n", False)])
def test_it_asks(shop: Shop, answer: str, applied: bool) -> None:
    """Goal: on a terminal a change is asked for. Method: both answers on a pseudo-terminal."""
    new = shop.file(shop.policy.replace("usd: 500", "usd: 800"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*BURSAR, "apply", str(new)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(BURSAR_ADDRESS=shop.address),
    )
    os.close(theirs)
    said = b""
    while b"Apply?" not in said:
        said += os.read(ours, 1_024)
    os.write(ours, f"{answer}\n".encode())
    code = process.wait(30)
    os.close(ours)
    assert (code == 0) is applied
    assert len(json.loads(shop.run("policies", shop.org, "--json"))) == 1 + applied


def test_credit(shop: Shop) -> None:
    """Goal: a credit is room at once, given once. Method: below, with and without it."""
    shop.reserve("user=u1", output=1_200, expect=DENIED)
    given = ("--for", "user=u1", "--reason", "a long day", "--request-id", "c-1")
    for _ in range(2):
        said = shop.run("credit", shop.org, "user-day", "500", *given)
        assert "1,000 + 500" in said
    shop.reserve("user=u1", output=1_200)
    shop.run("credit", shop.org, "month", "--reason", "x", "--for-time", "2h", "--", "-12.50usd")
    listed = json.loads(shop.run("credits", shop.org, "--json"))
    assert [(each["budget"], each["amount"]) for each in listed] == [
        ("month", -12_500_000_000),
        ("user-day", 500),
    ]
    assert "a long day" in shop.run("credits", shop.org)
    for arguments in (
        ("month", "five", "--reason", "x"),
        ("month", "5usd", "--reason", "x", "--until", "tomorrow"),
        ("month", "5usd", "--reason", "x", "--until", "2026-01-01T00:00:00"),
        ("month", "5usd", "--reason", "x", "--for", "user"),
    ):
        shop.run("credit", shop.org, *arguments, expect=USAGE)
    said = shop.run("credit", shop.org, "nothing", "5", "--reason", "x", expect=1)
    assert "FIELD_INVALID: budget: is no budget" in said


def test_freeze(shop: Shop) -> None:
    """Goal: a subtree stops and goes on. Method: freeze, ask, lift, ask."""
    red = (f"org={shop.org}", "team=red")
    frozen = shop.run("freeze", *red, "--reason", "it loops", "--who", "ann")
    assert f"frozen {' '.join(red)}, by ann" in frozen
    denied = shop.reserve("team=red", expect=DENIED)
    assert re.search(
        rf"denied \(never\): org={shop.org} team=red was frozen by ann .*: it loops", denied
    )
    shop.reserve("team=blue")
    assert "it loops" in shop.run("freezes", shop.org)
    shop.run("unfreeze", f"org={shop.org}", "team=red", "--who", "bob")
    shop.reserve("team=red")
    assert "Nothing is frozen." in shop.run("freezes", shop.org)
    [lifted] = json.loads(shop.run("freezes", shop.org, "--lifted", "--json"))
    assert (lifted["subject"]["team"], lifted["lift_actor"]) == ("red", "bob")
    said = shop.run("unfreeze", f"org={shop.org}", "team=red", expect=1)
    assert "POLICY_NOT_FOUND" in said
    shop.run("freeze", f"org={shop.org}", "labels.tier=free", "--reason", "x", expect=USAGE)


def test_a_server_without_a_file(tmp_path: Path) -> None:
    """Goal: policies, freezes and credits outlive the server, which then needs no file.

    Method: a server with a file, then one on the same data without.
    """
    policy = tmp_path / "shop.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    with serving(policy, tmp_path) as (server, address):
        shop = Shop(tmp_path, address)
        [first] = json.loads(shop.run("policies", "shop", "--json"))
        assert first["version"]["actor"] == "file shop.yaml"
        shop.run("apply", shop.file(POLICY.replace("usd: 500", "usd: 800")), "--yes")
        shop.run("freeze", "org=shop", "team=red", "--reason", "it loops")
        shop.run("credit", "shop", "user-day", "500", "--for", "user=u1", "--reason", "x")
        assert server.end() == 0
    with serving(None, tmp_path) as (_, address):
        shop = Shop(tmp_path, address)
        assert "usd: 800" in shop.run("policy", "shop")
        shop.reserve("team=red", expect=DENIED)
        shop.reserve("user=u1", output=1_400)


def test_two_servers(tmp_path: Path, postgres_url: str, redis_url: str, key_namespace: str) -> None:
    """Goal: a change on one server acts on the other within a second; one file, one version.

    Method: two processes on one Redis and one PostgreSQL, started with the same file.
    """
    database = new_database(postgres_url)
    policy = tmp_path / "shop.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    shared = {
        "BURSAR_DATABASE_URL": database,
        "BURSAR_REDIS_URL": redis_url,
        "BURSAR_KEY_NAMESPACE": key_namespace,
        "BURSAR_SHARD_COUNT": "2",
    }
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with (
        serving(policy, first, **shared) as (_, address),
        serving(policy, second, **shared) as (_, other_address),
    ):
        shop, other = Shop(first, address), Shop(second, other_address)
        assert len(json.loads(shop.run("policies", "shop", "--json"))) == 1
        shop.run("freeze", "org=shop", "team=red", "--reason", "it loops")
        red = ("reserve", "gpt-5-mini", "org=shop", "team=red", "--input-tokens", "1")

        def frozen() -> bool:
            env = environment(BURSAR_ADDRESS=other.address)
            return CliRunner().invoke(APP, red, env=env).exit_code == DENIED

        eventually(frozen, 1.0)
    drop_database(postgres_url, database)
