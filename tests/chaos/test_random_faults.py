"""Thirty random faults under load in one run, and everything is right at the end."""

from __future__ import annotations

import os
import random

import pytest
from chaos_faults import ANY_TIME
from chaos_run import chaos_run

COUNT_VARIABLE = "BURSAR_TEST_CHAOS_FAULTS"
FAULTS = int(os.environ.get(COUNT_VARIABLE, "30"))

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 20 * FAULTS)]


@pytest.mark.parametrize(
    "durability", [pytest.param("redis", marks=pytest.mark.chaos_short), "ledger"]
)
async def test_random_faults_under_load(seed: int, durability: str) -> None:
    """Goal: 0 acknowledged commits missing, 0 counted twice, 0 grants past a limit, nothing held.

    Method: 30 faults one after another, drawn by a seed that is printed; every kind before any
    comes again. With durability `redis` what was answered is recorded before and after Redis loses
    its data, since the server that answered may be killed as well; with `ledger` nothing waits.
    BURSAR_TEST_CHAOS_FAULTS sets another number, BURSAR_TEST_CHAOS_SEED the seed.
    """
    chance = random.Random(f"{seed} order")
    order: list[str] = []
    while len(order) < FAULTS:
        order += chance.sample(ANY_TIME, len(ANY_TIME))
    settings = {"BURSAR_DURABILITY": durability}
    async with chaos_run(seed, servers=3, settings=settings) as run:
        for name in order[:FAULTS]:
            print(name, end=" ", flush=True)
            await run.fault(name)
            await run.settled(name)
            await run.nemesis.wait(0.3)
        await run.finish()
