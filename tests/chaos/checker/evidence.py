"""What happened and what is left of it, as three files of JSON lines tell it.

The history, written while it happened (`chaos_history.py`):

    {"type": "run", "ttl_ms", "sweep_ms", "recover_ms", "slack_ms", "clock_ms",
     "limits": [{"org", "budget", "limit"}]}
    {"type": "fault" | "healed" | "load_ended", "time_ms", "name"}
    {"type": "invoke", "op", "time_ms", "kind", "org", "request_id", "reservation_id",
     "sequence", "amounts", "deadline_ms"}
    {"type": "ok" | "fail" | "info", "op", "time_ms", "attempts", "unknown", "reason", "decision",
     "reservation_id", "expire_ms", "late", "replayed", "counters"}

`info` means that the outcome is not known; `unknown` counts the attempts of an operation that
ended so, also where a later one was answered. A counter of an answer is {"id", "committed",
"held", "credit", "amount"}; its id is that of the ledger without the code of its window.

The dumps, taken when everything was over (`collect.py`), are rows with the name of their table in
"table" (the ledger) or "what" (Redis).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRANTED = "granted"
DENIED = "denied"
DECIDED = ("reserve", "extend")
"""Kinds of operations that may be denied: an answer alone does not say that anything changed."""

SETTLING = ("commit", "release")
"""Verbs that end a hold at a caller's wish."""


@dataclass(frozen=True)
class Violation:
    """One thing that must not be.

    Attributes:
        invariant: Which of I1-I12.
        name: What kind of violation, in a word or two.
        text: What was found and where.
    """

    invariant: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.name}: {self.text}"


@dataclass
class Operation:
    """One operation of a client, from its first attempt to what came of it.

    Attributes:
        number: Unique in the history.
        kind: reserve, commit, commit_partial, release, extend or record.
        invoked_ms: When the first attempt began.
        amounts: What it meant to book, by meter; of a settlement or a record.
        outcome: ok, fail, info, or "" where the history ends before it.
        ended_ms: When the outcome was known; None where it was not.
        unknown: Attempts with unknown outcome.
    """

    number: int
    kind: str
    org: str
    request_id: str
    reservation_id: str
    sequence: int
    amounts: Mapping[str, int]
    invoked_ms: int
    deadline_ms: int
    outcome: str = ""
    ended_ms: int | None = None
    attempts: int = 0
    unknown: int = 0
    reason: str = ""
    decision: str = ""
    expire_ms: int = 0
    late: bool = False
    replayed: bool = False
    counters: list[dict[str, Any]] = field(default_factory=list)

    @property
    def granted(self) -> bool:
        """Whether it is a reserve that was granted for certain."""
        return self.kind == "reserve" and self.outcome == "ok" and self.decision == GRANTED

    @property
    def booked(self) -> bool:
        """Whether it has changed something for certain."""
        return self.outcome == "ok" and (self.kind not in DECIDED or self.decision == GRANTED)

    @property
    def may_be_booked(self) -> bool:
        """Whether it may have changed something."""
        return self.booked or self.outcome in ("", "info") or self.unknown > 0

    def __str__(self) -> str:
        name = self.reservation_id or f"{self.org} request {self.request_id}"
        part = f" part {self.sequence}" if self.sequence else ""
        return f"{self.kind}{part} of {name} (operation {self.number})"


@dataclass(frozen=True)
class Event:
    """One row of the ledger.

    Attributes:
        place: (shard, order of its epoch, time and number of its entry in the journal, ordinal):
            where it stands among all events.
        deltas: {held, committed, credit} by (counter, slot).
    """

    place: tuple[int, int, int, int, int]
    epoch: str
    sequence: int
    at_ms: int
    verb: str
    org: str
    reservation_id: str
    request_id: str
    late: bool
    deltas: Mapping[tuple[str, int], tuple[int, int, int]]

    def __str__(self) -> str:
        shard, *_, ordinal = self.place
        return (
            f"{self.verb} of {self.reservation_id} in shard {shard} at "
            f"{self.epoch}/{self.sequence}/{ordinal}"
        )


