"""Lets counters that are new in the middle of their window begin with what was used in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bursar.authority.adjusting import COUNTERS_AT_ONCE, Adjusted, Wanted, adjust_to
from bursar.domain import meter
from bursar.domain.backfill import UsedBefore, can_backfill
from bursar.domain.budget import Counter
from bursar.domain.policy import CompiledBudget, Policy
from bursar.domain.subject import attributes
from bursar.domain.window import WindowKind
from bursar.engine.operations import Engine
from bursar.ledger.backfill_query import BackfillQuestion, used_before
from bursar.ledger.database import Database

PURPOSE = "backfill"

_Partition = tuple[str, ...]


async def backfill(
    engine: Engine, database: Database, policy: Policy, names: Iterable[str], now_ms: int
) -> Adjusted:
    """Book on counters what was used before they began and is not on them.

    It is repeated while holds that were made before may still be settled: each time the
    difference is booked. All that is used in the window is then on the counter, once.

    Args:
        engine: Where the counters are.
        database: The record.
        policy: What decides now.
        names: The budgets that began to count in their window (`domain.backfill`).
        now_ms: Since the epoch.

    Raises:
        StoreUnavailable, StoreFull, ShardCold, ClockBehind: See `operations.Engine`.
        LedgerUnavailable: PostgreSQL is away.
    """
    result = Adjusted()
    for group in _groups(policy, frozenset(names), now_ms):
        async with database.transaction(snapshot=True) as connection:
            waiting: list[Wanted] = []
            used = used_before(connection, group.question)
            async for wanted in _wanted(policy, group, used, now_ms):
                waiting += wanted
                if len(waiting) >= COUNTERS_AT_ONCE:
                    result += await adjust_to(
                        engine, connection, PURPOSE, policy.version, waiting, now_ms
                    )
                    waiting = []
            result += await adjust_to(engine, connection, PURPOSE, policy.version, waiting, now_ms)
    return result


@dataclass(frozen=True, slots=True)
class _Group:
    """Budgets with the same window and partition: one look at the ledger serves all."""

    question: BackfillQuestion
    budgets: tuple[CompiledBudget, ...]
    rolling: bool


def _groups(policy: Policy, names: frozenset[str], now_ms: int) -> Iterator[_Group]:
    alike: dict[tuple[str, _Partition], list[CompiledBudget]] = {}
    for each in policy.budgets:
        budget = each.budget
        if budget.name in names and can_backfill(budget):
            alike.setdefault((budget.window.code, budget.per), []).append(each)
    for (code, per), budgets in alike.items():
        window = budgets[0].budget.window
        instance = window.instance(now_ms)
        if instance is None:
            continue
        rolling = window.kind is WindowKind.ROLLING
        start_ms, named_ms = instance.start_ms, instance.start_ms
        if rolling:
            # As far back as the counter itself looks: its oldest bucket counts whole.
            oldest = now_ms // window.bucket_ms - window.bucket_count
            start_ms, named_ms = oldest * window.bucket_ms, 0
        question = BackfillQuestion(
            org=policy.org,
            start_ms=start_ms,
            counters=tuple((each.budget.name, each.budget.meter) for each in budgets),
            window=f"{code}@{named_ms}",
            per=per,
            bucket_ms=window.bucket_ms if rolling else 0,
            custom_meters=tuple(
                sorted({each.budget.meter for each in budgets} & policy.custom_meters)
            ),
        )
        yield _Group(question, tuple(budgets), rolling)


async def _wanted(
    policy: Policy, group: _Group, used: AsyncIterator[UsedBefore], now_ms: int
) -> AsyncIterator[list[Wanted]]:
    """Add up what each counter should begin with; what belongs to one comes in a row."""
    sums: dict[tuple[str, int], tuple[Counter, int]] = {}
    place: tuple[object, ...] = ()
    async for each in used:
        given = attributes(each.subject, each.target)
        here = (*(given.get(name) for name in group.question.per), each.bucket)
        if here != place:
            yield _as_wanted(group, sums)
            sums, place = {}, here
        for compiled in group.budgets:
            counter = _counter(policy, compiled, given, now_ms)
            if counter is None or counter.id in each.counted:
                continue
            _, before = sums.get((counter.id, each.bucket), (counter, 0))
            amount = each.amount(compiled.budget.meter)
            sums[counter.id, each.bucket] = (counter, before + amount)
    yield _as_wanted(group, sums)


def _counter(
    policy: Policy, compiled: CompiledBudget, given: Mapping[str, str], now_ms: int
) -> Counter | None:
    if compiled.budget.meter == meter.CONCURRENCY or compiled.unmet(given) is not None:
        return None
    return policy.counter(compiled.budget, given, now_ms)


def _as_wanted(group: _Group, sums: Mapping[tuple[str, int], tuple[Counter, int]]) -> list[Wanted]:
    return [
        Wanted(
            counter,
            committed=amount,
            slot=bucket if group.rolling else None,
            since_ms=group.question.start_ms,
        )
        for (_, bucket), (counter, amount) in sums.items()
    ]
