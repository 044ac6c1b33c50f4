"""I1: no grant past a limit; by the ledger's order, and again by the history alone."""

from __future__ import annotations

import bisect
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping

from checker.evidence import Event, Evidence, Operation, Violation, meter_of

_ROLLING, _TASK = 1, 2
_GRANTS = ("reserve", "extend")


class _Counter:
    """A counter as the events so far have left it."""

    def __init__(self, kind: int, p1: int, p2: int) -> None:
        self._kind, self._p1, self._p2 = kind, p1, p2
        self._committed: dict[int, int] = defaultdict(int)
        self._oldest = self._slot = 0
        self._by_hold: dict[str, int] = {}
        self.held = self.credit = 0

    def add(self, hold: str, slot: int, held: int, committed: int, credit: int) -> None:
        self._committed[slot] += committed
        self._slot = max(self._slot, slot)
        self.held += held
        self.credit += credit
        self._by_hold[hold] = self._by_hold.get(hold, 0) + held
        if not self._by_hold[hold]:
            del self._by_hold[hold]

    def held_by_the_dead(self, at_ms: int, ends_ms: Mapping[str, int]) -> int:
        """Return what is held by holds that were over at a time and nobody has swept."""
        return sum(v for hold, v in self._by_hold.items() if ends_ms.get(hold, at_ms + 1) <= at_ms)

    def committed(self, at_ms: int) -> int:
        """Return what is committed in the window that runs at a time."""
        if self._kind == _ROLLING:
            self._oldest = max(self._oldest, at_ms // self._p1 - self._p2)
            return sum(v for slot, v in self._committed.items() if slot >= self._oldest)
        if self._kind == _TASK:
            return self._committed[self._slot]
        return sum(self._committed.values())


def check_caps(evidence: Evidence) -> Iterator[Violation]:
    """Replay the ledger, then add up what the history is certain of."""
    yield from _by_the_ledger(evidence)
    yield from _by_the_history(evidence)


def _by_the_ledger(evidence: Evidence) -> Iterator[Violation]:
    specs = {
        row["counter_id"]: (row["kind"], row["p1"], row["p2"])
        for row in evidence.tables.get("counter_balances", [])
    }
    ends_ms = {
        each.reservation_id: each.expire_ms for each in evidence.operations if each.expire_ms
    }
    counters: dict[str, _Counter] = {}
    for event in evidence.events:
        for (counter_id, slot), amounts in event.deltas.items():
            if counter_id not in counters:
                counters[counter_id] = _Counter(*specs.get(counter_id, (0, 0, 0)))
            counters[counter_id].add(event.reservation_id, slot, *amounts)
        if event.verb in _GRANTS:
            yield from _within_limits(evidence, event, counters, ends_ms)


def _within_limits(
    evidence: Evidence,
    event: Event,
    counters: dict[str, _Counter],
    ends_ms: Mapping[str, int],
) -> Iterator[Violation]:
    for (counter_id, _), (held, _, _) in event.deltas.items():
        limit = evidence.limit_of(counter_id)
        if limit is None or held <= 0:
            continue
        counter = counters[counter_id]
        # A server whose clock was ahead by so much may have moved a rolling window on before, with
        # a denial that no event tells of.
        ahead_ms = int(evidence.run.get("clock_ms", 0))
        committed = counter.committed(event.at_ms + ahead_ms)
        used = committed + counter.held
        if used > limit + counter.credit:
            # A sweep that Redis lost is not made again before the grants that followed it are.
            used -= counter.held_by_the_dead(event.at_ms, ends_ms)
        if used > limit + counter.credit:
            yield Violation(
                "I1",
                "granted past the limit",
                f"{event}: {counter_id} comes to {committed} committed + {counter.held} held, the "
                f"limit is {limit} + {counter.credit}",
            )


def _by_the_history(evidence: Evidence) -> Iterator[Violation]:
    """Compare each grant with the least that the clients know to have been used during all of it.

    That is what was acknowledged as committed before it was asked for, and what was granted before
    and neither settled nor over until it was answered. Rolling counters and tasks begin anew, so
    they are left to the ledger's replay.
    """
    rolling = {
        row["counter_id"].split(":")[1]
        for row in evidence.tables.get("counter_balances", [])
        if row["kind"] in (_ROLLING, _TASK)
    }
    settled_from = _first_settlement(evidence.operations)
    # Two machines' clocks; and a sweeper whose clock was stepped ends a hold by so much too early.
    margin_ms = int(evidence.run.get("slack_ms", 0))
    if any(mark["name"] == "clock_ahead" for mark in evidence.marks):
        margin_ms = max(margin_ms, int(evidence.run.get("clock_ms", 0)))
    by_counter: dict[str, list[tuple[Operation, int]]] = defaultdict(list)
    for each in evidence.operations:
        for counter in each.counters if each.booked else ():
            if counter["id"].split(":")[1] not in rolling:
                by_counter[counter["id"]].append((each, int(counter["amount"])))
    for counter_id, booked in by_counter.items():
        limit = evidence.limit_of(counter_id)
        if limit is not None:
            credit = max(
                int(counter.get("credit", 0))
                for each, _ in booked
                for counter in each.counters
                if counter["id"] == counter_id
            )
            yield from _counter_by_history(
                counter_id, limit + credit, booked, settled_from, margin_ms
            )


def _first_settlement(operations: list[Operation]) -> dict[str, int]:
    """Return from when on a hold may have changed: its first settling or extending call."""
    first: dict[str, int] = {}
    for each in operations:
        if each.kind not in ("reserve", "record"):
            before = first.get(each.reservation_id, each.invoked_ms)
            first[each.reservation_id] = min(before, each.invoked_ms)
    return first


def _counter_by_history(
    counter_id: str,
    limit: int,
    booked: list[tuple[Operation, int]],
    settled_from: dict[str, int],
    margin_ms: int,
) -> Iterator[Violation]:
    commits = sorted(
        (each.ended_ms or 0, amount)
        for each, amount in booked
        if each.kind in ("commit", "commit_partial", "record")
        and meter_of(counter_id) != "concurrency"
    )
    times = [time_ms for time_ms, _ in commits]
    sums = [0]
    for _, amount in commits:
        sums.append(sums[-1] + amount)
    grants = sorted(
        ((each, amount) for each, amount in booked if each.granted and not each.replayed),
        key=lambda pair: pair[0].invoked_ms,
    )
    answered = sorted(grants, key=lambda pair: pair[0].ended_ms or 0)
    running: list[tuple[int, int, int]] = []
    position = 0
    for each, amount in grants:
        ended_ms = each.ended_ms or each.invoked_ms
        while position < len(answered) and (answered[position][0].ended_ms or 0) < each.invoked_ms:
            other, held = answered[position]
            until_ms = other.expire_ms - margin_ms
            until_ms = min(until_ms, settled_from.get(other.reservation_id, until_ms))
            heapq.heappush(running, (until_ms, other.number, held))
            position += 1
        while running and running[0][0] <= each.invoked_ms:
            heapq.heappop(running)
        held = sum(amount for until_ms, _, amount in running if until_ms > ended_ms)
        committed = sums[bisect.bisect_left(times, each.invoked_ms)]
        if committed + held + amount > limit:
            yield Violation(
                "I1",
                "granted past the limit",
                f"{each}: before it {committed} were committed and {held} held for certain on "
                f"{counter_id}; with its {amount} that is past {limit}",
            )
