"""The yardstick `echo`: a server like Bursar's that answers at once.

    python -m bench.echo ANSWER

The same event loop, server and options; its handler neither parses nor decides. ANSWER is what
Bursar answered to a Reserve, in hexadecimal digits.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import grpc
import grpc.aio
import uvloop

from bench.workload import SERVICE
from bursar.service.server import transport_options
from bursar.service.settings import Settings


async def serve(answer: bytes) -> None:
    """Serve until SIGTERM."""

    async def reserve(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return answer

    settings = Settings(listen_address="127.0.0.1:0")
    server = grpc.aio.server(
        maximum_concurrent_rpcs=2 * settings.concurrent_rpcs_max,
        options=transport_options(settings),
    )
    handlers = {"Reserve": grpc.unary_unary_rpc_method_handler(reserve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(settings.listen_address)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write(f"echo serves on 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop(1)


if __name__ == "__main__":
    uvloop.run(serve(bytes.fromhex(sys.argv[1])))
