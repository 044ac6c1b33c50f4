"""Calls and pauses for threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import grpc

from bursar_client._channel import (
    UNSHARED,
    channel_credentials,
    channel_options,
    channel_target,
)
from bursar_client._session_rules import Courier, closed
from bursar_client._settings import Settings
from bursar_client._status import error_of_call
from bursar_client._steps import AUTHORITY, USAGE, Ask, Call, Effect, Pause, run_sync
from bursar_client._sync_session import SyncSession
from bursar_client.pb.budget_authority_service_pb2_grpc import BudgetAuthorityServiceStub
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub

LEAVE_S_MAX = 1.0
"""How long a process that ends waits for threads to let go of their locks."""

_of_parents: list[SyncSession | None] = []


class SyncTransport:
    """Carries out effects over one channel; safe to share between threads."""

    def __init__(
        self,
        address: str,
        tls: bool | grpc.ChannelCredentials,
        settings: Settings,
        sleep: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self._target, self._options = channel_target(address), channel_options(settings)
        self._credentials = channel_credentials(tls)
        self._settings = settings
        self._random = random
        self._courier = Courier(settings, time.monotonic, random)
        self._opening = threading.Lock()
        self._session: SyncSession | None = None
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, object] = {}
        self._sleep = sleep
        self._closed = False

    def perform(self, effect: Effect) -> object:
        """Carry out an effect and return its answer.

        Raises:
            BursarError: The call failed.
        """
        match effect:
            case Pause():
                self._sleep(effect.seconds)
                return None
            case Call() if self._courier.carries(effect):
                return run_sync(self._courier.carry(effect), self._carry)
            case _:
                return self._carry(effect)

    def _carry(self, effect: Effect) -> object:
        """Carry out what a call is made of."""
        with self._opening:
            if self._closed:
                raise closed()
            if self._channel is None:
                self._open()
            session, stubs = self._session, self._stubs
        assert session is not None
        try:
            match effect:
                case Ask():
                    return session.ask(effect)
                case Pause():
                    # As gRPC's own between its attempts, and not one that a test may skip.
                    session.pause(effect.seconds)
                    return None
                case Call():
                    call = getattr(stubs[effect.service], effect.name)
                    answer: object = call(effect.request, timeout=effect.timeout_s)
                    return answer
        except grpc.RpcError as error:
            raise error_of_call(error) from error
        except ValueError as error:
            if not self._closed:
                raise
            # How gRPC says that a channel is closed.
            raise closed() from error

    def start_anew(self) -> None:
        """Have no channel, as in the beginning: that of before is another process's."""
        self._opening = threading.Lock()
        # Never collected: that would take locks which threads held that are not in this process.
        _of_parents.append(self._session)
        self._channel, self._session, self._stubs = None, None, {}
        self._options.append(UNSHARED)

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        with self._opening:
            self._closed = True
            channel, session = self._channel, self._session
        if channel is not None and session is not None:
            session.close()
            channel.close()

    def leave(self) -> None:
        """End the session because the process ends, which waits for no thread of it."""
        if self._session is not None:
            self._session.close(LEAVE_S_MAX)

    def __del__(self) -> None:
        # Threads keep a session; without its client nobody needs it. Later than at the exit they
        # are gone, with locks that they may have held.
        session = getattr(self, "_session", None)
        if session is not None and not self._closed and not sys.is_finalizing():
            session.abandon()

    def _open(self) -> None:
        # Not before the first call: a server that forks its workers may make its client before.
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._target, self._options)
        else:
            self._channel = grpc.secure_channel(self._target, self._credentials, self._options)
        authority = BudgetAuthorityServiceStub(self._channel)
        self._stubs = {AUTHORITY: authority, USAGE: UsageServiceStub(self._channel)}
        self._session = SyncSession(
            authority.Session, self._settings, self._courier.road, self._random
        )
