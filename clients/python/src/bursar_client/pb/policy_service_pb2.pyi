import datetime

from bursar_client.pb import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
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

class CreateBudgetRequest(_message.Message):
    __slots__ = ("org", "budget", "actor", "reason")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: Budget
    actor: str
    reason: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CreateBudgetResponse(_message.Message):
    __slots__ = ("budget", "version")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    budget: Budget
    version: PolicyVersion
    def __init__(self, budget: _Optional[_Union[Budget, _Mapping]] = ..., version: _Optional[_Union[PolicyVersion, _Mapping]] = ...) -> None: ...

class GetBudgetRequest(_message.Message):
    __slots__ = ("org", "budget")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[str] = ...) -> None: ...

class GetBudgetResponse(_message.Message):
    __slots__ = ("budget",)
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    budget: Budget
    def __init__(self, budget: _Optional[_Union[Budget, _Mapping]] = ...) -> None: ...

class ListBudgetsRequest(_message.Message):
    __slots__ = ("org", "page_size", "page_token")
    ORG_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org: str
    page_size: int
    page_token: str
    def __init__(self, org: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBudgetsResponse(_message.Message):
    __slots__ = ("budgets", "next_page_token")
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    next_page_token: str
    def __init__(self, budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateBudgetRequest(_message.Message):
    __slots__ = ("org", "budget", "update_mask", "etag", "actor", "reason")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: Budget
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    actor: str
    reason: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateBudgetResponse(_message.Message):
    __slots__ = ("budget", "version")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    budget: Budget
    version: PolicyVersion
    def __init__(self, budget: _Optional[_Union[Budget, _Mapping]] = ..., version: _Optional[_Union[PolicyVersion, _Mapping]] = ...) -> None: ...

class DeleteBudgetRequest(_message.Message):
    __slots__ = ("org", "budget", "etag", "actor", "reason")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: str
    etag: str
    actor: str
    reason: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[str] = ..., etag: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeleteBudgetResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: PolicyVersion
    def __init__(self, version: _Optional[_Union[PolicyVersion, _Mapping]] = ...) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("document", "validate_only", "etag", "actor", "reason")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    document: str
    validate_only: bool
    etag: str
    actor: str
    reason: str
    def __init__(self, document: _Optional[str] = ..., validate_only: _Optional[bool] = ..., etag: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("version", "changes", "warnings", "org")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ORG_FIELD_NUMBER: _ClassVar[int]
    version: PolicyVersion
    changes: _containers.RepeatedCompositeFieldContainer[PolicyChange]
    warnings: _containers.RepeatedCompositeFieldContainer[PolicyWarning]
    org: str
    def __init__(self, version: _Optional[_Union[PolicyVersion, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[PolicyChange, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[PolicyWarning, _Mapping]]] = ..., org: _Optional[str] = ...) -> None: ...

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

class GetPolicyRequest(_message.Message):
    __slots__ = ("org", "number")
    ORG_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    org: str
    number: int
    def __init__(self, org: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("version", "document", "deciding_policy_version")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    DECIDING_POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: PolicyVersion
    document: str
    deciding_policy_version: str
    def __init__(self, version: _Optional[_Union[PolicyVersion, _Mapping]] = ..., document: _Optional[str] = ..., deciding_policy_version: _Optional[str] = ...) -> None: ...

class ListPolicyVersionsRequest(_message.Message):
    __slots__ = ("org", "page_size", "page_token")
    ORG_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org: str
    page_size: int
    page_token: str
    def __init__(self, org: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPolicyVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[PolicyVersionEntry]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[PolicyVersionEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PolicyVersionEntry(_message.Message):
    __slots__ = ("version", "changes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    version: PolicyVersion
    changes: _containers.RepeatedCompositeFieldContainer[PolicyChange]
    def __init__(self, version: _Optional[_Union[PolicyVersion, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[PolicyChange, _Mapping]]] = ...) -> None: ...

class AdjustCreditRequest(_message.Message):
    __slots__ = ("request_id", "org", "budget", "partition", "amount", "usd", "expire_time", "actor", "reason")
    class PartitionEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    USD_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    org: str
    budget: str
    partition: _containers.ScalarMap[str, str]
    amount: int
    usd: str
    expire_time: _timestamp_pb2.Timestamp
    actor: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., org: _Optional[str] = ..., budget: _Optional[str] = ..., partition: _Optional[_Mapping[str, str]] = ..., amount: _Optional[int] = ..., usd: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AdjustCreditResponse(_message.Message):
    __slots__ = ("credit", "counter")
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    credit: Credit
    counter: _types_pb2.CounterStatus
    def __init__(self, credit: _Optional[_Union[Credit, _Mapping]] = ..., counter: _Optional[_Union[_types_pb2.CounterStatus, _Mapping]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("org", "request_id", "budget", "partition", "meter", "custom_meter", "amount", "expire_time", "actor", "reason", "create_time")
    class PartitionEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    org: str
    request_id: str
    budget: str
    partition: _containers.ScalarMap[str, str]
    meter: _types_pb2.Meter
    custom_meter: str
    amount: int
    expire_time: _timestamp_pb2.Timestamp
    actor: str
    reason: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, org: _Optional[str] = ..., request_id: _Optional[str] = ..., budget: _Optional[str] = ..., partition: _Optional[_Mapping[str, str]] = ..., meter: _Optional[_Union[_types_pb2.Meter, str]] = ..., custom_meter: _Optional[str] = ..., amount: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListCreditsRequest(_message.Message):
    __slots__ = ("org", "budget", "include_ended", "page_size", "page_token")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ENDED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: str
    include_ended: bool
    page_size: int
    page_token: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[str] = ..., include_ended: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCreditsResponse(_message.Message):
    __slots__ = ("credits", "next_page_token")
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    credits: _containers.RepeatedCompositeFieldContainer[Credit]
    next_page_token: str
    def __init__(self, credits: _Optional[_Iterable[_Union[Credit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class FreezeRequest(_message.Message):
    __slots__ = ("subject", "actor", "reason")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    actor: str
    reason: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FreezeResponse(_message.Message):
    __slots__ = ("freeze", "policy_version")
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    freeze: FreezeStatus
    policy_version: str
    def __init__(self, freeze: _Optional[_Union[FreezeStatus, _Mapping]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class UnfreezeRequest(_message.Message):
    __slots__ = ("subject", "actor")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    actor: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., actor: _Optional[str] = ...) -> None: ...

class UnfreezeResponse(_message.Message):
    __slots__ = ("freeze", "policy_version")
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    freeze: FreezeStatus
    policy_version: str
    def __init__(self, freeze: _Optional[_Union[FreezeStatus, _Mapping]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class FreezeStatus(_message.Message):
    __slots__ = ("freeze_id", "subject", "actor", "reason", "create_time", "lift_actor", "lift_time")
    FREEZE_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LIFT_ACTOR_FIELD_NUMBER: _ClassVar[int]
    LIFT_TIME_FIELD_NUMBER: _ClassVar[int]
    freeze_id: int
    subject: _types_pb2.Subject
    actor: str
    reason: str
    create_time: _timestamp_pb2.Timestamp
    lift_actor: str
    lift_time: _timestamp_pb2.Timestamp
    def __init__(self, freeze_id: _Optional[int] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lift_actor: _Optional[str] = ..., lift_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListFreezesRequest(_message.Message):
    __slots__ = ("org", "include_lifted", "page_size", "page_token")
    ORG_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_LIFTED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org: str
    include_lifted: bool
    page_size: int
    page_token: str
    def __init__(self, org: _Optional[str] = ..., include_lifted: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFreezesResponse(_message.Message):
    __slots__ = ("freezes", "next_page_token")
    FREEZES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    freezes: _containers.RepeatedCompositeFieldContainer[FreezeStatus]
    next_page_token: str
    def __init__(self, freezes: _Optional[_Iterable[_Union[FreezeStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
