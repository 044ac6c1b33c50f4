"""What every call of ours passes: a deadline, a bound on its size, and one mapping of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from bursar.domain.errors import BursarError, Fault, FieldInvalid, LimitExceeded
from bursar.failpoints import failpoint
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

REMAINING_S_MIN = 0.001
"""With less than this left Redis would book what nobody waits for any more."""

WHOLE_MESSAGE = "(message)"
"""Path of a fault that is in no field that could be named."""

Handler = Callable[[Message, grpc.aio.ServicerContext[Any, Any]], Awaitable[Message]]
Parser = Callable[[bytes], Message]

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
                self._guarded(method, handler.unary_unary, handler.request_deserializer),
                # The guard parses: after it has looked at load and size, and with our errors.
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
            self._wrapped[method] = wrapped
        return wrapped

    def _guarded(self, method: str, handle: Handler, parse: Parser) -> Any:
        async def guarded(
            data: bytes, context: grpc.aio.ServicerContext[Any, Any]
        ) -> Message | None:
            try:
                with self._admitted():
                    request = self._parsed(data, parse)
                    failpoint("after_decode")
                    async with asyncio.timeout(self._time_to_answer_s(context)):
                        answer = await handle(request, context)
                    failpoint("before_reply")
                    return answer
            except Exception as error:
                known = known_error(error, method)
                count_error(method, known.reason)
                _log.debug("call_refused", method=method, reason=known.reason)
                status = to_status(known)
                await context.abort(
                    status.code, status.details, trailing_metadata=status.trailing_metadata
                )
                return None

        return guarded

    def _time_to_answer_s(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """Return how long the handler may take, so that its answer still arrives in time."""
        remaining_s = context.time_remaining()
        if remaining_s is None:
            return self._default_deadline_s
        if remaining_s < REMAINING_S_MIN:
            raise DeadlineExceeded("the deadline had passed before the call began")
        remaining_s = min(remaining_s, self._deadline_s_max)
        return remaining_s - min(remaining_s * ANSWER_SHARE, ANSWER_S_MAX)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a call as in progress, unless there are too many; refused ones do not count."""
        if self._draining:
            raise Draining("the server is shutting down; call another one")
        if self._calls >= self._concurrent_calls_max:
            raise ServerOverloaded(
                f"the server has {self._concurrent_calls_max} calls in progress and takes no more",
                limit=self._concurrent_calls_max,
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def _parsed(self, data: bytes, parse: Parser) -> Message:
        try:
            if len(data) > self._message_bytes_max:
                raise _too_large(parse(data), len(data), self._message_bytes_max)
            return parse(data)
        except DecodeError:
            what = "is not what this method takes: not Protobuf, or a text that is not UTF-8"
            raise FieldInvalid(Fault(WHOLE_MESSAGE, what)) from None


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
    return LimitExceeded(path or WHOLE_MESSAGE, "bytes in its message", size, limit)


def _size_of(value: Any) -> int:
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size_of(part) for entry in value.items() for part in entry)
    if hasattr(value, "__len__"):
        return sum(_size_of(each) for each in value)
    return 8


def _is_list(descriptor: FieldDescriptor) -> bool:
    return bool(descriptor.is_repeated)
