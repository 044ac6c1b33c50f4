"""What load to make, and what came of it: values that travel to the generator and back."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

How = Literal["unary", "session", "batch", "client", "open", "open_session"]


@dataclass(frozen=True, slots=True)
class Load:
    """A load.

    Attributes:
        how: `unary` calls, a `session` without a client library, `batch` calls, or the Python
            `client`: each with a number of callers, of which each waits for its answer; or
            `open`: unary calls at their intended times, whatever is answered; or
            `open_session`: the same over a session.
        address: Where to.
        seconds: How long it is measured.
        warm_s: How long it is made before that.
        orgs: Who calls, in turn.
        users: Of each org.
        settles: Whether each reserve that is granted is committed.
        callers: How many wait for an answer at once, or operations of all batches in flight. With
            `open` a bound that a generator needs: what is meant to begin above it is not begun.
        per_batch: Operations in a batch.
        connections: Over how many.
        rate_per_s: Operations that are meant to begin, with `open`.
        timeout_s: Of each call.
    """

    how: How
    address: str
    seconds: float
    warm_s: float = 0.5
    orgs: tuple[str, ...] = ("acme",)
    users: int = 1_000
    settles: bool = True
    callers: int = 64
    per_batch: int = 32
    connections: int = 1
    rate_per_s: float = 0.0
    timeout_s: float = 10.0


@dataclass(slots=True)
class Result:
    """What came of a load while it was measured.

    Attributes:
        seconds: How long that was.
        answered: Operations that were answered: reserves, denied ones too, and commits.
        denied: Of them.
        failed: Operations that failed, by why.
        latency_ms: `p50`, `p90`, `p99`, `p999`, `max` of what was answered.
        refusal_ms: The same of what the server refused for its load, from its sending on.
        cpu_s: Processor time by name; `load` is the generator's own.
        late: Operations of an open load that began more than 10 ms after they were meant to, or
            not at all: the generator had no time for them, or too many in flight.
        series: For an open load: when each was meant to begin, in ms since the epoch, and its
            latency in ms.
    """

    seconds: float = 0.0
    answered: int = 0
    denied: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    refusal_ms: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    late: int = 0
    series: list[tuple[float, float]] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Operations answered in a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def cpu_us(self, *names: str) -> float:
        """Return processor time of each operation in us, of some processes together."""
        return sum(self.cpu_s[name] for name in names) * 1e6 / max(self.answered, 1)

    @property
    def headroom(self) -> float:
        """Share of one processor that the generator left unused."""
        return 1 - self.cpu_s.get("load", 0.0) / self.seconds if self.seconds else 0.0

    def plus(self, other: Result) -> Result:
        """Return both together; latencies are those of the later one."""
        return Result(
            self.seconds + other.seconds,
            self.answered + other.answered,
            self.denied + other.denied,
            dict(Counter(self.failed) + Counter(other.failed)),
            other.latency_ms or self.latency_ms,
            other.refusal_ms or self.refusal_ms,
            {name: self.cpu_s.get(name, 0) + other.cpu_s.get(name, 0)
             for name in self.cpu_s | other.cpu_s},
            self.late + other.late,
            self.series + other.series,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as a mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Result:
        """Read what `to_json` returned."""
        return cls(**found)


def percentiles(latencies_ms: list[float]) -> dict[str, float]:
    """Return the usual ones, or nothing where there is nothing."""
    if not latencies_ms:
        return {}
    ordered = sorted(latencies_ms)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: round(ordered[round(share * last)], 4) for name, share in shares.items()}
