"""The store: runs scripts and commands on Redis, and turns its failures into ours.

Nothing is repeated that may have been carried out: only the caller knows whether, and with which
request id, to do that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from bursar.domain.errors import BursarError, StoreUnavailable
from bursar.engine.redis_connect import connect
from bursar.engine.redis_node import Command, Node, RunCommand
from bursar.engine.redis_servers import FAILURES, Unit
from bursar.engine.scripts import Script
from bursar.engine.server_facts import ServerFacts, read_facts
from bursar.engine.store_errors import checked, translate

ScriptCall = tuple[Script, Sequence[str], bytes]
"""A script, its keys, which are of one slot, and its argument."""


@dataclass(frozen=True, slots=True)
class ShardMark:
    """How a shard's data is marked in Redis.

    Attributes:
        epoch: Generation of the data; empty where there is none to decide from.
        sequence: Of the newest call, 0 where none.
        newest_ms: Newest time that a call had.
        replaying: Rebuilt, and waiting for calls to be sent again.
        trimmed: Id of the newest journal entry that was recorded and dropped, or empty.
        journaled: Sequence number of the newest journal entry.
        stopped: Why somebody stopped it, or empty.
        run: The run of Redis that every server has confirmed to lack nothing, or empty.
    """

    epoch: str
    sequence: int
    newest_ms: int
    replaying: bool
    trimmed: str
    journaled: int
    stopped: str
    run: str


Answer = TypeVar("Answer")

_MARK_FIELDS = ("epoch", "seq", "now", "replaying", "trimmed", "last", "stopped", "run")


class Store:
    """A Redis, with our errors and one bound on how long and how often it is asked."""

    def __init__(self, url: str, *, timeout_ms: int = 1_000, connections_max: int = 32) -> None:
        """Connects when first used.

        Args:
            url: As `redis_address.parse_address` takes it.
            timeout_ms: For connecting and for each answer, 1 or more.
            connections_max: Connections to each server at the most, 1 or more.
        """
        self._servers = connect(url, timeout_s=timeout_ms / 1_000, connections_max=connections_max)
        self._wait_ms = max(timeout_ms // 2, 1)

    async def close(self) -> None:
        """Close every connection."""
        await self._servers.close()

    def place(self, key: str) -> str:
        """Return a name of the server that a key is on, as far as is known.

        Calls of one place go as one pipeline; those of several would wait for the slowest one.
        """
        return self._servers.place(key)

    def run_of(self, key: str) -> str:
        """Return the run of the server that a key is on, as far as is known: see `Node.run`."""
        return self._servers.run(key)

    async def run_all(
        self, calls: Sequence[ScriptCall], replicas: int = 0
    ) -> list[tuple[bytes | BursarError, int]]:
        """Run scripts in one round trip; those that Redis has forgotten are sent again, whole.

        Beside its argument each script is told which run of Redis its call reaches.

        Calls with keys of one slot are carried out in their order, unless Redis has forgotten some
        of the scripts or moves the slot to another server meanwhile.

        Args:
            calls: What to run.
            replicas: How many replicas to wait for, until they have the writes of all calls.

        Returns:
            For each call what it replied, and how many replicas had it in time. A call that fails
            fails no other: StoreUnavailable where its outcome is unknown, StoreFull where nothing
            was done.
        """
        closing = ("WAIT", replicas, self._wait_ms) if replicas else None
        units = [
            _script_unit("EVALSHA", script.sha, keys, argument) for script, keys, argument in calls
        ]
        answers = await self._servers.exchange(units, closing)
        forgotten = [at for at, found in enumerate(answers) if isinstance(found[0], NoScriptError)]
        if forgotten:
            whole = [
                _script_unit("EVAL", script.text, keys, argument)
                for script, keys, argument in (calls[at] for at in forgotten)
            ]
            found_again = await self._servers.exchange(whole, closing)
            for at, found in zip(forgotten, found_again, strict=True):
                answers[at] = found
        return [
            (
                translate(found[0]) if isinstance(found[0], BaseException) else found[0],
                found[-1] if closing and isinstance(found[-1], int) else 0,
            )
            for found in answers
        ]

    async def run(self, script: Script, keys: Sequence[str], argument: bytes) -> bytes:
        """Run one script.

        Raises:
            StoreUnavailable: Redis does not answer; the outcome is unknown.
            StoreFull: Redis is out of memory; nothing was done.
        """
        [(reply, _)] = await self.run_all([(script, keys, argument)])
        if isinstance(reply, BursarError):
            raise reply
        return reply

    async def streams(
        self, wanted: Sequence[tuple[str, str]], most: int
    ) -> list[list[tuple[bytes, dict[bytes, bytes]]] | None]:
        """Return of each stream what follows an id, in order, at most so many entries of each.

        None stands for those whose server does not answer.
        """
        return await self._each(
            [("XRANGE", key, f"({after}", "+", "COUNT", most) for key, after in wanted]
        )

    async def stream_lengths(self, keys: Sequence[str]) -> list[int | None]:
        """Return how many entries each stream has; None: its server does not answer."""
        return await self._each([("XLEN", key) for key in keys])

    async def scan(self, pattern: str, count: int, beside: str = "") -> AsyncIterator[list[bytes]]:
        """Go through the keys that match, by pages of about so many. A key may come again.

        Args:
            pattern: As Redis has it.
            count: Keys that Redis looks at for a page.
            beside: Look only at the server that has this key, where keys of its slot are wanted
                and those that are just being moved to another server may be missed.
        """
        nodes = [await self._owner(beside)] if beside else await self._primaries()
        # A key that moves behind our back is found the second time: keys move in one direction.
        for node in nodes if len(nodes) == 1 else nodes * 2:
            cursor: Any = None
            while cursor != b"0":
                cursor, names = await self._ask(
                    node, "SCAN", cursor or b"0", "MATCH", pattern, "COUNT", count
                )
                yield names

    async def add_member(self, key: str, member: str) -> None:
        """Add to a set."""
        await self._one("SADD", key, member)

    async def add_scored(self, key: str, members: Mapping[bytes, int]) -> None:
        """Add to a sorted set, each with its score."""
        flat = [each for member, score in members.items() for each in (score, member)]
        await self._one("ZADD", key, *flat)

    async def by_score(self, key: str) -> list[bytes]:
        """Return a sorted set, lowest score first."""
        return list(await self._one("ZRANGE", key, 0, -1))

    async def members(self, key: str) -> set[bytes]:
        """Return a set."""
        return set(await self._one("SMEMBERS", key))

    async def together(self, *commands: Command) -> list[Any]:
        """Carry out reading commands as one step, so that they see one moment of one slot.

        Args:
            commands: Each has a key of the slot after its name.
        """
        unit = Unit(commands[0][1], (("MULTI",), *commands, ("EXEC",)))
        [replies] = await self._servers.exchange([unit])
        # One that Redis does not take says why; that nothing was carried out follows from it.
        results = [checked(reply) for reply in replies][-1]
        return [
            _shaped(command, checked(result))
            for command, result in zip(commands, results, strict=True)
        ]

    async def shard_states(self, meta_keys: Sequence[str]) -> list[ShardMark | None]:
        """Return how each shard's data is marked; None: its server does not answer."""
        replies = await self._each([("HMGET", key, *_MARK_FIELDS) for key in meta_keys])
        return [None if reply is None else _mark(reply) for reply in replies]

    async def due(self, expiry_keys: Sequence[str], now_ms: int) -> list[bool]:
        """Return for each shard whether any of its holds is known to be over."""
        replies = await self._each(
            [("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, 1) for key in expiry_keys]
        )
        return [bool(each) for each in replies]

    async def expiries(
        self, key: str, from_ms: int, skip: int, most: int
    ) -> list[tuple[bytes, int]]:
        """Return holds that end at a time or after it, soonest first, without the first few."""
        flat = await self._one(
            "ZRANGEBYSCORE", key, from_ms, "+inf", "WITHSCORES", "LIMIT", skip, most
        )
        return [(name, int(score)) for name, score in _pairs(flat).items()]

    async def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what each key holds, or None. They are of one slot."""
        return list(await self._one("MGET", *keys)) if keys else []

    async def time_ms(self) -> int:
        """Return Redis's clock, in ms since the epoch: of the first server that answers."""
        [(seconds, microseconds), *_] = await self._everywhere(lambda node: self._ask(node, "TIME"))
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def facts(self) -> list[ServerFacts]:
        """Return what each server that takes writes is, if it answers."""
        return await self._everywhere(lambda node: read_facts(node, self._servers.mode))

    async def _everywhere(self, ask: Callable[[Node], Awaitable[Answer]]) -> list[Answer]:
        """Ask every server that takes writes, and return what those say that answer.

        Raises:
            StoreUnavailable: None does.
        """
        asked = (ask(node) for node in await self._primaries())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found = [each for each in answers if not isinstance(each, BaseException)]
        for each in answers:
            if isinstance(each, BaseException) and not (
                found and isinstance(each, StoreUnavailable)
            ):
                raise each
        return found

    async def _owner(self, key: str) -> Node:
        try:
            return await self._servers.owner(key)
        except FAILURES as error:
            raise translate(error) from error

    async def _primaries(self) -> list[Node]:
        try:
            return await self._servers.primaries()
        except FAILURES as error:
            raise translate(error) from error

    async def _ask(self, node: Node, *command: Any) -> Any:  # noqa: ANN401 - as Redis replied
        try:
            [reply] = await node.exchange([command])
        except FAILURES as error:
            raise translate(error) from error
        return _shaped(command, checked(reply))

    async def _one(self, *command: Any) -> Any:  # noqa: ANN401 - as Redis replied
        """Send a command to where its key is, which comes after its name."""
        [[reply]] = await self._servers.exchange([Unit(command[1], (command,))])
        return _shaped(command, checked(reply))

    async def _each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands to where their keys are; None: the server does not answer.

        Raises:
            StoreUnavailable: No server answers.
        """
        answers = await self._servers.exchange(
            [Unit(command[1], (command,)) for command in commands]
        )
        results: list[Any] = []
        failure: StoreUnavailable | None = None
        for command, [reply] in zip(commands, answers, strict=True):
            try:
                results.append(_shaped(command, checked(reply)))
            except StoreUnavailable as error:
                failure = error
                results.append(None)
        if failure is not None and all(each is None for each in results):
            raise failure
        return results


def _script_unit(command: str, script: str, keys: Sequence[str], argument: bytes) -> Unit:
    told = RunCommand((command, script, len(keys), *keys, argument))
    return Unit(keys[0], (told,), is_whole=True)


def _shaped(command: Command, reply: Any) -> Any:  # noqa: ANN401 - as Redis replied
    """Return a reply as callers take it: the entries of a stream with their fields as a map."""
    if command[0] == "XRANGE":
        return [(stream_id, _pairs(fields)) for stream_id, fields in reply]
    return reply


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _mark(reply: Sequence[bytes | None]) -> ShardMark:
    epoch, sequence, newest, replaying, trimmed, last, stopped, run = reply
    return ShardMark(
        (epoch or b"").decode(),
        int(sequence or 0),
        int(newest or 0),
        replaying is not None,
        (trimmed or b"").decode(),
        int(last or 0),
        (stopped or b"").decode(),
        (run or b"").decode(),
    )
