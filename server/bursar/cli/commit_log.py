"""What callers committed, line by line on disk, so that it outlives a killed process."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from bursar.cli.recount import Committed
from bursar_client import Subject, Target

ATTEMPT, BOOKED = "attempt", "booked"


class CommitLog:
    """A file with one line before each commit is sent and one after it was acknowledged."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("a", encoding="utf-8", buffering=1)

    def __call__(self, what: str, committed: Committed) -> None:
        """Note ATTEMPT or BOOKED; the line is the system's before this returns."""
        row = asdict(committed) | {"what": what, "reserve_time": committed.reserve_time.isoformat()}
        self._stream.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    @staticmethod
    def read(file: Path) -> list[Committed]:
        """Return every commit; those without an acknowledgement are uncertain."""
        commits: dict[str, Committed] = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # The line that was being written when the process was killed.
            request_id = row["request_id"]
            commits[request_id] = Committed(
                request_id=request_id,
                subject=Subject(**row["subject"]),
                target=Target(**row["target"]),
                input_tokens=row["input_tokens"],
                output_tokens=row["output_tokens"],
                reserve_time=datetime.fromisoformat(row["reserve_time"]),
                certain=row["what"] == BOOKED,
            )
        return list(commits.values())
