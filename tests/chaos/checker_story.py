"""A small run, told as the checker reads it: right in everything until a test plants something."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from checker.check import check
from checker.evidence import Violation, read_evidence

LIMIT = 1_000
TTL_MS = 2_000
DAY = "acme:day:total_tokens::d@0"
DAY_IN_ANSWERS = "acme:day:total_tokens:@0"
AT_ONCE = "acme:at-once:concurrency::n@0"
AT_ONCE_IN_ANSWERS = "acme:at-once:concurrency:@0"
SHARD, EPOCH = 0, "e1"
OPEN, ENDED, EXPIRED = 1, 2, 4

Row = dict[str, Any]


class Story:
    """Histories and dumps, told call by call.

    Attributes:
        history: Its lines.
        events: Rows of the ledger.
        now_ms: The time; each call takes 10 ms.
    """

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.events: list[Row] = []
        self._operation = self._sequence = 0
        self._committed = 0
        self.history: list[Row] = [
            {
                "type": "run",
                "ttl_ms": TTL_MS,
                "sweep_ms": 100,
                "recover_ms": 1_000,
                "slack_ms": 50,
                "clock_ms": 300,
                "limits": [
                    {"org": "acme", "budget": "day", "limit": LIMIT},
                    {"org": "acme", "budget": "at-once", "limit": 3},
                ],
            }
        ]

    def wait(self, time_ms: int) -> None:
        """Let time pass."""
        self.now_ms += time_ms

    def mark(self, kind: str, name: str = "") -> None:
        """Note a fault, its end, or the end of the load."""
        self.history.append({"type": kind, "time_ms": self.now_ms, "name": name or kind})

    def reserve(self, name: str, amount: int, outcome: str = "ok", **more: object) -> None:
        """Reserve and be granted; with another outcome it is in the ledger all the same."""
        started_ms = self.now_ms
        self._event("reserve", name, amount, 0, 1)
        self._call(
            "reserve",
            name,
            amount,
            outcome,
            **{"decision": "granted", "expire_ms": started_ms + TTL_MS, "at_once": 1, **more},
        )

    def deny(self, name: str, amount: int, **more: object) -> None:
        """Reserve and be denied."""
        self._call("reserve", name, amount, "ok", **{"decision": "denied", **more})

    def commit(
        self, name: str, held: int, amount: int, outcome: str = "ok", **more: object
    ) -> None:
        """Commit; held is what it still held, 0 where it is late."""
        self._committed += amount
        event = {key: more[key] for key in ("late",) if key in more}
        self._event("commit", name, -held, amount, -1 if held else 0, **event)
        amounts = {"total_tokens": amount, "requests": 1}
        self._call("commit", name, amount, outcome, amounts=amounts, **more)

    def part(self, name: str, sequence: int, amount: int) -> None:
        """Commit a part."""
        self._committed += amount
        self._event("commit_partial", name, -amount, amount, 0)
        amounts = {"total_tokens": amount, "requests": 0}
        self._call("commit_partial", name, amount, "ok", sequence=sequence, amounts=amounts)

    def extend(self, name: str, growth: int) -> None:
        """Make a hold larger or smaller."""
        self._event("extend", name, growth, 0, 0)
        self._call("extend", name, growth, "ok", decision="granted")

    def deny_extend(self, name: str) -> None:
        """Ask for more than there is room for: nothing changes, and the ledger hears nothing."""
        self._call("extend", name, 0, "ok", decision="denied")

    def release(self, name: str, held: int) -> None:
        """Release."""
        self._event("release", name, -held, 0, -1)
        self._call("release", name, 0, "ok")

    def expire(self, name: str, held: int) -> None:
        """Let the sweeper end a hold."""
        self._event("expire", name, -held, 0, -1)

    def record(self, name: str, amount: int) -> None:
        """Record."""
        self._committed += amount
        self._event("record", name, 0, amount, 0)
        amounts = {"total_tokens": amount, "requests": 1}
        self._call("record", name, amount, "ok", amounts=amounts)

    def answer(self, kind: str, name: str, outcome: str = "") -> Row:
        """Return the last line about a call: its end, or with outcome "invoke" its beginning."""
        number = next(
            line["op"]
            for line in reversed(self.history)
            if line["type"] == "invoke" and (line["kind"], line["request_id"]) == (kind, name)
        )
        return next(
            line
            for line in reversed(self.history)
            if line.get("op") == number and (not outcome or line["type"] == outcome)
        )

    def event(self, verb: str, name: str) -> Row:
        """Return the row of an event."""
        return next(row for row in self.events if (row["verb"], row["request_id"]) == (verb, name))

    def dumps(self) -> tuple[list[Row], list[Row]]:
        """Return what ledger and Redis come to, by the events alone."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        held: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        last: dict[str, Row] = {}
        for row in self.events:
            last[row["request_id"]] = row
            columns = (row["counter_ids"], row["held"], row["committed"])
            for counter, held_, committed in zip(*columns, strict=True):
                sums[counter][0] += held_
                sums[counter][1] += committed
                held[row["request_id"]][counter] += held_
        holds = [_hold(name, row, held[name]) for name, row in last.items()]
        ledger = [
            *({"table": "ledger_entries", **row} for row in self.events),
            *(_balance(counter, *amounts) for counter, amounts in sums.items()),
            *({"table": "open_holds", **hold} for hold in holds),
            {
                "table": "journal_position",
                "shard": SHARD,
                "epoch": EPOCH,
                "stream_id": "5-1",
                "sequence": self._sequence,
            },
        ]
        redis = [
            {"what": "collected", "time_ms": self.now_ms},
            *(_counter(counter, *amounts) for counter, amounts in sums.items()),
            *({"what": "hold", **hold} for hold in holds),
            *({"what": "expiry", **hold} for hold in holds if hold["state"] == OPEN),
            {"what": "stream", "shard": SHARD, "length": 0, "last_id": "5-1"},
        ]
        return ledger, redis

    def _call(self, kind: str, name: str, amount: int, outcome: str, **more: Any) -> None:
        self._operation += 1
        amounts = more.pop("amounts", {})
        at_once = more.pop("at_once", 0)
        self.history.append(
            {
                "type": "invoke",
                "op": self._operation,
                "time_ms": self.now_ms,
                "kind": kind,
                "org": "acme",
                "request_id": name,
                "reservation_id": "" if kind in ("reserve", "record") else f"acme.{name}",
                "sequence": more.pop("sequence", 0),
                "amounts": amounts,
                "deadline_ms": 500,
            }
        )
        self.wait(10)
        line = {"type": outcome, "op": self._operation, "time_ms": self.now_ms, "attempts": 1}
        if outcome == "ok":
            line["reservation_id"] = f"acme.{name}"
            line["counters"] = [
                {
                    "id": counter,
                    "committed": self._committed if counter == DAY_IN_ANSWERS else 0,
                    "held": 0,
                    "credit": 0,
                    "amount": its,
                }
                for counter, its in ((DAY_IN_ANSWERS, amount), (AT_ONCE_IN_ANSWERS, at_once))
            ]
        else:
            line["unknown"] = 1
        self.history.append({**line, **more})
        self.wait(10)

    def _event(
        self, verb: str, name: str, held: int, committed: int, at_once: int, late: bool = False
    ) -> None:
        self._sequence += 1
        self.events.append(
            {
                "shard": SHARD,
                "epoch": EPOCH,
                "stream_id": f"{self.now_ms}-{self._sequence}",
                "sequence": self._sequence,
                "ordinal": 0,
                "at": self.now_ms,
                "verb": verb,
                "org": "acme",
                "reservation_id": f"acme.{name}",
                "request_id": name,
                "late": late,
                "counter_ids": [DAY, AT_ONCE],
                "slots": [0, 0],
                "held": [held, at_once],
                "committed": [committed, 0],
                "credit": [0, 0],
            }
        )


