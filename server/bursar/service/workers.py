"""Several processes that serve on one address, and the one that supervises them.

The supervisor handles no call. It holds the port, owns the private Redis and PostgreSQL where they
are used, starts the workers as programs of their own, starts them again where they end, and answers
health for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from pydantic import SecretStr

from bursar.domain.errors import BursarError
from bursar.service.background import Background
from bursar.service.health import LIVENESS, Health, HealthPort
from bursar.service.life import run_until_told
from bursar.service.private_stores import PrivateStores
from bursar.service.settings import Settings
from bursar.service.shared_port import SharedPort
from bursar.service.worker_process import WorkerProcess

STARTS_MAX = 5
"""Starts in a row of one worker that may fail, where no other worker serves either."""

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 30.0
HEALTHY_S = 10.0
"""A worker that was ready for so long is started again at once, and as if for the first time."""

SILENT_S = 1.5
"""A worker that has said nothing for so long is not ready: its event loop stands still."""

HUNG_S = 10.0
"""A worker that has said nothing for so long is killed."""

FIRST_WORD_S = 60.0
"""How long a new worker may take until it says its first word."""

STOP_MARGIN_S = 15.0
"""How much longer than the drain a worker may take to record what waits and to end."""

_LOOK_INTERVAL_MS = 250
_PAUSE_S = 1.0
_DOUBLINGS_MAX = 16

_log = structlog.get_logger(__name__)


class WorkersFailed(BursarError):
    """The workers cannot serve."""


async def serve_with_workers(
    settings: Settings,
    policy_files: Sequence[tuple[str, str]],
    started: Callable[[str], None],
) -> None:
    """Serve with several processes until SIGTERM or SIGINT, then let them drain.

    Args:
        settings: How, and how many.
        policy_files: Name and text of documents to apply at the start.
        started: Called once with the address, when all serve.

    Raises:
        WorkersFailed: They cannot start, or ended again and again.
        BursarError: A private Redis or PostgreSQL cannot be used.
        OSError: An address cannot be used.
    """
    told = asyncio.Event()
    supervisor = Supervisor(settings, policy_files, told)
    await run_until_told(supervisor, started, told)
    if supervisor.fault is not None:
        raise supervisor.fault


class Supervisor:
    """Keeps the workers of one server running.

    Attributes:
        address: Where they serve.
        fault: Why it gave up, or None.
    """

    def __init__(
        self, settings: Settings, policy_files: Sequence[tuple[str, str]], told: asyncio.Event
    ) -> None:
        """Start nothing yet.

        Args:
            settings: How, and how many.
            policy_files: What the first worker is to apply.
            told: Set here to end everything where it gives up.
        """
        self._settings = settings
        self._policy_files = policy_files
        self._told = told
        self._port = SharedPort(settings.listen_address)
        self._stores = PrivateStores(settings)
        self._background = Background()
        self._health = Health()
        self._health_port: HealthPort | None = None
        self._workers = [
            WorkerProcess(number + 1, self._look) for number in range(settings.workers)
        ]
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._all_started = False
        self._looked_s = time.monotonic()
        self.address = ""
        self.fault: WorkersFailed | None = None

    async def start(self) -> None:
        """Take the port, start what is shared, then the workers, until all serve.

        Raises:
            WorkersFailed: They cannot start.
            BursarError: A private Redis or PostgreSQL cannot be used.
            OSError: An address cannot be used.
        """
        address = self._port.take()
        await self._start_health()
        await self._stores.start()
        self._stores.keep(self._background)
        shared = self._settings.model_copy(
            update={
                "redis_url": SecretStr(self._stores.redis_url),
                "database_url": SecretStr(self._stores.database_url),
                "listen_address": address,
                "health_listen_address": None,
                "policy_files": (),
                "workers": 1,
            }
        )
        # The first one applies the policies: no other serves before they are known.
        for workers in (self._workers[:1], self._workers[1:]):
            for worker in workers:
                keeper = asyncio.create_task(self._keep(worker, shared))
                keeper.add_done_callback(self._see_fault)
                self._keepers.append(keeper)
            for worker in workers:
                await worker.started.wait()
            if self.fault is not None:
                raise self.fault
        self._all_started = True
        self.address = address
        _log.info("workers_serve", address=address, workers=len(self._workers))

    async def stop(self) -> None:
        """Let all workers drain at once, then end what is shared."""
        _log.info("workers_draining", workers=len(self._workers))
        await self.close()
        _log.info("workers_stopped")

    async def close(self) -> None:
        """End the workers, and after them what they used."""
        self._stopping.set()
        await self._look()
        for worker in self._workers:
            worker.terminate()
        await self._wait_for_workers()
        await self._background.end()
        if self._health_port is not None:
            self._health.close()
            await self._health_port.stop()
        await self._stores.stop()
        self._port.close()

    async def _start_health(self) -> None:
        await self._health.set_serving(LIVENESS, True)
        await self._look()
        self._background.run_always("workers", _LOOK_INTERVAL_MS, self._look)
        if self._settings.health_listen_address is not None:
            self._health_port = HealthPort(self._health, self._settings.health_listen_address)
            health_address = self._health_port.listen()
            await self._health_port.start()
            _log.info("health_serving", address=health_address)

    async def _wait_for_workers(self) -> None:
        """Wait for the end of all; kill those that take too long."""
        if not self._keepers:
            return
        settings = self._settings
        drain_s = (settings.drain_delay_ms + settings.drain_grace_ms) / 1_000
        _, late = await asyncio.wait(self._keepers, timeout=drain_s + STOP_MARGIN_S)
        if late:
            for worker in self._workers:
                worker.kill("it did not drain in time")
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, worker: WorkerProcess, settings: Settings) -> None:
        """Keep one worker running until the end."""
        failures = 0
        while not self._stopping.is_set():
            # They are in force, once one worker has started with them.
            files = () if self._workers[0].started.is_set() else self._policy_files
            await worker.run(settings, files)
            if self._stopping.is_set():
                return
            failures = 0 if worker.ready_s >= HEALTHY_S else failures + 1
            if failures and self._is_hopeless(worker, failures):
                return
            wait_s = backoff_s(failures)
            _log.warning(
                "worker_ended",
                number=worker.number,
                how=worker.end,
                fault=worker.fault,
                restart_in_ms=round(wait_s * 1_000),
            )
            await self._sleep(wait_s)

    def _is_hopeless(self, worker: WorkerProcess, failures: int) -> bool:
        """Give up where it makes no sense to start a worker again; say whether it does not."""
        now_s = time.monotonic()
        if self._all_started and any(each.is_ready(now_s, SILENT_S) for each in self._workers):
            return False
        if worker.fault and not self._workers[0].started.is_set():
            # The very first start: a server alone would say the same and end.
            self._give_up(worker.fault)
            return True
        if failures < STARTS_MAX:
            return False
        self._give_up(
            f"worker {worker.number} ended {failures} times in a row soon after its start, the "
            f"last time {worker.end}: {worker.fault or 'the log says more'}"
        )
        return True

    def _give_up(self, why: str) -> None:
        self.fault = self.fault or WorkersFailed(why)
        self._told.set()
        for worker in self._workers:
            worker.started.set()

    def _see_fault(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            _log.error("supervision_failed", exc_info=error)
            self._give_up(f"the supervision of a worker failed: {error}")

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        waiting = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((waiting,), timeout=seconds)
        waiting.cancel()

    async def _look(self) -> None:
        """See which workers can serve, tell those who ask, and kill those that hang."""
        now_s = time.monotonic()
        pause_s, self._looked_s = now_s - self._looked_s, now_s
        ready = []
        for worker in self._workers:
            # Where this process stood still itself, it did not hear what was said.
            if pause_s > _PAUSE_S:
                worker.forgive(pause_s)
            if worker.silent_s(now_s) > (HUNG_S if worker.has_spoken else FIRST_WORD_S):
                worker.kill("it does nothing")
            is_ready = worker.is_ready(now_s, SILENT_S) and not self._stopping.is_set()
            ready.append(is_ready)
            await self._health.set_serving(f"worker-{worker.number}", is_ready)
        await self._health.set_ready(any(ready))


def backoff_s(failures: int) -> float:
    """Return how long to wait before a worker is started again, after failures in a row."""
    if not failures:
        return 0.0
    doublings = min(failures - 1, _DOUBLINGS_MAX)
    return min(BACKOFF_MIN_S * 2.0**doublings, BACKOFF_MAX_S)
