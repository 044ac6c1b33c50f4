"""The settlements that wait for a server: a bounded queue, in order within each reservation."""

from __future__ import annotations

import heapq
import itertools
import threading
import uuid
from collections import deque
from dataclasses import dataclass

from bursar_client._errors import BursarError, Unsettled
from bursar_client._operations import (
    CommitOperation,
    RecordOperation,
    ReleaseOperation,
    SettleOperation,
)
from bursar_client._values import Subject


@dataclass(eq=False, slots=True)
class Pending:
    """A settlement under way.

    Attributes:
        lane: What it must stay in order with: the reservation.
        operation: What to send now; a commit may turn into a record.
        subject: Who spent, for the record.
        known_record_id: Id of that record where a caller brings it; empty: derived where needed.
        first_try_s: When it was tried first, by the client's clock.
        attempt_count: Attempts that have failed.
        error: Of the last attempt.
    """

    lane: str
    operation: SettleOperation
    subject: Subject
    known_record_id: str
    first_try_s: float
    attempt_count: int = 0
    error: BursarError | None = None

    @property
    def is_partial(self) -> bool:
        """Whether more commits of the reservation may follow."""
        return isinstance(self.operation, CommitOperation) and self.operation.sequence > 0

    @property
    def is_recorded(self) -> bool:
        """Whether it was a commit and now books without its reservation."""
        return (
            isinstance(self.operation, RecordOperation) and self.lane != self.operation.request_id
        )

    @property
    def record_request_id(self) -> str:
        """Id of the record that it is, or may become."""
        if isinstance(self.operation, RecordOperation):
            return self.operation.request_id
        return self.known_record_id or _derived_record_id(self.operation)

    def unsettled(self) -> Unsettled:
        """Return what a caller needs to settle it later."""
        return Unsettled(
            operation=self.operation,
            subject=self.subject,
            record_request_id=self.record_request_id,
            error=self.error,
        )


class Backlog:
    """A bounded queue of settlements; any thread may use it."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._count = 0
        self._lanes: dict[str, deque[Pending]] = {}
        # Heads of lanes by the time of their next attempt; a head being sent is not in it.
        self._due: list[tuple[float, int, Pending]] = []
        self._taken: set[Pending] = set()
        self._order = itertools.count()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def has(self, lane: str) -> bool:
        """Whether anything of a reservation waits."""
        return lane in self._lanes

    def put(self, pending: Pending, due_s: float) -> bool:
        """Add a settlement behind those of its reservation, or return False where all is full."""
        with self._lock:
            if self._count >= self._count_max:
                return False
            self._count += 1
            lane = self._lanes.setdefault(pending.lane, deque())
            lane.append(pending)
            if len(lane) == 1:
                self._push(pending, due_s)
            return True

    def take(self, now_s: float, count_max: int) -> list[Pending]:
        """Return what is due, to be given to `done` or `again` one by one."""
        taken: list[Pending] = []
        with self._lock:
            while self._due and self._due[0][0] <= now_s and len(taken) < count_max:
                taken.append(heapq.heappop(self._due)[2])
            self._taken.update(taken)
        return taken

    def done(self, pending: Pending, now_s: float) -> None:
        """Remove what was taken."""
        with self._lock:
            self._count -= 1
            self._taken.discard(pending)
            lane = self._lanes[pending.lane]
            lane.popleft()
            if lane:
                self._push(lane[0], now_s)
            else:
                del self._lanes[pending.lane]

    def again(self, pending: Pending, due_s: float) -> None:
        """Put back what was taken, in its place."""
        with self._lock:
            self._taken.discard(pending)
            self._push(pending, due_s)

    def put_back(self, due_s: float) -> None:
        """Put back everything that was taken and not decided upon."""
        with self._lock:
            for pending in self._taken:
                self._push(pending, due_s)
            self._taken.clear()

    def next_due_s(self) -> float | None:
        """Return when the next attempt is due, or None where nothing waits."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def hurry(self, now_s: float) -> None:
        """Make everything due now, with its pauses short again."""
        with self._lock:
            self._due = [(now_s, order, pending) for _, order, pending in self._due]
            heapq.heapify(self._due)
            for _, _, pending in self._due:
                pending.attempt_count = 0

    def all(self) -> list[Pending]:
        """Return everything that waits, those being sent included."""
        with self._lock:
            return [pending for lane in self._lanes.values() for pending in lane]

    def _push(self, pending: Pending, due_s: float) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), pending))


def _derived_record_id(operation: CommitOperation | ReleaseOperation) -> str:
    # Derived, so that whoever books it twice finds the first; short whatever the reservation's
    # id is; of its own for every partial commit.
    sequence = operation.sequence if isinstance(operation, CommitOperation) else 0
    name = f"{operation.reservation_id}\n{sequence}"
    return f"record-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
