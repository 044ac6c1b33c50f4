"""What every call of ours passes: a deadline, a bound on its size, and one mapping of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bursar.domain.errors import BursarError, LimitExceeded
from bursar.service.errors import (
    DeadlineExceeded,
    Draining,
    ServerOverloaded,
    known_error,
    to_status,
)
from bursar.service.metrics import count_error

OUR_METHODS = "/bursar."

ANSWER_SHARE, ANSWER_S_MAX = 0.1, 0.05
"""What is kept of a deadline for the way back: a tenth, at most 50 ms."""

Handler = Callable[[Message, grpc.aio.ServicerContext[Any, Any]], Awaitable[Message]]

_log = structlog.get_logger(__name__)


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the handlers of Bursar's services; health and reflection pass untouched."""

    def __init__(
        self,
        *,
        default_deadline_ms: int,
        deadline_ms_max: int,
        message_bytes_max: int,
        concurrent_calls_max: int,
    ) -> None:
        """Holds the bounds.

        Args:
            default_deadline_ms: For calls that bring no deadline, 1 or more.
            deadline_ms_max: Longest that any call may take, 1 or more.
            message_bytes_max: Largest request, in bytes.
            concurrent_calls_max: Calls in progress at the most, 1 or more.
        """
        self._default_deadline_s = default_deadline_ms / 1_000
        self._deadline_s_max = deadline_ms_max / 1_000
        self._message_bytes_max = message_bytes_max
        self._concurrent_calls_max = concurrent_calls_max
        self._calls = 0
        self._draining = False
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def drain(self) -> None:
        """Refuse every call from now on; those in progress go on."""
        self._draining = True

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the wrapped handler of a method, made once."""
        method = handler_call_details.method
        if not method.startswith(OUR_METHODS):
            return await continuation(handler_call_details)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or handler.unary_unary is None:
                return handler
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._guarded(method, handler.unary_unary),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
            self._wrapped[method] = wrapped
        return wrapped

    def _guarded(self, method: str, handle: Handler) -> Any:
        async def guarded(
            request: Message, context: grpc.aio.ServicerContext[Any, Any]
        ) -> Message | None:
            self._calls += 1
            try:
                self._check_load()
                self._check_size(request)
                async with asyncio.timeout(self._time_to_answer_s(context)):
                    return await handle(request, context)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                known = known_error(error, method)
                count_error(method, known.reason)
                _log.debug("call_refused", method=method, reason=known.reason)
                status = to_status(known)
                await context.abort(
                    status.code, status.details, trailing_metadata=status.trailing_metadata
                )
                return None
            finally:
                self._calls -= 1

        return guarded

    def _time_to_answer_s(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """Return how long the handler may take, so that its answer still arrives in time."""
        remaining_s = context.time_remaining()
        if remaining_s is None:
            return self._default_deadline_s
        if remaining_s <= 0:
            raise DeadlineExceeded("the deadline had passed before the call began")
        remaining_s = min(remaining_s, self._deadline_s_max)
        return remaining_s - min(remaining_s * ANSWER_SHARE, ANSWER_S_MAX)

    def _check_load(self) -> None:
        if self._draining:
            raise Draining("the server is shutting down; call another one")
        if self._calls > self._concurrent_calls_max:
            raise ServerOverloaded(
                f"{self._concurrent_calls_max} calls are in progress, and no more are taken",
                limit=self._concurrent_calls_max,
            )

    def _check_size(self, request: Message) -> None:
        size = request.ByteSize()
        if size > self._message_bytes_max:
            raise _too_large(request, size, self._message_bytes_max)


def _too_large(message: Message, size: int, limit: int) -> BursarError:
    """Return the error for a message that is too large, naming its largest field."""
    path = ""
    part: object = message
    while isinstance(part, Message):
        fields = part.ListFields()
        if not fields:
            break
        descriptor, part = max(fields, key=lambda item: _size_of(item[1]))
        path = f"{path}.{descriptor.name}" if path else descriptor.name
        if _is_list(descriptor):
            break
    return LimitExceeded(path or "(message)", "bytes in its message", size, limit)


def _size_of(value: Any) -> int:
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str | bytes):
        return len(value)
    if hasattr(value, "__len__"):
        return sum(_size_of(each) for each in value)
    return 8


def _is_list(descriptor: FieldDescriptor) -> bool:
    return bool(descriptor.is_repeated)
