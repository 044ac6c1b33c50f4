"""The calculations of `bench.scaling`, against what is known in closed form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from bench.report import Report, ReportUnreadable
from bench.rows import Row
from bench.scaling import batches, leases
from bench.scaling.__main__ import app
from bench.scaling.costs import ASSUMED, Cost, read_costs
from bench.scaling.shards import Cluster, Orgs, zipf_shares

OPERATIONS = 100_000


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the same numbers each time


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_one_by_one_is_m_d_1(busy: float) -> None:
    """Goal: the queue waits as theory says. Method: Poisson arrivals, equal work, one by one."""
    cost = Cost(call_us=70, operation_us=30)
    found = batches.simulate(cost, busy * 1e4, 1, OPERATIONS, seeded(1))
    assert found.mean_batch == 1
    assert found.busy == pytest.approx(busy, rel=0.01)
    assert found.mean_us == pytest.approx(100 + batches.md1_wait_us(100, busy), rel=0.03)


def test_together_they_reach_the_steady_batch() -> None:
    """Goal: a batch grows until its work lasts as long as its arrival. Method: the fixed point."""
    cost = Cost(call_us=1_000, operation_us=20)
    for per_s in (20_000, 40_000):
        found = batches.simulate(cost, per_s, OPERATIONS, OPERATIONS, seeded(2))
        assert found.mean_batch == pytest.approx(batches.steady_batch(cost, per_s), rel=0.02)


def test_together_carries_what_one_by_one_cannot() -> None:
    """Goal: the gain is that of the costs. Method: a load above one by one, below together."""
    cost = Cost(call_us=240, operation_us=60)
    assert cost.most_per_s(1) < 10_000 < cost.most_per_s(32)
    queued = batches.simulate(cost, 10_000, 1, OPERATIONS, seeded(3))
    together = batches.simulate(cost, 10_000, 32, OPERATIONS, seeded(3))
    assert queued.busy == pytest.approx(1, abs=0.001)
    assert queued.mean_us > 100 * together.mean_us
    # It is busy nearly always, too: what comes alone pays for a whole call.
    assert together.mean_batch == pytest.approx(batches.steady_batch(cost, 10_000), rel=0.05)


def test_sizes_of_orgs() -> None:
    """Goal: Zipf's law. Method: its own sums, and all equal at 0."""
    shares = zipf_shares(3, 1)
    assert shares == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf_shares(4, 0) == [0.25] * 4
    assert sum(zipf_shares(10_000, 1.2)) == pytest.approx(1)


@pytest.mark.parametrize("primaries", [1, 3, 16, 64])
def test_where_orgs_lie(primaries: int) -> None:
    """Goal: nothing is lost, and no primary is below the largest org. Method: their bounds."""
    orgs = Orgs(1_000, 1.0, 64)
    found = orgs.cluster(with_leases=False).on(primaries)
    assert found.seen == pytest.approx(1)
    assert max(1 / primaries, orgs.shares[0]) <= found.fullest + 1e-9
    assert 0 < found.evenness <= 1 + 1e-9
    assert found.most_per_s(20, 0.5) == pytest.approx(25_000 / found.fullest)


def test_the_fewest_primaries() -> None:
    """Goal: exactly as many as needed, and none where an org alone is too much. Method: around."""
    cluster = Orgs(1_000, 0, 1_024).cluster(with_leases=False)
    found = cluster.fewest(500_000, 10, 0.5)
    assert found is not None
    assert found.most_per_s(10, 0.5) >= 500_000
    assert cluster.on(found.primaries - 1).most_per_s(10, 0.5) < 500_000
    assert Cluster([0.5, 0.5], 1_024).fewest(100_001, 10, 0.5) is None
    assert Cluster([0.5], 1_024).fewest(100_000, 10, 0.5) is not None


def test_leases_take_load_off() -> None:
    """Goal: a lease of 100 is a hundredth of the calls. Method: the largest of two orgs."""
    orgs = Orgs(2, 0, 64, leased=1, lease=100)
    assert orgs.cluster(with_leases=True).on(1).seen == pytest.approx(0.5 + 0.005)
    assert orgs.cluster(with_leases=False).on(1).seen == pytest.approx(1)


