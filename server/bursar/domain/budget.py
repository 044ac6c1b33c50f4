"""Budgets, their ladders, and the counters that they come to for one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import quote, unquote

from bursar.domain.subject import OrgId, Target
from bursar.domain.window import Window, WindowInstance, WindowKind

_WHOLE_PERCENT = 100
_PARTS = 10**18  # More than any limit: one unit of it is not nothing.


class Mode(StrEnum):
    """What a budget does when it is exceeded."""

    ENFORCE = "enforce"
    WARN = "warn"
    OBSERVE = "observe"
    OFF = "off"


class Priority(IntEnum):
    """How important a request is where a budget keeps headroom."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class Degradation(StrEnum):
    """A way to do with less that a caller can carry out."""

    SWITCH_MODEL = "switch_model"
    SHORTER_OUTPUT = "shorter_output"
    TRUNCATE_INPUT = "truncate_input"
    FINISH = "finish"
    SERVE_CACHED = "serve_cached"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class SwitchModel:
    """Call another model where the one asked for matches a pattern, in any case."""

    from_pattern: str
    to: Target

    def applies(self, target: Target) -> bool:
        """Tell whether it is about a target."""
        return fnmatchcase(target.model.lower(), self.from_pattern.lower())


@dataclass(frozen=True, slots=True)
class CapOutput:
    """Ask for at most this many output tokens."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Wrap up: the rest is for closing answers."""


@dataclass(frozen=True, slots=True)
class ServeCached:
    """Answer from a cache."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Try again later, for at most this long."""

    max_wait_ms: int


@dataclass(frozen=True, slots=True)
class Deny:
    """Nothing but a message is left."""


Restriction = SwitchModel | CapOutput | Finish
Terminal = ServeCached | Queue | Deny
Action = Restriction | Terminal


@dataclass(frozen=True, slots=True)
class Rung:
    """At `at_percent` of the limit: an action, or only a message.

    Attributes:
        at_percent: 1 to 100.
        action: What to do, or None where the rung only says something.
        message: Template for an end user; empty where there is none.
        notify: Say the message whenever use is at or above the rung.
    """

    at_percent: int
    action: Action | None
    message: str = ""
    notify: bool = False

    @property
    def restricts(self) -> bool:
        """Whether it changes the request instead of ending it."""
        return isinstance(self.action, SwitchModel | CapOutput | Finish)

    @property
    def ends(self) -> bool:
        """Whether nothing can be granted past it."""
        return isinstance(self.action, ServeCached | Queue | Deny)


