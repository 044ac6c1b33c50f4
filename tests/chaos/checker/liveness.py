"""I12: every call ends by its deadline, and after the last fault every org is served again."""

from __future__ import annotations

from collections.abc import Iterator

from checker.evidence import Evidence, Violation


def check_liveness(evidence: Evidence) -> Iterator[Violation]:
    """Look for calls that hang, and for orgs that stay away."""
    slack_ms = int(evidence.run.get("slack_ms", 0))
    for each in evidence.operations:
        if each.ended_ms is None:
            yield Violation("I12", "never ended", str(each))
        elif each.deadline_ms and each.ended_ms - each.invoked_ms > each.deadline_ms + slack_ms:
            took_ms = each.ended_ms - each.invoked_ms
            yield Violation(
                "I12", "past its deadline", f"{each}: {took_ms} ms of {each.deadline_ms} ms"
            )
    healed_ms = evidence.mark_ms("healed")
    ended_ms = evidence.mark_ms("load_ended")
    if healed_ms is None or ended_ms is None:
        return
    by_ms = healed_ms + int(evidence.run.get("recover_ms", 0))
    for org in sorted({each.org for each in evidence.operations}):
        late = [
            each
            for each in evidence.operations
            if each.org == org and each.invoked_ms >= by_ms and each.ended_ms is not None
        ]
        if not any(each.outcome == "ok" for each in late):
            yield Violation(
                "I12", "not served again", f"{org}: no answer after {by_ms} (healed {healed_ms})"
            )
        for each in late:
            if each.outcome == "info" or each.reason in ("SHARD_COLD", "JOURNAL_FULL"):
                yield Violation(
                    "I12",
                    "not served again",
                    f"{each}: {each.outcome} {each.reason}, {each.invoked_ms - healed_ms} ms after "
                    "the last fault",
                )
