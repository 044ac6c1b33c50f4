"""Calls and pauses for threads."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from bursar_client._channel import channel_credentials, channel_options, channel_target
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
        target, options = channel_target(address), channel_options(settings)
        credentials = channel_credentials(tls)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        self._stubs = {
            AUTHORITY: BudgetAuthorityServiceStub(self._channel),
            USAGE: UsageServiceStub(self._channel),
        }
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

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        self._closed = True
        self._channel.close()