@dataclass
class Evidence:
    """Everything that is known of a run.

    Attributes:
        run: The line of the history that says how it was.
        marks: Lines of faults, of healing and of the load's end.
        events: The ledger in the order of `Event.place`.
        tables: Further rows of the ledger's database, by table.
        redis: Rows of Redis, by what they are.
    """

    run: dict[str, Any]
    marks: list[dict[str, Any]]
    operations: list[Operation]
    events: list[Event]
    tables: dict[str, list[dict[str, Any]]]
    redis: dict[str, list[dict[str, Any]]]

    def limit_of(self, counter_id: str) -> int | None:
        """Return the limit of a counter, or None where the run names none for its budget."""
        org, budget, *_ = counter_id.split(":")
        for each in self.run.get("limits", ()):
            if each["org"] == org and each["budget"] == budget:
                return int(each["limit"])
        return None

    def mark_ms(self, kind: str) -> int | None:
        """Return when the last mark of a kind was made, or None where there is none."""
        times = [int(mark["time_ms"]) for mark in self.marks if mark["type"] == kind]
        return max(times) if times else None

    @property
    def collected_ms(self) -> int:
        """When Redis was dumped."""
        return int(self.redis["collected"][0]["time_ms"])


def without_window_code(counter_id: str) -> str:
    """Return a counter's id as the history names it: answers do not carry the window's code."""
    org, budget, meter, partition, window = counter_id.split(":")
    return f"{org}:{budget}:{meter}:{partition}@{window.rpartition('@')[2]}"


def meter_of(counter_id: str) -> str:
    """Return the meter of a counter."""
    return counter_id.split(":")[2]


def read_evidence(history: Path, ledger: Path, redis: Path) -> Evidence:
    """Read the three files.

    Raises:
        ValueError: A file is not what this program reads; the message says which line.
    """
    run: dict[str, Any] = {}
    marks: list[dict[str, Any]] = []
    operations: dict[int, Operation] = {}
    for line in _lines(history):
        match line["type"]:
            case "run":
                run = line
            case "invoke":
                operations[line["op"]] = _invoked(line)
            case "ok" | "fail" | "info":
                _end(operations[line["op"]], line)
            case _:
                marks.append(line)
    tables = _by(_lines(ledger), "table")
    return Evidence(
        run=run,
        marks=marks,
        operations=list(operations.values()),
        events=_events(tables.pop("ledger_entries", []), tables.get("rebuilds", [])),
        tables=tables,
        redis=_by(_lines(redis), "what"),
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}:{number}: {error}") from None
    return rows


def _by(rows: Iterable[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return dict(found)


def _invoked(line: dict[str, Any]) -> Operation:
    return Operation(
        number=line["op"],
        kind=line["kind"],
        org=line["org"],
        request_id=line.get("request_id", ""),
        reservation_id=line.get("reservation_id", ""),
        sequence=line.get("sequence", 0),
        amounts=line.get("amounts", {}),
        invoked_ms=line["time_ms"],
        deadline_ms=line.get("deadline_ms", 0),
    )


def _end(operation: Operation, line: dict[str, Any]) -> None:
    operation.outcome = line["type"]
    operation.ended_ms = line["time_ms"]
    for name in ("attempts", "unknown", "reason", "decision", "expire_ms", "late", "replayed"):
        if name in line:
            setattr(operation, name, line[name])
    operation.reservation_id = line.get("reservation_id") or operation.reservation_id
    operation.counters = line.get("counters", [])


def _events(rows: list[dict[str, Any]], rebuilds: list[dict[str, Any]]) -> list[Event]:
    """Return the ledger's rows in the order in which they happened.

    An epoch that no rebuild began is a shard's first one.
    """
    began = sorted(rebuilds, key=lambda row: row["rebuild_id"])
    orders = {(row["shard"], row["epoch"]): number for number, row in enumerate(began, 1)}
    events = []
    for row in rows:
        deltas: dict[tuple[str, int], tuple[int, int, int]] = {}
        columns = (row[name] for name in ("counter_ids", "slots", "held", "committed", "credit"))
        for counter_id, slot, *amounts in zip(*columns, strict=True):
            before = deltas.get((counter_id, slot), (0, 0, 0))
            held, committed, credit = (a + b for a, b in zip(before, amounts, strict=True))
            deltas[counter_id, slot] = (held, committed, credit)
        order = orders.get((row["shard"], row["epoch"]), 0)
        entry_ms, _, number = row["stream_id"].partition("-")
        events.append(
            Event(
                place=(row["shard"], order, int(entry_ms), int(number), row["ordinal"]),
                epoch=row["epoch"],
                sequence=row["sequence"],
                at_ms=row["at"],
                verb=row["verb"],
                org=row["org"],
                reservation_id=row["reservation_id"],
                request_id=row["request_id"],
                late=row["late"],
                deltas=deltas,
            )
        )
    return sorted(events, key=lambda event: event.place)
