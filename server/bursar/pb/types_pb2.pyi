import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Meter(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METER_UNSPECIFIED: _ClassVar[Meter]
    METER_TOTAL_TOKENS: _ClassVar[Meter]
    METER_INPUT_TOKENS: _ClassVar[Meter]
    METER_OUTPUT_TOKENS: _ClassVar[Meter]
    METER_COST: _ClassVar[Meter]
    METER_REQUESTS: _ClassVar[Meter]
    METER_CONCURRENCY: _ClassVar[Meter]
    METER_CUSTOM: _ClassVar[Meter]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class Degradation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADATION_UNSPECIFIED: _ClassVar[Degradation]
    DEGRADATION_SWITCH_MODEL: _ClassVar[Degradation]
    DEGRADATION_SHORTER_OUTPUT: _ClassVar[Degradation]
    DEGRADATION_TRUNCATE_INPUT: _ClassVar[Degradation]
    DEGRADATION_FINISH: _ClassVar[Degradation]
    DEGRADATION_SERVE_CACHED: _ClassVar[Degradation]
    DEGRADATION_QUEUE: _ClassVar[Degradation]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_GRANTED: _ClassVar[Decision]
    DECISION_GRANTED_DEGRADED: _ClassVar[Decision]
    DECISION_DENIED: _ClassVar[Decision]

class BudgetMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUDGET_MODE_UNSPECIFIED: _ClassVar[BudgetMode]
    BUDGET_MODE_ENFORCE: _ClassVar[BudgetMode]
    BUDGET_MODE_WARN: _ClassVar[BudgetMode]
    BUDGET_MODE_OBSERVE: _ClassVar[BudgetMode]
    BUDGET_MODE_OFF: _ClassVar[BudgetMode]

class NoticeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_KIND_UNSPECIFIED: _ClassVar[NoticeKind]
    NOTICE_KIND_RUNG: _ClassVar[NoticeKind]
    NOTICE_KIND_EXCEEDED: _ClassVar[NoticeKind]
    NOTICE_KIND_UNPRICED: _ClassVar[NoticeKind]
    NOTICE_KIND_UNBUDGETED: _ClassVar[NoticeKind]
    NOTICE_KIND_NOT_ENFORCED: _ClassVar[NoticeKind]

class DenialKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DENIAL_KIND_UNSPECIFIED: _ClassVar[DenialKind]
    DENIAL_KIND_HELD: _ClassVar[DenialKind]
    DENIAL_KIND_SPENT: _ClassVar[DenialKind]
    DENIAL_KIND_NEVER: _ClassVar[DenialKind]
    DENIAL_KIND_UNPRICED: _ClassVar[DenialKind]
    DENIAL_KIND_UNBUDGETED: _ClassVar[DenialKind]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SUCCEEDED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]

class HoldState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_STATE_UNSPECIFIED: _ClassVar[HoldState]
    HOLD_STATE_OPEN: _ClassVar[HoldState]
    HOLD_STATE_COMMITTED: _ClassVar[HoldState]
    HOLD_STATE_RELEASED: _ClassVar[HoldState]
    HOLD_STATE_EXPIRED: _ClassVar[HoldState]
