"""What a server acknowledged lately, to send again where Redis loses it before it is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

from bursar.domain.offer import Offer
from bursar.engine.operations import (
    AdjustOperation,
    ExtendOperation,
    Granted,
    RecordOperation,
    ReserveOperation,
    SettleOperation,
    SettleVerb,
)

Acknowledged = (
    ReserveOperation | SettleOperation | ExtendOperation | RecordOperation | AdjustOperation
)


@dataclass(frozen=True, slots=True)
class RecentCall:
    """One acknowledged operation, and where its event is in the journal.

    Attributes:
        epoch: Generation of the shard that it was made in.
        sequence: Number of its call, which grows over all generations.
        stream_id: Of its entry in the journal.
        now_ms: Time of its call.
        operation: What was carried out.
        granted: How a reserve was; None for others.
    """

    epoch: str
    sequence: int
    stream_id: str
    now_ms: int
    operation: Acknowledged
    granted: Granted | None = None

    def again(self) -> Acknowledged:
        """Return the operation so that it can only go as it went, whatever the room is by now."""
        if isinstance(self.operation, ReserveOperation) and self.granted is not None:
            return _as_granted(self.operation, self.granted)
        if isinstance(self.operation, ExtendOperation):
            return _as_extended(self.operation)
        return self.operation

    @property
    def reservation_id(self) -> str:
        """Which reservation, record or adjustment it is about, as the record names it."""
        return f"{self.operation.org}.{self.operation.hold_id}"

    @property
    def verb(self) -> str:
        """What the journal calls its event."""
        match self.operation:
            case ReserveOperation():
                return "reserve"
            case ExtendOperation():
                return "extend"
            case RecordOperation():
                return "record"
            case AdjustOperation():
                return "adjust"
            case SettleOperation(verb=SettleVerb.RELEASE):
                return "release"
            case _:
                return "commit_partial" if self.operation.partial else "commit"


class RecentCalls:
    """Acknowledged operations that are not known to be recorded, by shard, oldest first.

    There is a bound on how many are kept of all shards together. At the bound the oldest of the
    shard with the most goes: it is the one that is furthest from being recorded.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._calls: dict[int, deque[RecentCall]] = {}
        self._newest: dict[int, RecentCall] = {}

    def add(self, shard: int, call: RecentCall) -> None:
        """Keep an operation."""
        self._calls.setdefault(shard, deque()).append(call)
        # Answers arrive in another order than calls are made.
        newest = self._newest.get(shard)
        if newest is None or call.sequence >= newest.sequence:
            self._newest[shard] = call
        self._count += 1
        if self._count > self._most:
            fullest = max(self._calls, key=lambda each: len(self._calls[each]))
            self._calls[fullest].popleft()
            self._count -= 1

    def newest(self, shard: int) -> RecentCall | None:
        """Return the call of a shard with the highest number."""
        return self._newest.get(shard)

    def of(self, shard: int) -> list[RecentCall]:
        """Return what is kept of a shard, in the order of the calls."""
        return sorted(self._calls.get(shard, ()), key=_sequence)

    def keep_only(self, shard: int, wanted: Collection[RecentCall]) -> None:
        """Let go of all of a shard but these."""
        ids = set(map(id, wanted))
        calls = self._calls.get(shard, deque())
        left = deque(call for call in calls if id(call) in ids)
        self._count += len(left) - len(calls)
        self._calls[shard] = left
        if id(self._newest.get(shard)) not in ids:
            self._newest.pop(shard, None)

    def shards(self) -> list[int]:
        """Return the shards of which something is kept."""
        return [shard for shard, calls in self._calls.items() if calls]


def _sequence(call: RecentCall) -> int:
    return call.sequence


def _as_granted(operation: ReserveOperation, granted: Granted) -> ReserveOperation:
    # Those before it stay in their places, so that the granted one keeps its number.
    before = tuple(_never(offer) for offer in operation.offers[: granted.offer])
    fixed = _fixed(operation.offers[granted.offer], granted.output_tokens)
    return replace(operation, offers=(*before, fixed))


def _as_extended(operation: ExtendOperation) -> ExtendOperation:
    return replace(operation, totals=tuple((total, None) for total, _ in operation.totals))


def _fixed(offer: Offer, output_tokens: int) -> Offer:
    uses = tuple(use._replace(ceiling=None) for use in offer.uses)
    return offer._replace(output_min=output_tokens, output_max=output_tokens, uses=uses)


def _never(offer: Offer) -> Offer:
    return offer._replace(output_min=1, output_max=0, uses=())
