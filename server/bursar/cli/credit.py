"""`bursar credit` and `credits`: room for one counter, for a time."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import AsJson
from bursar.cli.operator import CALL_TIMEOUT_S, message_json, operating
from bursar.cli.policy import Actor, Org, login_name, minute_text, time_text
from bursar.cli.printing import console, print_json, print_plain
from bursar.cli.render import amount_text, counters_table, plain_table
from bursar_client._decode import decode_counter, decode_meter
from bursar_client.pb import policy_service_pb2 as pb
from bursar_client.pb.policy_service_pb2_grpc import PolicyServiceStub

CREDITS_SHOWN_MAX = 1_000

_USD = re.compile(r"(?P<sign>[-+]?)(?:\$(?P<dollars>[0-9.]+)|(?P<amount>[0-9.]+) ?usd)")


def credit(
    org: Org,
    budget: Annotated[str, typer.Argument(metavar="BUDGET", help="The budget's name.")],
    amount: Annotated[
        str,
        typer.Argument(
            metavar="AMOUNT",
            help="How much: `5usd`, `12.50usd`, or a whole number in the budget's unit. Below 0 it "
            "takes room away; put -- before it then.",
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    partition: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="NAME=VALUE",
            help="What the budget partitions by, such as user=u1. May be given several times.",
        ),
    ] = None,
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Until when, such as 2026-07-01T00:00:00Z.")
    ] = "",
    for_time: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="For how long, such as 2h; without it and --until, until the window ends.",
        ),
    ] = "",
    actor: Actor = "",
    request_id: Annotated[str, typer.Option(help="Idempotency key; made where not given.")] = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Add room to one counter of a budget for a time."""
    request = pb.AdjustCreditRequest(
        request_id=request_id or str(uuid.uuid4()),
        org=org,
        budget=budget,
        partition=_partition(partition or []),
        expire_time=_expire_time(until, for_time),
        actor=actor or login_name(),
        reason=reason,
    )
    _set_size(request, amount)
    with operating(address, PolicyServiceStub) as policies:
        answer = policies.AdjustCredit(request, timeout=CALL_TIMEOUT_S)
    if as_json:
        print_json(message_json(answer))
        return
    out = console()
    ends = time_text(answer.credit.expire_time)
    print_plain(out, ("credited", "green"), f" {_amount(answer.credit)} until {ends}")
    print_plain(out, f"request {answer.credit.request_id}")
    if answer.HasField("counter"):
        status = decode_counter(answer.counter)
        out.print(counters_table("Counter", [status], out.width))


def credits_(
    org: Org,
    budget: Annotated[str, typer.Option(help="Only those of this budget.")] = "",
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show the credits of an org, newest first; at most 1,000."""
    request = pb.ListCreditsRequest(
        org=org, budget=budget, include_ended=ended, page_size=CREDITS_SHOWN_MAX
    )
    with operating(address, PolicyServiceStub) as policies:
        found = policies.ListCredits(request, timeout=CALL_TIMEOUT_S)
    if as_json:
        print_json([message_json(each) for each in found.credits])
        return
    out = console()
    if not found.credits:
        print_plain(out, "There are no credits.")
        return
    table = plain_table(f"Credits of {org}")
    for name in ("budget", "amount", "until", "who", "when", "why"):
        table.add_column(name, overflow="fold", no_wrap=name in ("amount", "until", "when"))
    for each in found.credits:
        values = ", ".join(f"{name}={value}" for name, value in sorted(each.partition.items()))
        table.add_row(
            Text(f"{each.budget} [{values}]" if values else each.budget),
            Text(_amount(each)),
            minute_text(each.expire_time),
            Text(each.actor),
            minute_text(each.create_time),
            Text(each.reason),
        )
    out.print(table)
    if found.next_page_token:
        print_plain(out, f"and more than these {CREDITS_SHOWN_MAX:,}", style="yellow")


def _set_size(request: pb.AdjustCreditRequest, text: str) -> None:
    """Put an amount into the field that it is given in."""
    money = _USD.fullmatch(text)
    if money is not None:
        digits = money["dollars"] or money["amount"]
        request.usd = digits if money["sign"] != "-" else f"-{digits}"
        return
    try:
        request.amount = int(text.replace(",", ""))
    except ValueError:
        known = "neither like 5usd nor a whole number of the budget's unit"
        raise typer.BadParameter(f"AMOUNT {text!r} is {known}") from None


def _partition(parts: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name or name in given:
            raise typer.BadParameter(f"--for {part!r} is not NAME=VALUE, or NAME comes twice")
        given[name] = value
    return given


def _expire_time(until: str, for_time: str) -> Timestamp | None:
    from bursar.domain.window import parse_duration_ms

    if until and for_time:
        raise typer.BadParameter("give --until or --for-time, not both")
    if not until and not for_time:
        return None
    try:
        if for_time:
            end = datetime.now(UTC) + timedelta(milliseconds=parse_duration_ms(for_time))
        else:
            end = datetime.fromisoformat(until)
    except ValueError as error:
        option = "--for-time" if for_time else "--until"
        raise typer.BadParameter(f"{option}: {error}") from None
    if end.tzinfo is None:
        raise typer.BadParameter("--until needs a UTC offset, such as 2026-07-01T00:00:00Z")
    message = Timestamp()
    message.FromDatetime(end)
    return message


def _amount(each: pb.Credit) -> str:
    return amount_text(each.amount, decode_meter(each.meter), each.custom_meter)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(credit)
    app.command("credits")(credits_)
