"""Failpoints do nothing unless asked, fire once, and refuse what they do not know."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar import failpoints
from bursar.failpoints import FailpointError, FailpointsInvalid, arm, failpoint


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm({})


def test_nothing_happens_where_nothing_is_asked() -> None:
    assert arm({}) == []
    for name in failpoints.NAMES:
        failpoint(name)


def test_it_fires_once_at_its_pass() -> None:
    """Goal: a test decides when. Method: an error at the third pass, and passes around it."""
    assert arm({"BURSAR_FAILPOINTS": "before_script=error:3, in_sweep=error"}) == [
        "before_script",
        "in_sweep",
    ]
    failpoint("before_script")
    failpoint("after_script")
    failpoint("before_script")
    with pytest.raises(FailpointError, match="before_script"):
        failpoint("before_script")
    failpoint("before_script")
    with pytest.raises(FailpointError, match="in_sweep"):
        failpoint("in_sweep")


def test_it_stands_still_for_a_time() -> None:
    arm({"BURSAR_FAILPOINTS": "before_trim=stop:50"})
    started_s = time.monotonic()
    failpoint("before_trim")
    assert time.monotonic() - started_s >= 0.05
    started_s = time.monotonic()
    failpoint("before_trim")
    assert time.monotonic() - started_s < 0.05


def test_it_kills_its_process() -> None:
    """Goal: a crash as `kill -9`. Method: a process of its own, which dies at the second pass."""
    program = (
        "import os; from bursar.failpoints import arm, failpoint; arm(os.environ)\n"
        "for number in range(3): print(number, flush=True); failpoint('before_reply')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BURSAR_FAILPOINTS": "before_reply=kill:2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere=kill", "there is no place 'nowhere'"),
        ("before_trim=explode", "the action must be kill, stop or error"),
        ("before_trim", "the action must be kill, stop or error"),
        ("before_trim=stop", "stop takes a time, 1 to 60000 ms"),
        ("before_trim=stop:0", "stop takes a time"),
        ("before_trim=stop:60001", "stop takes a time"),
        ("before_trim=kill:0", "the number of the pass"),
        ("before_trim=kill:1:2", "the number of the pass"),
        ("before_trim=kill:x", "must be a whole number"),
    ],
)
def test_what_it_does_not_know_is_refused(text: str, says: str) -> None:
    with pytest.raises(FailpointsInvalid, match=says):
        arm({"BURSAR_FAILPOINTS": f"after_script=kill,{text}"})


def test_serve_refuses_an_unknown_place(tmp_path: Path) -> None:
    """Goal: a misspelt one never tests nothing. Method: the command itself."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("org: acme\nbudgets: [{name: d, limit: {tokens: 1}, window: day}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "bursar.cli.main", "serve", "--policy", policy],
        env={**os.environ, "BURSAR_FAILPOINTS": "nowhere=kill", "BURSAR_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "BURSAR_FAILPOINTS: 'nowhere=kill': there is no place 'nowhere'" in " ".join(
        done.stderr.split()
    )


def test_a_clock_can_be_stepped(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    file.write_text("-1500", encoding="ascii")
    arm({"BURSAR_TEST_CLOCK_OFFSET_FILE": str(file)})
    assert failpoints.clock_offset_ms() == -1_500
    file.write_text("20", encoding="ascii")
    assert failpoints.clock_offset_ms() == 20
    arm({})
    assert failpoints.clock_offset_ms() == 0
