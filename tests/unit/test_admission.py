"""How much may be in progress at once, and how orgs share it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.service.admission import Admission
from bursar.service.errors import ServerOverloaded

MOST = 64
ORGS = st.sampled_from(["hot", "acme", "umbrella", "", "nobody"])
STEPS = st.lists(
    st.tuples(ORGS, st.integers(1, 12), st.booleans(), st.integers(0, 999)), max_size=200
)


def admission(most: int = MOST, random: float = 0.0) -> Admission:
    return Admission("operations", most, lambda: random)


def refused(each: Admission, org: str, count: int = 1) -> ServerOverloaded | None:
    """Begin something; return why not."""
    try:
        each.enter(org, count)
    except ServerOverloaded as error:
        return error
    return None


def fill(each: Admission, org: str) -> int:
    """Begin as much of an org as goes, one by one; return how much it has."""
    while refused(each, org) is None:
        pass
    return each.of_org(org)


@given(STEPS)
def test_any_order_of_beginnings_and_ends(steps: list[tuple[str, int, bool, int]]) -> None:
    """Goal: never above the bound, never wrong by one, nothing left over.

    Method: begin and end in any order; compare with plain counting and the rule as it is written.
    """
    tried, open_, counts = admission(), list[tuple[str, int]](), Counter[str]()
    for org, count, begins, which in steps:
        if begins or not open_:
            error = refused(tried, org, count)
            assert (error is None) == (counts[org] + count <= MOST - counts.total())
            if error is None:
                open_.append((org, count))
                counts[org] += count
        else:
            ended = open_.pop(which % len(open_))
            tried.leave(*ended)
            counts[ended[0]] -= ended[1]
        assert tried.in_progress == counts.total() <= MOST
        assert tried.orgs == len(+counts)
        assert all(tried.of_org(name) == number for name, number in counts.items())
    for each in open_:
        tried.leave(*each)
    assert (tried.in_progress, tried.orgs) == (0, 0)


@given(STEPS)
def test_who_has_nothing_in_progress_is_admitted(
    steps: list[tuple[str, int, bool, int]],
) -> None:
    """Goal: an org never waits for another as long as there is any room. Method: a new one."""
    tried = admission()
    for org, count, _, _ in steps:
        refused(tried, org, count)
        if tried.in_progress < MOST:
            assert refused(tried, "new") is None
            tried.leave("new")


@pytest.mark.parametrize("hot", range(1, 7))
def test_hot_orgs_leave_room(hot: int) -> None:
    """Goal: the bound on what hot orgs take. Method: each takes all it can, then they go on so.

    One after the other they leave a half each time. As theirs ends and begins again they come to
    equal parts, with as much left for all others.
    """
    tried = admission(840)
    orgs = [f"hot{number}" for number in range(hot)]
    for number, org in enumerate(orgs):
        fill(tried, org)
        assert 840 - tried.in_progress >= 840 // 2 ** (number + 1)
    for _ in range(840):
        for org in orgs:
            tried.leave(org)
        while [org for org in orgs if refused(tried, org) is None]:
            pass
    part = 840 // (hot + 1)
    assert all(abs(tried.of_org(org) - part) <= hot for org in orgs)
    assert abs(840 - tried.in_progress - part) <= hot


def test_a_plain_bound_would_starve() -> None:
    """Goal: the tests above can fail. Method: the same flood under one name for all."""
    tried = admission()
    tried.enter("everybody", MOST)
    assert refused(tried, "everybody") is not None
    fair = admission()
    fill(fair, "hot")
    assert refused(fair, "acme") is None


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_smallest_bounds(most: int) -> None:
    """Goal: everything can be used. Method: as many orgs as the bound, one each, and one more."""
    tried = admission(most)
    for number in range(most):
        assert refused(tried, f"org{number}") is None
    assert refused(tried, "one more") is not None
    with pytest.raises(ServerOverloaded):
        tried.check_room()
    tried.leave("org0")
    tried.check_room()


def test_what_a_refusal_says() -> None:
    """Goal: whose bound it was. Method: an org's share, everything, and what is too large."""
    tried = admission(8)
    assert fill(tried, "hot") == 4
    share = refused(tried, "hot")
    assert share is not None
    assert share.metadata == {"inProgress": "4", "limit": "8", "counted": "operations"}
    for error in (refused(tried, "acme", 5), refused(admission(8), "acme", 9)):
        assert error is not None
        assert error.metadata == {"limit": "8", "counted": "operations"}


@pytest.mark.parametrize(("random", "delay_ms"), [(0.0, 100), (0.5, 150), (0.999, 199)])
def test_when_to_try_again(random: float, delay_ms: int) -> None:
    """Goal: retries are spread. Method: several random numbers."""
    tried = admission(1, random)
    tried.enter("acme")
    error = refused(tried, "acme")
    assert error is not None
    assert error.retry_after_ms == delay_ms
    assert ServerOverloaded.retry_after_ms == 100


def test_several_orgs_at_once() -> None:
    """Goal: a batch of several orgs is admitted whole or not at all. Method: one has no room."""
    tried = admission(16)
    with tried.admitted({"acme": 2, "umbrella": 3}):
        assert (tried.of_org("acme"), tried.of_org("umbrella")) == (2, 3)
        with pytest.raises(ServerOverloaded), tried.admitted({"new": 1, "umbrella": 9}):
            raise AssertionError
        assert (tried.in_progress, tried.orgs) == (5, 2)
    with pytest.raises(ValueError, match="of the work"), tried.admitted({"acme": 1}):
        raise ValueError("of the work")
    assert (tried.in_progress, tried.orgs) == (0, 0)
