import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyWarning(_message.Message):
    __slots__ = ("path", "description")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    path: str
    description: str
    def __init__(self, path: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class PolicyChange(_message.Message):
    __slots__ = ("kind", "budget", "setting", "before", "after", "warning")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[PolicyChange.Kind]
        KIND_ADDED: _ClassVar[PolicyChange.Kind]
        KIND_REMOVED: _ClassVar[PolicyChange.Kind]
        KIND_CHANGED: _ClassVar[PolicyChange.Kind]
    KIND_UNSPECIFIED: PolicyChange.Kind
    KIND_ADDED: PolicyChange.Kind
    KIND_REMOVED: PolicyChange.Kind
    KIND_CHANGED: PolicyChange.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    kind: PolicyChange.Kind
    budget: str
    setting: str
    before: str
    after: str
    warning: str
    def __init__(self, kind: _Optional[_Union[PolicyChange.Kind, str]] = ..., budget: _Optional[str] = ..., setting: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., warning: _Optional[str] = ...) -> None: ...

class PolicyVersion(_message.Message):
    __slots__ = ("org", "number", "policy_version", "etag", "actor", "reason", "apply_time")
    ORG_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    APPLY_TIME_FIELD_NUMBER: _ClassVar[int]
    org: str
    number: int
    policy_version: str
    etag: str
    actor: str
    reason: str
    apply_time: _timestamp_pb2.Timestamp
    def __init__(self, org: _Optional[str] = ..., number: _Optional[int] = ..., policy_version: _Optional[str] = ..., etag: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., apply_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
