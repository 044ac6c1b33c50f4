"""Past usage, added up by the server's ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from bursar_client._decode import decode_target, decode_time
from bursar_client._decode_usage import decode_subject
from bursar_client._encode import encode_subject
from bursar_client._values import Subject, Target, usd
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as pb


class UsageDimension(StrEnum):
    """What usage can be grouped by."""

    TEAM = "team"
    FEATURE = "feature"
    AGENT = "agent"
    USER = "user"
    TASK = "task"
    PROVIDER = "provider"
    MODEL = "model"
    TOKEN_CLASS = "token_class"  # noqa: S105 - a name, not a secret


class UsageInterval(StrEnum):
    """How time is cut."""

    NONE = "none"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class TokenClass(StrEnum):
    """A kind of token that is counted by itself; all but the first two are parts of those."""

    INPUT = "input"
    OUTPUT = "output"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    INPUT_AUDIO = "input_audio"
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    UNKNOWN = "unknown"
    """A class that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Of what time usage is asked for, of what, and how it is grouped.

    Attributes:
        start_time: From when, with a time zone.
        end_time: Until before when, with a time zone; None: until the end of the current hour.
        group_by: What to group by, each at most once.
        interval: How to cut the time.
        time_zone: IANA name of the zone whose hours, days and months are meant; empty: UTC.
        provider: Only of this one, without regard to case.
        model: Only of this one, without regard to case.
    """

    start_time: datetime
    end_time: datetime | None = None
    group_by: tuple[UsageDimension, ...] = ()
    interval: UsageInterval = UsageInterval.NONE
    time_zone: str = ""
    provider: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        for time in (self.start_time, self.end_time):
            if time is not None and time.tzinfo is None:
                raise ValueError("start_time and end_time must have a time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What one group used in one interval.

    Attributes:
        start_time: First instant of the interval.
        end_time: First instant after it.
        subject: The org, and the levels that are grouped by.
        target: Provider and model, where they are grouped by.
        tokens: By class; those that are there. With TOKEN_CLASS in group_by it is one.
        request_count: Calls of the model. This and all that follows is None with TOKEN_CLASS in
            group_by: it is not known by class.
        cost_nano_usd: What it cost; usage without a known price counts as 0.
        unpriced_count: Settlements whose model had no known price.
        denial_count: Reserves that were denied; None where that is not known so finely.
    """

    start_time: datetime
    end_time: datetime
    subject: Subject
    target: Target
    tokens: dict[TokenClass, int]
    request_count: int | None
    cost_nano_usd: int | None
    unpriced_count: int | None
    denial_count: int | None

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in USD, exactly."""
        return None if self.cost_nano_usd is None else usd(self.cost_nano_usd)


_CLASSES = {
    number: TokenClass(name.removeprefix("TOKEN_CLASS_").lower())
    for name, number in pb.TokenClass.items()
    if number
}


def encode_report(
    subject: Subject, report: UsageReport, page_size: int, page_token: str
) -> pb.QueryUsageRequest:
    """Return the request of a page."""
    return pb.QueryUsageRequest(
        subject=encode_subject(subject),
        target=types_pb.Target(provider=report.provider, model=report.model),
        start_time=_stamp(report.start_time),
        end_time=_stamp(report.end_time) if report.end_time is not None else None,
        group_by=[f"USAGE_DIMENSION_{each.name}" for each in report.group_by],
        interval=f"USAGE_INTERVAL_{report.interval.name}",
        time_zone=report.time_zone,
        page_size=page_size,
        page_token=page_token,
    )


def decode_row(message: pb.UsageRow) -> UsageRow:
    """Return one row."""

    def given(name: str) -> int | None:
        return getattr(message, name) if message.HasField(name) else None

    if message.HasField("token_count"):
        token_class = _CLASSES.get(message.token_class, TokenClass.UNKNOWN)
        tokens = {token_class: message.token_count}
    else:
        counts = {each: getattr(message.tokens, f"{each}_tokens") for each in _CLASSES.values()}
        tokens = {each: count for each, count in counts.items() if count}
    return UsageRow(
        start_time=decode_time(message.start_time),
        end_time=decode_time(message.end_time),
        subject=decode_subject(message.subject),
        target=decode_target(message.target),
        tokens=tokens,
        request_count=given("request_count"),
        cost_nano_usd=given("cost_nano_usd"),
        unpriced_count=given("unpriced_count"),
        denial_count=given("denial_count"),
    )


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time.astimezone(UTC))
    return stamp
