"""`bursar usage`: what was used, by level, model and time, with bars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import SUBJECT_LEVELS, AsJson, Who, subject_of
from bursar.cli.operator import CALL_TIMEOUT_S, enum_name, message_json, operating, time_of
from bursar.cli.printing import console, plural, print_json, print_plain
from bursar.cli.span import (
    LAST,
    Since,
    Until,
    Zone,
    print_recorded,
    stamp,
    start_of_last,
    time_given,
)
from bursar.cli.usage_table import usage_table
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as pb
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub

ROWS_MAX = 10_000
"""Rows that are read at the most; what is asked more finely is for machines, page by page."""

_PAGE = 1_000
_DIMENSIONS = {
    enum_name(pb.UsageDimension.DESCRIPTOR, number): pb.UsageDimension.Name(number)
    for number in pb.UsageDimension.values()[1:]
}
_INTERVALS = {
    enum_name(pb.UsageInterval.DESCRIPTOR, number): pb.UsageInterval.Name(number)
    for number in pb.UsageInterval.values()[1:]
}


def usage(
    subject: Who,
    group_by: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Any of " + ", ".join(_DIMENSIONS) + ", with commas."),
    ] = "",
    by: Annotated[
        str, typer.Option(metavar="INTERVAL", help="Cut the time: " + ", ".join(_INTERVALS) + ".")
    ] = "none",
    zone: Zone = "UTC",
    last: Annotated[
        str, typer.Option(metavar="DURATION", help="How far back, to the full hour.")
    ] = LAST,
    since: Since = "",
    until: Until = "",
    model: Annotated[str, typer.Option(help="Only of this model.")] = "",
    provider: Annotated[str, typer.Option(help="Only of this provider.")] = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show what was used and what it cost, from the ledger."""
    who = subject_of(subject)
    dimensions = _named("--group-by", _DIMENSIONS, group_by.split(",") if group_by else [])
    [interval] = _named("--by", _INTERVALS, [by])
    start = time_given("since", since, zone) or start_of_last(last, datetime.now(UTC))
    end = time_given("until", until, zone)
    request = pb.QueryUsageRequest(
        subject=types_pb.Subject(
            **{level: getattr(who, level) for level in SUBJECT_LEVELS}, labels=who.labels
        ),
        target=types_pb.Target(provider=provider, model=model),
        start_time=stamp(start),
        end_time=stamp(end) if end else None,
        group_by=dimensions,
        interval=interval,
        time_zone=zone,
        page_size=_PAGE,
    )
    rows, answer = _read(request, address)
    if as_json:
        record_time = time_of(answer.record_time) if answer.HasField("record_time") else None
        more = bool(answer.next_page_token)
        shown = [message_json(row) for row in rows]
        print_json({"rows": shown, "more": more, "record_time": record_time})
        return
    out = console()
    if rows:
        names = [name for name in group_by.split(",") if name]
        out.print(usage_table(f"Usage of {who.org}", rows, names, by, zone))
    else:
        print_plain(out, "Nothing was used.")
    if answer.next_page_token:
        print_plain(out, f"and more than these {plural(len(rows), 'row')}", style="yellow")
    print_recorded(out, answer, zone)


def _named(option: str, known: dict[str, str], names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"{name!r} is not one of {', '.join(known)}", param_hint=option
            )
    return [known[name] for name in names]


def _read(
    request: pb.QueryUsageRequest, address: str
) -> tuple[list[pb.UsageRow], pb.QueryUsageResponse]:
    """Return the rows of every page, and the last page."""
    rows: list[pb.UsageRow] = []
    with operating(address, UsageServiceStub) as stub:
        while True:
            answer = stub.QueryUsage(request, timeout=CALL_TIMEOUT_S)
            rows += answer.rows
            request.page_token = answer.next_page_token
            if not answer.next_page_token or len(rows) >= ROWS_MAX:
                return rows, answer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(usage)
