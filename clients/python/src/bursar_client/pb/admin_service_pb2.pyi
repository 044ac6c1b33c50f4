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

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("server_id", "status_time", "shards", "verification", "rebuilds", "servers", "policies", "reject_count", "rejects")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    REBUILDS_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    REJECT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTS_FIELD_NUMBER: _ClassVar[int]
    server_id: str
    status_time: _timestamp_pb2.Timestamp
    shards: _containers.RepeatedCompositeFieldContainer[ShardStatus]
    verification: VerificationStatus
    rebuilds: _containers.RepeatedCompositeFieldContainer[RebuildEvent]
    servers: _containers.RepeatedCompositeFieldContainer[ServerStatus]
    policies: _containers.RepeatedCompositeFieldContainer[PolicyStatus]
    reject_count: int
    rejects: _containers.RepeatedCompositeFieldContainer[RejectStatus]
    def __init__(self, server_id: _Optional[str] = ..., status_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shards: _Optional[_Iterable[_Union[ShardStatus, _Mapping]]] = ..., verification: _Optional[_Union[VerificationStatus, _Mapping]] = ..., rebuilds: _Optional[_Iterable[_Union[RebuildEvent, _Mapping]]] = ..., servers: _Optional[_Iterable[_Union[ServerStatus, _Mapping]]] = ..., policies: _Optional[_Iterable[_Union[PolicyStatus, _Mapping]]] = ..., reject_count: _Optional[int] = ..., rejects: _Optional[_Iterable[_Union[RejectStatus, _Mapping]]] = ...) -> None: ...

class ShardStatus(_message.Message):
    __slots__ = ("shard", "epoch", "state", "waiting_count", "lag", "owner_server_id", "recorded_sequence", "record_time", "rebuild")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[ShardStatus.State]
        STATE_LIVE: _ClassVar[ShardStatus.State]
        STATE_COLD: _ClassVar[ShardStatus.State]
        STATE_REBUILDING: _ClassVar[ShardStatus.State]
        STATE_REPLAYING: _ClassVar[ShardStatus.State]
    STATE_UNSPECIFIED: ShardStatus.State
    STATE_LIVE: ShardStatus.State
    STATE_COLD: ShardStatus.State
    STATE_REBUILDING: ShardStatus.State
    STATE_REPLAYING: ShardStatus.State
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    OWNER_SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    shard: int
    epoch: str
    state: ShardStatus.State
    waiting_count: int
    lag: _duration_pb2.Duration
    owner_server_id: str
    recorded_sequence: int
    record_time: _timestamp_pb2.Timestamp
    rebuild: RebuildStatus
    def __init__(self, shard: _Optional[int] = ..., epoch: _Optional[str] = ..., state: _Optional[_Union[ShardStatus.State, str]] = ..., waiting_count: _Optional[int] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., owner_server_id: _Optional[str] = ..., recorded_sequence: _Optional[int] = ..., record_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rebuild: _Optional[_Union[RebuildStatus, _Mapping]] = ...) -> None: ...

class VerificationStatus(_message.Message):
    __slots__ = ("verify_time", "checked_counter_count", "checked_hold_count", "difference_count")
    VERIFY_TIME_FIELD_NUMBER: _ClassVar[int]
    CHECKED_COUNTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHECKED_HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    verify_time: _timestamp_pb2.Timestamp
    checked_counter_count: int
    checked_hold_count: int
    difference_count: int
    def __init__(self, verify_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., checked_counter_count: _Optional[int] = ..., checked_hold_count: _Optional[int] = ..., difference_count: _Optional[int] = ...) -> None: ...

class RebuildStatus(_message.Message):
    __slots__ = ("epoch", "cause", "start_time", "end_time", "counter_count", "hold_count")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    cause: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    counter_count: int
    hold_count: int
    def __init__(self, epoch: _Optional[str] = ..., cause: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counter_count: _Optional[int] = ..., hold_count: _Optional[int] = ...) -> None: ...

class RebuildEvent(_message.Message):
    __slots__ = ("shards", "cause", "server_id", "start_time", "end_time", "counter_count", "hold_count", "committed_nano_usd", "held_nano_usd", "resent_count")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    COUNTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    HELD_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    RESENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[int]
    cause: str
    server_id: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    counter_count: int
    hold_count: int
    committed_nano_usd: int
    held_nano_usd: int
    resent_count: int
    def __init__(self, shards: _Optional[_Iterable[int]] = ..., cause: _Optional[str] = ..., server_id: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counter_count: _Optional[int] = ..., hold_count: _Optional[int] = ..., committed_nano_usd: _Optional[int] = ..., held_nano_usd: _Optional[int] = ..., resent_count: _Optional[int] = ...) -> None: ...

class ServerStatus(_message.Message):
    __slots__ = ("server_id", "address", "start_time", "seen_time")
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    server_id: str
    address: str
    start_time: _timestamp_pb2.Timestamp
    seen_time: _timestamp_pb2.Timestamp
    def __init__(self, server_id: _Optional[str] = ..., address: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PolicyStatus(_message.Message):
    __slots__ = ("org", "version", "newest_version", "newest_number", "apply_time")
    ORG_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    APPLY_TIME_FIELD_NUMBER: _ClassVar[int]
    org: str
    version: str
    newest_version: str
    newest_number: int
    apply_time: _timestamp_pb2.Timestamp
    def __init__(self, org: _Optional[str] = ..., version: _Optional[str] = ..., newest_version: _Optional[str] = ..., newest_number: _Optional[int] = ..., apply_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RejectStatus(_message.Message):
    __slots__ = ("shard", "epoch", "stream_id", "fault", "reject_time")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REJECT_TIME_FIELD_NUMBER: _ClassVar[int]
    shard: int
    epoch: str
    stream_id: str
    fault: str
    reject_time: _timestamp_pb2.Timestamp
    def __init__(self, shard: _Optional[int] = ..., epoch: _Optional[str] = ..., stream_id: _Optional[str] = ..., fault: _Optional[str] = ..., reject_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RebuildRequest(_message.Message):
    __slots__ = ("org", "shard", "all")
    ORG_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    org: str
    shard: int
    all: bool
    def __init__(self, org: _Optional[str] = ..., shard: _Optional[int] = ..., all: _Optional[bool] = ...) -> None: ...

class RebuildResponse(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[RebuildingShard]
    def __init__(self, shards: _Optional[_Iterable[_Union[RebuildingShard, _Mapping]]] = ...) -> None: ...

class RebuildingShard(_message.Message):
    __slots__ = ("shard", "epoch")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    shard: int
    epoch: str
    def __init__(self, shard: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...
