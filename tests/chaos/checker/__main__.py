"""`python -m checker HISTORY LEDGER REDIS`: print each violation, and exit with 1 where one is."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from checker.check import check
from checker.evidence import read_evidence

LINES_MAX = 200


def main(arguments: list[str]) -> int:
    """Check what three files say, and return the exit code."""
    parser = argparse.ArgumentParser(prog="checker", description=__doc__)
    for name in ("history", "ledger", "redis"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    evidence = read_evidence(given.history, given.ledger, given.redis)
    found = check(evidence)
    if given.json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
        return bool(found)
    for each in found[:LINES_MAX]:
        sys.stdout.write(f"{each}\n")
    if len(found) > LINES_MAX:
        sys.stdout.write(f"... and {len(found) - LINES_MAX} more\n")
    outcomes = Counter(each.outcome or "never ended" for each in evidence.operations)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    sys.stdout.write(
        f"{len(found)} violations; {len(evidence.operations)} operations ({counts}), "
        f"{len(evidence.events)} events, {len(evidence.marks)} marks\n"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
