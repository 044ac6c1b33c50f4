"""Python client of Bursar, the budget authority for LLM spend.

Begin with `AsyncClient` or `Client`; every other name is what they take, return or raise.
"""

from __future__ import annotations

from bursar_client._answers import (
    BudgetMode,
    Charge,
    CounterOffer,
    CounterStatus,
    Decision,
    Denial,
    DenialKind,
    Extension,
    Grant,
    HeldAmount,
    Hold,
    HoldState,
    Settlement,
)
from bursar_client._async_client import (
    AsyncClient,
)
from bursar_client._async_reservation import (
    AsyncReservation,
)
from bursar_client._calls import (
    OperationResult,
)
from bursar_client._directive import (
    Deny,
    Directive,
    Finish,
    Notice,
    NoticeKind,
    Queue,
    ServeCached,
    ShortenOutput,
    SwitchModel,
    TruncateInput,
)
from bursar_client._errors import (
    AlreadySettled,
    BudgetDenied,
    BursarError,
    ConcurrentChange,
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    RequestIdReused,
    ReservationExpired,
    ReservationNotFound,
    RetryableError,
    SequenceMismatch,
    SettleBacklogFull,
    Unavailable,
    Unsettled,
    UnsettledError,
)
from bursar_client._explanation import (
    BudgetExplanation,
    Explanation,
    PriceExplanation,
    RungExplanation,
)
from bursar_client._operations import (
    CommitOperation,
    ExtendOperation,
    Operation,
    RecordOperation,
    ReleaseOperation,
    ReserveOperation,
    SettleOperation,
)
from bursar_client._settings import (
    Settings,
)
from bursar_client._settling import (
    SettleStats,
)
from bursar_client._sync_client import (
    Client,
)
from bursar_client._sync_reservation import (
    Reservation,
)
from bursar_client._usage_report import (
    TokenClass,
    UsageDimension,
    UsageInterval,
    UsageReport,
    UsageRow,
)
from bursar_client._values import (
    Degradation,
    Estimate,
    Meter,
    Outcome,
    Priority,
    Subject,
    Target,
    Usage,
    usd,
)

__all__ = [
    "AlreadySettled",
    "AsyncClient",
    "AsyncReservation",
    "BudgetDenied",
    "BudgetExplanation",
    "BudgetMode",
    "BursarError",
    "Charge",
    "Client",
    "CommitOperation",
    "ConcurrentChange",
    "CounterOffer",
    "CounterStatus",
    "DeadlineExceeded",
    "Decision",
    "Degradation",
    "Denial",
    "DenialKind",
    "Deny",
    "Directive",
    "Estimate",
    "Explanation",
    "ExtendOperation",
    "Extension",
    "FieldViolation",
    "Finish",
    "Grant",
    "HeldAmount",
    "Hold",
    "HoldState",
    "InternalError",
    "InvalidRequest",
    "Meter",
    "Notice",
    "NoticeKind",
    "Operation",
    "OperationResult",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "PriceExplanation",
    "Priority",
    "Queue",
    "RecordOperation",
    "ReleaseOperation",
    "RequestIdReused",
    "Reservation",
    "ReservationExpired",
    "ReservationNotFound",
    "ReserveOperation",
    "RetryableError",
    "RungExplanation",
    "SequenceMismatch",
    "ServeCached",
    "Settings",
    "SettleBacklogFull",
    "SettleOperation",
    "SettleStats",
    "Settlement",
    "ShortenOutput",
    "Subject",
    "SwitchModel",
    "Target",
    "TokenClass",
    "TruncateInput",
    "Unavailable",
    "Unsettled",
    "UnsettledError",
    "Usage",
    "UsageDimension",
    "UsageInterval",
    "UsageReport",
    "UsageRow",
    "usd",
]
