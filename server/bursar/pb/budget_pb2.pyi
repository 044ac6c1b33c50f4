import datetime

from bursar.pb import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WeekDay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEEK_DAY_UNSPECIFIED: _ClassVar[WeekDay]
    WEEK_DAY_MONDAY: _ClassVar[WeekDay]
    WEEK_DAY_TUESDAY: _ClassVar[WeekDay]
    WEEK_DAY_WEDNESDAY: _ClassVar[WeekDay]
    WEEK_DAY_THURSDAY: _ClassVar[WeekDay]
    WEEK_DAY_FRIDAY: _ClassVar[WeekDay]
    WEEK_DAY_SATURDAY: _ClassVar[WeekDay]
    WEEK_DAY_SUNDAY: _ClassVar[WeekDay]

class ExpiryAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPIRY_ACTION_UNSPECIFIED: _ClassVar[ExpiryAction]
    EXPIRY_ACTION_RELEASE: _ClassVar[ExpiryAction]
    EXPIRY_ACTION_CHARGE: _ClassVar[ExpiryAction]

class UnavailableAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNAVAILABLE_ACTION_UNSPECIFIED: _ClassVar[UnavailableAction]
    UNAVAILABLE_ACTION_CLOSED: _ClassVar[UnavailableAction]
    UNAVAILABLE_ACTION_OPEN: _ClassVar[UnavailableAction]
WEEK_DAY_UNSPECIFIED: WeekDay
WEEK_DAY_MONDAY: WeekDay
WEEK_DAY_TUESDAY: WeekDay
WEEK_DAY_WEDNESDAY: WeekDay
WEEK_DAY_THURSDAY: WeekDay
WEEK_DAY_FRIDAY: WeekDay
WEEK_DAY_SATURDAY: WeekDay
WEEK_DAY_SUNDAY: WeekDay
EXPIRY_ACTION_UNSPECIFIED: ExpiryAction
EXPIRY_ACTION_RELEASE: ExpiryAction
EXPIRY_ACTION_CHARGE: ExpiryAction
UNAVAILABLE_ACTION_UNSPECIFIED: UnavailableAction
UNAVAILABLE_ACTION_CLOSED: UnavailableAction
UNAVAILABLE_ACTION_OPEN: UnavailableAction

class Budget(_message.Message):
    __slots__ = ("name", "description", "scope", "per", "limit", "window", "timezone", "anchor_day", "week_start", "mode", "overdraft", "priority_headroom", "on_expiry", "alerts", "default_output_tokens", "ladder", "on_unavailable", "carry_over", "backfill", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_DAY_FIELD_NUMBER: _ClassVar[int]
    WEEK_START_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OVERDRAFT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_HEADROOM_FIELD_NUMBER: _ClassVar[int]
    ON_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    ON_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    CARRY_OVER_FIELD_NUMBER: _ClassVar[int]
    BACKFILL_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    scope: BudgetScope
    per: _containers.RepeatedScalarFieldContainer[str]
    limit: BudgetLimit
    window: BudgetWindow
    timezone: str
    anchor_day: int
    week_start: WeekDay
    mode: _types_pb2.BudgetMode
    overdraft: BudgetShare
    priority_headroom: PriorityHeadroom
    on_expiry: ExpiryAction
    alerts: _containers.RepeatedScalarFieldContainer[int]
    default_output_tokens: int
    ladder: _containers.RepeatedCompositeFieldContainer[BudgetRung]
    on_unavailable: UnavailableAction
    carry_over: BudgetCarryOver
    backfill: bool
    etag: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., scope: _Optional[_Union[BudgetScope, _Mapping]] = ..., per: _Optional[_Iterable[str]] = ..., limit: _Optional[_Union[BudgetLimit, _Mapping]] = ..., window: _Optional[_Union[BudgetWindow, _Mapping]] = ..., timezone: _Optional[str] = ..., anchor_day: _Optional[int] = ..., week_start: _Optional[_Union[WeekDay, str]] = ..., mode: _Optional[_Union[_types_pb2.BudgetMode, str]] = ..., overdraft: _Optional[_Union[BudgetShare, _Mapping]] = ..., priority_headroom: _Optional[_Union[PriorityHeadroom, _Mapping]] = ..., on_expiry: _Optional[_Union[ExpiryAction, str]] = ..., alerts: _Optional[_Iterable[int]] = ..., default_output_tokens: _Optional[int] = ..., ladder: _Optional[_Iterable[_Union[BudgetRung, _Mapping]]] = ..., on_unavailable: _Optional[_Union[UnavailableAction, str]] = ..., carry_over: _Optional[_Union[BudgetCarryOver, _Mapping]] = ..., backfill: _Optional[bool] = ..., etag: _Optional[str] = ...) -> None: ...

class BudgetScope(_message.Message):
    __slots__ = ("team", "feature", "agent", "user", "task", "provider", "model", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: BudgetPatterns
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[BudgetPatterns, _Mapping]] = ...) -> None: ...
    TEAM_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    team: _containers.RepeatedScalarFieldContainer[str]
    feature: _containers.RepeatedScalarFieldContainer[str]
    agent: _containers.RepeatedScalarFieldContainer[str]
    user: _containers.RepeatedScalarFieldContainer[str]
    task: _containers.RepeatedScalarFieldContainer[str]
    provider: _containers.RepeatedScalarFieldContainer[str]
    model: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.MessageMap[str, BudgetPatterns]
    def __init__(self, team: _Optional[_Iterable[str]] = ..., feature: _Optional[_Iterable[str]] = ..., agent: _Optional[_Iterable[str]] = ..., user: _Optional[_Iterable[str]] = ..., task: _Optional[_Iterable[str]] = ..., provider: _Optional[_Iterable[str]] = ..., model: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, BudgetPatterns]] = ...) -> None: ...

