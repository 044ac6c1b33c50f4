"""Every scenario on every stage.

Goal: the reference model, the engine on Redis, on a Redis Cluster, and the server over gRPC, by
calls of their own and over a session, keep the same promises.
Method: each file of `cases/` is played on each; what is expected in it was worked out by hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine_redis import own_redis
from redis_programs import OTHER_PROGRAMS
from scenarios.play import Play, Stage
from scenarios.scenario import Scenario, load_all
from scenarios.stages import ContractStage, Direct, Grpc, GrpcSession, ModelStage

SCENARIOS = load_all()


@pytest.fixture(params=["model", "engine", "cluster", "server", "session"])
async def stage(
    request: pytest.FixtureRequest, scenario: Scenario, key_namespace: str
) -> AsyncIterator[Stage]:
    """What the scenario is played on."""
    if request.param == "model":
        yield ModelStage(scenario.policy)
        return
    where = "cluster_url" if request.param == "cluster" else "redis_url"
    connect = {"server": Grpc, "session": GrpcSession}.get(request.param, Direct)
    url: str = request.getfixturevalue(where)
    contract = ContractStage(scenario.policy, url, key_namespace, connect)
    yield contract
    await contract.close()


@pytest.mark.parametrize("program", OTHER_PROGRAMS)
async def test_other_redis_servers(
    program: Path, key_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Goal: every Redis and Valkey keeps the same promises. Method: all scenarios on each."""
    with own_redis(tmp_path_factory.mktemp("other"), executable=program) as own:
        for number, scenario in enumerate(SCENARIOS):
            contract = ContractStage(scenario.policy, own.url, f"{key_namespace}x{number}x", Direct)
            await Play(scenario, contract).run()
            await contract.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_scenario(scenario: Scenario, stage: Stage) -> None:
    """Goal: what the scenario says. Method: play it."""
    await Play(scenario, stage).run()
