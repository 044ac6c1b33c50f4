"""The checker finds every kind of violation, and only those.

Goal: a checker that says "nothing wrong" can be believed.
Method: a right run passes; then one thing in it is made wrong, and exactly that must be found.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checker_story import (
    AT_ONCE,
    DAY,
    LIMIT,
    OPEN,
    Row,
    Story,
    a_right_run,
    row_of,
    violations,
    write,
)

CHAOS = Path(__file__).parent


AT_THE_END = {"sequence": 98, "stream_id": "9000000000000-0"}
"""Place of an event that is planted after all others."""


def names(found: list[object]) -> set[str]:
    return {f"{each.invariant} {each.name}" for each in found}  # type: ignore[attr-defined]


def test_a_right_run_passes(tmp_path: Path) -> None:
    assert violations(tmp_path, a_right_run()) == []


def commit_lost(story: Story) -> None:
    """The ledger lost a commit, and its balances say so consistently."""
    story.events.remove(story.event("commit", "spent"))


def reserve_lost(story: Story) -> None:
    for verb in ("reserve", "commit"):
        story.events.remove(story.event(verb, "after all"))


def extend_lost(story: Story) -> None:
    story.events.remove(story.event("extend", "in parts"))


def extend_denied_and_booked(story: Story) -> None:
    story.events.append({**story.event("extend", "in parts"), **AT_THE_END})


def counted_twice(story: Story) -> None:
    story.events.append({**story.event("record", "told later"), **AT_THE_END})


def two_commits(story: Story) -> None:
    """One commit is booked twice: held goes back once, the amount counts twice."""
    again = {**story.event("commit", "spent"), **AT_THE_END, "held": [0, 0]}
    story.events.append(again)


def one_place_twice(story: Story) -> None:
    story.events.append(dict(story.event("record", "told later")))


def nobody_asked(story: Story) -> None:
    row = {**story.event("record", "told later"), **AT_THE_END}
    story.events.append({**row, "request_id": "whose", "reservation_id": "acme.whose"})


def refused_and_booked(story: Story) -> None:
    line = story.answer("record", "told later")
    line.update(type="fail", reason="STORE_FULL", unknown=0)


def other_amount(story: Story) -> None:
    story.answer("reserve", "spent")["counters"][0]["amount"] = 499


def other_amount_than_attempted(story: Story) -> None:
    story.answer("record", "told later", "invoke")["amounts"]["total_tokens"] = 71


def acknowledged_above_the_ledger(story: Story) -> None:
    """Two acknowledged parts, of which each alone looks right: only their sum is wrong."""
    story.answer("commit_partial", "in parts")["counters"][0]["amount"] = 400


def reservation_forgotten(story: Story) -> None:
    story.events.remove(story.event("commit", "after all"))
    story.expire("after all", 100)
    line = story.answer("commit", "after all")
    line.update(type="fail", reason="RESERVATION_NOT_FOUND", counters=[])


def granted_past_the_limit(story: Story) -> None:
    story.history[0]["limits"][0]["limit"] = 629


def too_many_at_once(story: Story) -> None:
    story.history[0]["limits"][1]["limit"] = 2


def granted_from_nothing(story: Story) -> None:
    """The ledger lost the commits, so only what the clients know shows the grant to be wrong."""
    limit = story.history[0]["limits"][0]
    limit["limit"] = 620
    for row in story.events:
        row["committed"] = [0, 0]


def shown_as_nothing(story: Story) -> None:
    story.answer("reserve", "after all")["counters"][0]["committed"] = 0


def two_ends(story: Story) -> None:
    row = {
        **story.event("release", "given back"),
        **AT_THE_END,
        "verb": "expire",
    }
    story.events.append({**row, "held": [0, 0]})


def late_without_flag(story: Story) -> None:
    story.event("commit", "forgotten")["late"] = False


def no_beginning(story: Story) -> None:
    story.events.remove(story.event("reserve", "lost"))


def not_given_back(story: Story) -> None:
    story.event("release", "given back")["held"] = [-99, -1]


def more_given_back(story: Story) -> None:
    story.event("release", "given back")["held"] = [-101, -1]


def other_window(story: Story) -> None:
    story.event("commit", "spent")["slots"] = [1, 0]


def part_of_an_entry(story: Story) -> None:
    story.event("record", "told later")["ordinal"] = 3


def never_ended(story: Story) -> None:
    story.history.remove(story.answer("reserve", "lost"))


def past_its_deadline(story: Story) -> None:
    story.answer("record", "told later", "invoke")["deadline_ms"] = -100


def not_served_again(story: Story) -> None:
    for kind, name in (("commit", "after all"), ("reserve", "still open")):
        story.answer(kind, name).update(type="info", unknown=1)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (commit_lost, "I3 acknowledged and missing"),
        (commit_lost, "I4 outside the interval"),
        (reserve_lost, "I3 acknowledged and missing"),
        (extend_lost, "I3 acknowledged and missing"),
        (extend_denied_and_booked, "I3 counted twice"),
        (counted_twice, "I3 counted twice"),
        (counted_twice, "I6 more than one end"),
        (two_commits, "I3 counted twice"),
        (two_commits, "I4 outside the interval"),
        (one_place_twice, "I3 counted twice"),
        (nobody_asked, "I3 row of nobody"),
        (refused_and_booked, "I3 refused and booked"),
        (other_amount, "I3 other amount"),
        (other_amount_than_attempted, "I4 not as attempted"),
        (acknowledged_above_the_ledger, "I4 outside the interval"),
        (reservation_forgotten, "I5 refused without cause"),
        (granted_past_the_limit, "I1 granted past the limit"),
        (too_many_at_once, "I1 granted past the limit"),
        (granted_from_nothing, "I1 granted past the limit"),
        (shown_as_nothing, "I8 less than acknowledged"),
        (two_ends, "I6 more than one end"),
        (late_without_flag, "I6 late and not flagged"),
        (no_beginning, "I6 no beginning"),
        (not_given_back, "I6 not given back"),
        (more_given_back, "I2 negative"),
        (other_window, "I10 other window"),
        (part_of_an_entry, "I7 gap"),
        (never_ended, "I12 never ended"),
        (past_its_deadline, "I12 past its deadline"),
        (not_served_again, "I12 not served again"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value.replace(" ", "-"),
)
def test_what_is_wrong_in_a_run_is_found(
    tmp_path: Path, plant: Callable[[Story], None], found: str
) -> None:
    """Goal: no such run passes. Method: one thing is made wrong in a right one."""
    story = a_right_run()
    plant(story)
    assert found in names(violations(tmp_path, story))


def balance_differs(ledger: list[Row], redis: list[Row]) -> None:
    row_of(ledger, table="counter_balances", counter_id=DAY)["committed"] += 1


def balance_missing(ledger: list[Row], redis: list[Row]) -> None:
    ledger.remove(row_of(ledger, table="counter_balances", counter_id=DAY))


def balance_negative(ledger: list[Row], redis: list[Row]) -> None:
    row_of(ledger, table="counter_balances", counter_id=AT_ONCE)["held"] = -1


def redis_differs(ledger: list[Row], redis: list[Row]) -> None:
    row_of(redis, what="counter", counter_id=DAY)["fields"]["c"] = "7"


def redis_lost_a_counter(ledger: list[Row], redis: list[Row]) -> None:
    redis.remove(row_of(redis, what="counter", counter_id=DAY))


def redis_holds_more(ledger: list[Row], redis: list[Row]) -> None:
    row_of(redis, what="counter", counter_id=DAY)["fields"]["h"] = "31"


def open_hold_lost(ledger: list[Row], redis: list[Row]) -> None:
    redis.remove(row_of(redis, what="hold", hold_id="still open"))


def open_hold_too_many(ledger: list[Row], redis: list[Row]) -> None:
    row_of(ledger, table="open_holds", hold_id="spent")["state"] = OPEN


def open_holds_not_held(ledger: list[Row], redis: list[Row]) -> None:
    row_of(ledger, table="open_holds", hold_id="still open")["entries"] = []


def held_for_the_dead(ledger: list[Row], redis: list[Row]) -> None:
    row_of(redis, what="collected")["time_ms"] += 60_000


def hold_without_an_end(ledger: list[Row], redis: list[Row]) -> None:
    redis.remove(row_of(redis, what="expiry"))


def position_behind(ledger: list[Row], redis: list[Row]) -> None:
    row_of(ledger, table="journal_position")["sequence"] -= 1


def position_missing(ledger: list[Row], redis: list[Row]) -> None:
    ledger.remove(row_of(ledger, table="journal_position"))


def journal_not_recorded(ledger: list[Row], redis: list[Row]) -> None:
    row_of(redis, what="stream").update(length=1, last_id="6-0")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (balance_differs, "I2 balance is not the sum"),
        (balance_missing, "I2 balance is not the sum"),
        (balance_negative, "I2 negative"),
        (redis_differs, "I2 Redis is not the ledger"),
        (redis_lost_a_counter, "I2 Redis is not the ledger"),
        (redis_holds_more, "I2 held is not the open holds"),
        (open_hold_lost, "I2 other open holds"),
        (open_hold_too_many, "I2 other open holds"),
        (open_holds_not_held, "I2 held is not the open holds"),
        (held_for_the_dead, "I11 held for the dead"),
        (hold_without_an_end, "I11 without an end"),
        (position_behind, "I7 beyond the position"),
        (position_missing, "I7 no position"),
        (journal_not_recorded, "I12 not recorded"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value.replace(" ", "-"),
)
def test_what_is_wrong_in_a_store_is_found(
    tmp_path: Path, plant: Callable[[list[Row], list[Row]], None], found: str
) -> None:
    """Goal: no such store passes. Method: one row of a right dump is made wrong."""
    story = a_right_run()
    ledger, redis = story.dumps()
    plant(ledger, redis)
    assert found in names(violations(tmp_path, story, ledger, redis))


def test_a_limit_is_checked_to_the_last_unit(tmp_path: Path) -> None:
    """Goal: exactly full is right, one more is not. Method: the same grants, two limits."""
    story = Story()
    story.reserve("all", LIMIT)
    assert violations(tmp_path, story) == []
    story.history[0]["limits"][0]["limit"] = LIMIT - 1
    assert names(violations(tmp_path, story)) == {"I1 granted past the limit"}


def test_a_hold_that_may_be_over_is_not_counted(tmp_path: Path) -> None:
    """Goal: nothing is called wrong that may be right. Method: room that an expiry may give."""
    story = Story()
    story.reserve("first", LIMIT)
    story.wait(2_000)
    story.expire("first", LIMIT)
    story.reserve("second", LIMIT)
    assert violations(tmp_path, story) == []


@pytest.mark.parametrize(
    ("clock", "later_ms", "right"),
    [("ahead", 1_750, True), ("behind", 1_750, False), ("ahead", 1_650, False)],
)
def test_a_clock_ahead_ends_a_hold_early(
    tmp_path: Path, clock: str, later_ms: int, right: bool
) -> None:
    """Goal: where a clock was stepped, and only there and by so much, a hold may end early.

    Method: one that is swept before its end, and what was granted in its place.
    """
    story = Story()
    story.reserve("first", LIMIT)
    story.mark("fault", f"clock_{clock}")
    story.wait(later_ms)
    story.expire("first", LIMIT)
    story.reserve("second", LIMIT)
    assert ("I1 granted past the limit" in names(violations(tmp_path, story))) is not right


@pytest.mark.parametrize(("later_ms", "right"), [(1_980, True), (1_900, False)])
def test_what_the_dead_hold_is_no_use(tmp_path: Path, later_ms: int, right: bool) -> None:
    """Goal: only live holds count. Method: a grant just after a hold's end and before its sweep."""
    story = Story()
    story.reserve("first", LIMIT)
    story.wait(later_ms)
    story.reserve("second", LIMIT)
    story.expire("first", LIMIT)
    wrong = set() if right else {"I1 granted past the limit"}
    assert names(violations(tmp_path, story)) == wrong


