"""I3, I4, I5: every acknowledged operation is in the ledger once, and nothing else is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from checker.evidence import Event, Evidence, Operation, Violation, meter_of, without_window_code

_RETURNED_METER = "concurrency"
"""Nothing is ever booked on it: what is held comes back."""

_BY_ITSELF = ("expire", "adjust")
"""Verbs of events that no client asked for."""

_NEVER_REFUSED = (
    "RESERVATION_NOT_FOUND",
    "RESERVATION_COMMITTED",
    "RESERVATION_RELEASED",
    "REQUEST_ID_REUSED",
    "SEQUENCE_MISMATCH",
    "FIELD_INVALID",
    "INTERNAL",
)
"""Reasons that a client which does everything right never meets while its holds are kept."""

_Key = tuple[str, str, str]


def check_exactness(evidence: Evidence) -> Iterator[Violation]:
    """Compare operations and ledger, row by row and in sums."""
    rows = _rows_by_key(evidence.events)
    attempted = _attempted_by_key(evidence.operations)
    yield from _each_once(evidence.events)
    for key, operations in attempted.items():
        yield from _as_acknowledged(operations, rows.get(key, []))
    for key, events in rows.items():
        if events[0].verb not in _BY_ITSELF:
            yield from _as_attempted(events, attempted.get(key, []))
    yield from _sums(evidence)
    yield from _answers(evidence.operations)


def _key(kind: str, org: str, request_id: str, reservation_id: str) -> _Key:
    # A request with unknown outcome has told nobody its reservation.
    return (kind, org, request_id if kind in ("reserve", "record") else reservation_id)


def _rows_by_key(events: list[Event]) -> dict[_Key, list[Event]]:
    rows = defaultdict(list)
    for event in events:
        rows[_key(event.verb, event.org, event.request_id, event.reservation_id)].append(event)
    return dict(rows)


def _attempted_by_key(operations: list[Operation]) -> dict[_Key, list[Operation]]:
    """Return the operations that share their rows: one, or the parts and extends of a hold."""
    found = defaultdict(list)
    for each in operations:
        found[_key(each.kind, each.org, each.request_id, each.reservation_id)].append(each)
    return dict(found)


def _each_once(events: list[Event]) -> Iterator[Violation]:
    """No event has the place of another, no request books twice."""
    for place, count in Counter(event.place for event in events).items():
        if count > 1:
            yield Violation("I3", "counted twice", f"{count} rows at one place {place}")


def _as_acknowledged(operations: list[Operation], events: list[Event]) -> Iterator[Violation]:
    """What was acknowledged has its row, with the amounts that were answered."""
    booked = [each for each in operations if each.booked]
    possible = [each for each in operations if each.may_be_booked]
    if len(events) < len(booked):
        yield Violation(
            "I3",
            "acknowledged and missing",
            f"{booked[-1]}: {len(booked)} acknowledged, {len(events)} in the ledger",
        )
    most = len(possible)
    if operations[0].kind == "extend":
        # Each attempt of an extend counts its time anew: it is the one call that may run twice.
        most = sum(max(1, each.unknown + each.booked) for each in possible)
    if len(events) > most:
        yield Violation(
            "I3",
            "counted twice" if possible else "refused and booked",
            f"{operations[-1]}: {len(events)} in the ledger, at most {most} can be: {events[-1]}",
        )
    if len(operations) == len(events) == 1 and booked and not booked[0].replayed:
        yield from _amounts_as_answered(booked[0], events[0])


def _amounts_as_answered(operation: Operation, event: Event) -> Iterator[Violation]:
    """Every counter of the answer was booked by the amount that it says."""
    if operation.kind == "extend":
        return
    column = 0 if operation.kind == "reserve" else 1
    told = {
        counter["id"]: int(counter["amount"])
        for counter in operation.counters
        if column == 0 or meter_of(counter["id"]) != _RETURNED_METER
    }
    noted = _by_counter(event, column)
    for counter_id, amount in told.items():
        if noted.get(counter_id, 0) != amount:
            yield Violation(
                "I3",
                "other amount",
                f"{operation}: answered {amount} on {counter_id}, the ledger has "
                f"{noted.get(counter_id, 0)}",
            )


def _as_attempted(events: list[Event], operations: list[Operation]) -> Iterator[Violation]:
    """No row without an operation, and none with amounts that nobody asked for (I4)."""
    if not operations:
        yield Violation("I3", "row of nobody", f"{events[0]}: no client asked for it")
        return
    if events[0].verb not in ("commit", "commit_partial", "record"):
        return
    wanted = [each.amounts for each in operations]
    for event in events:
        if not any(_same_amounts(event, amounts) for amounts in wanted):
            yield Violation(
                "I4",
                "not as attempted",
                f"{event}: booked {_by_counter(event, 1)}, attempted {wanted}",
            )


def _same_amounts(event: Event, amounts: Mapping[str, int]) -> bool:
    return all(
        committed == amounts.get(meter_of(counter_id), 0)
        for (counter_id, _), (_, committed, _) in event.deltas.items()
        if meter_of(counter_id) != _RETURNED_METER
    )


def _by_counter(event: Event, column: int) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for (counter_id, _), amounts in event.deltas.items():
        found[without_window_code(counter_id)] += amounts[column]
    return found


def _sums(evidence: Evidence) -> Iterator[Violation]:
    """I4: acknowledged <= ledger <= attempted, for each counter."""
    ledger: dict[str, int] = defaultdict(int)
    for event in evidence.events:
        if event.verb != "adjust":
            for counter_id, amount in _by_counter(event, 1).items():
                ledger[counter_id] += amount
    acknowledged: dict[str, int] = defaultdict(int)
    attempted: dict[str, int] = defaultdict(int)
    counters_of = _counters_of(evidence)
    for each in evidence.operations:
        if each.kind not in ("commit", "commit_partial", "record"):
            continue
        if each.booked:
            for counter in each.counters:
                if meter_of(counter["id"]) != _RETURNED_METER:
                    acknowledged[counter["id"]] += int(counter["amount"])
        if each.may_be_booked:
            for counter_id in counters_of.get((each.org, each.request_id), ()):
                attempted[counter_id] += each.amounts.get(meter_of(counter_id), 0)
    for counter_id in sorted({*acknowledged, *ledger}):
        low, is_, high = acknowledged[counter_id], ledger[counter_id], attempted[counter_id]
        if not low <= is_ <= high:
            yield Violation(
                "I4",
                "outside the interval",
                f"{counter_id}: acknowledged {low} <= ledger {is_} <= attempted {high} is not so",
            )


def _counters_of(evidence: Evidence) -> dict[tuple[str, str], set[str]]:
    """Return the counters of each request, by what answers and ledger say of it."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in evidence.operations:
        found[each.org, each.request_id].update(counter["id"] for counter in each.counters)
    for event in evidence.events:
        for counter_id, _ in event.deltas:
            found[event.org, event.request_id].add(without_window_code(counter_id))
    return found


def _answers(operations: list[Operation]) -> Iterator[Violation]:
    """I5: nobody who repeats a call with the same content is refused for it."""
    for each in operations:
        if each.outcome == "fail" and each.reason in _NEVER_REFUSED:
            yield Violation("I5", "refused without cause", f"{each}: {each.reason}")
