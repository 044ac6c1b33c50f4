"""Changes of policies: whole documents, and single budgets in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bursar.authority.policies import Policies
from bursar.domain.errors import (
    Fault,
    FieldInvalid,
    OrgAccessDenied,
    PolicyConflict,
    PolicyInvalid,
    PolicyNotFound,
)
from bursar.domain.policy import compile_policy
from bursar.domain.policy_diff import Change, diff_policies
from bursar.domain.policy_document import BudgetDocument, PolicyDocument
from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy
from bursar.domain.policy_writing import (
    Content,
    add_budget,
    budget_etag,
    change_budget,
    find_budget,
    policy_content,
    remove_budget,
    write_policy,
)
from bursar.domain.subject import OrgId
from bursar.ledger.page_token import read_page_token, write_page_token
from bursar.ledger.policy_store import (
    ListedVersion,
    NewVersion,
    PolicyStore,
    PolicyVersion,
    StoredPolicy,
    conflict,
)

ATTEMPTS_MAX = 8
"""How often a change that names no etag is made anew where others changed the policy meanwhile."""

CHANGES_MAX = 1_000
"""Changes that a page of versions shows, and that one version of it does."""

WARNINGS_MAX = 100
PAGE_DEFAULT = 50
PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class By:
    """Who wants a change, and why."""

    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a document changed, or would change.

    Attributes:
        org: Whose document it is.
        head: The version that decides now; None where there is none yet.
        changes: What it changed.
        warnings: What is probably not meant.
    """

    org: str
    head: PolicyVersion | None
    changes: tuple[Change, ...]
    warnings: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class EditedBudget:
    """A budget, the version that it is in, and what changes with it."""

    budget: BudgetDocument
    etag: str
    head: PolicyVersion


