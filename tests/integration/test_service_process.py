"""The server as a process of its own: how it ends, and that it tells no secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import redis.asyncio as redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service_server import POLICY, reserve_request

from bursar.pb import budget_authority_service_pb2_grpc as authority_grpc
from bursar.pb import types_pb2
from bursar.service.process import ServerProcess
from bursar.service.settings import Settings
from databases import own_database
from fault_proxy import FaultProxy
from polling import eventually_async

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ENDS_WITHIN_S = 15.0


class Running:
    """A server process, and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.errors = errors
        self.address = ""

    async def announced(self) -> None:
        """Wait until it says where it serves."""
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode()
        assert "serves on" in line, self.log()
        self.address = line.split()[-1]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), ENDS_WITHIN_S)

    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log().splitlines()]


@asynccontextmanager
async def process(
    folder: Path, redis_url: str, store_url: str, **changed: object
) -> AsyncIterator[Running]:
    """Start `bursar serve` on a Redis, and kill it in the end where it still runs.

    Args:
        folder: For its files.
        redis_url: The Redis itself.
        store_url: What the server is told it is.
        changed: Settings that differ.
    """
    policy, errors = folder / "policy.yaml", folder / "errors.log"
    policy.write_text(POLICY, encoding="utf-8")
    settings = {
        "redis_url": store_url,
        "key_namespace": "t" + secrets.token_hex(6),
        "listen_address": "127.0.0.1:0",
        "policy_files": policy,
        "shard_count": 1,
        "log_format": "json",
        "log_level": "debug",
        **changed,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
    with errors.open("wb") as stderr, own_database() as database_url:
        settings.setdefault("database_url", database_url)
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bursar.cli.main", "serve"),
            env=clean | {f"BURSAR_{name.upper()}": str(value) for name, value in settings.items()},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
        try:
            yield Running(started, errors)
        finally:
            if started.returncode is None:
                started.kill()
            await started.communicate()
        async with redis.Redis.from_url(redis_url) as store:
            if keys := await store.keys(f"{{{settings['key_namespace']}*"):
                await store.delete(*keys)


async def test_sigterm_lets_calls_end(redis_url: str, tmp_path: Path) -> None:
    """Goal: a rolling update loses no call: NOT_SERVING at once, the answer, exit code 0.

    Method: SIGTERM with a call in progress and a watcher of its health; Redis answers only when
    the watcher was told. The watcher stays connected, and may not hold the end up for long.
    """
    async with (
        FaultProxy(redis_url) as proxy,
        process(
            tmp_path,
            redis_url,
            proxy.url,
            redis_timeout_ms=20_000,
            drain_delay_ms=300,
            drain_grace_ms=4_000,
            sweep_interval_ms=60_000,
        ) as running,
    ):
        await running.announced()
        async with grpc.aio.insecure_channel(running.address) as channel:
            authority = authority_grpc.BudgetAuthorityServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            await authority.Reserve(reserve_request(), timeout=10)
            watch = health.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=30)
            assert (await watch.read()).status == SERVING
            scripts = proxy.counts["EVALSHA"]
            proxy.stall(commands=False)
            call = asyncio.ensure_future(authority.Reserve(reserve_request(), timeout=20))
            await eventually_async(lambda: scripts_passed(proxy, scripts + 1))
            running.end()
            assert (await watch.read()).status == NOT_SERVING
            alive = await health.Check(health_pb2.HealthCheckRequest(service="liveness"))
            assert alive.status == SERVING
            assert not call.done()
            await proxy.heal()
            assert (await call).decision == types_pb2.DECISION_GRANTED
            assert await running.exit_code() == 0
        ours = [each for each in running.events() if each in ("serving", "draining", "stopped")]
        assert ours == ["serving", "draining", "stopped"]


async def scripts_passed(proxy: FaultProxy, count: int) -> bool:
    return proxy.counts["EVALSHA"] >= count


