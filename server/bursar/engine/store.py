"""The connection to Redis: runs scripts and commands, and turns its failures into ours.

redis-py would repeat commands by itself, up to ten times, without telling anyone. That is off:
only the caller knows whether, and with which request id, to repeat.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
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

from bursar.domain.errors import BursarError, InternalError, ShardCold, StoreFull, StoreUnavailable
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

    async def set_up(
        self, install_key: str, meta_keys: Sequence[str], shard_count: int, epoch: str
    ) -> None:
        """Begin with empty shards where the store is new; otherwise change nothing.

        The install key tells a new store from one that has lost a shard. While its state is
        `begun` no server decides anything, so whoever finds it so may finish.

        Raises:
            InternalError: The store was set up with another shard count.
        """
        async with self._translated():
            await self._redis.hsetnx(install_key, "shards", str(shard_count))
            await self._redis.hsetnx(install_key, "epoch", epoch)
            known = await self._redis.hgetall(install_key)
            if int(known[b"shards"]) != shard_count:
                raise InternalError(
                    f"this Redis was set up with {known[b'shards'].decode()} shards, not "
                    f"{shard_count}; set BURSAR_SHARD_COUNT to match",
                )
            if known.get(b"state") == b"ready":
                return
            pipeline = self._redis.pipeline(transaction=False)
            for key in meta_keys:
                pipeline.hsetnx(key, "epoch", known[b"epoch"])
            await pipeline.execute()
            await self._redis.hset(install_key, "state", "ready")

    async def epochs(self, meta_keys: Sequence[str]) -> list[bytes]:
        """Return the epoch of each shard.

        Raises:
            ShardCold: A shard has none.
        """
        found = [epoch for epoch, _ in await self.shard_states(meta_keys)]
        missing = [key for key, epoch in zip(meta_keys, found, strict=True) if epoch is None]
        if missing:
            raise ShardCold(
                f"{len(missing)} of {len(meta_keys)} shards have lost their data, the first is "
                f"{missing[0]}; restore Redis from its append-only file or a backup",
                shard=missing[0],
            )
        return [epoch for epoch in found if epoch is not None]

    async def shard_states(self, meta_keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        """Return epoch and sequence number of each shard; None and 0 where it has none."""
        async with self._translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in meta_keys:
                pipeline.hmget(key, "epoch", "seq")
            return [(epoch, int(sequence or 0)) for epoch, sequence in await pipeline.execute()]

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
