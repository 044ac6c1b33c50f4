"""Brings adjustments of counters to what they should come to, however often and by whom.

The record says what is booked, and only what is missing is booked, under a name that follows from
the counter and from how many are recorded: of several servers that find the same missing, one
books it. One that knows less finds the name taken, and leaves it to the next time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from bursar.authority.identity import HoldName, hold_name
from bursar.domain.budget import Counter
from bursar.domain.errors import BursarError
from bursar.domain.meter import Estimate
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import CASELESS, LABEL_PREFIX, LEVELS, Subject, Target
from bursar.engine.operations import AdjustCode, Adjustment, AdjustOperation, Engine
from bursar.engine.payload import encode_payload
from bursar.engine.wire import pack
from bursar.ledger.adjustment_query import recorded_adjustments
from bursar.ledger.database import Connection

COUNTERS_AT_ONCE = 500
"""Counters that are looked for in the record together."""

_ADJUSTED_AT_ONCE = 50  # In one call of the engine: others wait while it runs.
_NAMES_AT_ONCE = 2
_FINGERPRINT_BYTES = 12


@dataclass(frozen=True, slots=True)
class Wanted:
    """What all adjustments of one purpose should come to on a counter.

    Attributes:
        counter: Which.
        committed: What they should have committed.
        credit: What they should have added to its limit.
        slot: The time bucket of a rolling counter, or None.
        since_ms: None of them is older.
    """

    counter: Counter
    committed: int = 0
    credit: int = 0
    slot: int | None = None
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What became of what was wanted.

    Attributes:
        counters: How many were looked at.
        booked: How many were adjusted.
        waiting: How many wait until more is recorded.
        refused: How many cannot hold what they should.
    """

    counters: int = 0
    booked: int = 0
    waiting: int = 0
    refused: int = 0

    def __add__(self, other: Adjusted) -> Adjusted:
        return Adjusted(
            self.counters + other.counters,
            self.booked + other.booked,
            self.waiting + other.waiting,
            self.refused + other.refused,
        )


@dataclass(slots=True)
class _Known:
    """What is recorded of what is wanted, and how many names were looked for."""

    committed: int = 0
    credit: int = 0
    number: int = 0
    looking: bool = True
    names: list[HoldName] = field(default_factory=list)


async def adjust_to(
    engine: Engine,
    connection: Connection,
    purpose: str,
    policy_version: str,
    wanted: Sequence[Wanted],
    now_ms: int,
) -> Adjusted:
    """Book what is missing to what is wanted, and take off what is too much.

    Args:
        engine: Where the counters are.
        connection: In whose transaction the record is read; what is wanted was read in it too.
        purpose: What it is for: one word, part of the names, and shown in the ledger.
        policy_version: What decides now.
        wanted: Of one org.
        now_ms: Since the epoch.

    Raises:
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
        LedgerUnavailable: PostgreSQL is away.
    """
    known = await _known(connection, purpose, wanted)
    missing = [
        (each, booked)
        for each, booked in zip(wanted, known, strict=True)
        if (each.committed, each.credit) != (booked.committed, booked.credit)
    ]
    result = Adjusted(counters=len(wanted))
    for at in range(0, len(missing), _ADJUSTED_AT_ONCE):
        operations = [
            _operation(purpose, policy_version, each, booked)
            for each, booked in missing[at : at + _ADJUSTED_AT_ONCE]
        ]
        for outcome in await engine.adjust(operations, now_ms):
            if isinstance(outcome, BursarError):
                raise outcome
            result += Adjusted(
                booked=int(outcome.code is AdjustCode.DONE),
                # Repeated: it is booked and not recorded yet.
                waiting=int(outcome.code in (AdjustCode.REPEATED, AdjustCode.REUSED)),
                refused=int(outcome.code is AdjustCode.OVERFLOW),
            )
    return result


async def _known(connection: Connection, purpose: str, wanted: Sequence[Wanted]) -> list[_Known]:
    """Return what is recorded of each: its names are looked for until one is missing."""
    known = [_Known() for _ in wanted]
    since_ms = min((each.since_ms for each in wanted), default=0)
    while any(each.looking for each in known):
        for each, found in zip(wanted, known, strict=True):
            numbers = range(found.number, found.number + _NAMES_AT_ONCE) if found.looking else ()
            found.names = [_name(purpose, each, number) for number in numbers]
        names = [name.reservation_id for found in known for name in found.names]
        recorded = await recorded_adjustments(connection, names, since_ms)
        for found in known:
            for name in found.names:
                adjusted = recorded.get(name.reservation_id)
                if adjusted is None:
                    found.looking = False
                    break
                found.committed += adjusted.committed
                found.credit += adjusted.credit
                found.number += 1
    return known


def _name(purpose: str, wanted: Wanted, number: int) -> HoldName:
    slot = "" if wanted.slot is None else str(wanted.slot)
    # No request id has a control character, so no reservation is ever kept under such a name.
    return hold_name(wanted.counter.org, "\0".join((purpose, wanted.counter.id, slot, str(number))))


def _operation(
    purpose: str, policy_version: str, wanted: Wanted, booked: _Known
) -> AdjustOperation:
    """Return what books the difference."""
    name = _name(purpose, wanted, booked.number)
    committed, credit = wanted.committed - booked.committed, wanted.credit - booked.credit
    content = pack([purpose, committed, credit])
    return AdjustOperation(
        org=name.org,
        hold_id=name.hold_id,
        fingerprint=hashlib.blake2b(content, digest_size=_FINGERPRINT_BYTES).digest(),
        adjustments=(Adjustment(wanted.counter, committed, credit, wanted.slot),),
        payload=_payload(purpose, policy_version, wanted.counter),
        note=f"{purpose} of budget {wanted.counter.budget.name}".encode(),
    )


def _payload(purpose: str, policy_version: str, counter: Counter) -> bytes:
    """Return what is kept with an adjustment: the ledger shows it under its counter's subject."""
    values = dict(zip(counter.budget.per, counter.partition, strict=True))
    subject = Subject(
        counter.org,
        **{level: values[level] for level in LEVELS if level in values},
        labels={
            name.removeprefix(LABEL_PREFIX): value
            for name, value in values.items()
            if name.startswith(LABEL_PREFIX)
        },
    )
    provider, model = (values.get(name, "") for name in CASELESS)
    request = ReserveRequest(purpose, subject, Target(provider, model), Estimate(), ttl_ms=0)
    return encode_payload(request, policy_version)
