import datetime

from bursar.pb import budget_pb2 as _budget_pb2
from bursar.pb import policy_pb2 as _policy_pb2
from bursar.pb import types_pb2 as _types_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateBudgetRequest(_message.Message):
    __slots__ = ("org", "budget", "actor", "reason")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: _budget_pb2.Budget
    actor: str
    reason: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CreateBudgetResponse(_message.Message):
    __slots__ = ("budget", "version")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    budget: _budget_pb2.Budget
    version: _policy_pb2.PolicyVersion
    def __init__(self, budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ..., version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ...) -> None: ...

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
    budget: _budget_pb2.Budget
    def __init__(self, budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ...) -> None: ...

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
    budgets: _containers.RepeatedCompositeFieldContainer[_budget_pb2.Budget]
    next_page_token: str
    def __init__(self, budgets: _Optional[_Iterable[_Union[_budget_pb2.Budget, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateBudgetRequest(_message.Message):
    __slots__ = ("org", "budget", "update_mask", "etag", "actor", "reason")
    ORG_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org: str
    budget: _budget_pb2.Budget
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    actor: str
    reason: str
    def __init__(self, org: _Optional[str] = ..., budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateBudgetResponse(_message.Message):
    __slots__ = ("budget", "version")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    budget: _budget_pb2.Budget
    version: _policy_pb2.PolicyVersion
    def __init__(self, budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ..., version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ...) -> None: ...

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
    version: _policy_pb2.PolicyVersion
    def __init__(self, version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ...) -> None: ...

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
    version: _policy_pb2.PolicyVersion
    changes: _containers.RepeatedCompositeFieldContainer[_policy_pb2.PolicyChange]
    warnings: _containers.RepeatedCompositeFieldContainer[_policy_pb2.PolicyWarning]
    org: str
    def __init__(self, version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[_policy_pb2.PolicyChange, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[_policy_pb2.PolicyWarning, _Mapping]]] = ..., org: _Optional[str] = ...) -> None: ...

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
    version: _policy_pb2.PolicyVersion
    document: str
    deciding_policy_version: str
    def __init__(self, version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ..., document: _Optional[str] = ..., deciding_policy_version: _Optional[str] = ...) -> None: ...

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
    version: _policy_pb2.PolicyVersion
    changes: _containers.RepeatedCompositeFieldContainer[_policy_pb2.PolicyChange]
    def __init__(self, version: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[_policy_pb2.PolicyChange, _Mapping]]] = ...) -> None: ...

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
