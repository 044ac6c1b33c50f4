"""Fixtures of the client's tests: a scripted server, and clients of both flavours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from flavours import AnyClient, MakeClient, connect
from scripted_server import ScriptedServer

from bursar_client import UnsettledError


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture(params=["async", "sync"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def make(server: ScriptedServer, flavour: str) -> AsyncIterator[MakeClient]:
    """Makes clients of the flavour under test, closed at the end of the test."""
    made: list[AnyClient] = []

    def make_client(**options: AnyClient) -> AnyClient:
        made.append(connect(flavour, server.address, **options))
        return made[-1]

    yield make_client
    for client in made:
        with contextlib.suppress(UnsettledError):
            await client.close(timeout_s=0)


@pytest_asyncio.fixture
async def client(make: MakeClient) -> AnyClient:
    return make()