PLANS = [
    leases.Plan(10_000, 8, lease=lease, shrinking=shrinking, requests=requests, per_s=20_000)
    for lease in (1, 40, 1_000)
    for shrinking in (False, True)
    for requests in (5_000, 12_000)
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_leases_keep_the_budget(plan: leases.Plan) -> None:
    """Goal: a unit is spent once, and every request is answered. Method: count all of them."""
    found = leases.simulate(plan, seeded(4))
    assert found.granted + found.left == plan.budget
    assert found.granted + found.refused == plan.requests
    assert found.outstanding <= plan.outstanding_max
    assert found.refused_with_room <= found.refused
    # Nobody is refused before all but what others have is used.
    if plan.requests > plan.budget:
        assert plan.budget - found.first_refusal_used <= plan.outstanding_max
    else:
        assert found.refused == 0


def test_what_a_lease_saves() -> None:
    """Goal: about a call for each lease. Method: far from the end of the budget."""
    plan = leases.Plan(1_000_000, 4, lease=100, per_s=10_000, requests=100_000, skew=0)
    found = leases.simulate(plan, seeded(5))
    # What waits for a lease is answered with it, and not from it.
    assert found.calls == pytest.approx((100_000 - found.waited) / 100, rel=0.01)
    assert found.waited < 5_000
    assert found.refused == 0


def test_unused_leases_come_back() -> None:
    """Goal: what a silent server holds is not lost. Method: a short lease, and one that lasts.

    One server of two gets nearly all requests.
    """
    plan = leases.Plan(2_000, 2, lease=900, per_s=10_000, requests=4_000, skew=6, lease_ms=1e9)
    long = leases.simulate(plan, seeded(6))
    short = leases.simulate(replace(plan, lease_ms=50), seeded(6))
    assert short.granted > long.granted
    assert 4 * short.left < long.left


def report(**changed: dict[str, float]) -> Report:
    figures = {
        "P2": {"server_cpu_us": 350.0, "redis_cpu_us": 42.0},
        "P3": {"server_cpu_us": 50.0},
        "P4": {"redis_cpu_us": 11.0},
        "P10": {"operations_per_s": 8_000.0, "ledger_entries_bytes_an_operation": 600.0},
    }
    figures.update(changed)
    rows = [Row(name, "", ratio=0.5, figures=each) for name, each in figures.items() if each]
    return Report({"commit": "0123456789abcdef"}, tuple(rows))


def test_costs_of_a_measured_run(tmp_path: Path) -> None:
    """Goal: figures of a run are taken as they were measured. Method: one that was made up."""
    file = tmp_path / "run.json"
    file.write_text(report().to_json(), encoding="utf-8")
    costs = read_costs(file)
    assert costs.server == Cost(300, 50)
    assert costs.redis.of(1) == pytest.approx(42)
    assert costs.redis.each(32) == pytest.approx(11)
    assert (costs.ledger_per_s, costs.ledger_bytes) == (4_000, 600)
    assert costs.source == "measured at commit 0123456789ab"
    assert read_costs(None) is ASSUMED


@pytest.mark.parametrize(
    ("changed", "missing"),
    [({"P4": {}}, "has no P4"), ({"P10": {"other": 1.0}}, "has no figure 'operations_per_s'")],
    ids=["row", "figure"],
)
def test_a_run_that_lacks_something(
    tmp_path: Path, changed: dict[str, dict[str, float]], missing: str
) -> None:
    """Goal: a clear error instead of a guess. Method: runs of which a part is missing."""
    file = tmp_path / "run.json"
    file.write_text(report(**changed).to_json(), encoding="utf-8")
    with pytest.raises(ReportUnreadable, match=missing):
        read_costs(file)
    result = CliRunner().invoke(app, ["plan", "--report", str(file)])
    assert (result.exit_code, missing in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["plan", "shards", "batches", "leases"])
def test_the_same_again(command: str) -> None:
    """Goal: a page can quote it. Method: each command twice, as text and as JSON."""
    arguments = {"plan": ["--shards", "64"], "leases": ["--budget", "5000"]}.get(command, [])
    first, second = (CliRunner().invoke(app, [command, *arguments]) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.output == second.output
    found = CliRunner().invoke(app, [command, *arguments, "--json"])
    tables = json.loads(found.output)
    assert all(table["title"] in first.output and table["rows"] for table in tables)
