"""What a server acknowledged lately, to send again where Redis loses it before it is recorded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from bursar.domain.offer import Offer
from bursar.engine.operations import (
    AdjustOperation,
    ExtendOperation,
    Granted,
    RecordOperation,
    ReserveOperation,
    SettleOperation,
)

Acknowledged = (
    ReserveOperation | SettleOperation | ExtendOperation | RecordOperation | AdjustOperation
)


@dataclass(frozen=True, slots=True)
class _Call:
    """One acknowledged operation: the sequence number and the time of its call."""

    sequence: int
    now_ms: int
    operation: Acknowledged


class RecentCalls:
    """Acknowledged operations that are not known to be recorded, by shard, oldest first.

    There is a bound on how many are kept of all shards together. At the bound the oldest of the
    shard with the most goes: it is the one that is furthest from being recorded.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._calls: dict[int, deque[_Call]] = {}

    def add(self, shard: int, sequence: int, now_ms: int, operation: Acknowledged) -> None:
        """Keep an operation."""
        self._calls.setdefault(shard, deque()).append(_Call(sequence, now_ms, operation))
        self._count += 1
        if self._count > self._most:
            fullest = max(self._calls, key=lambda each: len(self._calls[each]))
            self._pop(fullest)

    def forget(self, shard: int, sequence: int) -> None:
        """Let go of what is recorded: every call up to a sequence number.

        Answers arrive in another order than calls are made, so a later call may stand before an
        earlier one; it then goes with that one.
        """
        calls = self._calls.get(shard)
        while calls and calls[0].sequence <= sequence:
            self._pop(shard)

    def take(self, shard: int) -> list[tuple[int, Acknowledged]]:
        """Return what is kept of a shard with the time of each, in the order of the calls."""
        calls = sorted(self._calls.get(shard, ()), key=lambda call: call.sequence)
        return [(call.now_ms, call.operation) for call in calls]

    def drop(self, shard: int, count: int) -> None:
        """Let go of the oldest so many of a shard."""
        for _ in range(min(count, len(self._calls.get(shard, ())))):
            self._pop(shard)

    def _pop(self, shard: int) -> None:
        self._calls[shard].popleft()
        self._count -= 1


def as_granted(operation: ReserveOperation, granted: Granted) -> ReserveOperation:
    """Return a reserve that can only be granted as it was, whatever the room is by now."""
    # Those before it stay in their places, so that the granted one keeps its number.
    before = tuple(_never(offer) for offer in operation.offers[: granted.offer])
    fixed = _fixed(operation.offers[granted.offer], granted.output_tokens)
    return replace(operation, offers=(*before, fixed))


def as_extended(operation: ExtendOperation) -> ExtendOperation:
    """Return an extend that finds room, whatever the room is by now."""
    return replace(operation, totals=tuple((total, None) for total, _ in operation.totals))


def _fixed(offer: Offer, output_tokens: int) -> Offer:
    uses = tuple(replace(use, ceiling=None) for use in offer.uses)
    return replace(offer, output_min=output_tokens, output_max=output_tokens, uses=uses)


def _never(offer: Offer) -> Offer:
    return replace(offer, output_min=1, output_max=0, uses=())