class BudgetPatterns(_message.Message):
    __slots__ = ("patterns",)
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    patterns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, patterns: _Optional[_Iterable[str]] = ...) -> None: ...

class BudgetLimit(_message.Message):
    __slots__ = ("meter", "custom_meter", "amount", "unlimited")
    METER_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    UNLIMITED_FIELD_NUMBER: _ClassVar[int]
    meter: _types_pb2.Meter
    custom_meter: str
    amount: int
    unlimited: bool
    def __init__(self, meter: _Optional[_Union[_types_pb2.Meter, str]] = ..., custom_meter: _Optional[str] = ..., amount: _Optional[int] = ..., unlimited: _Optional[bool] = ...) -> None: ...

class BudgetWindow(_message.Message):
    __slots__ = ("kind", "length", "start_time", "end_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[BudgetWindow.Kind]
        KIND_REQUEST: _ClassVar[BudgetWindow.Kind]
        KIND_TASK: _ClassVar[BudgetWindow.Kind]
        KIND_MINUTE: _ClassVar[BudgetWindow.Kind]
        KIND_HOUR: _ClassVar[BudgetWindow.Kind]
        KIND_DAY: _ClassVar[BudgetWindow.Kind]
        KIND_WEEK: _ClassVar[BudgetWindow.Kind]
        KIND_MONTH: _ClassVar[BudgetWindow.Kind]
        KIND_QUARTER: _ClassVar[BudgetWindow.Kind]
        KIND_YEAR: _ClassVar[BudgetWindow.Kind]
        KIND_ROLLING: _ClassVar[BudgetWindow.Kind]
        KIND_FIXED: _ClassVar[BudgetWindow.Kind]
    KIND_UNSPECIFIED: BudgetWindow.Kind
    KIND_REQUEST: BudgetWindow.Kind
    KIND_TASK: BudgetWindow.Kind
    KIND_MINUTE: BudgetWindow.Kind
    KIND_HOUR: BudgetWindow.Kind
    KIND_DAY: BudgetWindow.Kind
    KIND_WEEK: BudgetWindow.Kind
    KIND_MONTH: BudgetWindow.Kind
    KIND_QUARTER: BudgetWindow.Kind
    KIND_YEAR: BudgetWindow.Kind
    KIND_ROLLING: BudgetWindow.Kind
    KIND_FIXED: BudgetWindow.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    kind: BudgetWindow.Kind
    length: _duration_pb2.Duration
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[BudgetWindow.Kind, str]] = ..., length: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BudgetCarryOver(_message.Message):
    __slots__ = ("unused", "debt", "max")
    UNUSED_FIELD_NUMBER: _ClassVar[int]
    DEBT_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    unused: bool
    debt: bool
    max: BudgetShare
    def __init__(self, unused: _Optional[bool] = ..., debt: _Optional[bool] = ..., max: _Optional[_Union[BudgetShare, _Mapping]] = ...) -> None: ...

class BudgetShare(_message.Message):
    __slots__ = ("percent", "amount")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    percent: int
    amount: int
    def __init__(self, percent: _Optional[int] = ..., amount: _Optional[int] = ...) -> None: ...

class PriorityHeadroom(_message.Message):
    __slots__ = ("low", "normal", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    NORMAL_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: int
    normal: int
    high: int
    def __init__(self, low: _Optional[int] = ..., normal: _Optional[int] = ..., high: _Optional[int] = ...) -> None: ...

class BudgetRung(_message.Message):
    __slots__ = ("at_percent", "switch_model", "cap_output", "finish", "serve_cached", "queue_max_wait", "deny", "notify", "message")
    AT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    SWITCH_MODEL_FIELD_NUMBER: _ClassVar[int]
    CAP_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    SERVE_CACHED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    at_percent: int
    switch_model: RungSwitchModel
    cap_output: int
    finish: bool
    serve_cached: bool
    queue_max_wait: _duration_pb2.Duration
    deny: bool
    notify: bool
    message: str
    def __init__(self, at_percent: _Optional[int] = ..., switch_model: _Optional[_Union[RungSwitchModel, _Mapping]] = ..., cap_output: _Optional[int] = ..., finish: _Optional[bool] = ..., serve_cached: _Optional[bool] = ..., queue_max_wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deny: _Optional[bool] = ..., notify: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class RungSwitchModel(_message.Message):
    __slots__ = ("from_pattern", "to_model", "to_provider")
    FROM_PATTERN_FIELD_NUMBER: _ClassVar[int]
    TO_MODEL_FIELD_NUMBER: _ClassVar[int]
    TO_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    from_pattern: str
    to_model: str
    to_provider: str
    def __init__(self, from_pattern: _Optional[str] = ..., to_model: _Optional[str] = ..., to_provider: _Optional[str] = ...) -> None: ...
