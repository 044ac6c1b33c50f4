"""Climbing ladders: a request with ever more rungs applied, and which rungs a variant satisfies."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bursar.domain.budget import (
    Budget,
    CapOutput,
    Counter,
    Degradation,
    Rung,
    SwitchModel,
)
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import Target

COMBINATIONS_MAX = 64
"""Most combinations of ladders that are looked at."""


@dataclass(frozen=True, slots=True)
class AppliedRung:
    """A rung that an offer carries out, and whose it is."""

    budget: str
    rung: Rung


class Way(Protocol):
    """What rungs ask about a way to grant a request."""

    @property
    def target(self) -> Target:
        """What would be called."""

    @property
    def switched(self) -> tuple[Target, ...]:
        """Every target that a rung switched to on the way to it, in order."""

    @property
    def finishing(self) -> bool:
        """Whether it is a closing answer."""


class Variant(NamedTuple):
    """A request with some rungs applied.

    Attributes:
        target: What would be called.
        switched: Every target that a rung switched to, in order.
        output_cap: Output tokens at the most, or None.
        finishing: It is a closing answer.
        applied: Rungs that change something, lowest first.
        fullest: It comes to the same as with every rung applied that could be.
    """

    target: Target
    switched: tuple[Target, ...] = ()
    output_cap: int | None = None
    finishing: bool = False
    applied: tuple[AppliedRung, ...] = ()
    fullest: bool = False

    @property
    def result(self) -> tuple[Target, tuple[Target, ...], int | None, bool]:
        """What tells it from other variants of the request."""
        return self.target, self.switched, self.output_cap, self.finishing


def as_asked(request: ReserveRequest) -> Variant:
    """Return the request without any rung applied."""
    return Variant(request.target, finishing=request.closing)


def variants(
    request: ReserveRequest, counters: list[Counter], output_tokens: int | None
) -> Iterator[Variant]:
    """Yield the request with ever more rungs applied, each distinct result once.

    The combinations of how many rungs of each ladder apply are walked cheapest first: by the
    highest threshold among them, then by their number. The request as asked is not among them.

    Args:
        request: What was asked, with its provider found.
        counters: Of the budgets that apply to it.
        output_tokens: Most that it could be granted as asked; None where it cannot be.
    """
    ladders = [
        [
            AppliedRung(counter.budget.name, rung)
            for rung in _climbable(request, counter.budget, output_tokens)
        ]
        for counter in counters
        if counter.budget.ladder and counter.budget.enforced
    ]
    ladders = [ladder for ladder in ladders if ladder]
    if not ladders:
        return
    start, top = (0,) * len(ladders), tuple(len(ladder) for ladder in ladders)
    asked = as_asked(request)
    fullest = climb(asked, _rungs_at(ladders, top))._replace(fullest=True)
    waiting: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, start)]
    seen, distinct = {start}, {asked.result}
    for _ in range(COMBINATIONS_MAX):
        if not waiting:
            return
        threshold, count, levels = heapq.heappop(waiting)
        variant = climb(asked, _rungs_at(ladders, levels))
        if variant.result not in distinct:
            distinct.add(variant.result)
            yield variant._replace(fullest=variant.result == fullest.result)
        for position, level in enumerate(levels):
            if level < top[position]:
                higher = (*levels[:position], level + 1, *levels[position + 1 :])
                if higher not in seen:
                    seen.add(higher)
                    at = ladders[position][level].rung.at_percent
                    heapq.heappush(waiting, (max(threshold, at), count + 1, higher))
    if waiting and fullest.result not in distinct:
        yield fullest


def _climbable(
    request: ReserveRequest, budget: Budget, output_tokens: int | None
) -> Iterator[Rung]:
    """Yield the restricting rungs that the caller can carry out, up to the first it cannot."""
    for rung in budget.ladder:
        if rung.ends:
            return
        if rung.restricts:
            if not _accepted(request, rung, output_tokens):
                return
            yield rung


def _accepted(request: ReserveRequest, rung: Rung, output_tokens: int | None) -> bool:
    action = rung.action
    if isinstance(action, SwitchModel):
        return not action.applies(request.target) or Degradation.SWITCH_MODEL in request.accepts
    if isinstance(action, CapOutput):
        as_it_is = output_tokens is not None and output_tokens <= action.tokens
        return as_it_is or accepts_shorter(request)
    return request.closing or Degradation.FINISH in request.accepts


def accepts_shorter(request: ReserveRequest) -> bool:
    """Tell whether a caller takes fewer output tokens than it says that it wants."""
    shorter = Degradation.SHORTER_OUTPUT in request.accepts
    return shorter or request.estimate.min_output_tokens is not None


def _rungs_at(ladders: list[list[AppliedRung]], levels: tuple[int, ...]) -> list[AppliedRung]:
    rungs = [each for ladder, level in zip(ladders, levels, strict=True) for each in ladder[:level]]
    return sorted(rungs, key=lambda each: each.rung.at_percent)


def climb(asked: Variant, rungs: Iterable[AppliedRung]) -> Variant:
    """Return a variant with rungs applied in their order; what changes nothing is left out.

    Args:
        asked: What to begin with.
        rungs: Restricting ones, lowest first.
    """
    target, switched, cap, finishing = asked.result
    applied = []
    for each in rungs:
        action = each.rung.action
        if isinstance(action, SwitchModel):
            if not action.applies(target) or target == action.to:
                continue
            target = action.to
            switched = (*switched, target)
        elif isinstance(action, CapOutput):
            cap = action.tokens if cap is None else min(cap, action.tokens)
        else:
            if finishing:
                continue
            finishing = True
        applied.append(each)
    return Variant(target, switched, cap, finishing, tuple(applied))


def headroom_percent(budget: Budget, request: ReserveRequest) -> int:
    """Return up to which part of a budget a request of that priority may fill it, in percent."""
    return budget.headroom_percent.get(request.priority, 100)


def ceiling(
    budget: Budget, request: ReserveRequest, way: Way, most: int
) -> tuple[int | None, Rung | None]:
    """Return how far a way to grant a request may fill a budget, and the rung that says so.

    That is the lowest rung whose action it does not satisfy, and the headroom that its priority
    leaves to more important requests; otherwise the limit with its overdraft.

    Args:
        budget: Which budget; one that is not enforced has no ceiling.
        request: What was asked.
        way: How it would be granted.
        most: Output tokens that it would get at the most.
    """
    if not budget.enforced:
        return None, None
    percent = headroom_percent(budget, request)
    for rung in budget.ladder:
        if rung.ends or (rung.restricts and not _satisfied(rung, way, most)):
            if rung.at_percent <= percent:
                return budget.share(rung.at_percent), rung
            break
    return budget.share(percent), None


def _satisfied(rung: Rung, way: Way, most: int) -> bool:
    action = rung.action
    if isinstance(action, SwitchModel):
        # A rung that leads on from there satisfies it as well.
        return not action.applies(way.target) or action.to in (way.target, *way.switched)
    if isinstance(action, CapOutput):
        return most <= action.tokens
    return way.finishing
