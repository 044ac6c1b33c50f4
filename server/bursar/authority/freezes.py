"""Freezing and unfreezing of subtrees."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from bursar.authority.policies import Policies
from bursar.authority.policy_admin import PAGE_DEFAULT, PAGE_MAX, By
from bursar.authority.policy_watch import PolicyWatch
from bursar.domain.errors import LedgerUnavailable, PolicyNotFound
from bursar.domain.freeze import Freeze
from bursar.domain.subject import LEVELS, OrgId, Subject
from bursar.ledger.freeze_store import FreezeStore
from bursar.ledger.page_token import read_page_token, write_page_token


@dataclass(frozen=True, slots=True)
class FreezePage:
    """Freezes, newest first, and where the next page begins ("" at the end)."""

    freezes: tuple[Freeze, ...]
    next_page_token: str


class Freezes:
    """Freezes in PostgreSQL, and in this server's policies at once. All raise LedgerUnavailable."""

    def __init__(self, policies: Policies, store: FreezeStore, watch: PolicyWatch) -> None:
        self._policies = policies
        self._store = store
        self._watch = watch

    async def freeze(self, subject: Subject, by: By) -> tuple[Freeze, str]:
        """Let a subtree spend nothing more.

        Returns:
            The freeze in force, and the policy version that decides with it.

        Raises:
            OrgAccessDenied: The org is unknown.
            LimitExceeded: The org has too many freezes.
        """
        self._policies.of(subject.org)
        freeze = await self._store.freeze(subject, by.reason, by.actor)
        await self._watch.refresh()
        return freeze, self._policies.of(subject.org).version

    async def unfreeze(self, subject: Subject, by: By) -> tuple[Freeze, str]:
        """Lift the freeze of a subtree.

        Returns:
            The freeze that ended, and the policy version that decides without it.

        Raises:
            OrgAccessDenied: The org is unknown.
            PolicyNotFound: The subtree is not frozen by itself.
        """
        self._policies.of(subject.org)
        freeze = await self._store.lift(subject, by.actor)
        if freeze is None:
            given = [f"{name}={getattr(subject, name)}" for name in ("org", *LEVELS)]
            what = " ".join(each for each in given if not each.endswith("="))
            raise PolicyNotFound(f"no freeze of exactly {what} is in force", subject=what)
        with suppress(LedgerUnavailable):  # It is lifted; this server follows when it can.
            await self._watch.refresh()
        return freeze, self._policies.of(subject.org).version

    async def list(
        self, org: OrgId, include_lifted: bool, page_size: int, page_token: str
    ) -> FreezePage:
        """Return a page of an org's freezes, newest first.

        Raises:
            OrgAccessDenied: The org is unknown.
            FieldInvalid: The page token is of another question.
        """
        self._policies.of(org)
        question = ("freezes", org, include_lifted)
        before = None
        if page_token:
            [position] = read_page_token(question, page_token, (int,))
            before = int(position)
        size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
        found = await self._store.list(org, include_lifted, before, size + 1)
        token = ""
        if len(found) > size:
            found = found[:size]
            token = write_page_token(question, [found[-1].freeze_id])
        return FreezePage(tuple(found), token)
