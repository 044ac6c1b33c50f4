"""`bursar reserve`, `commit` and `release`: the calls by hand, for trying."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import COUNT_MAX, AsJson, Model, Provider, Who, connected, subject_of
from bursar.cli.printing import console, plural, print_json, print_plain
from bursar.cli.render import amount_text, counters_table, plain_table
from bursar_client import (
    BursarError,
    CommitOperation,
    Degradation,
    Denial,
    Directive,
    Estimate,
    Grant,
    Operation,
    ReleaseOperation,
    ReserveOperation,
    Settlement,
    Target,
    Usage,
)

EXIT_DENIED = 3

Accepts = Annotated[
    list[Degradation] | None,
    typer.Option(
        "--accept",
        metavar="DEGRADATION",
        help="What the caller can carry out: "
        + ", ".join(Degradation)
        + ". May be given several times.",
    ),
]
ReservationId = Annotated[
    str, typer.Argument(metavar="RESERVATION", help="Its id, as `bursar reserve` printed it.")
]


def reserve(
    model: Model,
    subject: Who,
    input_tokens: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="What the call sends, cached tokens included.")
    ],
    max_output_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, max=COUNT_MAX, help="Wanted at the most; the policy's default where not given."
        ),
    ] = None,
    min_output_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, max=COUNT_MAX, help="The fewest that are of use: so short an answer is accepted."
        ),
    ] = None,
    provider: Provider = "",
    accept: Accepts = None,
    ttl_s: Annotated[
        int, typer.Option(min=1, max=86_400, help="How long the hold lasts, in seconds.")
    ] = 120,
    request_id: Annotated[str, typer.Option(help="Idempotency key; made where not given.")] = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Ask whether a call of MODEL may be made, and hold its amounts. Exit code 3 if denied."""
    operation = ReserveOperation(
        subject=subject_of(subject),
        target=Target(provider=provider, model=model),
        estimate=Estimate(
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            min_output_tokens=min_output_tokens,
        ),
        ttl=timedelta(seconds=ttl_s),
        accepts=tuple(accept or ()),
        request_id=request_id or str(uuid.uuid4()),
    )
    answer = _carry_out(address, operation)
    if as_json:
        print_json(answer)
    elif isinstance(answer, Grant):
        _print_grant(console(), answer)
    elif isinstance(answer, Denial):
        _print_denial(console(), answer)
    if isinstance(answer, Denial):
        raise typer.Exit(EXIT_DENIED)


def commit(
    reservation_id: ReservationId,
    model: Annotated[str, typer.Option(help="The model that answered; its price is charged.")],
    input_tokens: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="What it read, cached tokens included.")
    ],
    output_tokens: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="What it wrote, reasoning included.")
    ],
    cache_read_tokens: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="Part of the input read from its cache.")
    ] = 0,
    cache_write_tokens: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="Part of the input written to its cache.")
    ] = 0,
    provider: Provider = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Book what the call of a reservation really used."""
    operation = CommitOperation(
        reservation_id=reservation_id,
        usage=Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
        ),
        target=Target(provider=provider, model=model),
    )
    _print_settlement(_carry_out(address, operation), as_json)


def release(
    reservation_id: ReservationId, address: Address = DEFAULT_ADDRESS, as_json: AsJson = False
) -> None:
    """Give a reservation back: its call was not made."""
    operation = ReleaseOperation(reservation_id=reservation_id)
    _print_settlement(_carry_out(address, operation), as_json)


def _carry_out(address: str, operation: Operation) -> object:
    with connected(address) as client:
        [answer] = client.batch([operation])
        if isinstance(answer, BursarError):
            raise answer
    return answer


def _print_grant(console: Console, grant: Grant) -> None:
    style = "yellow" if grant.degraded else "green"
    decision = grant.decision.value.replace("_", ", ")
    print_plain(
        console,
        (decision, style),
        f": call {grant.target.model} for at most ",
        plural(grant.max_output_tokens, "output token"),
    )
    print_plain(console, f"reservation {grant.reservation_id}")
    if grant.expire_time is not None:
        print_plain(console, f"held until {grant.expire_time.astimezone():%H:%M:%S}")
    if grant.unbudgeted:
        print_plain(console, "no budget applies")
    if grant.unpriced:
        print_plain(console, "the model has no known price")
    _print_directive(console, grant.directive)
    console.print(counters_table("Counters, tightest first", grant.counters, console.width))


def _print_denial(console: Console, denial: Denial) -> None:
    print_plain(console, ("denied", "red"), f" ({denial.kind.value}): {denial.explanation}")
    _print_directive(console, denial.directive)
    if denial.retry_after is not None:
        print_plain(console, f"  try again in {denial.retry_after}")
    if denial.counters:
        console.print(counters_table("Counters, tightest first", denial.counters, console.width))


def _print_directive(console: Console, directive: Directive) -> None:
    lines = []
    if directive.switch_model:
        by = ", ".join(directive.switch_model.budgets)
        lines.append(f"call {directive.switch_model.target.model} instead ({by})")
    if directive.shorten_output:
        by = ", ".join(directive.shorten_output.budgets)
        tokens = plural(directive.shorten_output.max_output_tokens, "output token")
        lines.append(f"ask for at most {tokens} ({by})")
    if directive.truncate_input:
        by = ", ".join(directive.truncate_input.budgets)
        tokens = plural(directive.truncate_input.max_input_tokens, "token")
        lines.append(f"cut the input to {tokens} ({by})")
    if directive.finish:
        lines.append(f"wrap up and return what there is ({', '.join(directive.finish.budgets)})")
    if directive.serve_cached:
        lines.append(f"answer from a cache ({', '.join(directive.serve_cached.budgets)})")
    if directive.queue:
        lines.append(f"queue for at most {directive.queue.max_wait}")
    if directive.message:
        lines.append(f"say: {directive.message}")
    lines.extend(f"{notice.budget}: {notice.message}" for notice in directive.notices)
    for line in lines:
        print_plain(console, f"  {line}")


def _print_settlement(answer: object, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    assert isinstance(answer, Settlement)
    out = console()
    late = ", late: its hold had expired before" if answer.late else ""
    print_plain(out, (answer.state.value, "green"), f" {answer.reservation_id}{late}")
    if answer.unpriced:
        print_plain(out, "the model has no known price")
    if answer.charges:
        table = plain_table("Charged")
        table.add_column("meter")
        table.add_column("amount", justify="right")
        table.add_column("above the hold", justify="right")
        for charge in answer.charges:
            name = charge.custom_meter or charge.meter.value.replace("_", " ")
            overage = amount_text(charge.overage, charge.meter, charge.custom_meter)
            table.add_row(
                Text(name),
                amount_text(charge.amount, charge.meter, charge.custom_meter),
                overage if charge.overage else "",
            )
        out.print(table)
    _print_directive(out, answer.directive)
    if answer.counters:
        out.print(counters_table("Counters, tightest first", answer.counters, out.width))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(reserve)
    app.command()(commit)
    app.command()(release)
