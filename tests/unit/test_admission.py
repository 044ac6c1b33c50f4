"""How much may be in progress at once, and how orgs share it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.service.admission import ALWAYS, Admission
from bursar.service.errors import ServerOverloaded
from bursar.service.pace import Pace

MOST = 64
MANY = 100_000
WAIT_MS = 250
ORGS = st.sampled_from(["hot", "acme", "umbrella", "", "nobody"])
STEPS = st.lists(
    st.tuples(ORGS, st.integers(1, 12), st.booleans(), st.integers(0, 999)), max_size=200
)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def admission(most: int = MOST, random: float = 0.0, clock: Clock | None = None) -> Admission:
    return Admission("operations", most, WAIT_MS, Pace(clock or Clock()), lambda: random)


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


@settings(max_examples=1_000)
@given(STEPS)
def test_many_together_are_as_many_one_by_one(steps: list[tuple[str, int, bool, int]]) -> None:
    """Goal: a message gets what its operations would. Method: the same begins, both ways."""
    together, apart = admission(), admission()
    for org, count, begins, _ in steps:
        if begins:
            begun, error = together.enter_some(org, count)
            refusals = [refused(apart, org) for _ in range(count)]
            assert begun == refusals.count(None)
            assert (error is None) == (begun == count)
            assert error is None or error.metadata == next(filter(None, refusals)).metadata
        elif mine := together.of_org(org):
            together.leave(org, mine)
            apart.leave(org, mine)
        assert together.in_progress == apart.in_progress


def work(each: Admission, clock: Clock, per_s: float, seconds: float, in_progress: int) -> None:
    """Let things end at a pace, one by one, while others begin in their place."""
    each.enter_some("hot", in_progress)
    for left in range(int(per_s * seconds), 0, -1):
        clock.now_s += 1 / per_s
        each.leave("hot")
        if left > in_progress:
            each.enter("hot")


@pytest.mark.parametrize(("per_s", "limit"), [(10_000, 2_500), (4_000, 1_000), (500, ALWAYS)])
def test_no_more_than_ends_in_time(per_s: float, limit: int) -> None:
    """Goal: what is let in ends within the time. Method: several paces; then a pause."""
    clock = Clock()
    tried = admission(MANY, clock=clock)
    assert tried.limit == MANY
    work(tried, clock, per_s, 2, 100)
    assert abs(tried.limit - limit) <= limit / 100
    # Nothing to do is no slowness.
    clock.now_s += 3_600
    assert abs(tried.limit - limit) <= limit / 100
    # What an org alone gets is half of it.
    assert abs(tried.enter_some("hot", MANY)[0] - limit / 2) <= limit / 100


def test_what_stands_still_lets_in_no_more() -> None:
    """Goal: the limit falls while nothing ends, and comes back. Method: a store that stalls."""
    clock = Clock()
    tried = admission(MANY, clock=clock)
    work(tried, clock, 10_000, 2, 100)
    tried.enter("acme")
    clock.now_s += 3
    assert tried.limit == ALWAYS
    tried.leave("acme")
    work(tried, clock, 10_000, 3, 100)
    assert abs(tried.limit - 2_500) <= 25


def test_a_large_batch_waits_only_for_room() -> None:
    """Goal: what is larger than the limit of the moment still gets in. Method: a slow server.

    As the first of its org, not beside what it has, and never above the fixed bound.
    """
    clock = Clock()
    tried = admission(1_000, clock=clock)
    work(tried, clock, 500, 2, 100)
    tried.enter("acme", 100)
    assert refused(tried, "hot", 901) is not None
    assert refused(tried, "hot", 900) is None
    assert refused(tried, "umbrella") is not None
    tried.leave("hot", 900)
    assert refused(tried, "acme", 900) is not None


def test_refusals_of_a_message_are_counted_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: operators see how much is refused, however it came. Method: 20 together."""
    seen: list[tuple[str, str, int]] = []
    monkeypatch.setattr("bursar.service.admission.count_refused", lambda *each: seen.append(each))
    tried = admission(8)
    assert tried.enter_some("hot", 20)[0] == 4
    assert seen == [("operations", "org", 16)]
