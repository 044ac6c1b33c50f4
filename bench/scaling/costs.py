"""What a decision costs each part: measured by `python -m bench`, or assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.report import Report, ReportUnreadable
from bench.rows import Row

BATCH = 32
"""Operations that the report's row P4 carries out together."""

_ROWS = ("P2", "P3", "P4", "P10")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of a call that carries out several operations: a part of its own, and one for each.

    Attributes:
        call_us: Of the call, however many it carries.
        operation_us: Of each operation.
    """

    call_us: float
    operation_us: float

    def of(self, operations: int) -> float:
        """Return what a call with so many operations takes, in us."""
        return self.call_us + self.operation_us * operations

    def each(self, operations: int) -> float:
        """Return what one of them takes, in us."""
        return self.of(operations) / operations

    def most_per_s(self, operations: int) -> float:
        """Return how many operations a second fill one core."""
        return 1e6 / self.each(operations)


@dataclass(frozen=True, slots=True)
class Costs:
    """Where the time of a decision goes.

    Attributes:
        server: CPU of a server process.
        redis: CPU of a Redis primary, which has one thread for commands.
        ledger_per_s: Operations that one PostgreSQL records in a second.
        ledger_bytes: What an operation takes in the ledger.
        source: Where the figures are from.
    """

    server: Cost
    redis: Cost
    ledger_per_s: float
    ledger_bytes: float
    source: str


ASSUMED = Costs(
    server=Cost(call_us=240, operation_us=60),
    redis=Cost(call_us=20, operation_us=16),
    ledger_per_s=10_000,
    ledger_bytes=700,
    source="assumed, not measured",
)
"""The aims of the benchmarks, rounded: what gRPC itself takes for a call, and 60 us of a server and
twice a no-op script of Redis for a decision. They stand for no machine."""


def read_costs(report: Path | None) -> Costs:
    """Return the costs that a run of `python -m bench --json` measured, or what is assumed.

    Args:
        report: The run's JSON; None for the assumptions.

    Raises:
        ReportUnreadable: It is no report, or lacks one of the rows P2, P3, P4 and P10.
    """
    if report is None:
        return ASSUMED
    found = Report.read(report)
    rows = {row.name: row for row in found.rows}
    if missing := [name for name in _ROWS if not rows.get(name, Row("", "")).figures]:
        raise ReportUnreadable(f"{report}: has no {', '.join(missing)}; measure with --only")
    unary, session, batch, ledger = (rows[name] for name in _ROWS)
    try:
        return Costs(
            server=_server(unary.figures["server_cpu_us"], session.figures["server_cpu_us"]),
            redis=_redis(unary.figures["redis_cpu_us"], batch.figures["redis_cpu_us"]),
            ledger_per_s=ledger.figures["operations_per_s"] * (ledger.ratio or 0),
            ledger_bytes=ledger.figures["ledger_entries_bytes_an_operation"],
            source=f"measured at commit {found.about['commit'][:12]}",
        )
    except KeyError as error:
        raise ReportUnreadable(f"{report}: has no figure {error}") from None


def _server(unary_us: float, session_us: float) -> Cost:
    # A unary call is one message with one operation; in a session messages are long, so that
    # nearly nothing of theirs is left in an operation.
    return Cost(call_us=max(unary_us - session_us, 0.0), operation_us=session_us)


def _redis(alone_us: float, batched_us: float) -> Cost:
    """Solve call + operation = alone, call + 32 operation = 32 batched."""
    operation_us = max((BATCH * batched_us - alone_us) / (BATCH - 1), 0.0)
    return Cost(call_us=max(alone_us - operation_us, 0.0), operation_us=operation_us)
