"""A real run in which something is wrong does not pass."""

from __future__ import annotations

import pytest
import redis
from chaos_run import chaos_run

from polling import eventually_async

_LOSE_OLD_ROW = """
DELETE FROM ledger_entries WHERE ctid = (
    SELECT ctid FROM ledger_entries
    WHERE verb = 'commit' AND at < (SELECT max(at) FROM ledger_entries) - interval '8 seconds'
    ORDER BY at LIMIT 1
) RETURNING at
"""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(200)]


@pytest.mark.chaos_short
async def test_what_is_wrong_in_a_real_run_is_found(seed: int) -> None:
    """Goal: a pass means something. Method: a lost row, and one unit too many in Redis.

    The row is so old that no server looks for it any more: else its shard would be rebuilt, and
    what is planted in Redis would be gone.
    """
    async with chaos_run(seed) as run:

        async def old_row_lost() -> bool:
            return bool(await run.nemesis.query(_LOSE_OLD_ROW))

        await eventually_async(old_row_lost, 30)
        await run.nemesis.redis_call(_one_too_many)
        with pytest.raises(AssertionError) as found:
            await run.finish()
    for what in ("I3 acknowledged and missing", "I2 balance is not the sum", "Redis is not"):
        assert what in str(found.value)


def _one_too_many(client: redis.Redis) -> None:
    key = next(client.scan_iter("*:c:acme:org-money:*"))
    client.hincrby(key, "c", 1)
