"""What an acknowledged call has survived by then: `BURSAR_DURABILITY`."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import pytest
from service_server import (
    Service,
    commit_request,
    failure,
    record_request,
    reserve_request,
    serving,
)

from databases import fetch
from engine_redis import own_redis
from polling import eventually

# Nobody records by the clock: what is recorded is so because someone waits for it, or never.
NEVER_MS = 10_000


def recorded(database_url: str) -> list[str]:
    """Return the verbs of the ledger, in order."""
    rows = fetch(database_url, "SELECT verb FROM ledger_entries ORDER BY at, sequence, ordinal")
    return [row["verb"] for row in rows]


async def use(service: Service) -> None:
    """Make one call of each kind that is acknowledged."""
    granted = await service.authority.Reserve(reserve_request(), timeout=10)
    await service.authority.Commit(commit_request(granted.reservation_id), timeout=10)
    await service.authority.Record(record_request(), timeout=10)


async def test_ledger_acknowledges_what_is_recorded(redis_url: str, database_url: str) -> None:
    """Goal: with `ledger` every answered call is in PostgreSQL when its answer is there.

    Method: after each call the entries are looked at at once.
    """
    async with serving(redis_url, database_url=database_url, durability="ledger") as service:
        await use(service)
        assert recorded(database_url) == ["reserve", "commit", "record"]
        request = reserve_request()
        first = await service.authority.Reserve(request, timeout=10)
        again = await service.authority.Reserve(request, timeout=10)
        assert again.reservation_id == first.reservation_id


async def test_redis_does_not_wait_for_the_ledger(redis_url: str, database_url: str) -> None:
    """Goal: the test above can see the difference. Method: the same with `redis`."""
    async with serving(
        redis_url, database_url=database_url, record_interval_ms=NEVER_MS
    ) as service:
        await use(service)
        assert recorded(database_url) == []
    assert recorded(database_url) == ["reserve", "commit", "record"], "a server that ends records"


async def test_replicated_needs_a_replica(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """Goal: with `replicated` a call is acknowledged when a replica has it, and not before.

    Method: a replica answers, stands still, and goes on. While it stands still a reserve ends with
    NOT_DURABLE; the same one is answered when the replica is back, with one hold.
    """
    with own_redis(tmp_path / "primary") as primary:
        replica_of = ("--replicaof", "127.0.0.1", str(primary.port))
        with own_redis(tmp_path / "replica", *replica_of) as replica:
            eventually(lambda: primary.client().info("replication")["connected_slaves"] == 1)
            eventually(lambda: replica.client().info("replication")["master_link_status"] == "up")
            async with serving(
                primary.url, database_url=database_url, durability="replicated"
            ) as service:
                await use(service)
                replica.process.send_signal(signal.SIGSTOP)
                request = reserve_request()
                try:
                    with pytest.raises(grpc.RpcError) as caught:
                        await service.authority.Reserve(request, timeout=10)
                finally:
                    replica.process.send_signal(signal.SIGCONT)
                assert failure(caught.value).reason == "NOT_DURABLE"
                assert failure(caught.value).code is grpc.StatusCode.UNAVAILABLE
                assert (await service.authority.Reserve(request, timeout=10)).reservation_id
                holds = await service.store.keys(f"{{{service.namespace}*}}:h:*")
                assert len(holds) == 3
