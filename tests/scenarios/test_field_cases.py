"""What went wrong for users of other systems, and which scenario shows that it does not here.

Goal: no urgent field case is forgotten. Method: each is named by a scenario (`cases:`), or stands
below with where else it is shown or what it waits for.
"""

from __future__ import annotations

from scenarios.scenario import load_all

# The urgent ones, by the numbers of the list of field cases.
URGENT = {
    *(1, 2, 3, 5, 6, 7, 9, 10, 13, 14, 15),
    *(17, 18, 19, 21, 22, 23, 25, 26, 27, 29, 34, 35),
    *(41, 42, 43, 45, 46, 49, 50, 51, 53, 54, 57),
    *(66, 67, 69, 70, 71, 74, 77, 79, 82, 85, 86, 87, 90, 91),
    *(93, 94, 95, 99, 102, 103, 109, 110, 113, 117, 123),
    *(126, 127, 129, 137, 139, 142),
}

ELSEWHERE = {
    66: "a lost counter: cold where the shard is gone; the ledger will find a single one",
    67: "Redis emptied: refused as cold, tests/integration/test_store.py",
    70: "not serving before the store answers, tests/e2e/test_serve.py",
    71: "temporary increases come with the ledger",
    99: "identity by credentials comes with authentication",
    109: "nothing on the way of a Reserve touches a database; there is none yet",
    110: "rebuilding comes with the ledger",
    113: "one round trip, all keys in one slot: tests/integration/test_service_round_trips.py",
    117: "an alert once for each budget, window and threshold: tests/integration",
    127: "temporary increases come with the ledger",
}


def test_every_urgent_field_case_is_somewhere() -> None:
    """Goal and method: see above."""
    named = {case for scenario in load_all() for case in scenario.cases}
    assert URGENT - named - set(ELSEWHERE) == set()
    assert named & set(ELSEWHERE) == set()
    assert set(ELSEWHERE) <= URGENT


def test_there_are_many_scenarios_with_a_goal_each() -> None:
    """Goal: a scenario says what it shows. Method: each goal is a sentence of its own."""
    goals = [scenario.goal for scenario in load_all()]
    assert len(goals) >= 60
    assert len(set(goals)) == len(goals)
    assert all(goal.endswith(".") for goal in goals)
