"""Calls of operators and readers, which the client library does not have, on plain messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from bursar.cli.connection import raise_exit
from bursar_client._status import error_of_call

if TYPE_CHECKING:
    from google._upb import _message
    from google.protobuf import descriptor

    EnumDescriptor: TypeAlias = descriptor.EnumDescriptor | _message.EnumDescriptor
    FieldDescriptor: TypeAlias = descriptor.FieldDescriptor | _message.FieldDescriptor

CALL_TIMEOUT_S = 30.0

Stub = TypeVar("Stub")
Answer = TypeVar("Answer", bound=Message)


@contextmanager
def operating(address: str, make_stub: Callable[[grpc.Channel], Stub]) -> Iterator[Stub]:
    """Yield a service's stub; an error of the server ends the command with its message.

    Args:
        address: Of the server.
        make_stub: The stub's class.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            yield make_stub(channel)
        except grpc.RpcError as error:
            raise_exit(error_of_call(error), address)


def patiently(
    call: Callable[..., Answer], request: Message, *, timeout_s: float, patience_s: float
) -> Answer:
    """Make a call, and again while the server says that it can be answered soon.

    Args:
        call: A method of a stub.
        request: What it is asked; asking twice changes nothing.
        timeout_s: Of each try.
        patience_s: After which no further try begins.
    """
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            after = error_of_call(error).retry_after
            if after is None or time.monotonic() + after.total_seconds() > give_up_s:
                raise
            time.sleep(after.total_seconds())


def time_of(message: Timestamp) -> datetime:
    """Return an instant in UTC."""
    return message.ToDatetime(tzinfo=UTC)


def message_json(message: Message) -> dict[str, object]:
    """Return a message as plain JSON values: what is absent is null, numbers stay numbers.

    An enum's value is its name without the enum's, a duration is in ms and its name says so.
    """
    fields: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        name = field.name
        value = getattr(message, name)
        if _is_map(field):
            fields[name] = dict(value)
        elif field.is_repeated:
            fields[name] = [_value_json(field, each) for each in value]
        elif field.has_presence and not message.HasField(name):
            fields[name] = None
        elif isinstance(value, Duration):
            fields[f"{name}_ms"] = value.ToMilliseconds()
        else:
            fields[name] = _value_json(field, value)
    return fields


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """Return what a value of an enum is called, without the enum's name, in lower case."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = "".join(f"_{each}" if each.isupper() else each.upper() for each in enum.name)
    return value.name.removeprefix(f"{prefix.lstrip('_')}_").lower()


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value_json(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, Timestamp):
        return time_of(value).isoformat()
    if isinstance(value, Message):
        return message_json(value)
    if field.enum_type is not None and isinstance(value, int):
        return enum_name(field.enum_type, value)
    return value
