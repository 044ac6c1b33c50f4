"""What every call of ours passes: load, a deadline, a bound on its size, one mapping of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from bursar.domain.errors import BursarError, Fault, FieldInvalid, LimitExceeded
from bursar.failpoints import failpoint
from bursar.service.admission import Admission
from bursar.service.deadlines import Deadlines
from bursar.service.errors import Draining, known_error, to_status
from bursar.service.metrics import count_error
from bursar.service.work import loads_of

OUR_METHODS = "/bursar."

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
        deadlines: Deadlines,
        message_bytes_max: int,
        batch_operations_max: int,
        calls: Admission,
        operations: Admission,
    ) -> None:
        """Holds the bounds.

        Args:
            deadlines: How long a call may take.
            message_bytes_max: Largest request, in bytes.
            batch_operations_max: Operations of a batch at the most.
            calls: Admits calls, each as one.
            operations: Admits operations, of which a batch has many; sessions use it too.
        """
        self._deadlines = deadlines
        self._message_bytes_max = message_bytes_max
        self._batch_operations_max = batch_operations_max
        self._calls = calls
        self._operations = operations
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
                self._check_open()
                request = self._parsed(data, parse)
                loads = loads_of(request, self._batch_operations_max)
                # A batch is a call of the org that has most of it.
                caller = {max(loads, key=loads.__getitem__): 1}
                with self._calls.admitted(caller), self._operations.admitted(loads):
                    failpoint("after_decode")
                    time_s = self._deadlines.time_to_answer_s(context.time_remaining())
                    async with asyncio.timeout(time_s):
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

    def _check_open(self) -> None:
        """See whether any call is taken at all, before anything is done for this one."""
        if self._draining:
            raise Draining("the server is shutting down; call another one")
        self._calls.check_room()

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
