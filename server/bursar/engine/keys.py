"""Names of everything in Redis, and how each counter lives there.

All keys of an org are in one slot, so every script is safe on a Redis Cluster:

    {bNN}:m                         the shard: epoch, sequence number, newest time seen
    {bNN}:c:<counter id>            a counter
    {bNN}:h:<org>:<hold id>         a hold, later its tombstone
    {bNN}:x                         holds by expiry
    {bNN}:j                         journal
    {bNN}:r                         servers that have said what to make again, while it is rebuilt
    {bNN}:a                         calls to make again, by sequence number, while it is rebuilt

`b` is the key namespace, `NN` the shard: crc32(org) modulo the shard count, which is fixed when
the ledger is set up.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from bursar.domain.budget import Counter
from bursar.domain.usage_report import HOUR_MS
from bursar.domain.window import WindowKind

COUNTER_RETENTION_MS = 48 * HOUR_MS
"""How long a counter outlives its window, for settlements that come late. At least twice the
longest TTL of a hold, so that a host clock step of an hour expires nothing that is in use."""

KIND_PLAIN, KIND_ROLLING, KIND_TASK = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Tombstones:
    """How long ended holds answer repeated calls, in ms.

    Attributes:
        settled_ms: After a commit, a release or a record.
        expired_ms: After an expiry, and how long an adjustment is remembered.
    """

    settled_ms: int
    expired_ms: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the names.

    Attributes:
        namespace: Keeps installations on one Redis apart; letters and digits.
        shard_count: Number of shards.
    """

    namespace: str
    shard_count: int

    def shard_of(self, org: str) -> int:
        """Return the shard that an org lives on."""
        return binascii.crc32(org.encode()) % self.shard_count

    def tag(self, shard: int) -> str:
        """Return the hash tag of a shard."""
        return f"{{{self.namespace}{shard:02d}}}"

    def meta(self, shard: int) -> str:
        """Return the key of the shard's own state."""
        return f"{self.tag(shard)}:m"

    def shard_keys(self, shard: int) -> list[str]:
        """Return the keys that every writing script takes first: shard, expiries, journal."""
        return [self.meta(shard), self.expiries(shard), self.journal(shard)]

    def expiries(self, shard: int) -> str:
        """Return the key of a shard's holds by expiry."""
        return f"{self.tag(shard)}:x"

    def journal(self, shard: int) -> str:
        """Return the key of a shard's journal."""
        return f"{self.tag(shard)}:j"

    def replayed(self, shard: int) -> str:
        """Return the key of the servers that have sent calls again during a rebuild."""
        return f"{self.tag(shard)}:r"

    def again(self, shard: int) -> str:
        """Return the key of the calls that are made again during a rebuild."""
        return f"{self.tag(shard)}:a"

    def counter_prefix(self, shard: int) -> str:
        """Return what all counter keys of a shard begin with."""
        return f"{self.tag(shard)}:c:"

    def hold(self, shard: int, org: str, hold_id: str) -> str:
        """Return the key of a hold."""
        return f"{self.tag(shard)}:h:{org}:{hold_id}"


def hold_name(key: bytes) -> tuple[str, str]:
    """Return org and hold id of a hold's key."""
    _, _, org, hold_id = key.decode().split(":")
    return org, hold_id


CounterSpec = tuple[int, int, int, int]
"""How a counter lives: kind, TTL in ms, and two parameters of the kind (`lua/shared/counters`)."""


def lives_from_ms(time_ms: int) -> int:
    """Return from when on the counter of a window with an end counts its time to live.

    That is the hour, so that the calls of a while describe a counter alike; it lives up to an hour
    longer for that.
    """
    return time_ms - time_ms % HOUR_MS


def counter_spec(counter: Counter, now_ms: int) -> CounterSpec:
    """Return how a counter lives in Redis.

    TTLs are relative to the time of the request, so that they hold for any clock.
    """
    window = counter.budget.window
    match window.kind:
        case WindowKind.ROLLING:
            ttl_ms = window.length_ms + COUNTER_RETENTION_MS
            return KIND_ROLLING, ttl_ms, window.bucket_ms, window.bucket_count
        case WindowKind.TASK:
            return KIND_TASK, window.length_ms + COUNTER_RETENTION_MS, window.length_ms, 0
        case WindowKind.NONE:
            return KIND_PLAIN, COUNTER_RETENTION_MS, 1, 0
        case _:
            assert counter.instance.end_ms is not None
            left_ms = counter.instance.end_ms - lives_from_ms(now_ms)
            # A late commit may begin a counter whose window is long over.
            ttl_ms = max(left_ms + COUNTER_RETENTION_MS, 1_000)
            return KIND_PLAIN, ttl_ms, 0, 0
