"""A shard's data as a whole: to stop it, fill it again and open it.

Every write names the rebuild that makes it. Whoever begins another one takes the shard over, and
what the first one still writes is refused: so two that rebuild at once cannot mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bursar.engine.keys import Keys
from bursar.engine.scripts import load_script
from bursar.engine.store import ShardMark, Store
from bursar.engine.wire import pack, unpack

_PURGE_PAGE = 2_000
_ASK_PAGE = 500


@dataclass(frozen=True, slots=True)
class CounterRow:
    """A counter to write, whole.

    Attributes:
        counter_id: Which.
        ttl_ms: From now; 0: it has none.
        fields: Names and amounts as texts, in a row: exact beyond 2^53.
    """

    counter_id: str
    ttl_ms: int
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold to write, whole.

    Attributes:
        org: Whose.
        hold_id: Which.
        ttl_ms: From now; 0: it has none.
        packed: As the scripts read it.
        due_ms: When the sweeper ends it; 0: never.
    """

    org: str
    hold_id: str
    ttl_ms: int
    packed: bytes
    due_ms: int


@dataclass(frozen=True, slots=True)
class GoneRow:
    """A key to remove: a counter's id, or org and hold id joined by a colon."""

    counter_id: str = ""
    hold_name: str = ""


@dataclass(frozen=True, slots=True)
class Fenced:
    """What a stopped shard was."""

    stopped: bool
    epoch: str
    sequence: int
    newest_ms: int
    trimmed: str


Row = CounterRow | HoldRow | GoneRow


class ShardData:
    """The data of the shards of one Redis."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self.keys = keys

    async def states(self) -> list[ShardMark | None]:
        """Return how every shard is marked, in order; None: its server does not answer."""
        shards = range(self.keys.shard_count)
        return await self._store.shard_states([self.keys.meta(shard) for shard in shards])

    async def fence(
        self, shard: int, *, epoch: str = "", sequence: int = 0, token: str = "", why: str = ""
    ) -> Fenced:
        """Stop a shard.

        Args:
            shard: Which.
            epoch: Only this generation of it; empty: any.
            sequence: Only if its own number is lower; 0: in any case.
            token: Names the rebuild that begins with it; empty: nobody's yet.
            why: For those who look at its rebuild; empty: not said.
        """
        argument = pack([epoch, sequence, token, why])
        reply = await self._store.run(load_script("fence"), [self.keys.meta(shard)], argument)
        stopped, found, number, newest_ms, trimmed = unpack(reply)
        return Fenced(bool(stopped), found.decode(), number, newest_ms, trimmed.decode())

    async def purge(self, tokens: dict[int, str]) -> bool:
        """Remove all data of shards that are being rebuilt, and say whether all still are ours.

        Args:
            tokens: Of the rebuild, by shard.
        """
        by_tag = {self.keys.tag(shard): shard for shard in tokens}
        for shard, token in tokens.items():
            names = [self.keys.journal(shard), self.keys.expiries(shard)]
            if not await self._remove(shard, token, names):
                return False
        pattern = f"{{{self.keys.namespace}[0-9]*}}:[ch]:*"
        if len(tokens) == 1:
            [only] = by_tag
            pattern = f"{only.replace('[', '')}:[ch]:*"
        async for found in self._store.scan(pattern, _PURGE_PAGE):
            groups: dict[int, list[str]] = {}
            for name in found:
                text = name.decode()
                shard_found = by_tag.get(text.partition(":")[0])
                if shard_found is not None:
                    groups.setdefault(shard_found, []).append(text)
            for shard, names in groups.items():
                if not await self._remove(shard, tokens[shard], names):
                    return False
        return True

    async def _remove(self, shard: int, token: str, names: Sequence[str]) -> bool:
        keys = [self.keys.meta(shard), *names]
        return bool(await self._store.run(load_script("purge"), keys, pack([token])))

    async def load(
        self, shard: int, rows: Sequence[Row], *, token: str = "", sequence: int = 0
    ) -> bool:
        """Write counters and holds over what is there.

        Args:
            shard: Which.
            rows: At most some hundreds.
            token: Of the rebuild in progress; empty for a repair.
            sequence: For a repair: the shard's number when it was looked at.

        Returns:
            False where it is another's by now, or calls came between: nothing was written.
        """
        keys = [self.keys.meta(shard), self.keys.expiries(shard)]
        packed: list[list[object]] = []
        for row in rows:
            match row:
                case CounterRow():
                    keys.append(self.keys.counter_prefix(shard) + row.counter_id)
                    packed.append(["counter", row.ttl_ms, *row.fields])
                case HoldRow():
                    keys.append(self.keys.hold(shard, row.org, row.hold_id))
                    packed.append(["hold", row.ttl_ms, row.packed, row.due_ms])
                case GoneRow():
                    org, _, hold_id = row.hold_name.partition(":")
                    keys.append(
                        self.keys.hold(shard, org, hold_id)
                        if row.hold_name
                        else self.keys.counter_prefix(shard) + row.counter_id
                    )
                    packed.append(["gone"])
        argument = pack([token, sequence, packed])
        return bool(await self._store.run(load_script("load"), keys, argument))

    async def open(
        self, shard: int, token: str, epoch: str, *, sequence: int, now_ms: int, replaying: bool
    ) -> bool:
        """Open a rebuilt shard, for calls that are sent again or for everyone.

        Returns:
            False where another one rebuilds it by now.
        """
        keys = [self.keys.meta(shard), self.keys.replayed(shard), self.keys.again(shard)]
        argument = pack([token, epoch, sequence, now_ms, int(replaying)])
        return bool(await self._store.run(load_script("open"), keys, argument))

    async def ask_again(
        self, shard: int, server_id: str, calls: Sequence[tuple[int, bytes]]
    ) -> None:
        """Say which calls to make again in a shard that is being rebuilt.

        Args:
            shard: Which.
            server_id: Who had answered them.
            calls: Packed, each with its sequence number.
        """
        for at in range(0, len(calls), _ASK_PAGE):
            page = {packed: sequence for sequence, packed in calls[at : at + _ASK_PAGE]}
            await self._store.add_scored(self.keys.again(shard), page)
        await self._store.add_member(self.keys.replayed(shard), server_id)

    async def asked_again(self, shard: int) -> list[bytes]:
        """Return the calls to make again, of all servers, in their order."""
        return await self._store.by_score(self.keys.again(shard))

    async def replayed(self, shard: int) -> set[str]:
        """Return the servers that have said what to make again."""
        return {each.decode() for each in await self._store.members(self.keys.replayed(shard))}
