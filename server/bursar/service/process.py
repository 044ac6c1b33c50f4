"""The server process: what it is made of, what it does all along, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence

import structlog

from bursar import failpoints
from bursar.authority.authority import Authority
from bursar.authority.clock import CorrectedClock
from bursar.authority.denials import DenialTally
from bursar.authority.new_counters import NewCounters
from bursar.authority.policies import Policies
from bursar.authority.records import Records
from bursar.domain.errors import (
    BursarError,
    LedgerUnavailable,
    StoreUnavailable,
)
from bursar.domain.policy import Policy
from bursar.domain.subject import OrgId
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.ledger import Ledger
from bursar.ledger.positions import Positions
from bursar.ledger.schema import check_schema
from bursar.ledger.watch import Confirmations
from bursar.service.background import Background
from bursar.service.life import run_until_told
from bursar.service.metrics import count_expired, watch_ledger
from bursar.service.policy import PolicyCases
from bursar.service.private_stores import PrivateStores
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings

STORE_WAIT_S = 30.0
"""How long a starting server waits for its Redis."""

_BEAT_INTERVAL_MS = 1_000
_NEW_COUNTERS_INTERVAL_MS = 2_000
_PRUNE_INTERVAL_MS = 30_000
_DENIALS_INTERVAL_MS = 3_000
_OPEN_WAIT_MS = 10_000
"""How long a starting server waits for its shards to be rebuilt; after that it says that they are
cold."""
_OPEN_POLL_S = 0.02
_RECORD_LAST_S = 5.0
_RECORD_AWAITED_MS = 5
_SWEEPS_IN_A_ROW_MAX = 100

_log = structlog.get_logger(__name__)


# Unlike the monotonic clock it goes on while the machine sleeps; not every system has it.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady_ms() -> int:
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000_000 + failpoints.clock_offset_ms()


class ServerProcess:
    """Everything that one process runs. Start it, wait, stop it."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy] = (),
        policy_files: Sequence[tuple[str, str]] = (),
        *,
        shares_port: bool = False,
    ) -> None:
        """Opens nothing yet.

        Args:
            settings: How.
            policies: What decides besides the policies that PostgreSQL has.
            policy_files: Name and text of documents to apply at the start.
            shares_port: Whether other processes serve on the same address.
        """
        self._settings = settings
        self._policy_files = policy_files
        self._shares_port = shares_port
        self._stores = PrivateStores(settings)
        self._policies = Policies(policies)
        self._clock = CorrectedClock(lambda: time.time_ns() // 1_000_000, _steady_ms)
        self._denials = DenialTally()
        self.background = Background()
        self._store: Store
        self._engine: RedisEngine
        self._ledger: Ledger | None = None
        self._policy_cases: PolicyCases | None = None
        self._server: GrpcServer
        self.address = ""

    async def start(self) -> None:
        """Start Redis and PostgreSQL where they are ours, open both, and serve.

        Raises:
            BursarError: The store or the database cannot be used.
            OSError: The address cannot be used.
        """
        settings = self._settings
        await self._stores.start()
        database = await self._open_database()
        self._store = Store(
            self._stores.redis_url,
            timeout_ms=settings.redis_timeout_ms,
            connections_max=settings.redis_connections_max,
        )
        await self._open_store()
        ledger = await self._open_ledger(database)
        authority = Authority(
            self._engine, self._policies, self._clock, self._catch_up_clock, self._denials
        )
        records = Records(
            database,
            ledger.data.keys,
            self._policies,
            self._clock,
            server_id=ledger.server_id,
            overseer=ledger.overseer,
            verify=ledger.verifier,
        )
        cases = PolicyCases.over(database, self._engine, self._policies, self._clock)
        self._policy_cases = cases
        await cases.start(self._policy_files)
        self._server = GrpcServer(
            authority, settings, records, cases, shares_port=self._shares_port
        )
        self.address = await self._server.start()
        ledger.address = self.address
        always = self.background.run_always
        always("record", self._record_interval_ms(), self._record)
        always("watch", settings.watch_interval_ms, ledger.look)
        always("beat", _BEAT_INTERVAL_MS, ledger.beat)
        always("denials", _DENIALS_INTERVAL_MS, lambda: self._denials.flush(database))
        always("verify", settings.verify_interval_ms, ledger.verify)
        always("prune", _PRUNE_INTERVAL_MS, ledger.prune)
        counters = NewCounters(self._engine, database, self._policies, ledger.data.keys.shard_of)
        always("new-counters", _NEW_COUNTERS_INTERVAL_MS, lambda: self._fill(counters, ledger))
        poll_ms = settings.policy_poll_interval_ms
        # It waits by itself, until it is told of something new or that time is over.
        always("policies", 0, lambda: cases.watch.watch_once(poll_ms))
        always("sweep", settings.sweep_interval_ms, lambda: self._sweep(authority))
        always("clock", settings.clock_sync_interval_ms, self._correct_clock)
        always("readiness", settings.sweep_interval_ms, self._watch_readiness)
        self._stores.keep(self.background)
        _log.info("serving", address=self.address, orgs=self._policies.orgs())

    @property
    def is_ready(self) -> bool:
        """Whether it serves and calls should be sent here."""
        return bool(self.address) and self._server.is_ready

    async def stop(self) -> None:
        """Drain: say so, wait for balancers, let calls end, then end what is ours."""
        _log.info("draining")
        await self._server.drain()
        await asyncio.sleep(self._settings.drain_delay_ms / 1_000)
        await self._server.stop(self._settings.drain_grace_ms)
        await self.close()
        _log.info("stopped")

    async def close(self) -> None:
        """End what runs besides the calls: tasks, connections, the private Redis."""
        await self.background.end()
        if self._policy_cases is not None:
            self._policy_cases.watch.close()
        if self._ledger is not None:
            await self._record_last()
            await self._ledger.close()
        with contextlib.suppress(AttributeError):
            await self._store.close()
        await self._stores.stop()

    async def _open_store(self) -> None:
        """Wait for Redis, check that it is fit, and open the shards."""
        async with asyncio.timeout(STORE_WAIT_S):
            while True:
                try:
                    facts = await self._store.facts()
                    break
                except StoreUnavailable as error:
                    _log.warning("waiting_for_redis", reason=error.message)
                    await asyncio.sleep(1)
        for each in facts:
            _log.info("redis_found", server=each.name, version=each.version, address=each.address)
            for problem in each.problems():
                _log.error("redis_unfit", problem=problem, address=each.address)
        await self._correct_clock()

    async def _open_database(self) -> Database:
        """Wait for PostgreSQL, see that its schema is ours, and connect."""
        settings = self._settings
        database = Database(
            self._stores.database_url,
            timeout_ms=settings.database_timeout_ms,
            connections_max=settings.database_connections_max,
        )
        async with asyncio.timeout(STORE_WAIT_S):
            while True:
                try:
                    await database.open()
                    break
                except LedgerUnavailable as error:
                    _log.warning("waiting_for_postgresql", reason=error.message)
                    await asyncio.sleep(1)
        async with database.connection() as connection:
            await check_schema(connection)
        return database

    async def _open_ledger(self, database: Database) -> Ledger:
        """Learn from the record what is in force, and give the shards that are ours their data."""
        settings = self._settings
        limits = EngineLimits(
            tombstone_ms=settings.tombstone_ms,
            expired_tombstone_ms=settings.expired_tombstone_ms,
            journal_entries_max=settings.journal_entries_max,
            clock_lag_ms_max=settings.clock_skew_ms_max,
            recent_calls_max=settings.recent_calls_max,
            replicas=settings.replicas if settings.durability == "replicated" else 0,
        )
        keys = Keys(settings.key_namespace, settings.shard_count)
        confirmations = Confirmations(
            Positions(database),
            settings.redis_timeout_ms,
            lambda shard: self._engine.shards.epoch(shard),  # noqa: PLW0108 - made below
        )
        confirm = confirmations.confirm if self._is_awaited else None
        self._engine = RedisEngine(Shards(self._store, keys, limits, confirm))
        ledger = Ledger(
            database=database,
            engine=self._engine,
            confirmations=confirmations,
            now_ms=self._clock.now_ms,
            watch_interval_ms=settings.watch_interval_ms,
            repairs=settings.verify_repairs,
        )
        watch_ledger(ledger.figures)
        self._ledger = ledger
        await ledger.open(self._settings.listen_address)
        deadline_ms = _steady_ms() + _OPEN_WAIT_MS
        while True:
            await ledger.look()
            if not self._engine.shards.cold or _steady_ms() > deadline_ms:
                return ledger
            await asyncio.sleep(_OPEN_POLL_S)

    def _record_interval_ms(self) -> int:
        """Return how often to record: at once where callers wait for it."""
        given_ms = self._settings.record_interval_ms
        return min(given_ms, _RECORD_AWAITED_MS) if self._is_awaited else given_ms

    @property
    def _is_awaited(self) -> bool:
        return self._settings.durability == "ledger"

    async def _record(self) -> None:
        assert self._ledger is not None
        while await self._ledger.record():
            pass

    async def _record_last(self) -> None:
        """Record what waits before the end, where that is possible at once."""
        with contextlib.suppress(BursarError, TimeoutError):
            async with asyncio.timeout(_RECORD_LAST_S):
                await self._record()
                assert self._ledger is not None
                await self._denials.flush(self._ledger.database)

    async def _correct_clock(self) -> None:
        asked_at_ms = _steady_ms()
        behind_ms = self._clock.correct(await self._store.time_ms(), asked_at_ms)
        if abs(behind_ms) > self._settings.clock_skew_ms_max:
            _log.warning("clock_differs_from_redis", behind_ms=behind_ms)

    async def _catch_up_clock(self) -> None:
        asked_at_ms = _steady_ms()
        self._clock.catch_up(await self._store.time_ms(), asked_at_ms)

    async def _sweep(self, authority: Authority) -> None:
        for _ in range(_SWEEPS_IN_A_ROW_MAX):
            swept = await authority.sweep(self._settings.sweep_batch)
            count_expired(swept.expired, swept.charged)
            if swept.expired:
                _log.info("holds_expired", holds=swept.expired, charged=swept.charged)
            if not swept.more:
                return

    async def _watch_readiness(self) -> None:
        # Callers whose budgets are open are served all the same.
        any_open = any(self._policies.of(OrgId(org)).any_open for org in self._policies.orgs())
        await self._server.set_ready(any_open or not self._engine.shards.all_cold)

    async def _fill(self, counters: NewCounters, ledger: Ledger) -> None:
        await counters.look(ledger.keeper.kept.shards, self._clock.now_ms())


async def serve(process: ServerProcess, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a signal ends a start that waits, too.

    Args:
        process: What serves.
        started: Called once with the address.
    """
    if armed := failpoints.arm(os.environ):
        _log.warning("failpoints_armed", names=armed)
    await run_until_told(process, started, asyncio.Event())


def fault_of(error: Exception) -> str:
    """Return why a server could not start, for people."""
    if isinstance(error, TimeoutError):
        waited = f"Redis did not answer within {STORE_WAIT_S:g} s"
        return f"{waited}: start it, or correct BURSAR_REDIS_URL"
    return str(error)
