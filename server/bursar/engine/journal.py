"""The journal of a shard: everything that its calls changed, in order, until it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bursar.engine.keys import Keys
from bursar.engine.scripts import load_script
from bursar.engine.store import Store
from bursar.engine.wire import pack, unpack

BEGINNING = "0-0"
"""Position before the first entry."""

_EVENT_WIDTH = 5


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The events of one script call, still packed.

    Attributes:
        stream_id: Where it is in the journal.
        fields: As Redis keeps them: e epoch, s sequence number, t time in ms, d packed events.
    """

    stream_id: str
    fields: Mapping[bytes, bytes]


class Journal:
    """Reads the journals of all shards, and drops what is recorded."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def read(self, positions: Mapping[int, str], most: int) -> dict[int, list[JournalEntry]]:
        """Return what follows the position of each shard, in order.

        Shards whose server does not answer are left out.

        Args:
            positions: Stream id by shard.
            most: Entries of each shard at the most.

        Raises:
            StoreUnavailable: No server answers.
        """
        wanted = [(self._keys.journal(shard), after) for shard, after in positions.items()]
        found = await self._store.streams(wanted, most)
        return {
            shard: [JournalEntry(stream_id.decode(), fields) for stream_id, fields in entries]
            for shard, entries in zip(positions, found, strict=True)
            if entries is not None
        }

    async def lengths(self, shards: Sequence[int]) -> list[int]:
        """Return how many entries are known to wait in each shard's journal."""
        keys = [self._keys.journal(shard) for shard in shards]
        return [length or 0 for length in await self._store.stream_lengths(keys)]

    async def lacks(self, shard: int, epoch: str, stream_id: str) -> bool:
        """Tell whether an entry of this generation is neither in the journal nor was trimmed."""
        (found, trimmed), entries = await self._store.together(
            ("HMGET", self._keys.meta(shard), "epoch", "trimmed"),
            ("XRANGE", self._keys.journal(shard), stream_id, stream_id),
        )
        if found is None or found.decode() != epoch or entries:
            return False
        return is_after(stream_id, trimmed.decode() if trimmed else "")

    async def trim(self, shard: int, epoch: str, recorded: str) -> bool:
        """Drop entries up to one that is recorded, and say whether this generation had them."""
        keys = [self._keys.meta(shard), self._keys.journal(shard)]
        argument = pack([epoch, recorded, _following(recorded)])
        return bool(await self._store.run(load_script("trim"), keys, argument))


def _following(stream_id: str) -> str:
    time_ms, number = _parts(stream_id)
    return f"{time_ms}-{number + 1}"


def is_after(stream_id: str, other: str) -> bool:
    """Tell whether an entry's id is after another's; an empty one is before every other."""
    return _parts(stream_id) > _parts(other)


def _parts(stream_id: str) -> tuple[int, int]:
    time_ms, _, number = (stream_id or BEGINNING).partition("-")
    return int(time_ms), int(number)


def decode_events(data: bytes) -> list[list[object]]:
    """Return the events of an entry; what is not MessagePack raises ValueError."""
    parts = unpack(data)
    if not isinstance(parts, list) or len(parts) % _EVENT_WIDTH:
        raise ValueError("the events are no list of events")
    return [parts[at : at + _EVENT_WIDTH] for at in range(0, len(parts), _EVENT_WIDTH)]