def a_right_run() -> Story:
    """Tell of every kind of call, a fault, its end, and some load after it."""
    story = Story()
    story.reserve("spent", 500)
    story.reserve("given back", 100)
    story.deny("too much", 600)
    story.commit("spent", 500, 300)
    story.release("given back", 100)
    story.mark("fault")
    story.reserve("forgotten", 50)
    story.reserve("lost", 40, "info")
    story.reserve("in parts", 200)
    story.part("in parts", 1, 50)
    story.extend("in parts", 30)
    story.deny_extend("in parts")
    story.commit("in parts", 180, 60)
    story.record("told later", 70)
    story.wait(TTL_MS)
    story.expire("forgotten", 50)
    story.expire("lost", 40)
    story.commit("forgotten", 0, 20, late=True)
    story.mark("healed")
    story.wait(1_000)
    story.reserve("after all", 100)
    story.commit("after all", 100, 100)
    story.reserve("still open", 30)
    story.mark("load_ended")
    return story


def write(folder: Path, story: Story, ledger: list[Row], redis: list[Row]) -> list[Path]:
    """Write the three files."""
    files = []
    for name, rows in (("history", story.history), ("ledger", ledger), ("redis", redis)):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files.append(file)
    return files


def violations(
    folder: Path, story: Story, ledger: list[Row] | None = None, redis: list[Row] | None = None
) -> list[Violation]:
    """Return what the checker finds; the dumps are what the events come to, unless given."""
    by_events = story.dumps()
    files = write(folder, story, ledger or by_events[0], redis or by_events[1])
    return check(read_evidence(*files))


def row_of(rows: list[Row], **wanted: object) -> Row:
    """Return the one row that has all these values."""
    [row] = [row for row in rows if wanted.items() <= row.items()]
    return row


def _hold(name: str, row: Row, held: dict[str, int]) -> Row:
    state = {"reserve": OPEN, "expire": EXPIRED, "extend": OPEN, "commit_partial": OPEN}
    return {
        "org": "acme",
        "hold_id": name,
        "shard": SHARD,
        "state": state.get(row["verb"], ENDED),
        "expire_at_ms": row["at"] + TTL_MS,
        "entries": [{"counter_id": key, "slot": 0, "held": amount} for key, amount in held.items()],
    }


def _balance(counter_id: str, held: int, committed: int, credit: int) -> Row:
    return {
        "table": "counter_balances",
        "counter_id": counter_id,
        "slot": 0,
        "kind": 0,
        "p1": 0,
        "p2": 0,
        "held": held,
        "committed": committed,
        "credit": credit,
    }


def _counter(counter_id: str, held: int, committed: int, credit: int) -> Row:
    fields = {"h": str(held), "c": str(committed), "k": str(credit)}
    return {"what": "counter", "counter_id": counter_id, "fields": fields}
