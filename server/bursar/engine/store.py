"""The connection to Redis: runs scripts and commands, and turns its failures into ours.

redis-py would repeat commands by itself, up to ten times, without telling anyone. That is off:
only the caller knows whether, and with which request id, to repeat.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from bursar.domain.errors import BursarError, InternalError, StoreFull, StoreUnavailable
from bursar.engine.scripts import Script

VERSION_MIN = (6, 2)

_NOT_NOW_ERRORS = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
_NOT_NOW_TEXT = re.compile(r"(?:^|\s-)(BUSY|READONLY|NOREPLICAS|MISCONF|UNKILLABLE)\b")
"""Answers of a Redis that is there but cannot serve at the moment. Redis before 7 puts what a
command in a script answered behind a text of its own, with a dash before it."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the Redis behind the store is.

    Attributes:
        version: For example `7.2.4`.
        eviction_policy: `noeviction`, or what it does to keys when memory is full; empty where
            the server does not say.
        append_only: Whether it keeps an append-only file; None where it does not say.
    """

    version: str
    eviction_policy: str
    append_only: bool | None

    def problems(self) -> list[str]:
        """Return what keeps it from being a safe store, as sentences to act on."""
        found = []
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if numbers < VERSION_MIN:
            found.append(f"Redis {self.version} is too old; use 6.2 or newer")
        if self.eviction_policy not in ("noeviction", ""):
            found.append(
                f"Redis evicts keys when it is full (maxmemory-policy {self.eviction_policy}), so "
                "budgets would forget what was spent; set maxmemory-policy noeviction"
            )
        return found


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
    """

    epoch: str
    sequence: int
    newest_ms: int
    replaying: bool
    trimmed: str
    journaled: int
    stopped: str


