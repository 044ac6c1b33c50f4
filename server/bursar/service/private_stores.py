"""The Redis and the PostgreSQL that a server brings along where it is given none."""

from __future__ import annotations

import asyncio

import structlog

from bursar.embedded.postgres_process import SETTINGS, EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.ledger.schema import migrate
from bursar.service.background import Background
from bursar.service.settings import Settings

SUPERVISE_INTERVAL_MS = 200

CONNECTIONS_BESIDES = 4
"""To PostgreSQL, of one process: what listens and what holds locks, and room for one that was cut
off and is not gone yet."""

_log = structlog.get_logger(__name__)


class PrivateStores:
    """Children of this process: they end with it, and are started again where they die."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet.

        Args:
            settings: Where both are, or where their data is to be; and how many processes share
                them.
        """
        self._settings = settings
        self._redis = None if settings.redis_url else EmbeddedRedis(settings.data_dir / "redis")
        self._postgres: EmbeddedPostgres | None = None
        if not settings.database_url:
            needed = settings.workers * (settings.database_connections_max + CONNECTIONS_BESIDES)
            connections_max = max(int(SETTINGS["max_connections"]), needed)
            self._postgres = EmbeddedPostgres(
                settings.data_dir / "postgres", settings={"max_connections": str(connections_max)}
            )

    @property
    def redis_url(self) -> str:
        """The URL of the Redis to use: the private one's, or what was given."""
        if self._redis is not None:
            return self._redis.url
        assert self._settings.redis_url is not None
        return self._settings.redis_url.get_secret_value()

    @property
    def database_url(self) -> str:
        """The URL of the PostgreSQL to use: the private one's, or what was given."""
        if self._postgres is not None:
            return self._postgres.url
        assert self._settings.database_url is not None
        return self._settings.database_url.get_secret_value()

    async def start(self) -> None:
        """Start what is ours, and bring its schema up to date.

        Raises:
            EmbeddedError: One does not start.
            MigrationFailed: The schema could not be brought up to date.
        """
        if self._redis is not None:
            await asyncio.to_thread(self._redis.start)
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.start)
            # It is nobody else's, so nobody else has to bring it up to date.
            await asyncio.to_thread(migrate, self._postgres.url)

    def keep(self, background: Background) -> None:
        """Start again what dies, from now on."""
        if self._redis is not None and self._settings.embedded_redis_restart:
            background.run_always("redis", SUPERVISE_INTERVAL_MS, self._restart_redis)
        if self._postgres is not None:
            background.run_always("postgres", SUPERVISE_INTERVAL_MS, self._restart_postgres)

    async def stop(self) -> None:
        """Shut down what is ours, with its data on disk."""
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
        if self._redis is not None:
            await asyncio.to_thread(self._redis.stop)

    async def _restart_redis(self) -> None:
        assert self._redis is not None
        if await asyncio.to_thread(self._redis.restart_if_dead):
            _log.warning("redis_restarted")

    async def _restart_postgres(self) -> None:
        assert self._postgres is not None
        if await asyncio.to_thread(self._postgres.restart_if_dead):
            _log.warning("postgresql_restarted")
