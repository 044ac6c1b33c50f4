"""How the ledger and the shards stand, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ShardState(StrEnum):
    """Whether a shard can decide.

    UNKNOWN: this server has not looked yet.
    LIVE: it decides.
    COLD: its data is missing, of another epoch, or older than what was seen.
    REBUILDING: it is being loaded from the ledger.
    REPLAYING: it is loaded; servers send again what they acknowledged last.
    """

    UNKNOWN = "unknown"
    LIVE = "live"
    COLD = "cold"
    REBUILDING = "rebuilding"
    REPLAYING = "replaying"


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """How a shard stands.

    Attributes:
        shard: Its number.
        epoch: Of its data, as this server knows it.
        state: Whether it can decide.
        waiting_entries: Journal entries that the ledger does not have yet.
        lag_ms: Age of the oldest of them; 0 where none waits.
        owner_server_id: The server that records it, or "".
    """

    shard: int
    epoch: str
    state: ShardState
    waiting_entries: int = 0
    lag_ms: int = 0
    owner_server_id: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """How the last comparison of ledger and counters went."""

    verified_at_ms: int
    checked_counters: int
    checked_holds: int
    differences: int


class Overseer(Protocol):
    """Knows this server's shards, and has them rebuilt."""

    async def shards(self) -> Sequence[ShardStatus]:
        """Return how every shard stands, by number."""
        ...

    def verification(self) -> Verification | None:
        """Return how the last comparison that this server made of all its shards went."""
        ...

    async def rebuild(self, shards: Sequence[int]) -> None:
        """Begin to load shards anew from the ledger.

        Raises:
            StoreUnavailable: Redis cannot be told.
        """
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """How far a shard's journal is recorded."""

    shard: int
    epoch: str
    sequence: int
    recorded_at_ms: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The newest loading of a shard; end_ms is None while it runs."""

    shard: int
    epoch: str
    cause: str
    start_ms: int
    end_ms: int | None
    counters: int
    holds: int


@dataclass(frozen=True, slots=True)
class RebuildEvent:
    """Shards that one server loaded for one cause at about the same time.

    Attributes:
        shards: Which.
        cause: Why.
        server_id: By whom.
        start_ms: When the first of them began.
        end_ms: When the last of them ended, or None while any of them runs.
        counters: Loaded, in all.
        holds: Loaded, in all.
        committed_nano_usd: Money committed on those counters: what was at stake.
        held_nano_usd: Money held on them.
        resent: Operations that servers had acknowledged and sent again.
    """

    shards: tuple[int, ...]
    cause: str
    server_id: str
    start_ms: int
    end_ms: int | None
    counters: int
    holds: int
    committed_nano_usd: int
    held_nano_usd: int
    resent: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was seen."""

    server_id: str
    address: str
    started_at_ms: int
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """The newest version of an org's policy."""

    org: str
    number: int
    version: str
    applied_at_ms: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A journal entry that could not be read."""

    shard: int
    epoch: str
    stream_id: str
    fault: str
    rejected_at_ms: int


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """What the ledger says of the installation; every list is bounded.

    Attributes:
        positions: By shard.
        rebuilds: Newest first.
        newest_rebuilds: The newest of each shard.
        servers: Seen lately.
        policies: Newest version, by org.
        reject_count: Of all entries that could not be read.
        rejects: Newest first.
    """

    positions: tuple[Position, ...]
    rebuilds: tuple[RebuildEvent, ...]
    newest_rebuilds: tuple[Rebuild, ...]
    servers: tuple[Server, ...]
    policies: tuple[AppliedPolicy, ...]
    reject_count: int
    rejects: tuple[Reject, ...]
