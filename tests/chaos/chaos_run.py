"""One run: a cluster under load, faults, and at the end everything checked.

    async with chaos_run(seed) as run:
        await run.fault("flushall")
        await run.finish()      # heals, goes on for a while, stops, collects, checks

Where anything fails, the folder with the history, the dumps and every log stays, and is printed
with the seed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from chaos_clients import ORGS, Load, Pace, limits, policy_text
from chaos_cluster import SHARDS, SWEEP_MS, Cluster
from chaos_faults import CLOCK_STEP_MS, LOSES_REDIS_DATA, Nemesis
from chaos_history import History
from collect import ledger_rows, redis_rows, write_rows

from polling import eventually_async

CHAOS = Path(__file__).parent
RECOVER_MS = 6_000
"""How long after the last fault everything must be served again."""

SLACK_MS = 1_500
"""How far this machine, with two cores for all of it, may be behind what is promised."""

CLOCK_SLACK_MS = 100
"""How far apart the servers' clocks are when nobody steps them: they are set by Redis's."""

CALM_S = 2.0
DRAINS_WITHIN_S = 40.0


class Run:
    """A cluster under load.

    Attributes:
        seed: Of everything that is left to chance.
        is_durable: Nothing is acknowledged before it is in the ledger.
        folder: Where it leaves what it knows.
        cluster, history, nemesis: Its parts.
        faults: Names of those that happened, in order.
    """

    def __init__(
        self, seed: int, folder: Path, cluster: Cluster, pace: Pace, *, is_durable: bool
    ) -> None:
        self.seed = seed
        self.is_durable = is_durable
        self.folder = folder
        self.cluster = cluster
        self.pace = pace
        self.history = History(folder / "history.jsonl")
        self.history.run(
            seed=seed,
            ttl_ms=pace.ttl_ms,
            sweep_ms=SWEEP_MS,
            recover_ms=RECOVER_MS,
            slack_ms=SLACK_MS,
            clock_ms=CLOCK_STEP_MS + CLOCK_SLACK_MS,
            limits=limits(pace.room),
        )
        self.nemesis = Nemesis(cluster, random.Random(f"{seed} faults"))
        self.faults: list[str] = []
        self.load = Load(cluster.client_ports, self.history, seed, pace)

    async def warm_up(self, operations: int = 50) -> None:
        """Wait until some operations have been answered."""
        await self.until_count("ok", operations)

    async def fault(self, name: str) -> None:
        """Let a fault happen, and end.

        Before one that takes data out of Redis, everything that is there by then is recorded: what
        a server answered that has died since is known to Redis alone until it is.
        """
        if name in LOSES_REDIS_DATA and not self.is_durable:
            await self.until_recorded()
        self.faults.append(name)
        self.history.mark("fault", name)
        await self.nemesis.do(name)
        self.history.mark("fault_ended", name)

    async def settled(self, name: str) -> None:
        """Wait until what a fault took out of Redis is there again, and recorded.

        Until then it is known only to the server that answered it, which the next fault may kill.
        """
        if name in LOSES_REDIS_DATA and not self.is_durable:
            await self.nemesis.wait(1.0)
            await eventually_async(self._all_open, DRAINS_WITHIN_S)
            await self.until_recorded()

    async def _all_open(self) -> bool:
        """Say whether every shard of Redis is in the epoch that is in force, and open."""
        rows = await self.nemesis.query("SELECT shard, epoch FROM journal_position")

        def read() -> bool:
            with self.cluster.redis.client() as client:
                metas = {row["shard"]: client.hgetall(f"{{b{row['shard']:02d}}}:m") for row in rows}
            return all(
                metas[row["shard"]].get(b"epoch") == row["epoch"].encode()
                and b"replaying" not in metas[row["shard"]]
                for row in rows
            )

        return await asyncio.to_thread(read)

    async def until_count(self, prefix: str, more: int, timeout_s: float = 30.0) -> None:
        """Wait until so many more operations have ended in a way."""
        wanted = self.count(prefix) + more

        async def enough() -> bool:
            return self.count(prefix) >= wanted

        await eventually_async(enough, timeout_s)

    def count(self, prefix: str) -> int:
        """Return how many operations ended in a way, such as "ok" or "fail JOURNAL_FULL"."""
        counts = self.history.counts
        return sum(count for name, count in counts.items() if name.startswith(prefix))

    async def until_recorded(self, timeout_s: float = DRAINS_WITHIN_S) -> None:
        """Wait until all that is in the journals now is recorded."""
        ends = await asyncio.to_thread(self._journal_ends)

        async def recorded() -> bool:
            rows = await self.nemesis.query("SELECT shard, epoch, stream_id FROM journal_position")
            positions = {row["shard"]: row for row in rows}
            return all(
                shard in positions
                # After a rebuild the stream begins anew, and what was in it had been read.
                and (
                    positions[shard]["epoch"] != epoch
                    or _id(positions[shard]["stream_id"]) >= _id(last)
                )
                for shard, (epoch, last) in ends.items()
            )

        await eventually_async(recorded, timeout_s)

    async def finish(self) -> None:
        """Heal, let the load go on, stop it, wait for the holds to end, and check everything."""
        await self.cluster.heal()
        self.history.mark("healed")
        await asyncio.sleep(RECOVER_MS / 1_000 + CALM_S)
        await self.load.stop()
        self.history.mark("load_ended")
        self.history.close()
        started_s = time.monotonic()
        # What is not so by then is for the checker to find, with everything else.
        patience_s = (self.pace.ttl_ms + 2 * SWEEP_MS + SLACK_MS) / 1_000
        await _within(patience_s, self._nothing_held)
        await _within(DRAINS_WITHIN_S, self._all_recorded)
        self.drained_s = time.monotonic() - started_s
        await self.check()

    async def check(self) -> None:
        """Dump both stores, and let the checker read everything."""
        write_rows(self.folder / "ledger.jsonl", await ledger_rows(self.cluster.postgres.url))
        with self.cluster.redis.client() as client:
            write_rows(self.folder / "redis.jsonl", redis_rows(client))
        code, said = await asyncio.to_thread(run_checker, self.folder)
        assert code == 0, said
        print(
            said,
            f"{dict(sorted(self.history.counts.items()))}",
            f"{self.history.tried_again} tried again, {self.history.unknown} attempts unknown, "
            f"{self.cluster.restarts} servers started again, {len(await self.rebuilds())} rebuilds",
            sep="\n",
        )

    async def rebuilds(self) -> list[Any]:
        """Return the rebuilds of shards that had been set up before, oldest first."""
        query = (
            "SELECT shard, epoch, cause, resent, counters, holds, finished_at - started_at AS took"
            " FROM rebuilds WHERE cause <> 'first start' ORDER BY rebuild_id"
        )
        return await self.nemesis.query(query)

    def _journal_ends(self) -> dict[int, tuple[str, str]]:
        ends = {}
        with self.cluster.redis.client() as client:
            for shard in range(SHARDS):
                epoch = client.hget(f"{{b{shard:02d}}}:m", "epoch")
                last = client.xrevrange(f"{{b{shard:02d}}}:j", count=1)
                if epoch and last:
                    ends[shard] = (epoch.decode(), last[0][0].decode())
        return ends

    async def _nothing_held(self) -> bool:
        def look() -> bool:
            with self.cluster.redis.client() as client:
                return not any(client.zcard(f"{{b{shard:02d}}}:x") for shard in range(SHARDS))

        return await asyncio.to_thread(look)

    async def _all_recorded(self) -> bool:
        try:
            await self.until_recorded(0.0)
        except AssertionError:
            return False
        return True


def run_checker(folder: Path) -> tuple[int, str]:
    """Run the checker as the program that it is, on what a run left in its folder."""
    files = [folder / f"{name}.jsonl" for name in ("history", "ledger", "redis")]
    done = subprocess.run(
        [sys.executable, "-m", "checker", *map(str, files)],
        cwd=CHAOS,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@asynccontextmanager
async def chaos_run(
    seed: int,
    *,
    servers: int = 2,
    pace: Pace | None = None,
    settings: Mapping[str, str] | None = None,
    on_redis_cluster: bool = False,
) -> AsyncIterator[Run]:
    """Run a cluster with load; what is left of it stays where something fails."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-chaos-", dir="/tmp"))
    pace = pace or Pace()
    policies = {org: policy_text(org, pace.room) for org in ORGS}
    try:
        async with Cluster(
            folder,
            servers=servers,
            settings=settings or {},
            policies=policies,
            on_redis_cluster=on_redis_cluster,
        ) as cluster:
            is_durable = (settings or {}).get("BURSAR_DURABILITY") == "ledger"
            run = Run(seed, folder, cluster, pace, is_durable=is_durable)
            run.load.start()
            try:
                await run.warm_up()
                yield run
            finally:
                await run.load.stop()
                run.history.close()
    except BaseException as error:
        error.add_note(f"seed {seed}; history, dumps and logs are in {folder}")
        raise
    shutil.rmtree(folder)


async def _within(timeout_s: float, condition: object) -> None:
    try:
        await eventually_async(condition, timeout_s)  # type: ignore[arg-type]
    except AssertionError:
        return


def _id(text: str) -> tuple[int, int]:
    time_ms, _, number = text.partition("-")
    return int(time_ms or 0), int(number or 0)
