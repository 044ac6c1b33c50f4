"""Calls and pauses for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

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


class SyncTransport:
    """Carries out effects over one channel; safe to share between threads."""

    def __init__(
        self,
        address: str,
        tls: bool | grpc.ChannelCredentials,
        settings: Settings,
        sleep: Callable[[float], None],
    ) -> None:
        self._target, self._options = channel_target(address), channel_options(settings)
        self._credentials = channel_credentials(tls)
        self._opening = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, object] = {}
        self._sleep = sleep
        self._closed = False

    def perform(self, effect: Effect) -> object:
        """Carry out an effect and return its answer.

        Raises:
            BursarError: The call failed.
        """
        if isinstance(effect, Pause):
            self._sleep(effect.seconds)
            return None
        with self._opening:
            if self._closed:
                raise Unavailable("the client is closed", reason="CLIENT_CLOSED")
            if self._channel is None:
                self._open()
            call = getattr(self._stubs[effect.service], effect.name)
        try:
            answer: object = call(effect.request, timeout=effect.timeout_s)
        except grpc.RpcError as error:
            raise error_of_call(error) from error
        except ValueError as error:
            if not self._closed:
                raise
            # How gRPC says that a channel is closed.
            raise Unavailable("the client is closed", reason="CLIENT_CLOSED") from error
        return answer

    def start_anew(self) -> None:
        """Have no channel, as in the beginning: that of before is another process's."""
        self._opening = threading.Lock()
        self._channel, self._stubs = None, {}
        self._options.append(UNSHARED)

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        with self._opening:
            self._closed = True
            channel = self._channel
        if channel is not None:
            channel.close()

    def _open(self) -> None:
        # Not before the first call: a server that forks its workers may make its client before.
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._target, self._options)
        else:
            self._channel = grpc.secure_channel(self._target, self._credentials, self._options)
        self._stubs = {
            AUTHORITY: BudgetAuthorityServiceStub(self._channel),
            USAGE: UsageServiceStub(self._channel),
        }
