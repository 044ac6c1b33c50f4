"""`bursar reserve`, `commit` and `release`: the calls by hand, for trying."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.connection import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Who,
    connected,
    subject_of,
)
from bursar.cli.render import amount_text, counters_table, plain_table, print_json
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
    typer.Option("--accept", help="What the caller can carry out; may be given several times."),
]


def reserve(
    model: str,
    subject: Who,
    input_tokens: Annotated[int, typer.Option(min=0)],
    max_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    min_output_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    provider: str = "",
    accept: Accepts = None,
    ttl_s: Annotated[float, typer.Option(help="How long the hold lasts.")] = 120,
    request_id: Annotated[str, typer.Option(help="Idempotency key; made where empty.")] = "",
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
        _print_grant(Console(), answer)
    elif isinstance(answer, Denial):
        _print_denial(Console(), answer)
    if isinstance(answer, Denial):
        raise typer.Exit(EXIT_DENIED)


def commit(
    reservation_id: str,
    model: Annotated[str, typer.Option(help="The model that answered; its price is charged.")],
    input_tokens: Annotated[int, typer.Option(min=0)],
    output_tokens: Annotated[int, typer.Option(min=0)],
    cache_read_tokens: Annotated[int, typer.Option(min=0)] = 0,
    cache_write_tokens: Annotated[int, typer.Option(min=0)] = 0,
    provider: str = "",
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
    reservation_id: str, address: Address = DEFAULT_ADDRESS, as_json: AsJson = False
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
    console.print(
        f"[green]{grant.decision.value}[/] {grant.target.model}, up to "
        f"{grant.max_output_tokens:,} output tokens",
        highlight=False,
    )
    console.print(f"reservation {grant.reservation_id}", highlight=False)
    if grant.expire_time is not None:
        until = grant.expire_time.astimezone().strftime("%H:%M:%S")
        console.print(f"held until {until}", highlight=False)
    _print_directive(console, grant.directive)
    console.print(counters_table("Counters, tightest first", grant.counters))


def _print_denial(console: Console, denial: Denial) -> None:
    console.print(f"[red]denied[/] ({denial.kind.value}): ", end="")
    console.print(denial.explanation, markup=False, highlight=False)
    _print_directive(console, denial.directive)
    if denial.counters:
        console.print(counters_table("Counters, tightest first", denial.counters))


def _print_directive(console: Console, directive: Directive) -> None:
    lines = []
    if directive.switch_model:
        by = ", ".join(directive.switch_model.budgets)
        lines.append(f"call {directive.switch_model.target.model} instead ({by})")
    if directive.shorten_output:
        by = ", ".join(directive.shorten_output.budgets)
        lines.append(f"at most {directive.shorten_output.max_output_tokens} output tokens ({by})")
    if directive.truncate_input:
        lines.append(f"cut the input to {directive.truncate_input.max_input_tokens} tokens")
    if directive.finish:
        lines.append("wrap up and return what there is")
    if directive.serve_cached:
        lines.append("answer from a cache")
    if directive.queue:
        lines.append(f"queue for at most {directive.queue.max_wait}")
    if directive.message:
        lines.append(f"say: {directive.message}")
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False)


def _print_settlement(answer: object, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    assert isinstance(answer, Settlement)
    console = Console()
    late = " (late)" if answer.late else ""
    console.print(f"[green]{answer.state.value}[/]{late} {answer.reservation_id}", highlight=False)
    if answer.charges:
        table = plain_table("Charged")
        table.add_column("meter")
        table.add_column("amount", justify="right")
        for charge in answer.charges:
            name = charge.custom_meter or charge.meter.value
            table.add_row(name, amount_text(charge.amount, charge.meter, charge.custom_meter))
        console.print(table)
    _print_directive(console, answer.directive)
    if answer.counters:
        console.print(counters_table("Counters, tightest first", answer.counters))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(reserve)
    app.command()(commit)
    app.command()(release)