@dataclass(frozen=True, slots=True)
class BudgetPage:
    """Budgets in the policy's order, and where the next page begins ("" at the end)."""

    budgets: tuple[BudgetDocument, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class VersionPage:
    """Versions, newest first, and where the next page begins ("" at the end)."""

    versions: tuple[ListedVersion, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class _Now:
    """An org's newest version as it was read, before a change."""

    number: int
    stored: StoredPolicy | None
    document: PolicyDocument | None


_Edit = Callable[[PolicyDocument], PolicyDocument]


class PolicyAdmin:
    """Changes policies in PostgreSQL, and this server's at once. All raise LedgerUnavailable."""

    def __init__(self, policies: Policies, store: PolicyStore) -> None:
        self._policies = policies
        self._store = store

    async def apply(
        self, text: str, source: str, etag: str, by: By, *, validate_only: bool = False
    ) -> Applied:
        """Make a document an org's policy, unless it says what decides already.

        Args:
            text: YAML or JSON.
            source: What to call it in an error.
            etag: What the org's policy must have, or empty.
            by: Who and why.
            validate_only: Change nothing.

        Raises:
            PolicyInvalid: The document has faults.
            PolicyConflict: The org's policy has another etag.
        """
        document = await asyncio.to_thread(parse_policy, text, source)
        warnings = tuple((await asyncio.to_thread(lint, document))[:WARNINGS_MAX])
        for attempt in range(ATTEMPTS_MAX):
            now = await self._now(document.org)
            if etag and etag != str(now.number):
                raise conflict(document.org, str(now.number))
            changes = diff_policies(now.document, document)
            head = now.stored.head if now.stored else None
            if not validate_only and (changes or now.document is None):
                try:
                    head = await self._append(now, document, text, changes, by)
                except PolicyConflict:
                    if etag or attempt == ATTEMPTS_MAX - 1:
                        raise
                    continue
            elif not validate_only:
                # Another server may have put it there a moment ago.
                await self._decide_by(now.document, now.number)
            return Applied(document.org, head, changes, warnings)
        raise conflict(document.org)

    async def apply_files(self, files: Sequence[tuple[str, str]]) -> list[Applied]:
        """Apply the files that a server was started with; those that change nothing are let be.

        Args:
            files: Name and text of each.
        """
        return [await self.apply(text, name, "", By(f"file {name}")) for name, text in files]

    async def create_budget(self, org: OrgId, budget: Content, by: By) -> EditedBudget:
        """Add a budget at the end of an org's policy.

        Raises:
            OrgAccessDenied: The org has no policy.
            PolicyInvalid: The budget has faults, or its name is taken.
        """
        return await self._edit(
            org, lambda document: add_budget(document, budget), str(budget["name"]), by
        )

    async def update_budget(
        self, org: OrgId, name: str, etag: str, change: Callable[[Content], Content], by: By
    ) -> EditedBudget:
        """Change a budget.

        Args:
            org: Whose.
            name: Of the budget.
            etag: What the budget must have, or empty.
            change: From what it sets to what it shall set.
            by: Who and why.

        Raises:
            OrgAccessDenied: The org has no policy.
            PolicyNotFound, PolicyConflict, PolicyInvalid: See `policy_writing.change_budget`.
        """
        return await self._edit(
            org, lambda document: change_budget(document, name, etag, change), name, by
        )

    async def delete_budget(self, org: OrgId, name: str, etag: str, by: By) -> PolicyVersion:
        """Take a budget out of an org's policy.

        Raises:
            OrgAccessDenied: The org has no policy.
            PolicyNotFound: The policy has no such budget.
            PolicyConflict: The budget has another etag.
        """
        _, head = await self._change(org, lambda document: remove_budget(document, name, etag), by)
        return head

    async def budget(self, org: OrgId, name: str) -> BudgetDocument:
        """Return a budget.

        Raises:
            OrgAccessDenied: The org has no policy.
            PolicyNotFound: The policy has no such budget.
        """
        _, document = await self._known(org)
        return document.budgets[find_budget(document, name)]

    async def budgets(self, org: OrgId, page_size: int, page_token: str) -> BudgetPage:
        """Return a page of budgets.

        Raises:
            OrgAccessDenied: The org has no policy.
            FieldInvalid: The page token is not one of this version.
        """
        stored, document = await self._known(org)
        question = ("budgets", org, stored.head.number)
        start = 0
        if page_token:
            [position] = read_page_token(question, page_token, (int,))
            start = int(position)
        end = start + min(page_size or PAGE_DEFAULT, PAGE_MAX)
        token = write_page_token(question, [end]) if end < len(document.budgets) else ""
        return BudgetPage(tuple(document.budgets[start:end]), token)

    async def policy(self, org: OrgId, number: int) -> StoredPolicy:
        """Return a version of a policy; number 0 is the newest.

        Raises:
            OrgAccessDenied: The org has no policy.
            PolicyNotFound: It has no such version.
        """
        stored = await self._store.load(org, number)
        if stored is not None:
            return stored
        self._policies.of(org)
        raise PolicyNotFound(f"the policy of {org} has no version {number}", org=org, number=number)

    async def versions(self, org: OrgId, page_size: int, page_token: str) -> VersionPage:
        """Return a page of an org's versions, newest first.

        Raises:
            OrgAccessDenied: The org has no policy.
            FieldInvalid: The page token is not one of this org.
        """
        question = ("versions", org)
        before = None
        if page_token:
            [position] = read_page_token(question, page_token, (int,))
            before = int(position)
        size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
        found = await self._store.history(org, before, size + 1)
        if not found and before is None:
            raise _unknown(org)
        shown = _within_changes(found[:size])
        token = ""
        if len(found) > len(shown):
            token = write_page_token(question, [shown[-1].head.number])
        return VersionPage(tuple(shown), token)

    async def _edit(self, org: OrgId, edit: _Edit, name: str, by: By) -> EditedBudget:
        document, head = await self._change(org, edit, by)
        budget = document.budgets[find_budget(document, name)]
        return EditedBudget(budget, budget_etag(budget), head)

    async def _change(
        self, org: OrgId, edit: _Edit, by: By
    ) -> tuple[PolicyDocument, PolicyVersion]:
        """Edit the newest version, and again where another one came in between."""
        for _ in range(ATTEMPTS_MAX):
            stored, before = await self._known(org)
            after = await asyncio.to_thread(edit, before)
            changes = diff_policies(before, after)
            if not changes:
                return before, stored.head
            now = _Now(stored.head.number, stored, before)
            text = write_policy(policy_content(after))
            try:
                return after, await self._append(now, after, text, changes, by)
            except PolicyConflict:
                continue
        raise conflict(org)

    async def _append(
        self,
        now: _Now,
        document: PolicyDocument,
        text: str,
        changes: tuple[Change, ...],
        by: By,
    ) -> PolicyVersion:
        policy = await asyncio.to_thread(compile_policy, document)
        new = NewVersion(document.org, policy.version, text, changes, by.reason, by.actor)
        head = await self._store.append(new, now.number)
        # Other servers hear of it; who asked this one finds it here when the call returns.
        self._policies.replace(policy, head.number)
        return head

    async def _decide_by(self, document: PolicyDocument | None, number: int) -> None:
        """Let a version decide on this server, unless that or a newer one does."""
        if document is not None and number > self._policies.number(document.org):
            policy = await asyncio.to_thread(compile_policy, document)
            self._policies.replace(policy, number)

    async def _now(self, org: str) -> _Now:
        stored = await self._store.load(org)
        if stored is None:
            return _Now(0, None, None)
        try:
            document = await asyncio.to_thread(parse_policy, stored.document, "the database")
        except PolicyInvalid:
            # Of another release, or written by hand: a document that is right replaces it.
            return _Now(stored.head.number, stored, None)
        return _Now(stored.head.number, stored, document)

    async def _known(self, org: OrgId) -> tuple[StoredPolicy, PolicyDocument]:
        now = await self._now(org)
        if now.stored is None:
            raise _unknown(org)
        if now.document is None:
            fault = "the newest version cannot be read by this server; apply a whole document"
            raise FieldInvalid(Fault("org", fault))
        return now.stored, now.document


def _within_changes(versions: list[ListedVersion]) -> list[ListedVersion]:
    """Return the first versions with so many changes as fit on a page; at least one."""
    left = CHANGES_MAX
    for place, each in enumerate(versions):
        left -= min(len(each.changes), CHANGES_MAX)
        if left < 0:
            return versions[:place]
    return versions


def _unknown(org: str) -> OrgAccessDenied:
    return OrgAccessDenied(f"org {org!r} is not known here; give it a policy", org=org)
