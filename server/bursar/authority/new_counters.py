"""Sees to counters that begin: in a new window, or in the middle of one with a new policy.

One server does it for each shard, the one that keeps its record. Where two do it for a while,
each adjustment is still booked once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from bursar.authority.adjusting import Adjusted
from bursar.authority.backfill import backfill
from bursar.authority.carry_over import carry_over
from bursar.authority.policies import Policies
from bursar.domain.backfill import counting_anew
from bursar.domain.errors import BursarError
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.subject import OrgId
from bursar.engine.keys import COUNTER_RETENTION_MS
from bursar.engine.operations import Engine
from bursar.ledger.database import Database
from bursar.ledger.recent_policies import recent_changes

SEEN_TO_MS = COUNTER_RETENTION_MS
"""How long after a counter began it is looked at: until no older hold can be settled any more."""

PAUSE_MS_MIN = 5_000
PAUSE_MS_MAX = 3_600_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Began:
    """Counters of an org that began to count anew with a version of its policy."""

    at_ms: int
    budgets: tuple[str, ...]


class NewCounters:
    """Looks at new counters again and again, at first often and then ever more rarely."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        policies: Policies,
        shard_of: Callable[[str], int],
    ) -> None:
        """Does nothing by itself.

        Args:
            engine: Where the counters are.
            database: The record.
            policies: What decides.
            shard_of: On which shard an org lives.
        """
        self._engine = engine
        self._database = database
        self._policies = policies
        self._shard_of = shard_of
        self._looked_ms: dict[tuple[str, str, int], int] = {}
        self._began: dict[tuple[str, int], _Began] = {}

    async def look(self, shards: Collection[int], now_ms: int) -> Adjusted:
        """See to the new counters of these shards, as far as it is time to.

        What fails of one org keeps no other from being seen to, and is done the next time.

        Args:
            shards: Those whose record this server keeps.
            now_ms: Since the epoch.

        Raises:
            LedgerUnavailable: PostgreSQL is away.
        """
        orgs = [org for org in self._policies.orgs() if self._shard_of(org) in shards]
        await self._learn(orgs, now_ms)
        result = Adjusted()
        for org in orgs:
            policy = self._policies.of(OrgId(org))
            result += await self._carry_over(policy, now_ms)
            result += await self._backfill(policy, now_ms)
        horizon_ms = now_ms - SEEN_TO_MS
        self._looked_ms = {
            key: at_ms for key, at_ms in self._looked_ms.items() if at_ms > horizon_ms
        }
        return result

    async def _learn(self, orgs: list[str], now_ms: int) -> None:
        """Find the versions of policies that let counters begin anew."""
        self._began = {
            key: began for key, began in self._began.items() if now_ms - began.at_ms < SEEN_TO_MS
        }
        for change in await recent_changes(self._database, orgs, list(self._began), SEEN_TO_MS):
            budgets = counting_anew(_policy(change.before), _policy(change.after))
            self._began[change.org, change.number] = _Began(change.applied_ms, budgets)

    async def _carry_over(self, policy: Policy, now_ms: int) -> Adjusted:
        result = Adjusted()
        for each in policy.budgets:
            budget = each.budget
            running = budget.window.instance(now_ms) if budget.carry_over is not None else None
            if running is not None:
                result += await self._if_due(
                    (policy.org, f"carry-over {budget.name}", running.start_ms),
                    running.start_ms,
                    now_ms,
                    lambda budget=budget: carry_over(  # type: ignore[misc]
                        self._engine,
                        self._database,
                        policy,
                        budget,
                        self._shard_of(policy.org),
                        now_ms,
                    ),
                )
        return result

    async def _backfill(self, policy: Policy, now_ms: int) -> Adjusted:
        result = Adjusted()
        for (org, number), began in list(self._began.items()):
            # Nothing can be booked on counters of a version that does not decide here yet.
            if org == policy.org and began.budgets and number <= self._policies.number(policy.org):
                result += await self._if_due(
                    (org, "backfill", number),
                    began.at_ms,
                    now_ms,
                    lambda began=began: backfill(  # type: ignore[misc]
                        self._engine, self._database, policy, began.budgets, now_ms
                    ),
                )
        return result

    async def _if_due(
        self,
        key: tuple[str, str, int],
        began_ms: int,
        now_ms: int,
        look: Callable[[], Awaitable[Adjusted]],
    ) -> Adjusted:
        """Look at counters that began at a time, if it is time to look again."""
        looked_ms = self._looked_ms.get(key)
        is_over = now_ms - began_ms > SEEN_TO_MS
        if is_over or (looked_ms is not None and now_ms - looked_ms < _pause_ms(began_ms, now_ms)):
            return Adjusted()
        self._looked_ms[key] = now_ms
        org, what, _ = key
        try:
            adjusted = await look()
        except BursarError as error:
            del self._looked_ms[key]
            _log.warning("new_counters_failed", org=org, what=what, reason=error.reason)
            return Adjusted()
        if adjusted.booked or adjusted.refused:
            _log.info(
                "new_counters_adjusted",
                org=org,
                what=what,
                counters=adjusted.counters,
                booked=adjusted.booked,
                refused=adjusted.refused,
            )
        return adjusted


def _pause_ms(began_ms: int, now_ms: int) -> int:
    return min(max((now_ms - began_ms) // 2, PAUSE_MS_MIN), PAUSE_MS_MAX)


def _policy(document: str) -> Policy:
    return compile_policy(parse_policy(document, "the record"))
