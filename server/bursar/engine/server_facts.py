"""What a Redis server says of itself, and whether that makes it a safe store."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import ResponseError

from bursar.engine.redis_node import Node
from bursar.engine.redis_servers import FAILURES
from bursar.engine.store_errors import checked, translate

VERSION_MIN = (6, 2)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server is.

    Attributes:
        name: `Redis` or `Valkey`.
        version: For example `7.2.4`; of Valkey its own one.
        eviction_policy: `noeviction`, or what it does to keys when memory is full; empty where
            the server does not say.
        append_only: Whether it keeps an append-only file; None where it does not say.
        address: Where it is.
        mode: `standalone`, `cluster` or `sentinel`.
        used_as: The mode that its URL speaks of.
    """

    name: str
    version: str
    eviction_policy: str
    append_only: bool | None
    address: str = ""
    mode: str = "standalone"
    used_as: str = "standalone"

    def problems(self) -> list[str]:
        """Return what keeps it from being a safe store, as sentences to act on."""
        found = []
        if self.mode != self.used_as:
            scheme = {"cluster": "redis+cluster", "sentinel": "redis+sentinel"}.get(
                self.mode, "redis"
            )
            found.append(
                f"{self.name} runs in mode {self.mode}; BURSAR_REDIS_URL must begin with "
                f"{scheme}:// or {scheme.replace('redis', 'rediss')}://"
            )
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if numbers < VERSION_MIN:
            found.append(f"{self.name} {self.version} is too old; use 6.2 or newer")
        if self.eviction_policy not in ("noeviction", ""):
            found.append(
                f"{self.name} evicts keys when it is full (maxmemory-policy "
                f"{self.eviction_policy}), so budgets would forget what was spent; set "
                "maxmemory-policy noeviction"
            )
        return found


async def read_facts(node: Node, used_as: str) -> ServerFacts:
    """Ask a server what it is.

    Args:
        node: Which.
        used_as: The mode that its URL speaks of.

    Raises:
        StoreUnavailable: It does not answer.
    """
    # Redis before 7 takes one name at a time; managed services forbid CONFIG.
    commands: list[tuple[str, ...]] = [("INFO", "server")]
    commands += [("CONFIG", "GET", name) for name in ("maxmemory-policy", "appendonly")]
    try:
        info, *replies = await node.exchange(commands)
    except FAILURES as error:
        raise translate(error) from error
    info = _info(checked(info))
    settings: dict[str, str] = {}
    for reply in replies:
        if not isinstance(reply, ResponseError):
            settings |= {reply[0].decode(): reply[1].decode()} if reply else {}
    append_only = settings.get("appendonly")
    is_valkey = "valkey_version" in info
    return ServerFacts(
        name="Valkey" if is_valkey else "Redis",
        version=info["valkey_version" if is_valkey else "redis_version"],
        eviction_policy=settings.get("maxmemory-policy", ""),
        append_only=None if append_only is None else append_only == "yes",
        address=node.address,
        mode=info.get("redis_mode", info.get("server_mode", used_as)),
        used_as=used_as,
    )


def _info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, _, value in lines}
