"""`bursar ledger`: what was booked, entry by entry."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import SUBJECT_LEVELS, AsJson, Who, subject_of
from bursar.cli.operator import CALL_TIMEOUT_S, enum_name, message_json, operating, time_of
from bursar.cli.printing import console, plural, print_json, print_plain
from bursar.cli.render import amount_text, money_text
from bursar.cli.span import Since, Until, Zone, print_recorded, stamp, time_given
from bursar_client import Meter
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as pb
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub

ENTRIES_MAX = 10_000

_PAGE = 1_000
_VERBS = {
    enum_name(pb.LedgerVerb.DESCRIPTOR, number): pb.LedgerVerb.Name(number)
    for number in pb.LedgerVerb.values()[1:]
}


def ledger(
    subject: Who,
    reservation: Annotated[str, typer.Option(help="Only of this reservation.")] = "",
    request: Annotated[str, typer.Option(help="Only of this request id.")] = "",
    verb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERB",
            help="Only these: " + ", ".join(_VERBS) + ". May be given several times.",
        ),
    ] = None,
    zone: Zone = "UTC",
    since: Since = "",
    until: Until = "",
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="Begin with the oldest, not with the newest.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=ENTRIES_MAX, help="Entries that are shown at the most.")
    ] = 50,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show what was booked for a subject, newest first, from the ledger."""
    who = subject_of(subject)
    for name in verb or ():
        if name not in _VERBS:
            known = ", ".join(_VERBS)
            raise typer.BadParameter(f"{name!r} is not one of {known}", param_hint="--verb")
    start, end = time_given("since", since, zone), time_given("until", until, zone)
    question = pb.ListLedgerEntriesRequest(
        subject=types_pb.Subject(
            **{level: getattr(who, level) for level in SUBJECT_LEVELS}, labels=who.labels
        ),
        reservation_id=reservation,
        request_id=request,
        verbs=[_VERBS[name] for name in verb or ()],
        start_time=stamp(start) if start else None,
        end_time=stamp(end) if end else None,
        order=pb.LEDGER_ORDER_OLDEST_FIRST if oldest_first else pb.LEDGER_ORDER_NEWEST_FIRST,
    )
    entries, answer = _read(question, limit, address)
    if as_json:
        record_time = time_of(answer.record_time) if answer.HasField("record_time") else None
        more = bool(answer.next_page_token)
        shown = [message_json(entry) for entry in entries]
        print_json({"entries": shown, "more": more, "record_time": record_time})
        return
    out = console()
    if not entries:
        print_plain(out, "Nothing was booked.")
    for entry in entries:
        _print_entry(out, entry, zone)
    if answer.next_page_token:
        print_plain(out, f"and more than these {len(entries):,}", style="yellow")
    print_recorded(out, answer, zone)


def _read(
    question: pb.ListLedgerEntriesRequest, limit: int, address: str
) -> tuple[list[pb.LedgerEntry], pb.ListLedgerEntriesResponse]:
    """Return as many entries as are wanted, and the last page."""
    entries: list[pb.LedgerEntry] = []
    with operating(address, UsageServiceStub) as stub:
        while True:
            question.page_size = min(_PAGE, limit - len(entries))
            answer = stub.ListLedgerEntries(question, timeout=CALL_TIMEOUT_S)
            entries += answer.entries
            question.page_token = answer.next_page_token
            if not answer.next_page_token or len(entries) >= limit:
                return entries, answer


def _print_entry(out: Console, entry: pb.LedgerEntry, zone: str) -> None:
    when = time_of(entry.create_time).astimezone(ZoneInfo(zone))
    verb = enum_name(pb.LedgerVerb.DESCRIPTOR, entry.verb).replace("_", " ")
    marks = [name for name in ("late", "estimated") if getattr(entry, name)]
    remark = f" ({', '.join(marks)})" if marks else ""
    print_plain(
        out,
        f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1_000:03}  ",
        (verb, "bold"),
        f"{remark}  {entry.reservation_id}",
    )
    who = [f"{name}={value}" for name in SUBJECT_LEVELS if (value := getattr(entry.subject, name))]
    who += [f"labels.{name}={value}" for name, value in sorted(entry.subject.labels.items())]
    print_plain(out, f"    {' '.join(who)}{_used(entry)}")
    for change in entry.changes:
        print_plain(out, f"    {_changed(change)}")
    if entry.detail:
        print_plain(out, f"    because: {entry.detail}")


def _used(entry: pb.LedgerEntry) -> str:
    if not entry.HasField("usage"):
        return f", {entry.target.model}" if entry.target.model else ""
    used = (
        f"{plural(entry.usage.input_tokens, 'input token')}, "
        f"{plural(entry.usage.output_tokens, 'output token')}"
    )
    cost = money_text(entry.cost_nano_usd) if entry.HasField("cost_nano_usd") else "no known price"
    return f", {entry.target.model}: {used}, {cost}"


def _changed(change: pb.CounterChange) -> str:
    values = ", ".join(f"{name}={value}" for name, value in sorted(change.partition.items()))
    name = f"{change.budget} [{values}]" if values else change.budget
    meter = Meter(enum_name(types_pb.Meter.DESCRIPTOR, change.meter))
    amounts = [
        f"{what} {'+' if amount > 0 else '-'}{amount_text(abs(amount), meter, change.custom_meter)}"
        for what in ("held", "committed", "credit")
        if (amount := getattr(change, what))
    ]
    return f"{name}: {', '.join(amounts) or 'unchanged'}"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ledger)
