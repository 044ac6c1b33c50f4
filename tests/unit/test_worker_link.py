"""What a supervisor and its workers tell each other arrives as it was said."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from bursar.service.settings import Settings
from bursar.service.worker_link import Assignment, State, Word, WorkerEnd

SECRET = "redis://u:never-print-this@h:6379/0"  # noqa: S105 - of nothing


def test_settings_arrive_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Goal: a worker serves as its supervisor says. Method: variables that say otherwise."""
    settings = Settings(
        redis_url=SecretStr(SECRET),
        data_dir=tmp_path,
        policy_files=(tmp_path / "a.yaml",),
        durability="ledger",
        reflection=False,
        workers=1,
    )
    assignment = Assignment(3, settings, [("a.yaml", 'org: "ü\n"')])
    monkeypatch.setenv("BURSAR_WORKERS", "4")
    monkeypatch.setenv("BURSAR_HEALTH_LISTEN_ADDRESS", "127.0.0.1:4501")
    monkeypatch.setenv("BURSAR_DATABASE_URL", "postgresql://h/other")
    monkeypatch.setenv("BURSAR_REFLECTION", "true")
    line = assignment.to_line()
    assert line.count(b"\n") == 1
    assert Assignment.from_line(line) == assignment
    assert Settings().workers == 4, "the environment was to say otherwise"


@pytest.mark.parametrize("state", list(State))
def test_words_arrive(state: State) -> None:
    word = Word(state, "cannot listen\n")
    assert Word.from_line(word.to_line()) == word


def test_a_long_fault_is_cut_to_what_a_line_may_have() -> None:
    """Goal: a supervisor can read every line. Method: the longest, of what takes most room."""
    line = Word(State.STARTING, "\N{FIRE}" * 100_000).to_line()
    assert len(line) < 2**16
    assert Word.from_line(line).fault


def test_a_supervisor_that_is_gone_before_it_has_said_all_is_noticed() -> None:
    """Goal: no server with half of its settings. Method: an end in the middle of the line."""
    ours, theirs = socket.socketpair()
    with ours, closing(WorkerEnd(theirs.detach())) as worker:
        ours.sendall(b'{"number": 1')
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            worker.receive()


def test_words_are_dropped_where_nobody_reads() -> None:
    """Goal: a supervisor that stands still holds no worker up. Method: more than fits."""
    ours, theirs = socket.socketpair()
    with ours, closing(WorkerEnd(theirs.detach())) as worker:
        for _ in range(100_000):
            worker.tell(Word(State.READY))
        ours.setblocking(False)
        assert Word.from_line(ours.recv(4_096).partition(b"\n")[0] + b"\n").state is State.READY
