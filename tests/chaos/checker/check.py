"""All checks, in the order in which a reader wants to see what is wrong."""

from __future__ import annotations

from checker.balances import check_balances
from checker.caps import check_caps
from checker.evidence import Evidence, Violation
from checker.exactness import check_exactness
from checker.holds import check_holds
from checker.liveness import check_liveness
from checker.observations import check_observations

CHECKS = (
    check_exactness,
    check_caps,
    check_balances,
    check_holds,
    check_observations,
    check_liveness,
)


def check(evidence: Evidence) -> list[Violation]:
    """Return every violation that can be found."""
    return [violation for each in CHECKS for violation in each(evidence)]
