"""A real run in which something is wrong does not pass."""

from __future__ import annotations

import pytest
import redis
from chaos_run import chaos_run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(200)]


@pytest.mark.chaos_short
async def test_what_is_wrong_in_a_real_run_is_found(seed: int) -> None:
    """Goal: a pass means something. Method: a lost row, and one unit too many in Redis."""
    async with chaos_run(seed) as run:
        await run.until_count("ok", 100)
        await run.until_recorded()
        await run.nemesis.query(
            "DELETE FROM ledger_entries WHERE ctid = (SELECT ctid FROM ledger_entries"
            " WHERE verb = 'commit' LIMIT 1)"
        )
        await run.nemesis.redis_call(_one_too_many)
        with pytest.raises(AssertionError) as found:
            await run.finish()
    for what in ("I3 acknowledged and missing", "I2 balance is not the sum", "Redis is not"):
        assert what in str(found.value)


def _one_too_many(client: redis.Redis) -> None:
    key = next(client.scan_iter("*:c:acme:org-money:*"))
    client.hincrby(key, "c", 1)
