"""`bursar balances`, `explain` and `holds`: how budgets stand."""

from __future__ import annotations

from decimal import Decimal

import typer
from rich.console import Console

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import (
    SUBJECT_LEVELS,
    AsJson,
    Model,
    Provider,
    Who,
    connected,
    levels,
    subject_of,
)
from bursar.cli.printing import console, print_json, print_plain
from bursar.cli.render import amount_text, counters_table
from bursar_client import BudgetExplanation, Hold, PriceExplanation

HOLDS_SHOWN_MAX = 1_000


def balances(
    subject: Who,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show what is committed, held and left of every budget that could concern a subject.

    A budget with a counter for each user, task or other attribute is shown where that is given.
    """
    who = subject_of(subject)
    with connected(address) as client:
        counters = list(client.get_balances(**levels(who)))
    if as_json:
        print_json(counters)
        return
    out = console()
    if not counters:
        print_plain(out, "No budget concerns this subject.")
        return
    out.print(counters_table(f"Budgets of {who.org}", counters, out.width))


def explain(
    model: Model,
    subject: Who,
    provider: Provider = "",
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
    out = console()
    print_plain(out, f"Budgets and a call of {model}", style="bold")
    for budget in sorted(explanation.budgets, key=lambda each: not each.applies):
        _print_budget(out, budget)
    _print_price(out, explanation.price)


def _print_budget(out: Console, budget: BudgetExplanation) -> None:
    mark = ("applies", "green") if budget.applies else ("does not apply", "dim")
    stands = ""
    if (status := budget.status) is not None:
        used = amount_text(status.committed + status.held, status.meter, status.custom_meter)
        limit = amount_text(status.limit, status.meter, status.custom_meter)
        stands = f"; {used} of {'unlimited' if status.unlimited else limit} used"
    print_plain(out, (budget.budget, "bold"), " ", mark, f": {budget.reason}{stands}")
    for rung in budget.rungs:
        reached = (" (reached)", "yellow") if rung.reached else ""
        print_plain(out, f"    at {rung.at_percent} % {rung.action}", reached)


def _print_price(out: Console, price: PriceExplanation) -> None:
    if not price.priced:
        print_plain(out, f"{price.target.model}: no price is known", style="yellow")
        return
    print_plain(
        out,
        f"{price.target.model}: {_price_text(price.input_usd_per_million_tokens)} a million input "
        f"tokens, {_price_text(price.output_usd_per_million_tokens)} a million output tokens "
        f"({price.source})",
    )


def _price_text(dollars: Decimal) -> str:
    return f"${dollars.normalize():,f}"


def holds(
    subject: Who,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Show who holds what, soonest to expire first; at most 1,000."""
    who = subject_of(subject)
    found: list[Hold] = []
    more = False
    with connected(address) as client:
        for hold in client.list_holds(**levels(who), page_size=HOLDS_SHOWN_MAX):
            if more := len(found) == HOLDS_SHOWN_MAX:
                break
            found.append(hold)
    if as_json:
        print_json(found)
        return
    out = console()
    if not found:
        print_plain(out, "Nothing is held.")
        return
    for hold in found:
        _print_hold(out, hold)
    if more:
        print_plain(out, f"and more than these {HOLDS_SHOWN_MAX:,}", style="yellow")


def _print_hold(out: Console, hold: Hold) -> None:
    who = [f"{name}={value}" for name in SUBJECT_LEVELS if (value := getattr(hold.subject, name))]
    who += [f"labels.{name}={value}" for name, value in sorted(hold.subject.labels.items())]
    expires = f", until {hold.expire_time.astimezone():%H:%M:%S}" if hold.expire_time else ""
    amounts = [
        f"{each.budget} {amount_text(each.amount, each.meter, each.custom_meter)}"
        for each in hold.amounts
    ]
    print_plain(out, hold.reservation_id, style="bold")
    print_plain(out, f"    {hold.target.model} for {' '.join(who)}{expires}")
    print_plain(out, f"    holds {', '.join(amounts)}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(balances)
    app.command()(explain)
    app.command()(holds)
