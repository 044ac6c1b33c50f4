"""The protos with their comments, as protoc sees them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from reference.tables import one_line

ROOT = Path(__file__).resolve().parents[2]
PROTO_DIR = ROOT / "protos"
PACKAGE = ".bursar.v1."

# Field numbers in the descriptors, of which the paths of comments are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS_OF_MESSAGE, _VALUES_OF_ENUM, _METHODS_OF_SERVICE = 2, 2, 2


@dataclass(frozen=True, slots=True)
class Member:
    """A field, a value of an enum, or a call: its name, type or number, and comment."""

    name: str
    kind: str
    comment: str


@dataclass(frozen=True, slots=True)
class Element:
    """A service, a message or an enum.

    Attributes:
        file: The proto that it is in.
        sort: `service`, `message` or `enum`.
        name: Its name within the package.
        comment: What the proto says of it.
        members: Its calls, fields or values.
    """

    file: str
    sort: str
    name: str
    comment: str
    members: tuple[Member, ...]


@cache
def elements() -> tuple[Element, ...]:
    """Return everything that the protos define, in their order."""
    found: list[Element] = []
    for file in _descriptors().file:
        comments = {
            tuple(location.path): one_line(location.leading_comments)
            for location in file.source_code_info.location
            if location.leading_comments
        }
        found += _services(file, comments)
        found += _messages(file, comments)
        found += _enums(file, comments)
    return tuple(found)


def _descriptors() -> FileDescriptorSet:
    protos = sorted(str(path.relative_to(PROTO_DIR)) for path in PROTO_DIR.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        options = [f"-I{PROTO_DIR}", f"--descriptor_set_out={out}", "--include_source_info"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *options, *protos]
        subprocess.run(command, check=True)
        return FileDescriptorSet.FromString(out.read_bytes())


Comments = dict[tuple[int, ...], str]


def _services(file: FileDescriptorProto, comments: Comments) -> list[Element]:
    return [
        Element(
            file.name,
            "service",
            service.name,
            comments[_SERVICES, at],
            tuple(
                Member(
                    method.name,
                    f"{_short(method.input_type)} {_short(method.output_type)}",
                    comments[_SERVICES, at, _METHODS_OF_SERVICE, number],
                )
                for number, method in enumerate(service.method)
            ),
        )
        for at, service in enumerate(file.service)
    ]


def _messages(file: FileDescriptorProto, comments: Comments) -> list[Element]:
    found = []
    for at, message in enumerate(file.message_type):
        maps = {
            f"{PACKAGE}{message.name}.{entry.name}": entry.field for entry in message.nested_type
        }
        members = tuple(
            Member(
                field.name,
                _field_type(field, maps),
                comments[_MESSAGES, at, _FIELDS_OF_MESSAGE, number],
            )
            for number, field in enumerate(message.field)
        )
        found.append(Element(file.name, "message", message.name, comments[_MESSAGES, at], members))
    return found


def _enums(file: FileDescriptorProto, comments: Comments) -> list[Element]:
    return [
        Element(
            file.name,
            "enum",
            enum.name,
            comments[_ENUMS, at],
            tuple(
                Member(value.name, str(value.number), comments[_ENUMS, at, _VALUES_OF_ENUM, number])
                for number, value in enumerate(enum.value)
            ),
        )
        for at, enum in enumerate(file.enum_type)
    ]


def _field_type(field: FieldDescriptorProto, maps: dict[str, list[FieldDescriptorProto]]) -> str:
    if entry := maps.get(field.type_name):
        key, value = (_scalar(each) for each in entry)
        return f"map of {key} to {value}"
    name = _short(field.type_name) if field.type_name else _scalar(field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"optional {name}" if field.proto3_optional else name


def _scalar(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _short(type_name: str) -> str:
    return type_name.removeprefix(PACKAGE).removeprefix(".google.protobuf.")