class Store:
    """A Redis, with our errors and one bound on how long and how often it is asked."""

    def __init__(self, url: str, *, timeout_ms: int = 1_000, connections_max: int = 32) -> None:
        """Connects when first used.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            timeout_ms: For connecting and for each answer, 1 or more.
            connections_max: Connections at the most, 1 or more.
        """
        timeout_s = timeout_ms / 1_000
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=connections_max,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
            health_check_interval=0,
        )
        # Answers are bytes throughout; redis-py's types say bytes or text.
        self._redis: Any = redis.Redis.from_pool(pool)
        self._execute: Any = self._redis.execute_command
        self._timeout_s = timeout_s

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def run(self, script: Script, keys: Sequence[str], argument: bytes) -> bytes:
        """Run a script in one round trip; where Redis has forgotten it, send it whole.

        Raises:
            StoreUnavailable: Redis does not answer; the outcome is unknown.
            StoreFull: Redis is out of memory; nothing was done.
        """
        async with self._translated():
            try:
                reply = await self._execute("EVALSHA", script.sha, len(keys), *keys, argument)
            except NoScriptError:
                reply = await self._execute("EVAL", script.text, len(keys), *keys, argument)
            answer: bytes = reply
            return answer

    async def run_replicated(
        self, script: Script, keys: Sequence[str], argument: bytes, replicas: int
    ) -> tuple[bytes, int]:
        """Run a script, and wait on the same connection for replicas to have its writes.

        Returns:
            What it replied, and how many replicas had it in time.

        Raises:
            StoreUnavailable: Redis does not answer; the outcome is unknown.
            StoreFull: Redis is out of memory; nothing was done.
        """
        wait_ms = max(int(self._timeout_s * 1_000) // 2, 1)
        async with self._translated():
            for command, name in (("EVALSHA", script.sha), ("EVAL", script.text)):
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.execute_command(command, name, len(keys), *keys, argument)
                pipeline.execute_command("WAIT", replicas, wait_ms)
                reply, reached = await pipeline.execute(raise_on_error=False)
                if isinstance(reply, NoScriptError):
                    continue
                if isinstance(reply, RedisError):
                    raise reply
                return reply, reached if isinstance(reached, int) else 0
            raise InternalError("Redis knows no script")

    async def streams(
        self, wanted: Sequence[tuple[str, str]], most: int
    ) -> list[list[tuple[bytes, dict[bytes, bytes]]]]:
        """Return of each stream what follows an id, in order, at most so many entries of each."""
        if not wanted:
            return []
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key, after in wanted:
                pipeline.xrange(key, f"({after}", "+", count=most)
            return list(await pipeline.execute())

    async def stream_lengths(self, keys: Sequence[str]) -> list[int]:
        """Return how many entries each stream has."""
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.xlen(key)
            return list(await pipeline.execute())

    async def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """Return a page of the keys that match, and where the next one begins (0: nowhere)."""
        async with self._translated():
            following, names = await self._redis.scan(cursor, match=pattern, count=count)
            return int(following), list(names)

    async def add_member(self, key: str, member: str) -> None:
        """Add to a set."""
        async with self._translated():
            await self._redis.sadd(key, member)

    async def add_scored(self, key: str, members: Mapping[bytes, int]) -> None:
        """Add to a sorted set, each with its score."""
        async with self._translated():
            await self._redis.zadd(key, members)

    async def by_score(self, key: str) -> list[bytes]:
        """Return a sorted set, lowest score first."""
        async with self._translated():
            return list(await self._redis.zrange(key, 0, -1))

    async def members(self, key: str) -> set[bytes]:
        """Return a set."""
        async with self._translated():
            return set(await self._redis.smembers(key))

    async def together(self, *commands: Sequence[Any]) -> list[Any]:
        """Carry out reading commands as one step, so that they see one moment of one slot."""
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())

    async def shard_states(self, meta_keys: Sequence[str]) -> list[ShardMark]:
        """Return how each shard's data is marked."""
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in meta_keys:
                pipeline.hmget(
                    key, "epoch", "seq", "now", "replaying", "trimmed", "last", "stopped"
                )
            replies = await pipeline.execute()
            return [
                ShardMark(
                    _text(epoch) if epoch else "",
                    int(sequence or 0),
                    int(newest or 0),
                    replaying is not None,
                    _text(trimmed) if trimmed else "",
                    int(last or 0),
                    _text(stopped) if stopped else "",
                )
                for epoch, sequence, newest, replaying, trimmed, last, stopped in replies
            ]

    async def due(self, expiry_keys: Sequence[str], now_ms: int) -> list[bool]:
        """Return for each shard whether any of its holds is over."""
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in expiry_keys:
                pipeline.zrangebyscore(key, "-inf", now_ms, start=0, num=1)
            return [bool(each) for each in await pipeline.execute()]

    async def expiries(
        self, key: str, from_ms: int, skip: int, most: int
    ) -> list[tuple[bytes, int]]:
        """Return holds that end at a time or after it, soonest first, without the first few."""
        async with self._translated():
            found = await self._redis.zrangebyscore(
                key, from_ms, "+inf", start=skip, num=most, withscores=True
            )
            return [(name, int(score)) for name, score in found]

    async def get(self, key: str) -> bytes | None:
        """Return what a key holds, or None."""
        async with self._translated():
            value: bytes | None = await self._redis.get(key)
            return value

    async def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what each key holds, or None."""
        if not keys:
            return []
        async with self._translated():
            values: list[bytes | None] = await self._redis.mget(keys)
            return values

    async def time_ms(self) -> int:
        """Return Redis's clock, in ms since the epoch."""
        async with self._translated():
            seconds, microseconds = await self._redis.time()
            return int(seconds) * 1_000 + int(microseconds) // 1_000

    async def facts(self) -> ServerFacts:
        """Return what the Redis is."""
        async with self._translated():
            info: dict[str, Any] = await self._redis.info("server")
            settings: dict[Any, Any] = {}
            with suppress(ResponseError):  # Managed services forbid CONFIG.
                for name in ("maxmemory-policy", "appendonly"):  # Redis before 7 takes one.
                    settings |= await self._redis.config_get(name)
        texts = {_text(name): _text(value) for name, value in settings.items()}
        append_only = texts.get("appendonly")
        return ServerFacts(
            version=str(info["redis_version"]),
            eviction_policy=texts.get("maxmemory-policy", ""),
            append_only=None if append_only is None else append_only == "yes",
        )

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Turn every failure of Redis into one of ours; its own text stays out of messages."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise StoreUnavailable("Redis did not answer in time") from error
        except RedisError as error:
            raise _translate(error) from error
        except OSError as error:
            raise StoreUnavailable("Redis cannot be reached") from error
        except RuntimeError as error:
            # A transport of uvloop that was closed meanwhile says so where asyncio's is silent.
            if "handler is closed" not in str(error):
                raise
            raise StoreUnavailable("Redis cannot be reached") from error


def _translate(error: RedisError) -> BursarError:
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM"):
        return StoreFull("Redis is out of memory and refuses writes")
    if not isinstance(error, ResponseError):
        return StoreUnavailable("Redis cannot be reached")
    if "OOM" in str(error):
        return StoreFull("Redis is out of memory and refuses writes")
    if isinstance(error, _NOT_NOW_ERRORS) or _NOT_NOW_TEXT.search(str(error)):
        return StoreUnavailable("Redis cannot serve at the moment")
    return InternalError("a script failed in Redis")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
