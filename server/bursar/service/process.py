"""The server process: what it is made of, what it does all along, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

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
from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import RedisEngine
from bursar.engine.shards import EngineLimits, Shards
from bursar.engine.store import Store
from bursar.ledger.database import Database
from bursar.ledger.ledger import Ledger
from bursar.ledger.positions import Positions
from bursar.ledger.schema import check_schema, migrate
from bursar.ledger.watch import Confirmations
from bursar.service.metrics import count_expired, watch_ledger
from bursar.service.policy import PolicyCases
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings

STORE_WAIT_S = 30.0
"""How long a starting server waits for its Redis."""

_SUPERVISE_INTERVAL_MS = 200
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
    ) -> None:
        """Opens nothing yet.

        Args:
            settings: How.
            policies: What decides besides the policies that PostgreSQL has.
            policy_files: Name and text of documents to apply at the start.
        """
        self._settings = settings
        self._policy_files = policy_files
        self._embedded = None if settings.redis_url else EmbeddedRedis(settings.data_dir / "redis")
        self._embedded_postgres = (
            None if settings.database_url else EmbeddedPostgres(settings.data_dir / "postgres")
        )
        self._policies = Policies(policies)
        self._clock = CorrectedClock(lambda: time.time_ns() // 1_000_000, _steady_ms)
        self._denials = DenialTally()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False
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
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.start)
        database = await self._open_database()
        self._store = Store(
            self._redis_url(),
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
        self._server = GrpcServer(authority, settings, records, cases)
        self.address = await self._server.start()
        ledger.address = self.address
        self._run_always("record", self._record_interval_ms(), self._record)
        self._run_always("watch", settings.watch_interval_ms, ledger.look)
        self._run_always("beat", _BEAT_INTERVAL_MS, ledger.beat)
        self._run_always("denials", _DENIALS_INTERVAL_MS, lambda: self._denials.flush(database))
        self._run_always("verify", settings.verify_interval_ms, ledger.verify)
        self._run_always("prune", _PRUNE_INTERVAL_MS, ledger.prune)
        counters = NewCounters(self._engine, database, self._policies, ledger.data.keys.shard_of)
        self._run_always(
            "new-counters", _NEW_COUNTERS_INTERVAL_MS, lambda: self._fill(counters, ledger)
        )
        poll_ms = settings.policy_poll_interval_ms
        # It waits by itself, until it is told of something new or that time is over.
        self._run_always("policies", 0, lambda: cases.watch.watch_once(poll_ms))
        self._run_always("sweep", settings.sweep_interval_ms, lambda: self._sweep(authority))
        self._run_always("clock", settings.clock_sync_interval_ms, self._correct_clock)
        self._run_always("readiness", settings.sweep_interval_ms, self._watch_readiness)
        if self._embedded is not None and settings.embedded_redis_restart:
            self._run_always("redis", _SUPERVISE_INTERVAL_MS, self._restart_redis)
        if self._embedded_postgres is not None:
            self._run_always("postgres", _SUPERVISE_INTERVAL_MS, self._restart_postgres)
        _log.info("serving", address=self.address, orgs=self._policies.orgs())

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
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._policy_cases is not None:
            self._policy_cases.watch.close()
        if self._ledger is not None:
            await self._record_last()
            await self._ledger.close()
        with contextlib.suppress(AttributeError):
            await self._store.close()
        if self._embedded_postgres is not None:
            await asyncio.to_thread(self._embedded_postgres.stop)
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)

    def _redis_url(self) -> str:
        if self._embedded is not None:
            return self._embedded.url
        assert self._settings.redis_url is not None
        return self._settings.redis_url.get_secret_value()

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
        for problem in facts.problems():
            _log.error("redis_unfit", problem=problem)
        await self._correct_clock()

    async def _open_database(self) -> Database:
        """Wait for PostgreSQL, see that its schema is ours, and connect."""
        settings = self._settings
        if self._embedded_postgres is not None:
            await asyncio.to_thread(self._embedded_postgres.start)
            # It is nobody else's, so nobody else has to bring it up to date.
            await asyncio.to_thread(migrate, self._embedded_postgres.url)
        database = Database(
            self._database_url(),
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

    def _database_url(self) -> str:
        if self._embedded_postgres is not None:
            return self._embedded_postgres.url
        assert self._settings.database_url is not None
        return self._settings.database_url.get_secret_value()

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

    async def _restart_postgres(self) -> None:
        assert self._embedded_postgres is not None
        if await asyncio.to_thread(self._embedded_postgres.restart_if_dead):
            _log.warning("postgresql_restarted")

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

    async def _restart_redis(self) -> None:
        assert self._embedded is not None
        if await asyncio.to_thread(self._embedded.restart_if_dead):
            _log.warning("redis_restarted")

    def _run_always(
        self, name: str, interval_ms: int, action: Callable[[], Awaitable[None]]
    ) -> None:
        """Do something again and again; a failure is logged and does not end it."""

        async def run() -> None:
            # Python 3.11 loses a cancellation that meets the end of what is waited for.
            while not self._is_closing:
                await asyncio.sleep(interval_ms / 1_000)
                try:
                    await action()
                except BursarError as error:
                    _log.warning("background_failed", task=name, reason=error.reason)
                except Exception as error:
                    _log.error("background_failed", task=name, exc_info=error)

        self._tasks.append(asyncio.create_task(run(), name=name))


async def serve(
    settings: Settings,
    policy_files: Sequence[tuple[str, str]],
    started: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a signal ends a start that waits, too.

    Args:
        settings: How.
        policy_files: Name and text of documents to apply at the start.
        started: Called once with the address.
    """
    if armed := failpoints.arm(os.environ):
        _log.warning("failpoints_armed", names=armed)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    process = ServerProcess(settings, policy_files=policy_files)
    try:
        if not await _start_unless(stopping, process):
            await process.close()
            return
    except BaseException:
        await process.close()
        raise
    started(process.address)
    await stopping.wait()
    await process.stop()


async def _start_unless(stopping: asyncio.Event, process: ServerProcess) -> bool:
    """Start a process, and say whether it did before it was told to stop."""
    starting = asyncio.create_task(process.start())
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True
