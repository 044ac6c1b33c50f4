"""I7, I8: what answers say of a counter is never less than what was acknowledged before."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator

from checker.evidence import Evidence, Operation, Violation, meter_of

_ROLLING, _TASK = 1, 2


def check_observations(evidence: Evidence) -> Iterator[Violation]:
    """Compare each answer's counters with the sums acknowledged before and attempted until then.

    A counter that lost its data and is read as 0 is found here, also where no limit was near.
    """
    beginning_anew = {
        row["counter_id"].split(":")[1]
        for row in evidence.tables.get("counter_balances", [])
        if row["kind"] in (_ROLLING, _TASK)
    }
    acknowledged = _sums(evidence.operations)
    for each in evidence.operations:
        # An answer that was given before shows the counters as they stood then.
        if each.outcome != "ok" or each.replayed or each.attempts > 1:
            continue
        for counter in each.counters:
            budget = counter["id"].split(":")[1]
            if budget in beginning_anew or meter_of(counter["id"]) == "concurrency":
                continue
            times, sums = acknowledged.get(counter["id"], ([], [0]))
            least = sums[bisect.bisect_left(times, each.invoked_ms)]
            if counter["committed"] < least:
                yield Violation(
                    "I8",
                    "less than acknowledged",
                    f"{each}: {counter['id']} shows {counter['committed']} committed, {least} were "
                    "acknowledged before it was asked",
                )


def _sums(operations: list[Operation]) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each counter when something was acknowledged, and the sums before each."""
    booked = defaultdict(list)
    for each in operations:
        if each.booked and each.kind in ("commit", "commit_partial", "record"):
            for counter in each.counters:
                booked[counter["id"]].append((each.ended_ms or 0, int(counter["amount"])))
    found = {}
    for counter_id, pairs in booked.items():
        pairs.sort()
        sums = [0]
        for _, amount in pairs:
            sums.append(sums[-1] + amount)
        found[counter_id] = ([time_ms for time_ms, _ in pairs], sums)
    return found
