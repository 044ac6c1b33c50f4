"""What a comparison of the ledger with the counters that decide finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

DIFFERENCES_MAX = 1_000
"""Most differences that a report lists; the rest is only counted."""


class DifferenceKind(StrEnum):
    """What differs from what.

    COUNTER: a counter in Redis from the ledger's balance of it.
    HOLD: a hold in Redis from the ledger's.
    HELD_SUM: what a counter holds from the sum of the open holds on it.
    BALANCE: the ledger's balance of a counter from the sum of its entries.
    """

    COUNTER = "counter"
    HOLD = "hold"
    HELD_SUM = "held_sum"
    BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not what the ledger says.

    Attributes:
        shard: Where.
        kind: What differs.
        name: The counter's id, or `<org>:<hold id>`.
        field: Which number of it, such as `committed`.
        ledger: What the ledger says, or None where it knows of none.
        found: What there is, or None where there is none.
        repaired: Whether it was set to what the ledger says.
    """

    shard: int
    kind: DifferenceKind
    name: str
    field: str
    ledger: int | None
    found: int | None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was compared and what differs.

    Attributes:
        checked_counters: Counters that were compared.
        checked_holds: Holds that were compared.
        differences: The first DIFFERENCES_MAX.
        difference_count: How many there are.
        repaired_count: How many of them were repaired.
    """

    checked_counters: int
    checked_holds: int
    differences: tuple[Difference, ...]
    difference_count: int
    repaired_count: int


class Verify(Protocol):
    """Compares one shard, while it is in use."""

    async def __call__(self, shard: int, *, org: str, deep: bool, repair: bool) -> VerifyReport:
        """Compare.

        Args:
            shard: Which.
            org: Only its counters and holds, or "" for those of every org.
            deep: Whether to add up every ledger entry as well.
            repair: Whether to set what differs to what the ledger says.

        Raises:
            LedgerUnavailable, StoreUnavailable, ShardCold: It cannot be compared now.
        """
        ...
