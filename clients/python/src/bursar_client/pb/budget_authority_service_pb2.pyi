import datetime

from bursar_client.pb import error_reason_pb2 as _error_reason_pb2
from bursar_client.pb import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReserveRequest(_message.Message):
    __slots__ = ("request_id", "subject", "target", "estimate", "ttl", "priority", "accepts", "validate_only", "closing")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    estimate: _types_pb2.Estimate
    ttl: _duration_pb2.Duration
    priority: _types_pb2.Priority
    accepts: _containers.RepeatedScalarFieldContainer[_types_pb2.Degradation]
    validate_only: bool
    closing: bool
    def __init__(self, request_id: _Optional[str] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., estimate: _Optional[_Union[_types_pb2.Estimate, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ..., accepts: _Optional[_Iterable[_Union[_types_pb2.Degradation, str]]] = ..., validate_only: _Optional[bool] = ..., closing: _Optional[bool] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("reservation_id", "decision", "target", "max_output_tokens", "max_input_tokens", "directive", "expire_time", "ttl", "counters", "denial", "unbudgeted", "unpriced", "policy_version", "not_enforced")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    DENIAL_FIELD_NUMBER: _ClassVar[int]
    UNBUDGETED_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_ENFORCED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    decision: _types_pb2.Decision
    target: _types_pb2.Target
    max_output_tokens: int
    max_input_tokens: int
    directive: _types_pb2.Directive
    expire_time: _timestamp_pb2.Timestamp
    ttl: _duration_pb2.Duration
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    denial: _types_pb2.Denial
    unbudgeted: bool
    unpriced: bool
    policy_version: str
    not_enforced: bool
    def __init__(self, reservation_id: _Optional[str] = ..., decision: _Optional[_Union[_types_pb2.Decision, str]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., max_output_tokens: _Optional[int] = ..., max_input_tokens: _Optional[int] = ..., directive: _Optional[_Union[_types_pb2.Directive, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., denial: _Optional[_Union[_types_pb2.Denial, _Mapping]] = ..., unbudgeted: _Optional[bool] = ..., unpriced: _Optional[bool] = ..., policy_version: _Optional[str] = ..., not_enforced: _Optional[bool] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("reservation_id", "usage", "target", "outcome", "partial", "sequence", "estimated")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    usage: _types_pb2.Usage
    target: _types_pb2.Target
    outcome: _types_pb2.Outcome
    partial: bool
    sequence: int
    estimated: bool
    def __init__(self, reservation_id: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., partial: _Optional[bool] = ..., sequence: _Optional[int] = ..., estimated: _Optional[bool] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("reservation_id", "charges", "counters", "directive", "state", "late", "expire_time", "unpriced")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    CHARGES_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    charges: _containers.RepeatedCompositeFieldContainer[_types_pb2.Charge]
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    directive: _types_pb2.Directive
    state: _types_pb2.HoldState
    late: bool
    expire_time: _timestamp_pb2.Timestamp
    unpriced: bool
    def __init__(self, reservation_id: _Optional[str] = ..., charges: _Optional[_Iterable[_Union[_types_pb2.Charge, _Mapping]]] = ..., counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., directive: _Optional[_Union[_types_pb2.Directive, _Mapping]] = ..., state: _Optional[_Union[_types_pb2.HoldState, str]] = ..., late: _Optional[bool] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., unpriced: _Optional[bool] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("reservation_id",)
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    def __init__(self, reservation_id: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("reservation_id", "counters", "state")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    state: _types_pb2.HoldState
    def __init__(self, reservation_id: _Optional[str] = ..., counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., state: _Optional[_Union[_types_pb2.HoldState, str]] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("reservation_id", "ttl", "max_output_tokens")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    ttl: _duration_pb2.Duration
    max_output_tokens: int
    def __init__(self, reservation_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_output_tokens: _Optional[int] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("reservation_id", "decision", "max_output_tokens", "expire_time", "counters", "denial")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    DENIAL_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    decision: _types_pb2.Decision
    max_output_tokens: int
    expire_time: _timestamp_pb2.Timestamp
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    denial: _types_pb2.Denial
    def __init__(self, reservation_id: _Optional[str] = ..., decision: _Optional[_Union[_types_pb2.Decision, str]] = ..., max_output_tokens: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., denial: _Optional[_Union[_types_pb2.Denial, _Mapping]] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("request_id", "subject", "target", "usage", "outcome", "estimated")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    usage: _types_pb2.Usage
    outcome: _types_pb2.Outcome
    estimated: bool
    def __init__(self, request_id: _Optional[str] = ..., subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., estimated: _Optional[bool] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("reservation_id", "charges", "counters", "directive", "unpriced", "unbudgeted")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    CHARGES_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    DIRECTIVE_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    UNBUDGETED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    charges: _containers.RepeatedCompositeFieldContainer[_types_pb2.Charge]
    counters: _containers.RepeatedCompositeFieldContainer[_types_pb2.CounterStatus]
    directive: _types_pb2.Directive
    unpriced: bool
    unbudgeted: bool
    def __init__(self, reservation_id: _Optional[str] = ..., charges: _Optional[_Iterable[_Union[_types_pb2.Charge, _Mapping]]] = ..., counters: _Optional[_Iterable[_Union[_types_pb2.CounterStatus, _Mapping]]] = ..., directive: _Optional[_Union[_types_pb2.Directive, _Mapping]] = ..., unpriced: _Optional[bool] = ..., unbudgeted: _Optional[bool] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("subject", "target", "estimate", "priority", "accepts", "closing")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTS_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    subject: _types_pb2.Subject
    target: _types_pb2.Target
    estimate: _types_pb2.Estimate
    priority: _types_pb2.Priority
    accepts: _containers.RepeatedScalarFieldContainer[_types_pb2.Degradation]
    closing: bool
    def __init__(self, subject: _Optional[_Union[_types_pb2.Subject, _Mapping]] = ..., target: _Optional[_Union[_types_pb2.Target, _Mapping]] = ..., estimate: _Optional[_Union[_types_pb2.Estimate, _Mapping]] = ..., priority: _Optional[_Union[_types_pb2.Priority, str]] = ..., accepts: _Optional[_Iterable[_Union[_types_pb2.Degradation, str]]] = ..., closing: _Optional[bool] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: ReserveResponse
    def __init__(self, decision: _Optional[_Union[ReserveResponse, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("reserve", "commit", "release", "extend", "record")
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    reserve: ReserveRequest
    commit: CommitRequest
    release: ReleaseRequest
    extend: ExtendRequest
    record: RecordRequest
    def __init__(self, reserve: _Optional[_Union[ReserveRequest, _Mapping]] = ..., commit: _Optional[_Union[CommitRequest, _Mapping]] = ..., release: _Optional[_Union[ReleaseRequest, _Mapping]] = ..., extend: _Optional[_Union[ExtendRequest, _Mapping]] = ..., record: _Optional[_Union[RecordRequest, _Mapping]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("reserve", "commit", "release", "extend", "record", "error")
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    reserve: ReserveResponse
    commit: CommitResponse
    release: ReleaseResponse
    extend: ExtendResponse
    record: RecordResponse
    error: OperationError
    def __init__(self, reserve: _Optional[_Union[ReserveResponse, _Mapping]] = ..., commit: _Optional[_Union[CommitResponse, _Mapping]] = ..., release: _Optional[_Union[ReleaseResponse, _Mapping]] = ..., extend: _Optional[_Union[ExtendResponse, _Mapping]] = ..., record: _Optional[_Union[RecordResponse, _Mapping]] = ..., error: _Optional[_Union[OperationError, _Mapping]] = ...) -> None: ...

class OperationError(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata", "field_violations", "retry_after")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: _error_reason_pb2.ErrorReason
    message: str
    metadata: _containers.ScalarMap[str, str]
    field_violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    retry_after: _duration_pb2.Duration
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., field_violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[SessionOperation]
    def __init__(self, operations: _Optional[_Iterable[_Union[SessionOperation, _Mapping]]] = ...) -> None: ...

class SessionOperation(_message.Message):
    __slots__ = ("correlation_id", "operation", "timeout")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    correlation_id: int
    operation: Operation
    timeout: _duration_pb2.Duration
    def __init__(self, correlation_id: _Optional[int] = ..., operation: _Optional[_Union[Operation, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("results", "draining")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SessionResult]
    draining: bool
    def __init__(self, results: _Optional[_Iterable[_Union[SessionResult, _Mapping]]] = ..., draining: _Optional[bool] = ...) -> None: ...

class SessionResult(_message.Message):
    __slots__ = ("correlation_id", "result", "replayed")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    correlation_id: int
    result: OperationResult
    replayed: bool
    def __init__(self, correlation_id: _Optional[int] = ..., result: _Optional[_Union[OperationResult, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...
