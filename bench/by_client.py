"""Load by the Python client, as an application makes it."""

from __future__ import annotations

import asyncio
import time
from itertools import cycle

from bench.load import Load
from bench.tally import Tally
from bench.unary import Ids
from bench.workload import MAX_OUTPUT_TOKENS, MODEL, PROVIDER, Call
from bursar.pb import budget_authority_service_pb2 as pb
from bursar_client import AsyncClient, BursarError, Denial


async def callers(load: Load, calls: list[Call], ids: Ids, tally: Tally) -> None:
    """Let callers of one client reserve and commit, each waiting for its answers."""
    feed, granted = cycle(calls), pb.ReserveResponse()

    async def caller(client: AsyncClient) -> None:
        while not tally.ended:
            call = next(feed)
            begin_s = time.perf_counter()
            try:
                held = await client.try_reserve(
                    org=call.org,
                    team=call.team,
                    feature=call.feature,
                    user=call.user,
                    task=call.task,
                    provider=PROVIDER,
                    model=MODEL,
                    input_tokens=call.input_tokens,
                    max_output_tokens=MAX_OUTPUT_TOKENS,
                    request_id=next(ids),
                )
                tally.answered(time.perf_counter() - begin_s, granted)
                if isinstance(held, Denial) or not load.settles:
                    continue
                begin_s = time.perf_counter()
                await held.commit(input_tokens=call.input_tokens, output_tokens=call.output_tokens)
                tally.answered(time.perf_counter() - begin_s, None)
            except BursarError as error:
                tally.failed(error.reason)

    async with AsyncClient(load.address) as client:
        await asyncio.gather(*(caller(client) for _ in range(load.callers)))
