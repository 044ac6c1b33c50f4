"""A Redis Cluster: which server has which slots, and redirections where that has changed.

A redirection says that nothing was carried out, so it is followed; nothing else is repeated. While
a slot moves, each of its keys is on one server or the other. A script that needs keys of both is
refused by Redis, and tried again by whoever asked for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from bursar.engine.redis_node import Command, Node
from bursar.engine.redis_servers import FAILURES, Unit, exchange_with

SLOTS = 16_384
REDIRECTIONS_MAX = 5
LOOK_INTERVAL_S = 0.1
"""Least time between two looks at who has which slots."""

Place = tuple[str, int]
"""Host and port."""

_ASKING: Command = ("ASKING",)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A unit, where its answer goes, and whether its server must be told that it was asked to."""

    at: int
    unit: Unit
    asking: bool = False


class Cluster:
    """The servers of a cluster."""

    mode = "cluster"

    def __init__(self, make: Callable[[str, int], Node], seeds: Sequence[Place]) -> None:
        """Asks nobody yet.

        Args:
            make: Makes the server at a host and a port.
            seeds: Servers to ask for all the others, at least one.
        """
        self._make = make
        self._seeds = seeds
        self._nodes: dict[Place, Node] = {}
        self._places: dict[Node, Place] = {}
        self._owners: list[Node | None] = []
        self._failed_s: dict[Node, float] = {}
        self._looked_s = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def exchange(
        self, units: Sequence[Unit], closing: Command | None = None
    ) -> list[list[Any]]:
        """Send units to the servers that have their slots; those of one server as one pipeline."""
        if not self._owners:
            try:
                await self._look()
            except FAILURES as error:
                return [_failed(unit, closing, error) for unit in units]
        answers: list[list[Any]] = [[]] * len(units)
        sent = [_Sent(at, unit) for at, unit in enumerate(units)]
        groups: dict[Node | None, list[_Sent]] = {}
        for each in sent:
            groups.setdefault(self._owners[_slot(each.unit.key)], []).append(each)
        await self._send_all(groups, closing, answers, REDIRECTIONS_MAX)
        return answers

    async def primaries(self) -> list[Node]:
        """Return the servers that have slots, by place, as the cluster knows them now."""
        await self._look()
        owners = {node for node in self._owners if node is not None}
        return sorted(owners, key=self._places.__getitem__)

    async def owner(self, key: str) -> Node:
        """Return the server that a key is on."""
        if not self._owners:
            await self._look()
        node = self._owners[_slot(key)]
        if node is None:
            raise _nobody()
        return node

    def place(self, key: str) -> str:
        """Return the address of the server that a key is on, as far as is known."""
        node = self._known(key)
        return "" if node is None else node.address

    def run(self, key: str) -> str:
        """Return the run of the server that a key is on, as far as is known."""
        node = self._known(key)
        return "" if node is None else node.run

    async def close(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for node in self._nodes.values():
            await node.close()

    def _known(self, key: str) -> Node | None:
        return self._owners[_slot(key)] if self._owners else None

    async def _send_all(
        self,
        groups: dict[Node | None, list[_Sent]],
        closing: Command | None,
        answers: list[list[Any]],
        redirections: int,
    ) -> None:
        """Send each group to its server; a slow one keeps no redirected unit of others waiting."""
        lost = groups.pop(None, [])
        for each in lost:
            answers[each.at] = _failed(each.unit, closing, _nobody())
        if lost:
            self._look_soon()
        sending = [
            self._send(node, sent, closing, answers, redirections)
            for node, sent in groups.items()
            if node is not None
        ]
        if len(sending) == 1:
            await sending[0]
        elif sending:
            await asyncio.gather(*sending)

    async def _send(
        self,
        node: Node,
        sent: list[_Sent],
        closing: Command | None,
        answers: list[list[Any]],
        redirections: int,
    ) -> None:
        units = [
            Unit(each.unit.key, (_ASKING, *each.unit.commands)) if each.asking else each.unit
            for each in sent
        ]
        again: dict[Node | None, list[_Sent]] = {}
        for each, found in zip(sent, await exchange_with(node, units, closing), strict=True):
            replies = found[1:] if each.asking else found
            answers[each.at] = replies
            error = next((reply for reply in replies if isinstance(reply, AskError)), None)
            is_final = each.unit.is_whole and not isinstance(error, MovedError)
            if error is not None and redirections and not is_final:
                target, is_asked = self._redirected(node, error)
                again.setdefault(target, []).append(_Sent(each.at, each.unit, is_asked))
            elif any(map(_is_lost, replies)):
                self._failed_s[node] = time.monotonic()
                self._look_soon()
        if again:
            await self._send_all(again, closing, answers, redirections - 1)

    def _redirected(self, node: Node, error: AskError) -> tuple[Node, bool]:
        """Return where to send what a server does not carry out, and whether it is asked to."""
        # A server that does not know its own name leaves it out: it is where we found the first.
        target = self._node(error.host or self._places[node][0], error.port)
        if not isinstance(error, MovedError):
            return target, True
        self._owners[error.slot_id] = target
        self._look_soon()
        return target, False

    def _node(self, host: str, port: int) -> Node:
        place = (host, port)
        if place not in self._nodes:
            node = self._nodes[place] = self._make(host, port)
            self._places[node] = place
        return self._nodes[place]

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_later())

    async def _look_later(self) -> None:
        await asyncio.sleep(self._looked_s + LOOK_INTERVAL_S - time.monotonic())
        with suppress(*FAILURES):
            await self._look()

    async def _look(self) -> None:
        """Learn who has which slots, from the first server that says it.

        Raises:
            RedisError: None does.
        """
        for place in self._seeds:
            self._node(*place)
        # Those that failed come last: the longer ago, the sooner.
        asked = sorted(self._places, key=lambda node: self._failed_s.get(node, 0.0))
        last: Exception = RedisConnectionError("no server of the cluster answers")
        for node in asked:
            self._looked_s = time.monotonic()
            try:
                [reply] = await node.exchange([("CLUSTER", "SLOTS")])
            except FAILURES as error:
                self._failed_s[node], last = time.monotonic(), error
                continue
            if isinstance(reply, RedisError) or not reply:
                last = reply or _nobody()
                continue
            await self._adopt(node, reply)
            return
        raise last

    async def _adopt(self, asked: Node, ranges: Sequence[Sequence[Any]]) -> None:
        owners: list[Node | None] = [None] * SLOTS
        for first, last, primary, *_ in ranges:
            host = (primary[0] or b"").decode()
            # One that does not know its own name says nothing, or a question mark.
            known = host if host not in ("", "?") else self._places[asked][0]
            node = self._node(known, primary[1])
            owners[first : last + 1] = [node] * (last + 1 - first)
        self._owners = owners
        kept = {*owners, *(self._nodes[place] for place in self._seeds)}
        for node in [node for node in self._places if node not in kept]:
            del self._nodes[self._places.pop(node)]
            self._failed_s.pop(node, None)
            await node.close()


def _is_lost(reply: Any) -> bool:  # noqa: ANN401 - as Redis replied
    """Say whether a reply means that another server may have the slot by now."""
    if isinstance(reply, ResponseError):
        return isinstance(reply, ClusterError | AskError | ReadOnlyError)
    return isinstance(reply, FAILURES)


def _nobody() -> ClusterError:
    return ClusterDownError("no server has the slot")


def _failed(unit: Unit, closing: Command | None, error: Exception) -> list[Any]:
    return [error] * (len(unit.commands) + (closing is not None))


def _slot(key: str | bytes) -> int:
    return _slot_of(key if isinstance(key, bytes) else key.encode())


@lru_cache(maxsize=SLOTS)
def _slot_of(key: bytes) -> int:
    return key_slot(key)
