"""Denials, added up in memory so that whoever is denied over and over fills no disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bursar.domain.answer import ReserveAnswer
from bursar.domain.errors import BursarError
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import Target
from bursar.domain.usage_report import HOUR_MS
from bursar.ledger.database import Database
from bursar.ledger.denials import DenialKey, add_denials

KEYS_MAX = 10_000
"""Most keys of each fineness that one server counts in one hour."""


class DenialTally:
    """Counts denials by hour, subject, target, budget and kind.

    Where there are too many different keys in an hour, new ones are counted without user and
    model; where those are too many as well, by org, budget and kind alone, which a caller cannot
    make up. So no denial goes uncounted, and neither memory nor the ledger grows without bound.
    While the ledger is away what could not be written counts towards the bound.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        """Starts empty.

        Args:
            keys_max: Of each fineness, in an hour.
        """
        self._keys_max = keys_max
        self._hour_ms = 0
        self._counts: Counter[DenialKey] = Counter()
        self._fine: set[DenialKey] = set()
        self._coarse: set[DenialKey] = set()
        self._in_flight: Counter[DenialKey] = Counter()

    def add(
        self,
        requests: Sequence[ReserveRequest],
        answers: Sequence[ReserveAnswer | BursarError],
        now_ms: int,
    ) -> None:
        """Count those answers that deny a request which was meant.

        Args:
            requests: In the order of their answers.
            answers: Of which most are grants.
            now_ms: When they were decided.
        """
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, BursarError) or answer.denial is None or request.validate_only:
                continue
            offers = answer.denial.counter_offers
            # The first offer is for what was asked, with its provider found and its alias resolved.
            target = offers[0].target if offers else request.target
            binding = answer.denial.binding
            budget = binding.counter.budget.name if binding else ""
            key = _key(request, target, budget, str(answer.denial.kind), now_ms)
            self._counts[self._admitted(key)] += 1

    def pending(self) -> dict[DenialKey, int]:
        """Return what is not in the ledger yet."""
        return dict(self._counts + self._in_flight)

    async def flush(self, database: Database) -> None:
        """Add what was counted to the ledger, and begin anew; what fails is kept.

        Raises:
            LedgerUnavailable: PostgreSQL is away.
        """
        if not self._counts:
            return
        self._in_flight, self._counts = self._counts, Counter()
        try:
            await add_denials(database, self._in_flight)
        except BaseException:
            self._counts.update(self._in_flight)
            raise
        finally:
            self._in_flight = Counter()

    def _admitted(self, key: DenialKey) -> DenialKey:
        """Return the finest key that there is room for."""
        if key.hour_ms > self._hour_ms:
            self._hour_ms = key.hour_ms
            pending = self._counts.keys() | self._in_flight.keys()
            self._fine &= pending
            self._coarse &= pending
        if _enter(key, self._fine, self._keys_max):
            return key
        coarse = key._replace(user="", model="")
        if _enter(coarse, self._coarse, self._keys_max):
            return coarse
        return coarse._replace(team="", feature="", agent="", provider="")


def _enter(key: DenialKey, known: set[DenialKey], most: int) -> bool:
    """Tell whether a key is among the known, letting it in while there is room."""
    if key in known:
        return True
    if len(known) >= most:
        return False
    known.add(key)
    return True


def _key(request: ReserveRequest, target: Target, budget: str, kind: str, now_ms: int) -> DenialKey:
    subject = request.subject
    return DenialKey(
        hour_ms=now_ms - now_ms % HOUR_MS,
        org=subject.org,
        team=subject.team,
        feature=subject.feature,
        agent=subject.agent,
        user=subject.user,
        provider=target.provider.lower(),
        model=target.model.lower(),
        budget=budget,
        kind=kind,
    )