async def test_sigterm_with_a_silent_redis(redis_url: str, tmp_path: Path) -> None:
    """Goal: the grace is a bound. Method: SIGTERM with a call that Redis never answers."""
    async with (
        FaultProxy(redis_url) as proxy,
        process(
            tmp_path,
            redis_url,
            proxy.url,
            redis_timeout_ms=60_000,
            drain_grace_ms=500,
            deadline_ms_max=60_000,
        ) as running,
    ):
        await running.announced()
        async with grpc.aio.insecure_channel(running.address) as channel:
            authority = authority_grpc.BudgetAuthorityServiceStub(channel)
            await authority.Reserve(reserve_request(), timeout=10)
            proxy.stall()
            call = asyncio.ensure_future(authority.Reserve(reserve_request(), timeout=50))
            await eventually_async(lambda: has_links(proxy, 1))
            began_s = time.monotonic()
            running.end()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert await running.exit_code() == 0
            assert time.monotonic() - began_s < ENDS_WITHIN_S
        assert "Traceback" not in running.log()
        await proxy.heal()


async def has_links(proxy: FaultProxy, count: int) -> bool:
    return proxy.links_open >= count


async def test_sigterm_while_it_waits_for_redis(redis_url: str, tmp_path: Path) -> None:
    """Goal: a server that is not up yet ends as fast. Method: SIGTERM while Redis refuses."""
    async with FaultProxy(redis_url) as proxy:
        url = proxy.url
        proxy.refuse()
        async with process(tmp_path, redis_url, url) as running:

            async def waits() -> bool:
                return "waiting_for_redis" in running.log()

            await eventually_async(waits, timeout_s=30)
            began_s = time.monotonic()
            running.end()
            assert await running.exit_code() == 0
            assert time.monotonic() - began_s < 10
            assert "Traceback" not in running.log()
            await proxy.heal()


async def test_the_password_of_redis_is_told_to_nobody(redis_url: str, tmp_path: Path) -> None:
    """Goal: no log line or error has the secret of the Redis URL, whatever goes wrong.

    Method: a user of Redis with a password, logs at debug; refuse, cut and stall connections in
    calls and in the background, then take the user away so that logging in fails.
    """
    user, password = "u" + secrets.token_hex(6), "geheim-" + secrets.token_hex(12)
    messages: list[str] = []
    async with redis.Redis.from_url(redis_url) as store, FaultProxy(redis_url) as proxy:
        await store.execute_command(
            "ACL", "SETUSER", user, "on", f">{password}", "~*", "&*", "+@all"
        )
        host, port = proxy.address
        async with process(
            tmp_path,
            redis_url,
            f"redis://{user}:{password}@{host}:{port}",
            redis_timeout_ms=100,
            sweep_interval_ms=20,
            clock_sync_interval_ms=100,
            drain_grace_ms=200,
        ) as running:
            await running.announced()
            async with grpc.aio.insecure_channel(running.address) as channel:
                authority = authority_grpc.BudgetAuthorityServiceStub(channel)

                async def call() -> str:
                    try:
                        await authority.Reserve(reserve_request(), timeout=5)
                        return ""
                    except grpc.aio.AioRpcError as error:
                        messages.append(f"{error} {error.trailing_metadata()}")
                        return error.details() or ""

                assert await call() == ""
                for fault in (proxy.cut, proxy.refuse, proxy.stall):
                    failures = running.events().count("background_failed")
                    fault()
                    await call()
                    if fault != proxy.cut:  # A cut is over at once.
                        await eventually_async(lambda seen=failures: failed_again(running, seen))
                    await proxy.heal()
                    await eventually_async(lambda: says(call, ""))
                await store.execute_command("ACL", "DELUSER", user)
                proxy.cut()
                await eventually_async(lambda: says(call, "Redis cannot be reached"))
                failures = running.events().count("background_failed")
                await eventually_async(lambda: failed_again(running, failures))
                running.end()
                assert await running.exit_code() == 0
            said = running.log() + "".join(messages)
            assert "background_failed" in said
            assert password not in said


async def failed_again(running: Running, before: int) -> bool:
    return running.events().count("background_failed") > before


async def says(call: Callable[[], Awaitable[str]], expected: str) -> bool:
    return await call() == expected


async def test_the_end_waits_for_no_background_task(tmp_path: Path) -> None:
    """Goal: a server ends although a library swallows the cancellation of a background task.

    Method: a task that does so once, as `asyncio.wait_for` of Python 3.11 does where what it waits
    for ends at the same moment.
    """
    process = ServerProcess(Settings(data_dir=tmp_path), [])
    begun = asyncio.Event()

    async def swallow() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    process.background.run_always("swallow", 1, swallow)
    await begun.wait()
    await asyncio.wait_for(process.close(), ENDS_WITHIN_S)