METER_UNSPECIFIED: Meter
METER_TOTAL_TOKENS: Meter
METER_INPUT_TOKENS: Meter
METER_OUTPUT_TOKENS: Meter
METER_COST: Meter
METER_REQUESTS: Meter
METER_CONCURRENCY: Meter
METER_CUSTOM: Meter
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
DEGRADATION_UNSPECIFIED: Degradation
DEGRADATION_SWITCH_MODEL: Degradation
DEGRADATION_SHORTER_OUTPUT: Degradation
DEGRADATION_TRUNCATE_INPUT: Degradation
DEGRADATION_FINISH: Degradation
DEGRADATION_SERVE_CACHED: Degradation
DEGRADATION_QUEUE: Degradation
DECISION_UNSPECIFIED: Decision
DECISION_GRANTED: Decision
DECISION_GRANTED_DEGRADED: Decision
DECISION_DENIED: Decision
BUDGET_MODE_UNSPECIFIED: BudgetMode
BUDGET_MODE_ENFORCE: BudgetMode
BUDGET_MODE_WARN: BudgetMode
BUDGET_MODE_OBSERVE: BudgetMode
BUDGET_MODE_OFF: BudgetMode
NOTICE_KIND_UNSPECIFIED: NoticeKind
NOTICE_KIND_RUNG: NoticeKind
NOTICE_KIND_EXCEEDED: NoticeKind
NOTICE_KIND_UNPRICED: NoticeKind
NOTICE_KIND_UNBUDGETED: NoticeKind
NOTICE_KIND_NOT_ENFORCED: NoticeKind
DENIAL_KIND_UNSPECIFIED: DenialKind
DENIAL_KIND_HELD: DenialKind
DENIAL_KIND_SPENT: DenialKind
DENIAL_KIND_NEVER: DenialKind
DENIAL_KIND_UNPRICED: DenialKind
DENIAL_KIND_UNBUDGETED: DenialKind
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SUCCEEDED: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_CANCELLED: Outcome
HOLD_STATE_UNSPECIFIED: HoldState
HOLD_STATE_OPEN: HoldState
HOLD_STATE_COMMITTED: HoldState
HOLD_STATE_RELEASED: HoldState
HOLD_STATE_EXPIRED: HoldState

class Subject(_message.Message):
    __slots__ = ("org", "team", "feature", "agent", "user", "task", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORG_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    org: str
    team: str
    feature: str
    agent: str
    user: str
    task: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, org: _Optional[str] = ..., team: _Optional[str] = ..., feature: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., task: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("provider", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("input_tokens", "max_output_tokens", "min_output_tokens", "requests", "custom_meters", "cache_read_tokens", "cache_write_tokens", "input_audio_tokens")
    class CustomMetersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METERS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    max_output_tokens: int
    min_output_tokens: int
    requests: int
    custom_meters: _containers.ScalarMap[str, int]
    cache_read_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., min_output_tokens: _Optional[int] = ..., requests: _Optional[int] = ..., custom_meters: _Optional[_Mapping[str, int]] = ..., cache_read_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., input_audio_tokens: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "reasoning_tokens", "output_audio_tokens", "requests", "custom_meters")
    class CustomMetersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METERS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    requests: int
    custom_meters: _containers.ScalarMap[str, int]
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cache_read_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., input_audio_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., output_audio_tokens: _Optional[int] = ..., requests: _Optional[int] = ..., custom_meters: _Optional[_Mapping[str, int]] = ...) -> None: ...

class CounterStatus(_message.Message):
    __slots__ = ("budget", "partition", "meter", "custom_meter", "unlimited", "limit", "committed", "held", "credit", "remaining", "ceiling", "window_start_time", "window_end_time", "mode", "amount")
    class PartitionEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METER_FIELD_NUMBER: _ClassVar[int]
    UNLIMITED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    budget: str
    partition: _containers.ScalarMap[str, str]
    meter: Meter
    custom_meter: str
    unlimited: bool
    limit: int
    committed: int
    held: int
    credit: int
    remaining: int
    ceiling: int
    window_start_time: _timestamp_pb2.Timestamp
    window_end_time: _timestamp_pb2.Timestamp
    mode: BudgetMode
    amount: int
    def __init__(self, budget: _Optional[str] = ..., partition: _Optional[_Mapping[str, str]] = ..., meter: _Optional[_Union[Meter, str]] = ..., custom_meter: _Optional[str] = ..., unlimited: _Optional[bool] = ..., limit: _Optional[int] = ..., committed: _Optional[int] = ..., held: _Optional[int] = ..., credit: _Optional[int] = ..., remaining: _Optional[int] = ..., ceiling: _Optional[int] = ..., window_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., mode: _Optional[_Union[BudgetMode, str]] = ..., amount: _Optional[int] = ...) -> None: ...

