"""How evenly orgs lie on the primaries of a Redis Cluster, and what the fullest can carry.

Orgs have the sizes of Zipf's law and the names org-1, org-2, ...; they lie where Bursar puts them:
on the shard of their name's CRC-32, whose hash tag has a slot, whose primary has an equal range of
the 16,384 slots, as `redis-cli --cluster create` deals them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from bursar.engine.keys import Keys

PRIMARIES_MAX = 1_000
"""Redis Cluster is made for about a thousand nodes."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How load lies on primaries.

    Attributes:
        primaries: How many.
        fullest: Part of all decisions that the fullest sees.
        seen: Part of all decisions that any of them sees; below 1 where orgs use leases.
        idle: Primaries without any shard.
    """

    primaries: int
    fullest: float
    seen: float
    idle: int

    @property
    def evenness(self) -> float:
        """What the fullest would see were all even, in parts of what it sees."""
        return self.seen / (self.primaries * self.fullest)

    def most_per_s(self, operation_us: float, busy: float) -> float:
        """Return the decisions a second of all, at which the fullest is so busy."""
        return busy * 1e6 / operation_us / self.fullest


def zipf_shares(orgs: int, exponent: float) -> list[float]:
    """Return the part of all load that each org has, the largest first.

    The part of rank k is k ** -exponent / H, H the sum of all.

    Args:
        orgs: How many.
        exponent: 0 makes all equal; 1 is Zipf's own.
    """
    weights = [rank**-exponent for rank in range(1, orgs + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


@dataclass(frozen=True, slots=True)
class Orgs:
    """Who asks, and where they are kept.

    Attributes:
        count: How many orgs.
        exponent: Of their sizes by Zipf's law.
        shard_count: BURSAR_SHARD_COUNT.
        leased: How many of the largest use leases.
        lease: Decisions of a lease: one call for so many.
    """

    count: int
    exponent: float
    shard_count: int
    leased: int = 0
    lease: int = 1

    def __str__(self) -> str:
        return (
            f"{self.count:,} orgs by Zipf's law, exponent {self.exponent:g}, on "
            f"{self.shard_count:,} shards"
        )

    @property
    def shares(self) -> list[float]:
        """Part of all decisions of each, the largest first."""
        return zipf_shares(self.count, self.exponent)

    def cluster(self, *, with_leases: bool) -> Cluster:
        """Return where they lie."""
        leased = self.leased if with_leases else 0
        seen = [
            share / self.lease if rank < leased else share for rank, share in enumerate(self.shares)
        ]
        return Cluster(seen, self.shard_count)


class Cluster:
    """Orgs on shards, which primaries share."""

    def __init__(self, shares: Sequence[float], shard_count: int) -> None:
        """Puts orgs onto shards.

        Args:
            shares: Part of all decisions of each org that Redis sees.
            shard_count: BURSAR_SHARD_COUNT.
        """
        keys = Keys("b", shard_count)
        self._slots = [key_slot(keys.meta(shard).encode()) for shard in range(shard_count)]
        self._loads = [0.0] * shard_count
        for rank, share in enumerate(shares, 1):
            self._loads[keys.shard_of(f"org-{rank}")] += share

    @property
    def fullest_shard(self) -> float:
        """Part of all decisions that the fullest shard has: no cluster divides it."""
        return max(self._loads)

    def on(self, primaries: int) -> Placement:
        """Return how load lies where there are so many primaries."""
        loads, used = [0.0] * primaries, set[int]()
        for slot, load in zip(self._slots, self._loads, strict=True):
            primary = slot * primaries // REDIS_CLUSTER_HASH_SLOTS
            loads[primary] += load
            used.add(primary)
        return Placement(primaries, max(loads), sum(loads), primaries - len(used))

    def fewest(self, per_s: float, operation_us: float, busy: float) -> Placement | None:
        """Return the fewest primaries that carry a load, or None where no number does.

        Args:
            per_s: Decisions a second.
            operation_us: What each takes of a primary.
            busy: How busy the fullest may be, at most 1.
        """
        most = busy * 1e6 / operation_us / per_s
        if self.fullest_shard > most:
            return None
        for primaries in range(1, PRIMARIES_MAX + 1):
            found = self.on(primaries)
            if found.fullest <= most:
                return found
        return None
