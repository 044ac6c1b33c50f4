"""Calls and pauses for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import grpc

from bursar_client._async_session import AsyncSession
from bursar_client._channel import (
    UNSHARED,
    channel_credentials,
    channel_options,
    channel_target,
)
from bursar_client._session_rules import Courier, closed
from bursar_client._settings import Settings
from bursar_client._status import error_of_call
from bursar_client._steps import AUTHORITY, USAGE, Ask, Call, Effect, Pause, run_async
from bursar_client.pb.budget_authority_service_pb2_grpc import BudgetAuthorityServiceStub
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub


class AsyncTransport:
    """Carries out effects over one channel of one event loop."""

    def __init__(
        self,
        address: str,
        tls: bool | grpc.ChannelCredentials,
        settings: Settings,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._target, self._options = channel_target(address), channel_options(settings)
        self._credentials = channel_credentials(tls)
        self._settings = settings
        self._sleep = sleep
        self._random = random
        self._courier = Courier(settings, time.monotonic, random)
        self._session: AsyncSession | None = None
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stubs: dict[str, object] = {}
        self._closed = False

    async def perform(self, effect: Effect) -> object:
        """Carry out an effect and return its answer.

        Raises:
            BursarError: The call failed.
        """
        match effect:
            case Pause():
                await self._sleep(effect.seconds)
                return None
            case Call() if self._courier.carries(effect):
                return await run_async(self._courier.carry(effect), self._carry)
            case _:
                return await self._carry(effect)

    async def _carry(self, effect: Effect) -> object:
        """Carry out what a call is made of."""
        if self._closed:
            raise closed()
        if self._loop is not asyncio.get_running_loop():
            self._open()
        assert self._session is not None
        match effect:
            case Ask():
                return await self._session.ask(effect)
            case Pause():
                # As gRPC's own between its attempts, and not one that a test may skip.
                await asyncio.sleep(effect.seconds)
                return None
            case Call():
                return await self._call(effect)

    async def _call(self, effect: Call) -> object:
        call = getattr(self._stubs[effect.service], effect.name)
        try:
            answer: object = await call(effect.request, timeout=effect.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            # Closing a channel cancels its calls, which looks as if the caller was cancelled.
            raise closed() from error
        return answer

    def start_anew(self) -> None:
        """Have no channel, as in the beginning: that of before is another process's."""
        self._channel, self._session, self._stubs, self._loop = None, None, {}, None
        self._options.append(UNSHARED)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._closed = True
        if self._channel is not None and self._loop is asyncio.get_running_loop():
            assert self._session is not None
            await self._session.close()
            await self._channel.close(None)

    def __del__(self) -> None:
        # Tasks keep a session; without its client nobody needs it.
        session, loop = getattr(self, "_session", None), getattr(self, "_loop", None)
        if session is not None and loop is not None and not self._closed:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(session.abandon)

    def _open(self) -> None:
        # Not before the first call: a channel belongs to the event loop that it is made in, and
        # ends with it.
        self._loop = asyncio.get_running_loop()
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, self._options)
        else:
            self._channel = grpc.aio.secure_channel(self._target, self._credentials, self._options)
        authority = BudgetAuthorityServiceStub(self._channel)
        self._stubs = {AUTHORITY: authority, USAGE: UsageServiceStub(self._channel)}
        self._session = AsyncSession(
            authority.Session, self._settings, self._courier.road, self._random
        )
