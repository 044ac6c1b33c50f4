"""Freezes as part of the policy that decides."""

from __future__ import annotations

from bursar.domain.answer import DenialKind
from bursar.domain.decision import deny
from bursar.domain.freeze import Freeze, document_version, with_freezes
from bursar.domain.meter import Estimate
from bursar.domain.offer import plan
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_text import parse_policy
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target

NOW_MS = 1_773_144_000_000
POLICY = compile_policy(
    parse_policy(
        """
        org: acme
        budgets:
          - {name: small, limit: {tokens: 10}, window: request}
          - {name: team, scope: {team: red}, limit: {tokens: 10}, window: day}
        """,
        "here",
    )
)


def freeze(freeze_id: int = 7, **levels: str) -> Freeze:
    return Freeze(freeze_id, Subject(OrgId("acme"), **levels), "it loops", "ann", NOW_MS)  # type: ignore[arg-type]


def budgets(policy: Policy, **levels: str) -> list[str]:
    """Return the budgets that a request of a subject has."""
    subject = Subject(OrgId("acme"), **levels)  # type: ignore[arg-type]
    counters = policy.counters(subject, Target("p", "m"), NOW_MS)
    return [each.budget.name for each in counters]


def test_the_subtree_and_nothing_else() -> None:
    """Goal: a freeze is of requests with all of its levels. Method: each one short of it."""
    frozen = with_freezes(POLICY, [freeze(team="red", agent="a")])
    assert budgets(frozen, team="red", agent="a", user="u") == ["small", "team", "frozen_7"]
    for levels in ({"team": "red"}, {"agent": "a"}, {"team": "red", "agent": "b"}, {}):
        assert "frozen_7" not in budgets(frozen, **levels)


def test_a_whole_org() -> None:
    """Goal: a freeze without levels is of every request. Method: a request without any."""
    assert budgets(with_freezes(POLICY, [freeze()])) == ["small", "frozen_7"]


def test_versions() -> None:
    """Goal: each set of freezes has a version of its own, whatever order. Method: compare."""
    one, two = freeze(1, team="a"), freeze(2, team="b")
    versions = [
        with_freezes(POLICY, each).version for each in ([], [one], [two], [one, two], [two, one])
    ]
    assert versions[0] == POLICY.version
    assert versions[3] == versions[4]
    assert len(set(versions)) == 4
    assert {document_version(each) for each in versions} == {POLICY.version}
    assert with_freezes(POLICY, []) is POLICY


def test_the_freeze_is_said_whatever_else_denies() -> None:
    """Goal: who froze it is told first. Method: a request that is too large as well."""
    policy = with_freezes(POLICY, [freeze(team="red")])
    request = ReserveRequest(
        "r",
        Subject(OrgId("acme"), team="red"),
        Target("p", "m"),
        Estimate(input_tokens=100, max_output_tokens=5),
        ttl_ms=1_000,
    )
    answer = deny(plan(request, policy, NOW_MS), {})
    assert answer.denial is not None
    assert answer.denial.binding is not None
    assert answer.denial.binding.counter.budget.name == "frozen_7"
    assert answer.denial.kind is DenialKind.NEVER
    said = "org=acme team=red was frozen by ann at 2026-03-10T12:00:00Z: it loops"
    assert answer.denial.explanation.startswith(said)
    assert answer.directive.message == f"Spending is frozen: {said}."
    assert answer.directive.deny == ("frozen_7",)
