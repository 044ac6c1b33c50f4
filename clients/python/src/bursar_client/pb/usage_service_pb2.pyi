import datetime

from bursar_client.pb import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
