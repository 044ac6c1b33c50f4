"""Climbing ladders: a request with ever more rungs applied, and which rungs a variant satisfies."""

from __future__ import annotations

import fnmatch
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bursar.domain.budget import (
    Budget,
    CapOutput,
    Counter,
    Degradation,
    Finish,
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


@dataclass(frozen=True, slots=True)
class Variant:
    """A request with some rungs applied."""

    target: Target
    output_cap: int | None
    finishing: bool
    applied: tuple[AppliedRung, ...]


def variants(request: ReserveRequest, counters: list[Counter]) -> Iterator[Variant]:
    """Yield the request with ever more rungs applied, each distinct result once.

    The combinations of how many rungs of each ladder apply are walked cheapest first: by the
    highest threshold among them, then by their number.
    """
    ladders = [
        [AppliedRung(counter.budget.name, rung) for rung in _climbable(request, counter.budget)]
        for counter in counters
        if counter.budget.enforced
    ]
    ladders = [ladder for ladder in ladders if ladder]
    start = (0,) * len(ladders)
    waiting: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, start)]
    seen, distinct = {start}, set()
    top = tuple(len(ladder) for ladder in ladders)
    for _ in range(COMBINATIONS_MAX):
        if not waiting:
            return
        threshold, count, levels = heapq.heappop(waiting)
        variant = _apply(request, _rungs_at(ladders, levels))
        key = (variant.target, variant.output_cap, variant.finishing)
        if key not in distinct:
            distinct.add(key)
            yield variant
        for position, level in enumerate(levels):
            if level < top[position]:
                higher = (*levels[:position], level + 1, *levels[position + 1 :])
                if higher not in seen:
                    seen.add(higher)
                    at = ladders[position][level].rung.at_percent
                    heapq.heappush(waiting, (max(threshold, at), count + 1, higher))
    if waiting:
        yield _apply(request, _rungs_at(ladders, top))


def _climbable(request: ReserveRequest, budget: Budget) -> Iterator[Rung]:
    """Yield the restricting rungs that the caller can carry out, up to the first it cannot."""
    for rung in budget.ladder:
        if rung.ends:
            return
        if rung.restricts:
            if not _accepted(request, rung):
                return
            yield rung


def _accepted(request: ReserveRequest, rung: Rung) -> bool:
    action = rung.action
    if isinstance(action, SwitchModel):
        applies = fnmatch.fnmatchcase(request.target.model, action.from_pattern)
        return not applies or Degradation.SWITCH_MODEL in request.accepts
    if isinstance(action, CapOutput):
        least = request.estimate.min_output_tokens
        shorter = Degradation.SHORTER_OUTPUT in request.accepts or least is not None
        wanted = request.estimate.max_output_tokens
        return shorter or (wanted is not None and wanted <= action.tokens)
    return request.closing or Degradation.FINISH in request.accepts


def _rungs_at(ladders: list[list[AppliedRung]], levels: tuple[int, ...]) -> list[AppliedRung]:
    rungs = [each for ladder, level in zip(ladders, levels, strict=True) for each in ladder[:level]]
    return sorted(rungs, key=lambda each: each.rung.at_percent)


def _apply(request: ReserveRequest, rungs: Iterable[AppliedRung]) -> Variant:
    target, cap, finishing = request.target, None, request.closing
    applied = []
    for each in rungs:
        action = each.rung.action
        if isinstance(action, SwitchModel):
            if not fnmatch.fnmatchcase(target.model, action.from_pattern) or target == action.to:
                continue
            target = action.to
        elif isinstance(action, CapOutput):
            cap = action.tokens if cap is None else min(cap, action.tokens)
        elif isinstance(action, Finish):
            finishing = True
        applied.append(each)
    return Variant(target, cap, finishing, tuple(applied))


def headroom_percent(budget: Budget, request: ReserveRequest) -> int:
    """Return up to which part of a budget a request of that priority may fill it, in percent."""
    return budget.headroom_percent.get(request.priority, 100)


def satisfied(rung: Rung, variant: Variant, most: int) -> bool:
    """Return whether a variant, with that output at the most, does what a rung asks."""
    action = rung.action
    if isinstance(action, SwitchModel):
        applies = fnmatch.fnmatchcase(variant.target.model, action.from_pattern)
        return not applies or variant.target == action.to
    if isinstance(action, CapOutput):
        return most <= action.tokens
    return variant.finishing
