"""The policies that decide now, and the versions that decided before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bursar.domain.errors import OrgAccessDenied
from bursar.domain.freeze import Freeze, document_version, with_freezes
from bursar.domain.policy import Policy
from bursar.domain.subject import OrgId

VERSIONS_KEPT_MAX = 1_000
"""Past versions kept of all orgs together, so that a repeated call is answered as it was."""


class Policies:
    """Every org's policy: its document with the freezes in force, replaced in one step."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._current: dict[str, Policy] = {}
        self._documents: dict[str, Policy] = {}
        self._numbers: dict[str, int] = {}
        self._freezes: dict[str, tuple[Freeze, ...]] = {}
        self._versions: OrderedDict[tuple[str, str], Policy] = OrderedDict()
        for policy in policies:
            self.replace(policy)

    def replace(self, policy: Policy, number: int = 0) -> None:
        """Let a policy decide from now on, with the freezes in force in its org.

        Args:
            policy: As compiled from its document.
            number: Of its version; one that is older than the one that decides is ignored.
        """
        if number < self.number(policy.org):
            return
        self._numbers[policy.org] = number
        self._documents[policy.org] = policy
        self.remember(policy)
        self._decide(policy.org)

    def freeze(self, freezes: Mapping[str, Sequence[Freeze]]) -> list[str]:
        """Let these freezes be in force from now on, and no others.

        Args:
            freezes: By org.

        Returns:
            The orgs whose policy is another one by that.
        """
        wanted = {org: tuple(each) for org, each in freezes.items() if each}
        changed = [
            org
            for org in sorted(self._freezes.keys() | wanted.keys())
            if self._freezes.get(org) != wanted.get(org)
        ]
        self._freezes = wanted
        known = [org for org in changed if org in self._documents]
        for org in known:
            self._decide(org)
        return known

    def remember(self, policy: Policy) -> None:
        """Keep a version for repeated calls, without letting it decide."""
        key = (policy.org, policy.version)
        self._versions[key] = policy
        self._versions.move_to_end(key)
        while len(self._versions) > VERSIONS_KEPT_MAX:
            self._versions.popitem(last=False)

    def of(self, org: OrgId) -> Policy:
        """Return an org's policy.

        Raises:
            OrgAccessDenied: The org is unknown.
        """
        policy = self._current.get(org)
        if policy is None:
            raise OrgAccessDenied(f"org {org!r} is not known here; give it a policy", org=org)
        return policy

    def knows(self, org: OrgId) -> bool:
        """Tell whether an org has a policy here."""
        return org in self._current

    def number(self, org: str) -> int:
        """Return the number of the version that decides for an org; 0 where none is known."""
        return self._numbers.get(org, 0)

    def version(self, org: OrgId, version: str) -> Policy | None:
        """Return a version of an org's policy, or None where it is no longer kept.

        One that had freezes is answered without them: what it granted was not in their subtrees.
        """
        wanted = document_version(version)
        current = self._documents.get(org)
        if current is None or current.version != wanted:
            current = self._versions.get((org, wanted))
        return replace(current, version=version) if current is not None else None

    def orgs(self) -> list[str]:
        """Return every org, sorted."""
        return sorted(self._current)

    def _decide(self, org: str) -> None:
        self._current[org] = with_freezes(self._documents[org], self._freezes.get(org, ()))