@dataclass(frozen=True, slots=True)
class CarryOver:
    """What of a window goes into the next one.

    Attributes:
        unused: Whether what was left of the limit is added to the next window.
        debt: Whether what was used past the limit is taken off it.
        most: How much of either at the most, in the meter's unit.
    """

    unused: bool
    debt: bool
    most: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one meter, for the requests that its scope matches, per window.

    Attributes:
        name: Unique within the policy.
        meter: What is counted.
        limit: In the meter's unit, or None for unlimited.
        window: Over what time.
        per: Attributes with one counter for each of their values.
        conditions: Patterns by attribute; all must match.
        mode: What happens when it is exceeded.
        ladder: Rungs, lowest first.
        overdraft: How far past the limit it may go, in the meter's unit.
        headroom_percent: By priority, up to which part of the limit it may be filled.
        charge_on_expiry: Whether a hold that nobody settles is booked as spent.
        alerts_percent: Thresholds at which stakeholders want to hear of it.
        default_output_tokens: For requests that do not say how much they want.
        open_when_unavailable: Whether a request may pass unchecked while nothing can be decided.
        carry_over: What of a window goes into the next one, or None.
        backfill: Whether a counter that is new in the middle of its window begins with what was
            used in it before.
        frozen: Of a freeze: who froze what, and why; empty for every other budget. It is no part
            of a policy's version, which names the freezes by themselves.
        enforced: Whether it can refuse.
        counts: Whether it has counters in the store: a cap on each request has none.
    """

    name: str
    meter: str
    limit: int | None
    window: Window
    per: tuple[str, ...] = ()
    conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    mode: Mode = Mode.ENFORCE
    ladder: tuple[Rung, ...] = ()
    overdraft: int = 0
    headroom_percent: dict[Priority, int] = field(default_factory=dict)
    charge_on_expiry: bool = False
    alerts_percent: tuple[int, ...] = ()
    default_output_tokens: int | None = None
    open_when_unavailable: bool = False
    carry_over: CarryOver | None = None
    backfill: bool = True
    frozen: str = field(default="", repr=False)
    enforced: bool = field(init=False, repr=False)
    counts: bool = field(init=False, repr=False)

    # It is looked up on the way of each request: what is remembered of one need not be found again
    # by an equal one.
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        is_enforced = self.mode is Mode.ENFORCE and self.limit is not None
        object.__setattr__(self, "enforced", is_enforced)
        object.__setattr__(self, "counts", self.window.kind is not WindowKind.REQUEST)

    def share(self, percent: int) -> int:
        """Return that part of the limit, rounded down; at 100 the overdraft comes on top."""
        assert self.limit is not None
        if percent >= _WHOLE_PERCENT:
            return self.limit + self.overdraft
        return self.limit * percent // 100


@dataclass(frozen=True, slots=True)
class Counter:
    """One budget, for one value of what it partitions by, in one window.

    Attributes:
        org: Whose it is.
        budget: Which budget.
        partition: Values in the order of the budget's `per`.
        instance: The window that counts now.
        id: Its name within its shard; two requests share it or do not, by this alone. Meter, kind
            of window and what is partitioned by are in it: a budget that changes one of them
            counts anew and never mixes units, or a user with an agent of the same name.
    """

    org: OrgId
    budget: Budget
    partition: tuple[str, ...]
    instance: WindowInstance
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        values = ",".join(
            f"{name}={quote(value, safe='')}"
            for name, value in zip(self.budget.per, self.partition, strict=True)
        )
        budget, start = self.budget, self.instance.start_ms
        # A rolling counter is one for all time: its buckets carry the time.
        begins = 0 if self.instance.end_ms is None else start
        name = f"{self.org}:{budget.name}:{budget.meter}:{values}:{budget.window.code}@{begins}"
        object.__setattr__(self, "id", name)

    def at(self, start_ms: int) -> Counter:
        """Return the same counter of a rolling window, as it counts from another time on."""
        other = object.__new__(Counter)
        give = object.__setattr__
        give(other, "org", self.org)
        give(other, "budget", self.budget)
        give(other, "partition", self.partition)
        give(other, "instance", WindowInstance(start_ms, None))
        give(other, "id", self.id)
        return other


@dataclass(frozen=True, slots=True)
class CounterName:
    """What a counter's id says; partition are attributes with their values."""

    org: str
    budget: str
    meter: str
    partition: tuple[tuple[str, str], ...]
    window_code: str
    window_start_ms: int

    @property
    def per(self) -> tuple[str, ...]:
        """What the budget partitioned by."""
        return tuple(name for name, _ in self.partition)


def parse_counter_id(counter_id: str) -> CounterName:
    """Read a counter's id."""
    org, budget, meter, values, window = counter_id.split(":")
    code, start = window.rsplit("@", 1)
    pairs = (pair.split("=") for pair in values.split(",") if pair)
    partition = tuple((name, unquote(value)) for name, value in pairs)
    return CounterName(org, budget, meter, partition, code, int(start))


class CounterValues(NamedTuple):
    """What a counter holds, in its meter's unit.

    Attributes:
        committed: Booked for good in the window.
        held: Held by open reservations.
        credit: Temporary addition to the limit.
        buckets: Of a rolling window, committed by bucket index, oldest first; only where a
            denial needs it.
    """

    committed: int
    held: int
    credit: int = 0
    buckets: tuple[tuple[int, int], ...] = ()


class CounterStatus(NamedTuple):
    """A counter and how it stands for one request.

    Attributes:
        counter: Which counter.
        values: What it holds.
        ceiling: How far this request might fill it, without credit; None where nothing binds.
        amount: This call's amount on it.
    """

    counter: Counter
    values: CounterValues
    ceiling: int | None
    amount: int = 0

    @property
    def remaining(self) -> int | None:
        """What is left of limit, credit and overdraft; below 0 after an overage."""
        budget = self.counter.budget
        if budget.limit is None:
            return None
        used = self.values.committed + self.values.held
        return budget.limit + budget.overdraft + self.values.credit - used

    @property
    def used_percent(self) -> int:
        """Committed and held as parts of limit and credit, rounded down; 100 at a limit of 0."""
        limit = (self.counter.budget.limit or 0) + self.values.credit
        used = self.values.committed + self.values.held
        return used * 100 // limit if limit > 0 else 100

    @property
    def tightness(self) -> tuple[int, int]:
        """Sorts the tightest first: least left in parts of the limit, unlimited last."""
        budget, values = self.counter.budget, self.values
        limit = budget.limit
        if limit is None:
            return (1, 0)
        # `remaining` once more, without another call: every answer sorts all its counters.
        left = limit + budget.overdraft + values.credit - values.committed - values.held
        return (0, left * _PARTS // (limit or 1))
