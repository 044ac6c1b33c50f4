"""The policies that decide now, and the versions that decided before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from bursar.domain.errors import OrgAccessDenied
from bursar.domain.policy import Policy
from bursar.domain.subject import OrgId

VERSIONS_KEPT_MAX = 1_000
"""Past versions kept of all orgs together, so that a repeated call is answered as it was."""


class Policies:
    """Every org's policy."""

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._current: dict[str, Policy] = {}
        self._versions: OrderedDict[tuple[str, str], Policy] = OrderedDict()
        for policy in policies:
            self.replace(policy)

    def replace(self, policy: Policy) -> None:
        """Let a policy decide from now on."""
        self._current[policy.org] = policy
        self._versions[policy.org, policy.version] = policy
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

    def version(self, org: OrgId, version: str) -> Policy | None:
        """Return a version of an org's policy, or None where it is no longer kept."""
        return self._versions.get((org, version))

    def orgs(self) -> list[str]:
        """Return every org, sorted."""
        return sorted(self._current)
