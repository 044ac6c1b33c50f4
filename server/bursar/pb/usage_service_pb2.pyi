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

class UsageDimension(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_DIMENSION_UNSPECIFIED: _ClassVar[UsageDimension]
    USAGE_DIMENSION_TEAM: _ClassVar[UsageDimension]
    USAGE_DIMENSION_FEATURE: _ClassVar[UsageDimension]
    USAGE_DIMENSION_AGENT: _ClassVar[UsageDimension]
    USAGE_DIMENSION_USER: _ClassVar[UsageDimension]
    USAGE_DIMENSION_TASK: _ClassVar[UsageDimension]
    USAGE_DIMENSION_PROVIDER: _ClassVar[UsageDimension]
    USAGE_DIMENSION_MODEL: _ClassVar[UsageDimension]
    USAGE_DIMENSION_TOKEN_CLASS: _ClassVar[UsageDimension]

class UsageInterval(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_INTERVAL_UNSPECIFIED: _ClassVar[UsageInterval]
    USAGE_INTERVAL_NONE: _ClassVar[UsageInterval]
    USAGE_INTERVAL_HOUR: _ClassVar[UsageInterval]
    USAGE_INTERVAL_DAY: _ClassVar[UsageInterval]
    USAGE_INTERVAL_MONTH: _ClassVar[UsageInterval]

class TokenClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_CLASS_UNSPECIFIED: _ClassVar[TokenClass]
    TOKEN_CLASS_INPUT: _ClassVar[TokenClass]
    TOKEN_CLASS_OUTPUT: _ClassVar[TokenClass]
    TOKEN_CLASS_CACHE_READ: _ClassVar[TokenClass]
    TOKEN_CLASS_CACHE_WRITE: _ClassVar[TokenClass]
    TOKEN_CLASS_INPUT_AUDIO: _ClassVar[TokenClass]
    TOKEN_CLASS_REASONING: _ClassVar[TokenClass]
    TOKEN_CLASS_OUTPUT_AUDIO: _ClassVar[TokenClass]

class LedgerVerb(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEDGER_VERB_UNSPECIFIED: _ClassVar[LedgerVerb]
    LEDGER_VERB_RESERVE: _ClassVar[LedgerVerb]
    LEDGER_VERB_COMMIT: _ClassVar[LedgerVerb]
    LEDGER_VERB_COMMIT_PARTIAL: _ClassVar[LedgerVerb]
    LEDGER_VERB_RELEASE: _ClassVar[LedgerVerb]
    LEDGER_VERB_EXTEND: _ClassVar[LedgerVerb]
    LEDGER_VERB_EXPIRE: _ClassVar[LedgerVerb]
    LEDGER_VERB_RECORD: _ClassVar[LedgerVerb]
    LEDGER_VERB_ADJUST: _ClassVar[LedgerVerb]

class LedgerOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEDGER_ORDER_UNSPECIFIED: _ClassVar[LedgerOrder]
    LEDGER_ORDER_NEWEST_FIRST: _ClassVar[LedgerOrder]
    LEDGER_ORDER_OLDEST_FIRST: _ClassVar[LedgerOrder]
USAGE_DIMENSION_UNSPECIFIED: UsageDimension
USAGE_DIMENSION_TEAM: UsageDimension
USAGE_DIMENSION_FEATURE: UsageDimension
USAGE_DIMENSION_AGENT: UsageDimension
USAGE_DIMENSION_USER: UsageDimension
USAGE_DIMENSION_TASK: UsageDimension
USAGE_DIMENSION_PROVIDER: UsageDimension
USAGE_DIMENSION_MODEL: UsageDimension
USAGE_DIMENSION_TOKEN_CLASS: UsageDimension
USAGE_INTERVAL_UNSPECIFIED: UsageInterval
USAGE_INTERVAL_NONE: UsageInterval
USAGE_INTERVAL_HOUR: UsageInterval
USAGE_INTERVAL_DAY: UsageInterval
USAGE_INTERVAL_MONTH: UsageInterval
TOKEN_CLASS_UNSPECIFIED: TokenClass
TOKEN_CLASS_INPUT: TokenClass
TOKEN_CLASS_OUTPUT: TokenClass
TOKEN_CLASS_CACHE_READ: TokenClass
TOKEN_CLASS_CACHE_WRITE: TokenClass
TOKEN_CLASS_INPUT_AUDIO: TokenClass
TOKEN_CLASS_REASONING: TokenClass
TOKEN_CLASS_OUTPUT_AUDIO: TokenClass
LEDGER_VERB_UNSPECIFIED: LedgerVerb
LEDGER_VERB_RESERVE: LedgerVerb
LEDGER_VERB_COMMIT: LedgerVerb
LEDGER_VERB_COMMIT_PARTIAL: LedgerVerb
LEDGER_VERB_RELEASE: LedgerVerb
LEDGER_VERB_EXTEND: LedgerVerb
LEDGER_VERB_EXPIRE: LedgerVerb
LEDGER_VERB_RECORD: LedgerVerb
LEDGER_VERB_ADJUST: LedgerVerb
LEDGER_ORDER_UNSPECIFIED: LedgerOrder
LEDGER_ORDER_NEWEST_FIRST: LedgerOrder
LEDGER_ORDER_OLDEST_FIRST: LedgerOrder

class GetBalancesRequest(_message.Message):
    __slots__ = ("subject", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetBalancesResponse(_message.Message):
    __slots__ = ("counters", "next_page_token", "policy_version")
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    next_page_token: str
    policy_version: str
    def __init__(self, counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., policy_version: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("subject", "target")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("budgets", "price", "policy_version")
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetExplanation]
    price: PriceExplanation
    policy_version: str
    def __init__(self, budgets: _Optional[_Iterable[_Union[BudgetExplanation, _Mapping]]] = ..., price: _Optional[_Union[PriceExplanation, _Mapping]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class BudgetExplanation(_message.Message):
    __slots__ = ("budget", "applies", "reason", "status", "rungs", "resets_in")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    APPLIES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RUNGS_FIELD_NUMBER: _ClassVar[int]
    RESETS_IN_FIELD_NUMBER: _ClassVar[int]
    budget: str
    applies: bool
    reason: str
    status: _types_pb2.CounterStatus
    rungs: _containers.RepeatedCompositeFieldContainer[RungExplanation]
    resets_in: _duration_pb2.Duration
    def __init__(self, budget: _Optional[str] = ..., applies: _Optional[bool] = ..., reason: _Optional[str] = ..., status: _Optional[_Union[_types_pb2.CounterStatus, _Mapping]] = ..., rungs: _Optional[_Iterable[_Union[RungExplanation, _Mapping]]] = ..., resets_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RungExplanation(_message.Message):
    __slots__ = ("at_percent", "action", "reached")
    AT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    at_percent: int
    action: str
    reached: bool
    def __init__(self, at_percent: _Optional[int] = ..., action: _Optional[str] = ..., reached: _Optional[bool] = ...) -> None: ...

class PriceExplanation(_message.Message):
    __slots__ = ("target", "priced", "source", "input_nano_usd_per_million_tokens", "output_nano_usd_per_million_tokens")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PRICED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INPUT_NANO_USD_PER_MILLION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NANO_USD_PER_MILLION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    target: _types_pb2.Target
    priced: bool
    source: str
    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int
    def __init__(self, target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., priced: _Optional[bool] = ..., source: _Optional[str] = ..., input_nano_usd_per_million_tokens: _Optional[int] = ..., output_nano_usd_per_million_tokens: _Optional[int] = ...) -> None: ...

class ListHoldsRequest(_message.Message):
    __slots__ = ("subject", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHoldsResponse(_message.Message):
    __slots__ = ("holds", "next_page_token")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[Hold]
    next_page_token: str
    def __init__(self, holds: _Optional[_Iterable[_Union[Hold, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("reservation_id", "request_id", "subject", "target", "create_time", "expire_time", "amounts")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    request_id: str
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    amounts: _containers.RepeatedCompositeFieldContainer[HeldAmount]
    def __init__(self, reservation_id: _Optional[str] = ..., request_id: _Optional[str] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amounts: _Optional[_Iterable[_Union[HeldAmount, _Mapping]]] = ...) -> None: ...

class HeldAmount(_message.Message):
    __slots__ = ("budget", "partition", "meter", "custom_meter", "amount")
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
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    budget: str
    partition: _containers.ScalarMap[str, str]
    meter: _types_pb2.Meter
    custom_meter: str
    amount: int
    def __init__(self, budget: _Optional[str] = ..., partition: _Optional[_Mapping[str, str]] = ..., meter: _Optional[_Union[_types_pb2.Meter, str]] = ..., custom_meter: _Optional[str] = ..., amount: _Optional[int] = ...) -> None: ...

class QueryUsageRequest(_message.Message):
    __slots__ = ("subject", "target", "start_time", "end_time", "group_by", "interval", "time_zone", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    group_by: _containers.RepeatedScalarFieldContainer[UsageDimension]
    interval: UsageInterval
    time_zone: str
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[_Iterable[_Union[UsageDimension, str]]] = ..., interval: _Optional[_Union[UsageInterval, str]] = ..., time_zone: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class QueryUsageResponse(_message.Message):
    __slots__ = ("rows", "next_page_token", "record_time")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[UsageRow]
    next_page_token: str
    record_time: _timestamp_pb2.Timestamp
    def __init__(self, rows: _Optional[_Iterable[_Union[UsageRow, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., record_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UsageRow(_message.Message):
    __slots__ = ("start_time", "end_time", "subject", "target", "token_class", "token_count", "tokens", "request_count", "cost_nano_usd", "unpriced_count", "denial_count")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TOKEN_CLASS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DENIAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    token_class: TokenClass
    token_count: int
    tokens: TokenCounts
    request_count: int
    cost_nano_usd: int
    unpriced_count: int
    denial_count: int
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., token_class: _Optional[_Union[TokenClass, str]] = ..., token_count: _Optional[int] = ..., tokens: _Optional[_Union[TokenCounts, _Mapping]] = ..., request_count: _Optional[int] = ..., cost_nano_usd: _Optional[int] = ..., unpriced_count: _Optional[int] = ..., denial_count: _Optional[int] = ...) -> None: ...

class TokenCounts(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "reasoning_tokens", "output_audio_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_AUDIO_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cache_read_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., input_audio_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., output_audio_tokens: _Optional[int] = ...) -> None: ...

class ListLedgerEntriesRequest(_message.Message):
    __slots__ = ("subject", "reservation_id", "request_id", "verbs", "start_time", "end_time", "order", "page_size", "page_token")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERBS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    reservation_id: str
    request_id: str
    verbs: _containers.RepeatedScalarFieldContainer[LedgerVerb]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    order: LedgerOrder
    page_size: int
    page_token: str
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., reservation_id: _Optional[str] = ..., request_id: _Optional[str] = ..., verbs: _Optional[_Iterable[_Union[LedgerVerb, str]]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., order: _Optional[_Union[LedgerOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLedgerEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "record_time")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LedgerEntry]
    next_page_token: str
    record_time: _timestamp_pb2.Timestamp
    def __init__(self, entries: _Optional[_Iterable[_Union[LedgerEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., record_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LedgerEntry(_message.Message):
    __slots__ = ("create_time", "verb", "reservation_id", "request_id", "subject", "target", "outcome", "late", "estimated", "usage", "cost_nano_usd", "policy_version", "detail", "changes", "shard", "epoch", "sequence", "ordinal")
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    create_time: _timestamp_pb2.Timestamp
    verb: LedgerVerb
    reservation_id: str
    request_id: str
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    outcome: _types_pb2.Outcome
    late: bool
    estimated: bool
    usage: _types_pb2.Usage
    cost_nano_usd: int
    policy_version: str
    detail: str
    changes: _containers.RepeatedCompositeFieldContainer[CounterChange]
    shard: int
    epoch: str
    sequence: int
    ordinal: int
    def __init__(self, create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verb: _Optional[_Union[LedgerVerb, str]] = ..., reservation_id: _Optional[str] = ..., request_id: _Optional[str] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., late: _Optional[bool] = ..., estimated: _Optional[bool] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., cost_nano_usd: _Optional[int] = ..., policy_version: _Optional[str] = ..., detail: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[CounterChange, _Mapping]]] = ..., shard: _Optional[int] = ..., epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., ordinal: _Optional[int] = ...) -> None: ...

class CounterChange(_message.Message):
    __slots__ = ("budget", "partition", "meter", "custom_meter", "window_start_time", "held", "committed", "credit")
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
    WINDOW_START_TIME_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    budget: str
    partition: _containers.ScalarMap[str, str]
    meter: _types_pb2.Meter
    custom_meter: str
    window_start_time: _timestamp_pb2.Timestamp
    held: int
    committed: int
    credit: int
    def __init__(self, budget: _Optional[str] = ..., partition: _Optional[_Mapping[str, str]] = ..., meter: _Optional[_Union[_types_pb2.Meter, str]] = ..., custom_meter: _Optional[str] = ..., window_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held: _Optional[int] = ..., committed: _Optional[int] = ..., credit: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("org", "deep", "repair", "page_token")
    ORG_FIELD_NUMBER: _ClassVar[int]
    DEEP_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org: str
    deep: bool
    repair: bool
    page_token: str
    def __init__(self, org: _Optional[str] = ..., deep: _Optional[bool] = ..., repair: _Optional[bool] = ..., page_token: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("shards", "checked_counter_count", "checked_hold_count", "differences", "difference_count", "repaired_count", "next_page_token", "shard_count")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    CHECKED_COUNTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHECKED_HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[int]
    checked_counter_count: int
    checked_hold_count: int
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    difference_count: int
    repaired_count: int
    next_page_token: str
    shard_count: int
    def __init__(self, shards: _Optional[_Iterable[int]] = ..., checked_counter_count: _Optional[int] = ..., checked_hold_count: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ..., difference_count: _Optional[int] = ..., repaired_count: _Optional[int] = ..., next_page_token: _Optional[str] = ..., shard_count: _Optional[int] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("shard", "kind", "name", "field", "ledger", "found", "repaired")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Difference.Kind]
        KIND_COUNTER: _ClassVar[Difference.Kind]
        KIND_HOLD: _ClassVar[Difference.Kind]
        KIND_HELD_SUM: _ClassVar[Difference.Kind]
        KIND_BALANCE: _ClassVar[Difference.Kind]
    KIND_UNSPECIFIED: Difference.Kind
    KIND_COUNTER: Difference.Kind
    KIND_HOLD: Difference.Kind
    KIND_HELD_SUM: Difference.Kind
    KIND_BALANCE: Difference.Kind
    SHARD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    shard: int
    kind: Difference.Kind
    name: str
    field: str
    ledger: int
    found: int
    repaired: bool
    def __init__(self, shard: _Optional[int] = ..., kind: _Optional[_Union[Difference.Kind, str]] = ..., name: _Optional[str] = ..., field: _Optional[str] = ..., ledger: _Optional[int] = ..., found: _Optional[int] = ..., repaired: _Optional[bool] = ...) -> None: ...
