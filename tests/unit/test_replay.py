"""The pieces of a replay that need no server: notes on disk, the folder, when a call was decided.

Method: files in a folder of the test's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bursar.cli.callers import over_limit
from bursar.cli.commit_log import ATTEMPT, BOOKED, CommitLog
from bursar.cli.demo_folder import DemoFolder, FolderUnusable
from bursar.cli.recount import Committed, PolicyUnusable, Recount
from bursar_client import BudgetMode, CounterStatus, Meter, Subject, Target

COMMIT = Committed(
    subject=Subject(org="acme", team="a", labels={"tier": "free"}),
    target=Target(provider="openai", model="gpt-5"),
    input_tokens=10,
    output_tokens=2,
    reserve_time=datetime(2026, 3, 1, 12, 30, 1, 5, tzinfo=UTC),
    request_id="one",
)


def test_notes_come_back_as_they_were(tmp_path: Path) -> None:
    """Goal: acknowledged and unacknowledged are told apart. Method: one of each."""
    file = tmp_path / "commits.jsonl"
    log = CommitLog(file)
    log(ATTEMPT, COMMIT)
    log(BOOKED, COMMIT)
    log(ATTEMPT, replace(COMMIT, request_id="two"))
    log.close()
    assert CommitLog.read(file) == [COMMIT, replace(COMMIT, request_id="two", certain=False)]


@pytest.mark.parametrize("cut_bytes", [1, 2, 40, 200])
def test_a_cut_note_is_no_note(tmp_path: Path, cut_bytes: int) -> None:
    """Goal: a kill in the middle of a line loses only that line. Method: a cut file."""
    file = tmp_path / "commits.jsonl"
    log = CommitLog(file)
    log(ATTEMPT, COMMIT)
    log(BOOKED, COMMIT)
    log.close()
    os.truncate(file, file.stat().st_size - cut_bytes)
    # Without its line feed alone the line is whole.
    assert CommitLog.read(file) == [replace(COMMIT, certain=cut_bytes == 1)]


def test_a_folder_is_removed_after_use(tmp_path: Path) -> None:
    """Goal: nothing is left, and nothing else is touched. Method: a new and an existing folder."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with DemoFolder(tmp_path / name) as folder:
            assert not folder.has_leftovers()
            folder.commits_file.write_text("", encoding="utf-8")
            (folder.path / "redis").mkdir()
            assert folder.has_leftovers()
        assert not (tmp_path / name).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from bursar.cli.demo_folder import DemoFolder

folder = DemoFolder(Path(sys.argv[1])).__enter__()
folder.commits_file.write_text("")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_owner_leaves_its_data_and_no_lock(tmp_path: Path) -> None:
    """Goal: the next demo can take the folder. Method: an owner that kills itself."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "demo")], check=False)
    assert ended.returncode < 0
    with DemoFolder(tmp_path / "demo") as folder:
        assert folder.has_leftovers()
        folder.clear()
        assert not folder.has_leftovers()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """Goal: two demos do not share data. Method: a second one while the first has it."""
    with DemoFolder(tmp_path / "demo") as folder:
        with (
            pytest.raises(FolderUnusable, match=f"a demo runs here already, process {os.getpid()}"),
            DemoFolder(tmp_path / "demo"),
        ):
            pytest.fail("it was taken twice")
        assert folder.path.exists()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """Goal: a wrong path costs nobody a file. Method: one foreign file beside a demo's."""
    (tmp_path / "commits.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "mine").write_text("kept", encoding="utf-8")
    with pytest.raises(FolderUnusable, match="such as mine"), DemoFolder(tmp_path):
        pytest.fail("it was taken")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["commits.jsonl", "mine"]


COUNTER = CounterStatus(
    budget="b",
    partition={},
    meter=Meter.COST,
    custom_meter="",
    unlimited=False,
    limit=100,
    committed=60,
    held=40,
    credit=0,
    remaining=0,
    ceiling=100,
    window_start_time=None,
    window_end_time=None,
    mode=BudgetMode.ENFORCE,
    amount=0,
)


@pytest.mark.parametrize(
    ("counter", "is_over"),
    [
        pytest.param(COUNTER, False, id="at the limit"),
        pytest.param(replace(COUNTER, held=41), True, id="one too many"),
        pytest.param(replace(COUNTER, held=41, credit=1), False, id="credit"),
        pytest.param(replace(COUNTER, held=41, ceiling=101), False, id="overdraft"),
        pytest.param(replace(COUNTER, held=41, mode=BudgetMode.WARN), False, id="warns only"),
        pytest.param(replace(COUNTER, held=41, unlimited=True, ceiling=0), False, id="unlimited"),
    ],
)
def test_over_limit(counter: CounterStatus, is_over: bool) -> None:
    """Goal: a counter past what it may hold is found, and no other. Method: at the bound."""
    assert over_limit([counter]) == ([counter] if is_over else [])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("org: [", id="no YAML"),
        pytest.param("[]", id="a list"),
        pytest.param("org: acme", id="no budgets"),
        pytest.param("budgets: [1]", id="no mapping"),
    ],
)
def test_a_policy_that_is_none(tmp_path: Path, text: str) -> None:
    """Goal: the recount names the file instead of breaking. Method: broken files and none."""
    file = tmp_path / "policy.yaml"
    with pytest.raises(PolicyUnusable, match=r"policy\.yaml cannot be read"):
        Recount(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyUnusable, match=r"policy\.yaml"):
        Recount(file)
    file.write_text("budgets: [{name: other}]", encoding="utf-8")
    with pytest.raises(PolicyUnusable, match="no budget 'b': it is not the server's policy"):
        Recount(file).mismatches([], {}, [COUNTER])
