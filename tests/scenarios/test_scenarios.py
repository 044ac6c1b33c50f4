"""Every scenario on every stage.

Goal: the reference model, the engine on Redis and the server over gRPC keep the same promises.
Method: each file of `cases/` is played on each; what is expected in it was worked out by hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scenarios.play import Play, Stage
from scenarios.scenario import Scenario, load_all
from scenarios.stages import ContractStage, Direct, Grpc, ModelStage

SCENARIOS = load_all()


@pytest.fixture(params=["model", "engine", "server"])
async def stage(
    request: pytest.FixtureRequest, scenario: Scenario, redis_url: str, key_namespace: str
) -> AsyncIterator[Stage]:
    """What the scenario is played on."""
    if request.param == "model":
        yield ModelStage(scenario.policy)
        return
    connect = Direct if request.param == "engine" else Grpc
    contract = ContractStage(scenario.policy, redis_url, key_namespace, connect)
    yield contract
    await contract.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_scenario(scenario: Scenario, stage: Stage) -> None:
    """Goal: what the scenario says. Method: play it."""
    await Play(scenario, stage).run()
