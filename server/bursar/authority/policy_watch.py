"""Keeps a server on the policies and freezes that PostgreSQL has, whether it is there or not."""

from __future__ import annotations

import asyncio

import structlog

from bursar.authority.policies import VERSIONS_KEPT_MAX, Policies
from bursar.domain.errors import LedgerUnavailable, PolicyInvalid
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.ledger.freeze_store import FreezeStore
from bursar.ledger.policy_listener import PolicyListener
from bursar.ledger.policy_store import PolicyStore

VERSIONS_LOADED_MAX = 50
"""Past versions of one org that a starting server loads."""

VERSIONS_LOADED_MS = 72 * 3_600_000
"""How long ago they may have ended to decide: the longest that a hold and its answer are kept."""

_log = structlog.get_logger(__name__)


class PolicyWatch:
    """Loads what is new. A version that cannot be compiled leaves the one before in force."""

    def __init__(
        self,
        policies: Policies,
        store: PolicyStore,
        freezes: FreezeStore,
        listener: PolicyListener,
    ) -> None:
        self._policies = policies
        self._store = store
        self._freezes = freezes
        self._listener = listener
        self._refreshing = asyncio.Lock()
        self._refused: dict[str, int] = {}
        self._is_away = False

    async def watch_once(self, interval_ms: int) -> None:
        """Wait until something changes, or for an interval, and load what is new.

        While PostgreSQL is away the server goes on with what it has.

        Args:
            interval_ms: Between two looks where nothing is heard.
        """
        await self._listener.wait(interval_ms)
        try:
            await self._listener.connect()
            await self.refresh()
        except LedgerUnavailable as error:
            if not self._is_away:
                _log.warning("policies_unwatched", why=error.message)
            self._is_away = True
            return
        if self._is_away:
            _log.info("policies_watched_again")
        self._is_away = False

    async def refresh(self) -> None:
        """Load every version and freeze that is new.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
        """
        # What was read first must not be put in place last.
        async with self._refreshing:
            heads = await self._store.heads()
            for org, number in heads.items():
                if number > max(self._policies.number(org), self._refused.get(org, 0)):
                    await self._load(org)
            for org in self._policies.freeze(await self._freezes.in_force()):
                _log.info("freezes_changed", org=org)

    async def load_past_versions(self) -> None:
        """Load versions that may have granted what is still answered for.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
        """
        limit = VERSIONS_KEPT_MAX // 2
        for past in await self._store.recent(VERSIONS_LOADED_MAX, VERSIONS_LOADED_MS, limit):
            policy = await self._compile(past.org, past.number, past.document)
            if policy is not None:
                self._policies.remember(policy)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    async def _load(self, org: str) -> None:
        stored = await self._store.load(org)
        if stored is None:
            return
        number = stored.head.number
        policy = await self._compile(org, number, stored.document)
        if policy is None:
            self._refused[org] = number
            return
        self._policies.replace(policy, number)
        _log.info("policy_changed", org=org, number=number, version=policy.version)

    async def _compile(self, org: str, number: int, document: str) -> Policy | None:
        """Return what a document comes to, or None where it cannot be used here."""
        try:
            # A large document takes a while; calls go on meanwhile.
            policy = await asyncio.to_thread(_compiled, org, document)
        except PolicyInvalid as error:
            _log.error("policy_refused", org=org, number=number, why=error.message)
            return None
        except Exception as error:
            # One org's document must not keep those of others from being loaded.
            _log.error("policy_refused", org=org, number=number, exc_info=error)
            return None
        if policy.org != org:
            _log.error("policy_refused", org=org, number=number, why=f"is of {policy.org}")
            return None
        return policy


def _compiled(org: str, document: str) -> Policy:
    return compile_policy(parse_policy(document, f"the database, org {org}"))
