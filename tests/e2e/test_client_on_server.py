"""The Python client against a real server: what the scripted one of its own tests stands for."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bursar.cli.demo import DemoServer
from bursar_client import (
    AlreadySettled,
    AsyncClient,
    BudgetDenied,
    Client,
    CommitOperation,
    Decision,
    Degradation,
    Denial,
    DenialKind,
    Estimate,
    Grant,
    InvalidRequest,
    Outcome,
    ReleaseOperation,
    ReservationNotFound,
    ReserveOperation,
    Settlement,
    Subject,
    Target,
    Unavailable,
    Usage,
)
from polling import eventually, eventually_async
from postgres_data import make_postgres_data

POLICY = """
org: acme
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - name: user-day
    per: [user]
    limit: {tokens: 1000}
    window: day
    ladder: [{at: 50, switch_model: {from: m-large, to: m-small}}]
  - {name: money, limit: {usd: 1}, window: month}
"""


@contextmanager
def running_server(folder: Path) -> Iterator[DemoServer]:
    """Run a server that enforces POLICY."""
    policy = folder / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    make_postgres_data(folder / "data" / "postgres")
    server = DemoServer(folder / "data", policy)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server for all tests that leave it alive."""
    with running_server(tmp_path_factory.mktemp("client-on-server")) as server:
        yield server


@pytest.fixture
def user() -> str:
    """A user whose budget nobody has touched."""
    return f"user-{uuid.uuid4()}"


async def committed(client: AsyncClient, user: str) -> tuple[int, int]:
    """Return what a user has committed and holds today, in tokens."""
    counters = [counter async for counter in client.get_balances(org="acme", user=user)]
    [counter] = [counter for counter in counters if counter.budget == "user-day"]
    return counter.committed, counter.held


async def test_a_block_from_reserve_to_commit(server: DemoServer, user: str) -> None:
    """Goal: the first example. Method: reserve, partial commit, extend, commit, read back."""
    async with AsyncClient(server.address) as client:
        async with client.reserve(
            org="acme", user=user, model="m-small", input_tokens=100, max_output_tokens=50
        ) as call:
            call.call_started()
            assert await committed(client, user) == (0, 150)
            part = await call.commit_partial(input_tokens=100, output_tokens=10)
            assert part.expire_time is not None
            extension = await call.extend(ttl=timedelta(minutes=5), max_output_tokens=80)
            assert extension.max_output_tokens == 80
            settled = await call.commit(input_tokens=0, output_tokens=60)
            with pytest.raises(AlreadySettled):
                await call.release()
        assert await committed(client, user) == (170, 0)
        # 60 output tokens at $10 a million.
        assert settled.cost_usd is not None
        assert int(settled.cost_usd * 10**9) == 600_000


async def test_denial_and_degradation(server: DemoServer, user: str) -> None:
    """Goal: both are typed as the contract says. Method: climb the ladder, then too much."""
    async with AsyncClient(server.address) as client:
        accepts = (Degradation.SWITCH_MODEL,)
        first = await client.try_reserve(
            org="acme",
            user=user,
            model="m-large",
            input_tokens=500,
            max_output_tokens=100,
            accepts=accepts,
        )
        assert not isinstance(first, Denial)
        assert first.decision is Decision.GRANTED_DEGRADED
        assert first.model == "m-small"
        with pytest.raises(BudgetDenied) as denied:
            async with client.reserve(
                org="acme",
                user=user,
                model="m-large",
                input_tokens=300,
                max_output_tokens=200,
                accepts=accepts,
            ):
                pytest.fail("the block of a denied call must not run")
        denial = denied.value.denial
        assert denial.kind is DenialKind.HELD
        assert denial.binding is not None
        assert denial.binding.budget == "user-day"
        assert denial.affordable_output_tokens == 100
        assert denial.message
        await first.release()


