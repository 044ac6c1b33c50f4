"""Traces and workloads of a replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.cli.workload import WorkloadError, calls, load_trace, load_workload

WORKLOAD = """
org: acme
profiles:
  - {weight: 1, team: a, model: gpt-5, users: 3, calls_per_task: 2, dies: 5}
  - {weight: 1, team: b, model: gpt-5-mini, fails: 4}
"""


def write(folder: Path, text: str) -> Path:
    """Return a file with that text."""
    file = folder / "input"
    file.write_text(text, encoding="utf-8")
    return file


def test_same_seed_same_calls(tmp_path: Path) -> None:
    """Goal: a replay can be repeated. Method: twice the same seed, once another."""
    workload = load_workload(write(tmp_path, WORKLOAD))
    sizes = [(10, 1)] * 50
    first, again, other = (list(calls(workload, sizes, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert {call.subject.team for call in first} == {"a", "b"}
    assert any(call.dies for call in first)
    assert any(call.fails for call in first)


def test_trace_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """Goal: only as many calls as asked for. Method: three rows, two wanted."""
    rows = "TIMESTAMP,ContextTokens,GeneratedTokens\nx,374,44\nx,396,109\nx,1,2\n"
    assert load_trace(write(tmp_path, rows), 2) == [(374, 44), (396, 109)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a,b\n1,2\n", "line 2", id="other columns"),
        pytest.param("ContextTokens,GeneratedTokens\n1,x\n", "line 2", id="no number"),
        pytest.param("ContextTokens,GeneratedTokens\n1\n", "line 2", id="a field is missing"),
        pytest.param("ContextTokens,GeneratedTokens\n", "no calls", id="empty"),
    ],
)
def test_broken_traces_are_refused(tmp_path: Path, text: str, says: str) -> None:
    """Goal: the message says where. Method: one fault each."""
    with pytest.raises(WorkloadError, match=says):
        load_trace(write(tmp_path, text), 10)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("org: acme", id="no profiles"),
        pytest.param("org: acme\nprofiles: [{weight: 1, model: m, typo: 1}]", id="unknown key"),
        pytest.param("org: [", id="no YAML"),
    ],
)
def test_broken_workloads_are_refused(tmp_path: Path, text: str) -> None:
    """Goal: a typo is not ignored. Method: one fault each."""
    with pytest.raises(WorkloadError, match="input"):
        load_workload(write(tmp_path, text))


def test_missing_files_are_said(tmp_path: Path) -> None:
    """Goal: a wrong path is an error with its name. Method: files that are not there."""
    with pytest.raises(WorkloadError, match="nowhere"):
        load_trace(tmp_path / "nowhere", 1)
    with pytest.raises(WorkloadError, match="nowhere"):
        load_workload(tmp_path / "nowhere")
