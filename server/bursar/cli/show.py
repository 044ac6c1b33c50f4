"""`bursar balances`, `explain` and `holds`: how budgets stand."""

from __future__ import annotations

import typer
from rich.console import Console

from bursar.cli.connection import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Who,
    connected,
    levels,
    subject_of,
)
from bursar.cli.render import amount_text, counters_table, plain_table, print_json
from bursar_client import BudgetExplanation, Hold

HOLDS_SHOWN_MAX = 1_000


def balances(
    subject: Who,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show what is committed, held and left of every budget that could concern a subject."""
    who = subject_of(subject)
    with connected(address) as client:
        counters = list(client.get_balances(**levels(who)))
    if as_json:
        print_json(counters)
        return
    console = Console()
    if not counters:
        console.print("No budget concerns this subject.")
        return
    console.print(counters_table(f"Budgets of {who.org}", counters))


def explain(
    model: str,
    subject: Who,
    provider: str = "",
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show for every budget whether it applies to a call of MODEL, why, and how it stands."""
    who = subject_of(subject)
    with connected(address) as client:
        explanation = client.explain(**levels(who), model=model, provider=provider)
    if as_json:
        print_json(explanation)
        return
    console = Console()
    table = plain_table(f"Budgets and a call of {model}")
    for name in ("budget", "applies", "why", "stands at", "ladder"):
        table.add_column(name, overflow="fold")
    for budget in explanation.budgets:
        table.add_row(*_explanation_cells(budget))
    console.print(table)
    price = explanation.price
    if price.priced:
        dollars = [
            amount / 1_000_000_000
            for amount in (
                price.input_nano_usd_per_million_tokens,
                price.output_nano_usd_per_million_tokens,
            )
        ]
        console.print(
            f"{price.target.model}: ${dollars[0]:g} a million input tokens, ${dollars[1]:g} a "
            f"million output tokens ({price.source})",
            highlight=False,
        )
    else:
        console.print(f"{price.target.model}: no price is known", style="yellow")


def _explanation_cells(budget: BudgetExplanation) -> list[str]:
    status = budget.status
    stands = ""
    if status is not None:
        used = amount_text(status.committed + status.held, status.meter, status.custom_meter)
        limit = amount_text(status.limit, status.meter, status.custom_meter)
        stands = f"{used} of {'unlimited' if status.unlimited else limit}"
    ladder = "\n".join(
        f"{'>' if rung.reached else ' '} {rung.at_percent} % {rung.action}" for rung in budget.rungs
    )
    return [budget.budget, "yes" if budget.applies else "no", budget.reason, stands, ladder]


def holds(
    subject: Who,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show who holds what, soonest to expire first; at most 1,000."""
    who = subject_of(subject)
    found: list[Hold] = []
    with connected(address) as client:
        for hold in client.list_holds(**levels(who)):
            found.append(hold)
            if len(found) == HOLDS_SHOWN_MAX:
                break
    if as_json:
        print_json(found)
        return
    console = Console()
    if not found:
        console.print("Nothing is held.")
        return
    table = plain_table(f"Open holds of {who.org}")
    for name in ("reservation", "subject", "model", "expires", "holds"):
        table.add_column(name, overflow="fold")
    for hold in found:
        table.add_row(*_hold_cells(hold))
    console.print(table)


def _hold_cells(hold: Hold) -> list[str]:
    levels = ("team", "feature", "agent", "user", "task")
    who = ", ".join(
        f"{level}={value}" for level in levels if (value := getattr(hold.subject, level))
    )
    expires = hold.expire_time.astimezone().strftime("%H:%M:%S") if hold.expire_time else ""
    amounts = "\n".join(
        f"{each.budget}: {amount_text(each.amount, each.meter, each.custom_meter)}"
        for each in hold.amounts
    )
    return [hold.reservation_id, who, hold.target.model, expires, amounts]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(balances)
    app.command()(explain)
    app.command()(holds)