class Directive(_message.Message):
    __slots__ = ("switch_model", "shorten_output", "truncate_input", "finish", "serve_cached", "queue", "deny", "message", "notices")
    SWITCH_MODEL_FIELD_NUMBER: _ClassVar[int]
    SHORTEN_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_INPUT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    SERVE_CACHED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    switch_model: SwitchModel
    shorten_output: ShortenOutput
    truncate_input: TruncateInput
    finish: Finish
    serve_cached: ServeCached
    queue: Queue
    deny: Deny
    message: str
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    def __init__(self, switch_model: _Optional[_Union[SwitchModel, _Mapping]] = ..., shorten_output: _Optional[_Union[ShortenOutput, _Mapping]] = ..., truncate_input: _Optional[_Union[TruncateInput, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., serve_cached: _Optional[_Union[ServeCached, _Mapping]] = ..., queue: _Optional[_Union[Queue, _Mapping]] = ..., deny: _Optional[_Union[Deny, _Mapping]] = ..., message: _Optional[str] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ...) -> None: ...

class SwitchModel(_message.Message):
    __slots__ = ("to", "budgets")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    to: Target
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, to: _Optional[_Union[Target, _Mapping]] = ..., budgets: _Optional[_Iterable[str]] = ..., **kwargs) -> None: ...

class ShortenOutput(_message.Message):
    __slots__ = ("max_output_tokens", "budgets")
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    max_output_tokens: int
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_output_tokens: _Optional[int] = ..., budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class TruncateInput(_message.Message):
    __slots__ = ("max_input_tokens", "budgets")
    MAX_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    max_input_tokens: int
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_input_tokens: _Optional[int] = ..., budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("budgets",)
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class ServeCached(_message.Message):
    __slots__ = ("budgets",)
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("max_wait", "budgets")
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    max_wait: _duration_pb2.Duration
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class Deny(_message.Message):
    __slots__ = ("budgets",)
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, budgets: _Optional[_Iterable[str]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("budget", "kind", "message")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    budget: str
    kind: NoticeKind
    message: str
    def __init__(self, budget: _Optional[str] = ..., kind: _Optional[_Union[NoticeKind, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Denial(_message.Message):
    __slots__ = ("kind", "binding", "affordable_output_tokens", "affordable_input_tokens", "retry_after", "counter_offers", "explanation")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    AFFORDABLE_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    AFFORDABLE_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    COUNTER_OFFERS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    kind: DenialKind
    binding: CounterStatus
    affordable_output_tokens: int
    affordable_input_tokens: int
    retry_after: _duration_pb2.Duration
    counter_offers: _containers.RepeatedCompositeFieldContainer[CounterOffer]
    explanation: str
    def __init__(self, kind: _Optional[_Union[DenialKind, str]] = ..., binding: _Optional[_Union[CounterStatus, _Mapping]] = ..., affordable_output_tokens: _Optional[int] = ..., affordable_input_tokens: _Optional[int] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., counter_offers: _Optional[_Iterable[_Union[CounterOffer, _Mapping]]] = ..., explanation: _Optional[str] = ...) -> None: ...

class CounterOffer(_message.Message):
    __slots__ = ("target", "affordable_output_tokens", "binding_budget", "kind", "retry_after")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    AFFORDABLE_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BINDING_BUDGET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    target: Target
    affordable_output_tokens: int
    binding_budget: str
    kind: DenialKind
    retry_after: _duration_pb2.Duration
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., affordable_output_tokens: _Optional[int] = ..., binding_budget: _Optional[str] = ..., kind: _Optional[_Union[DenialKind, str]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Charge(_message.Message):
    __slots__ = ("meter", "custom_meter", "amount", "overage", "estimated")
    METER_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_METER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    OVERAGE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    meter: Meter
    custom_meter: str
    amount: int
    overage: int
    estimated: bool
    def __init__(self, meter: _Optional[_Union[Meter, str]] = ..., custom_meter: _Optional[str] = ..., amount: _Optional[int] = ..., overage: _Optional[int] = ..., estimated: _Optional[bool] = ...) -> None: ...
