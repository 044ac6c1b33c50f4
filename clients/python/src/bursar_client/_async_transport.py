"""Calls and pauses for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from bursar_client._channel import (
    UNSHARED,
    channel_credentials,
    channel_options,
    channel_target,
)
from bursar_client._errors import Unavailable
from bursar_client._settings import Settings
from bursar_client._status import error_of_call
from bursar_client._steps import AUTHORITY, USAGE, Effect, Pause
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
    ) -> None:
        self._target, self._options = channel_target(address), channel_options(settings)
        self._credentials = channel_credentials(tls)
        self._sleep = sleep
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stubs: dict[str, object] = {}
        self._closed = False

    async def perform(self, effect: Effect) -> object:
        """Carry out an effect and return its answer.

        Raises:
            BursarError: The call failed.
        """
        if isinstance(effect, Pause):
            await self._sleep(effect.seconds)
            return None
        if self._closed:
            raise Unavailable("the client is closed", reason="CLIENT_CLOSED")
        if self._loop is not asyncio.get_running_loop():
            self._open()
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
            raise Unavailable("the client is closed", reason="CLIENT_CLOSED") from error
        return answer

    def start_anew(self) -> None:
        """Have no channel, as in the beginning: that of before is another process's."""
        self._channel, self._stubs, self._loop = None, {}, None
        self._options.append(UNSHARED)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._closed = True
        if self._channel is not None and self._loop is asyncio.get_running_loop():
            await self._channel.close(None)

    def _open(self) -> None:
        # Not before the first call: a channel belongs to the event loop that it is made in, and
        # ends with it.
        self._loop = asyncio.get_running_loop()
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, self._options)
        else:
            self._channel = grpc.aio.secure_channel(self._target, self._credentials, self._options)
        self._stubs = {
            AUTHORITY: BudgetAuthorityServiceStub(self._channel),
            USAGE: UsageServiceStub(self._channel),
        }
