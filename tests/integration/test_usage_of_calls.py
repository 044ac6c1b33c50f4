"""Goal: what callers were charged is what the ledger adds up to, and what counters hold.

Method: calls of every kind on a whole server, with its own journal, writer and PostgreSQL; then
sums of the answers beside QueryUsage, the entries and the balances.
"""

from __future__ import annotations

import random
from collections import Counter

from service_server import Service, commit_request, new_id, reserve_request, serving

from bursar.pb import budget_authority_service_pb2 as authority_pb
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as pb
from polling import eventually_async

POLICY = """
org: acme
models: [{match: "m*", provider: p, price: {input: 1, output: 10}}]
budgets:
  - {name: month, limit: {usd: 1000000}, window: month}
  - {name: blocked, scope: {team: blocked}, limit: {tokens: 0}, window: day}
"""
CALLS = 60
Key = tuple[str, str]


async def _call(service: Service, chance: random.Random, sums: dict[Key, Counter[str]]) -> int:
    """Make one call to its end, add what it was charged, and return how many entries it made."""
    user, model = chance.choice(["u1", "u2"]), chance.choice(["m1", "m2"])
    subject = {"org": "acme", "team": "t", "user": user}
    target = {"model": model, "provider": "p"}
    kind = chance.choice(["commit", "partial", "record", "release"])
    tokens = {"input_tokens": chance.randrange(1, 300), "output_tokens": chance.randrange(1, 90)}
    charged = sums.setdefault((user, model), Counter())
    if kind == "record":
        recorded = await service.authority.Record(
            authority_pb.RecordRequest(
                request_id=new_id(), subject=subject, target=target, usage=tokens
            )
        )
        _add(charged, recorded.charges, tokens, 1)
        return 1
    request = reserve_request(subject=subject, target=target)
    grant = await service.authority.Reserve(request)
    if kind == "release":
        released = authority_pb.ReleaseRequest(reservation_id=grant.reservation_id)
        await service.authority.Release(released)
        return 2
    settles = [commit_request(grant.reservation_id, target=target, usage=tokens)]
    if kind == "partial":
        partial = commit_request(grant.reservation_id, target=target, usage=tokens)
        partial.partial, partial.sequence = True, 1
        settles.insert(0, partial)
    for settle in settles:
        settled = await service.authority.Commit(settle)
        _add(charged, settled.charges, tokens, int(not settle.partial))
    return 1 + len(settles)


def _add(charged: Counter[str], charges: object, tokens: dict[str, int], requests: int) -> None:
    cost = [each.amount for each in charges if each.meter == types_pb.METER_COST]  # type: ignore[attr-defined]
    charged.update({**tokens, "requests": requests, "cost": sum(cost)})


async def test_ledger_counters_and_callers_agree(redis_url: str, database_url: str) -> None:
    chance = random.Random(7)  # noqa: S311 - tests, not secrets
    async with serving(redis_url, database_url=database_url, policies=(POLICY,)) as service:
        sums: dict[Key, Counter[str]] = {}
        entries = sum([await _call(service, chance, sums) for _ in range(CALLS)])
        blocked = {"org": "acme", "team": "blocked", "user": "u3"}
        for _ in range(3):
            denied = await service.authority.Reserve(reserve_request(subject=blocked))
            assert denied.decision == types_pb.DECISION_DENIED
        looked = reserve_request(subject=blocked, validate_only=True)
        await service.authority.Reserve(looked)
        question = pb.QueryUsageRequest(
            subject={"org": "acme"},
            start_time={"seconds": 1_600_000_000 // 3_600 * 3_600},
            group_by=[pb.USAGE_DIMENSION_USER, pb.USAGE_DIMENSION_MODEL],
        )

        async def recorded() -> bool:
            listed = await service.usage.ListLedgerEntries(
                pb.ListLedgerEntriesRequest(subject={"org": "acme"}, page_size=1_000)
            )
            rows = (await service.usage.QueryUsage(question)).rows
            return len(listed.entries) == entries and any(row.denial_count == 3 for row in rows)

        await eventually_async(recorded, 20)
        rows = (await service.usage.QueryUsage(question)).rows
        found = {
            (row.subject.user, row.target.model): Counter(
                {
                    "input_tokens": row.tokens.input_tokens,
                    "output_tokens": row.tokens.output_tokens,
                    "requests": row.request_count,
                    "cost": row.cost_nano_usd,
                }
            )
            for row in rows
            if row.request_count
        }
        assert found == {key: each for key, each in sums.items() if each}
        [refused] = [row for row in rows if row.denial_count]
        assert (refused.subject.user, refused.target.model, refused.request_count) == (
            "u3", "m1", 0,
        )  # fmt: skip
        balances = await service.usage.GetBalances(pb.GetBalancesRequest(subject={"org": "acme"}))
        [month] = [each for each in balances.counters if each.budget == "month"]
        assert (month.committed, month.held) == (
            sum(each["cost"] for each in sums.values()), 0,
        )  # fmt: skip
        # No day is cut at a full hour there: these sums are of the entries themselves.
        question.group_by[:] = []
        question.time_zone = "Asia/Kolkata"
        question.interval = pb.USAGE_INTERVAL_MONTH
        by_month = (await service.usage.QueryUsage(question)).rows
        assert sum(row.cost_nano_usd for row in by_month) == month.committed
        report = await service.usage.Verify(pb.VerifyRequest(org="acme", deep=True))
        assert (report.difference_count, report.checked_counter_count > 0) == (0, True)
