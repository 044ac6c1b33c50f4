"""Options that say of what time something is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from bursar.cli.operator import time_of
from bursar.cli.printing import print_plain
from bursar.domain.window import is_timezone, parse_duration_ms
from bursar_client.pb import usage_service_pb2 as pb

LAST = "7d"


def _known_zone(value: str) -> str:
    if not is_timezone(value):
        raise typer.BadParameter(f"{value!r} is not the name of an IANA time zone")
    return value


Zone = Annotated[
    str,
    typer.Option(
        "--zone",
        metavar="ZONE",
        callback=_known_zone,
        help="Time zone of days and of times without an offset, such as Asia/Kolkata.",
    ),
]
Since = Annotated[
    str,
    typer.Option(metavar="TIME", help="From when: 2026-03-05, 2026-03-05T10:30, or with +01:00."),
]
Until = Annotated[str, typer.Option(metavar="TIME", help="Until before when.")]


def time_given(name: str, text: str, zone: str) -> datetime | None:
    """Return the instant that an option names, or None where it is not given.

    Raises:
        typer.BadParameter: It is no date or time.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a date or time such as 2026-03-05T10:30", param_hint=f"--{name}"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=ZoneInfo(zone))


def start_of_last(text: str, now: datetime) -> datetime:
    """Return where a time that ends now begins, on the full hour.

    Args:
        text: How long, such as `7d`.
        now: Its end.

    Raises:
        typer.BadParameter: It is no duration.
    """
    try:
        length = timedelta(milliseconds=parse_duration_ms(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--last") from None
    return (now.astimezone(UTC) - length).replace(minute=0, second=0, microsecond=0)


def stamp(time: datetime) -> Timestamp:
    """Return an instant as a message has it."""
    message = Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def print_recorded(
    out: Console, answer: pb.QueryUsageResponse | pb.ListLedgerEntriesResponse, zone: str
) -> None:
    """Print how far the ledger is."""
    if answer.HasField("record_time"):
        recorded = time_of(answer.record_time).astimezone(ZoneInfo(zone))
        print_plain(out, f"last recorded {recorded:%Y-%m-%d %H:%M:%S} {zone}", style="dim")
    else:
        print_plain(out, "nothing has been recorded yet", style="dim")
