"""The authority: every use case, at the time of its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, TypeVar

from bursar.authority import extend, reserve, settle, usage
from bursar.authority.clock import Clock
from bursar.authority.denials import DenialTally
from bursar.authority.policies import Policies
from bursar.domain.answer import ExtendAnswer, ReserveAnswer, SettleAnswer
from bursar.domain.errors import BursarError, ClockBehind
from bursar.domain.request import (
    CommitRequest,
    ExtendRequest,
    Operation,
    RecordRequest,
    ReleaseRequest,
    ReserveRequest,
)
from bursar.domain.subject import Subject, Target
from bursar.engine.operations import Engine, Swept

Answer = ReserveAnswer | SettleAnswer | ExtendAnswer
Result = TypeVar("Result")


class Authority:
    """Decides, books and shows. All methods raise the errors of `domain.errors`."""

    def __init__(
        self,
        engine: Engine,
        policies: Policies,
        clock: Clock,
        catch_up: Callable[[], Awaitable[None]] | None = None,
        denials: DenialTally | None = None,
    ) -> None:
        """Brings together what decides.

        Args:
            engine: Where counters and holds are.
            policies: What decides.
            clock: When.
            catch_up: Asked to set the clock where a shard has seen a later time.
            denials: Told of every decision, to count what is denied.
        """
        self._engine = engine
        self.policies = policies
        self._clock = clock
        self._catch_up = catch_up
        self._denials = denials

    async def reserve(self, request: ReserveRequest) -> ReserveAnswer:
        """Decide whether a call may be made, and hold its amounts."""
        [answer] = await self._at_now(lambda now_ms: self._reserve([request], now_ms))
        return _raise_error(answer)

    async def settle(self, request: CommitRequest | ReleaseRequest) -> SettleAnswer:
        """Book what a call used in place of its hold, or give the hold back."""
        [answer] = await self._at_now(
            lambda now_ms: settle.settle(self._engine, self.policies, [request], now_ms)
        )
        return _raise_error(answer)

    async def extend(self, request: ExtendRequest) -> ExtendAnswer:
        """Make a hold last longer, or larger or smaller."""
        return await self._at_now(
            lambda now_ms: extend.extend(self._engine, self.policies, request, now_ms)
        )

    async def record(self, request: RecordRequest) -> SettleAnswer:
        """Book usage that had no reservation."""
        [answer] = await self._at_now(
            lambda now_ms: settle.record(self._engine, self.policies, [request], now_ms)
        )
        return _raise_error(answer)

    async def batch(self, operations: Sequence[Operation]) -> list[Answer | BursarError]:
        """Carry out operations in order; each succeeds or fails on its own.

        Neighbours of the same kind go to the engine together.
        """
        answers: list[Answer | BursarError] = []
        for kind, run in groupby(operations, key=_kind):
            answers += await self._group_or_errors(kind, list(run))
        return answers

    async def concurrent(self, operations: Sequence[Operation]) -> list[Answer | BursarError]:
        """Carry out operations in no particular order; each succeeds or fails on its own.

        All that need not wait for another go to the engine together.
        """
        together: dict[tuple[type, int], list[int]] = {}
        for position, operation in enumerate(operations):
            kind = _kind(operation)
            # Each extend looks at its hold first; one must not wait for another's.
            alone = position if kind is ExtendRequest else 0
            together.setdefault((kind, alone), []).append(position)
        groups = await asyncio.gather(
            *(
                self._group_or_errors(kind, [operations[at] for at in places])
                for (kind, _), places in together.items()
            )
        )
        answers: list[Any] = [None] * len(operations)
        for places, group in zip(together.values(), groups, strict=True):
            for position, answer in zip(places, group, strict=True):
                answers[position] = answer
        return answers

    async def _group_or_errors(
        self, kind: type, group: list[Operation]
    ) -> list[Answer | BursarError]:
        try:
            return await self._run_group(kind, group)
        except BursarError as error:
            return [error] * len(group)

    async def _run_group(self, kind: type, group: list[Operation]) -> list[Answer | BursarError]:
        answers: list[Answer | BursarError] = []
        if kind is ReserveRequest:
            reserves = [each for each in group if isinstance(each, ReserveRequest)]
            answers += await self._at_now(lambda now_ms: self._reserve(reserves, now_ms))
        elif kind is RecordRequest:
            records = [each for each in group if isinstance(each, RecordRequest)]
            answers += await self._at_now(
                lambda now_ms: settle.record(self._engine, self.policies, records, now_ms)
            )
        elif kind is ExtendRequest:
            for each in group:
                if isinstance(each, ExtendRequest):
                    answers.append(await self._or_error(self.extend(each)))
        else:
            settles = [each for each in group if isinstance(each, CommitRequest | ReleaseRequest)]
            answers += await self._at_now(
                lambda now_ms: settle.settle(self._engine, self.policies, settles, now_ms)
            )
        return answers

    async def balances(self, subject: Subject, page_size: int, page_token: str) -> usage.Balances:
        """Return the counters that could concern a subject."""
        return await self._at_now(
            lambda now_ms: usage.balances(
                self._engine, self.policies, subject, page_size, page_token, now_ms
            )
        )

    async def explain(self, subject: Subject, target: Target) -> usage.Explanation:
        """Return for every budget whether it applies to a request, why, and how it stands."""
        return await self._at_now(
            lambda now_ms: usage.explain(self._engine, self.policies, subject, target, now_ms)
        )

    async def list_holds(self, subject: Subject, page_size: int, page_token: str) -> usage.Holds:
        """Return who holds what."""
        return await usage.list_holds(self._engine, self.policies, subject, page_size, page_token)

    async def sweep(self, most: int) -> Swept:
        """End holds whose time is over, at most so many in each shard."""
        return await self._at_now(lambda now_ms: self._engine.sweep(now_ms, most))

    async def _at_now(self, call: Callable[[int], Awaitable[Result]]) -> Result:
        """Call with the time, and again where it was stale.

        A pause on the way makes it so: then the clock itself is right, and must not be moved.
        Where that does not help, the clock is behind those of other servers.
        """
        with suppress(ClockBehind):
            return await call(self._clock.now_ms())
        try:
            return await call(self._clock.now_ms())
        except ClockBehind:
            if self._catch_up is None:
                raise
            await self._catch_up()
            return await call(self._clock.now_ms())

    async def _reserve(
        self, requests: Sequence[ReserveRequest], now_ms: int
    ) -> list[ReserveAnswer | BursarError]:
        answers = await reserve.reserve(self._engine, self.policies, requests, now_ms)
        if self._denials is not None:
            self._denials.add(requests, answers, now_ms)
        return answers

    async def _or_error(self, answer: Awaitable[ExtendAnswer]) -> ExtendAnswer | BursarError:
        try:
            return await answer
        except BursarError as error:
            return error


def _kind(operation: Operation) -> type:
    # Commits and releases go the same way.
    return CommitRequest if isinstance(operation, ReleaseRequest) else type(operation)


def _raise_error(answer: Result | BursarError) -> Result:
    if isinstance(answer, BursarError):
        raise answer
    return answer