async def test_failure_before_and_after_the_call(server: DemoServer, user: str) -> None:
    """Goal: a failure releases before the call and charges the input after it.

    Method: an exception on either side of call_started.
    """
    async with AsyncClient(server.address) as client:
        for started, expected in ((False, (0, 0)), (True, (100, 0))):
            with pytest.raises(KeyError):
                async with client.reserve(
                    org="acme", user=user, model="m", input_tokens=100, max_output_tokens=50
                ) as call:
                    if started:
                        call.call_started()
                    raise KeyError
            assert await committed(client, user) == expected


async def test_batch_record_explain_holds(server: DemoServer, user: str) -> None:
    """Goal: the rest of the calls. Method: each once, with one fault in the batch."""
    async with AsyncClient(server.address) as client:
        reserve = ReserveOperation(
            subject=Subject(org="acme", user=user),
            target=Target(model="m"),
            estimate=Estimate(input_tokens=10, max_output_tokens=10),
        )
        grant, missing, invalid = await client.batch(
            [
                reserve,
                ReleaseOperation(reservation_id="acme.aaaaaaaaaaaaaaaaaaaaaaaa"),
                CommitOperation(
                    reservation_id="x", usage=Usage(input_tokens=-1), target=Target(model="m")
                ),
            ]
        )
        assert isinstance(grant, Grant)
        assert isinstance(missing, ReservationNotFound)
        assert isinstance(invalid, InvalidRequest)
        assert invalid.field_violations[0].field == "operations[2].commit.usage.input_tokens"
        [again] = await client.batch([reserve])
        assert again == grant
        holds = [hold async for hold in client.list_holds(org="acme", user=user)]
        assert [hold.reservation_id for hold in holds] == [grant.reservation_id]
        recorded = await client.record(
            org="acme",
            user=user,
            model="m",
            input_tokens=7,
            output_tokens=3,
            outcome=Outcome.SUCCEEDED,
        )
        assert isinstance(recorded, Settlement)
        assert await committed(client, user) == (10, 20)
        explanation = await client.explain(org="acme", user=user, model="m")
        assert {budget.budget: budget.applies for budget in explanation.budgets} == {
            "user-day": True,
            "money": True,
        }


def test_sync_client(server: DemoServer, user: str) -> None:
    """Goal: the sync client does the same. Method: one block and its balance."""
    with Client(server.address) as client:
        with client.reserve(
            org="acme", user=user, model="m", input_tokens=10, max_output_tokens=10
        ) as call:
            call.call_started()
            call.commit(input_tokens=10, output_tokens=5)
        [counter] = [
            each for each in client.get_balances(org="acme", user=user) if each.budget == "user-day"
        ]
        assert (counter.committed, counter.held) == (15, 0)


async def test_a_commit_outlives_the_server(tmp_path: Path, user: str) -> None:
    """Goal: a settle is not lost with its server.

    Method: kill -9 it before the commit, start it again on the same data; the queued commit
    arrives by itself.
    """
    with running_server(tmp_path) as server:
        async with AsyncClient(server.address) as client:
            async with client.reserve(
                org="acme", user=user, model="m", input_tokens=40, max_output_tokens=10
            ) as call:
                call.call_started()
                os.kill(server.pid, signal.SIGKILL)
                await asyncio.to_thread(eventually, server.has_died)
                settled = await call.commit(input_tokens=40, output_tokens=2)
                assert settled.queued
            await asyncio.to_thread(server.start_again_if_dead)

            async def arrived() -> bool:
                try:
                    return await committed(client, user) == (42, 0)
                except Unavailable:
                    return False  # The connection is not there again yet.

            await eventually_async(arrived, 30)


def test_paths_of_this_test_are_real(tmp_path: Path) -> None:
    """Goal: a server that cannot start says why. Method: a policy that is not there."""
    broken = DemoServer(tmp_path, tmp_path / "nowhere.yaml")
    with pytest.raises(RuntimeError, match="nowhere"):
        broken.start()
    broken.stop()