@pytest.mark.parametrize("booked", [True, False])
def test_an_unknown_outcome_may_be_either(tmp_path: Path, booked: bool) -> None:
    """Goal: I4 allows both. Method: a commit that nobody heard of, in the ledger or not."""
    story = Story()
    story.reserve("first", 100)
    story.commit("first", 100, 60, "info")
    if not booked:
        story.events.remove(story.event("commit", "first"))
    assert violations(tmp_path, story) == []


def test_a_grant_after_a_rebuild_comes_after_what_was_before(tmp_path: Path) -> None:
    """Goal: epochs are ordered by their rebuilds. Method: the new one has the lower numbers."""
    story = Story()
    story.reserve("first", LIMIT)
    story.commit("first", LIMIT, LIMIT)
    story.wait(100)
    story.reserve("second", 1)
    story.event("reserve", "second").update(epoch="a0", sequence=1, stream_id="1-0")
    ledger, redis = story.dumps()
    ledger.append({"table": "rebuilds", "rebuild_id": 1, "shard": 0, "epoch": "a0"})
    assert names(violations(tmp_path, story, ledger, redis)) == {"I1 granted past the limit"}


def run_checker(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "checker", *map(str, arguments)],
        cwd=CHAOS,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_program_says_what_it_finds_and_ends_so(tmp_path: Path) -> None:
    """Goal: scripts can use it. Method: a right run, and one with a commit lost."""
    story = a_right_run()
    files = write(tmp_path, story, *story.dumps())
    right = run_checker(*files)
    assert right.returncode == 0, right.stdout + right.stderr
    assert right.stdout.startswith("0 violations; ")
    commit_lost(story)
    files = write(tmp_path, story, *story.dumps())
    wrong = run_checker(*files)
    assert wrong.returncode == 1
    assert "I3 acknowledged and missing: commit of acme.spent" in wrong.stdout
    as_json = run_checker(*files, "--json")
    assert as_json.returncode == 1
    assert '"invariant": "I3"' in as_json.stdout


def test_the_checker_knows_nothing_of_the_server() -> None:
    """Goal: it cannot share a fault with what it checks. Method: its imports, read from disk."""
    for file in (CHAOS / "checker").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "bursar" not in [
            word for line in text.splitlines() if "import " in line for word in line.split()
        ], file
        assert "import bursar" not in text
        assert "from bursar" not in text
