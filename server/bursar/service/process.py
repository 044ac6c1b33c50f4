"""The server process: what it is made of, what it does all along, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from bursar.authority.authority import Authority
from bursar.authority.clock import CorrectedClock
from bursar.authority.policies import Policies
from bursar.domain.errors import BursarError, Fault, PolicyInvalid, StoreUnavailable
from bursar.domain.policy import Policy, compile_policy
from bursar.domain.policy_lint import lint
from bursar.domain.policy_text import parse_policy
from bursar.embedded.redis_process import EmbeddedRedis
from bursar.engine.keys import Keys
from bursar.engine.redis_engine import EngineLimits, RedisEngine
from bursar.engine.store import Store
from bursar.service.metrics import count_expired
from bursar.service.server import GrpcServer
from bursar.service.settings import Settings

STORE_WAIT_S = 30.0
"""How long a starting server waits for its Redis."""

_SUPERVISE_INTERVAL_MS = 200
_SWEEPS_IN_A_ROW_MAX = 100

_log = structlog.get_logger(__name__)


# Unlike the monotonic clock it goes on while the machine sleeps; not every system has it.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _steady_ms() -> int:
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000_000


class ServerProcess:
    """Everything that one process runs. Start it, wait, stop it."""

    def __init__(self, settings: Settings, policies: Sequence[Policy]) -> None:
        self._settings = settings
        self._embedded = None if settings.redis_url else EmbeddedRedis(settings.data_dir / "redis")
        self._policies = Policies(policies)
        self._clock = CorrectedClock(lambda: time.time_ns() // 1_000_000, _steady_ms)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._store: Store
        self._engine: RedisEngine
        self._server: GrpcServer
        self.address = ""

    async def start(self) -> None:
        """Start Redis where it is ours, open the store, and serve.

        Raises:
            BursarError: The store cannot be used.
            OSError: The address cannot be used.
        """
        settings = self._settings
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.start)
        self._store = Store(
            self._redis_url(),
            timeout_ms=settings.redis_timeout_ms,
            connections_max=settings.redis_connections_max,
        )
        self._engine = RedisEngine(
            self._store,
            Keys(settings.key_namespace, settings.shard_count),
            EngineLimits(
                tombstone_ms=settings.tombstone_ms,
                expired_tombstone_ms=settings.expired_tombstone_ms,
                journal_entries_max=settings.journal_entries_max,
                clock_lag_ms_max=settings.clock_skew_ms_max,
            ),
        )
        await self._open_store()
        authority = Authority(self._engine, self._policies, self._clock, self._catch_up_clock)
        self._server = GrpcServer(authority, settings)
        self.address = await self._server.start()
        self._run_always("sweep", settings.sweep_interval_ms, lambda: self._sweep(authority))
        self._run_always("clock", settings.clock_sync_interval_ms, self._correct_clock)
        self._run_always("readiness", settings.sweep_interval_ms, self._watch_readiness)
        if self._embedded is not None and settings.embedded_redis_restart:
            self._run_always("redis", _SUPERVISE_INTERVAL_MS, self._restart_redis)
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
        with contextlib.suppress(AttributeError):
            await self._store.close()
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
        await self._engine.open(secrets.token_hex(8))

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
        await self._engine.look()
        await self._server.set_ready(not self._engine.all_cold)

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


def load_policies(files: Sequence[Path]) -> list[Policy]:
    """Read, check and compile policy files; warnings are logged.

    Raises:
        PolicyInvalid: A file cannot be read or its document has faults, or two are of one org.
    """
    policies: dict[str, Policy] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyInvalid(str(file), (Fault("(file)", f"cannot be read: {error}"),)) from None
        document = parse_policy(text, str(file))
        if document.org in policies:
            fault = Fault("org", f"{document.org!r} has a policy already; give one file for each")
            raise PolicyInvalid(str(file), (fault,))
        for warning in lint(document):
            _log.warning(
                "policy_warning", file=str(file), path=warning.path, why=warning.description
            )
        policies[document.org] = compile_policy(document)
    return list(policies.values())


async def serve(
    settings: Settings, policies: Sequence[Policy], started: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a signal ends a start that waits, too.

    Args:
        settings: How.
        policies: What decides.
        started: Called once with the address.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    process = ServerProcess(settings, policies)
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
