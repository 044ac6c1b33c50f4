"""How the command line shows amounts and counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from rich import box
from rich.table import Table
from rich.text import Text

from bursar_client import CounterStatus, Meter

BAR_CELLS = 10
NARROW = 78
"""Below so many columns a table of counters goes without its bar and its last column."""

_UNITS = {
    Meter.TOTAL_TOKENS: ("token", "tokens"),
    Meter.INPUT_TOKENS: ("input token", "input tokens"),
    Meter.OUTPUT_TOKENS: ("output token", "output tokens"),
    Meter.REQUESTS: ("request", "requests"),
    Meter.CONCURRENCY: ("at once", "at once"),
}
_WARN_PERCENT, _FULL_PERCENT = 80, 100
_CENTS_FROM_USD = 100


def money_text(amount_nano_usd: int) -> str:
    """Return money: to the cent from $100 on, else to a hundredth of a cent."""
    if amount_nano_usd == 0:
        return "$0"
    sign = "-" if amount_nano_usd < 0 else ""
    dollars = Decimal(abs(amount_nano_usd)) / 1_000_000_000
    text = f"{dollars:,.2f}" if dollars >= _CENTS_FROM_USD else f"{dollars:.4f}"
    return f"{sign}${text}" if float(text.replace(",", "")) else f"{sign}<$0.0001"


def number_text(amount: int, meter: Meter) -> str:
    """Return an amount without its unit: `$1.2345`, `12,345`."""
    return money_text(amount) if meter is Meter.COST else f"{amount:,}"


def amount_text(amount: int, meter: Meter, custom_meter: str = "") -> str:
    """Return an amount in its unit: `$1.2345`, `12,345 tokens`, `1 request`."""
    unit = unit_text(meter, custom_meter, one=amount == 1)
    return f"{number_text(amount, meter)} {unit}".strip()


def unit_text(meter: Meter, custom_meter: str = "", *, one: bool = False) -> str:
    """Return a meter's unit; empty for money, whose amounts bear a dollar sign."""
    if meter is Meter.COST:
        return ""
    singular, plural = _UNITS.get(meter, (custom_meter, custom_meter))
    return singular if one else plural


def counter_name(status: CounterStatus) -> str:
    """Return a counter's budget with its partition: `user-rate [user=u1]`."""
    if not status.partition:
        return status.budget
    values = ", ".join(f"{name}={value}" for name, value in sorted(status.partition.items()))
    return f"{status.budget} [{values}]"


def used_percent(status: CounterStatus) -> int:
    """Return committed and held as parts of limit and credit, rounded down."""
    limit = status.limit + status.credit
    return (status.committed + status.held) * 100 // limit if limit > 0 else _FULL_PERCENT


def bar(status: CounterStatus) -> Text:
    """Return a bar: what is committed in full colour, what is held behind it in dim."""
    if status.unlimited:
        return Text("unlimited", style="dim")
    limit = max(status.limit + status.credit, 1)
    committed = min(status.committed * BAR_CELLS // limit, BAR_CELLS)
    used = min((status.committed + status.held) * BAR_CELLS // limit, BAR_CELLS)
    percent = used_percent(status)
    style = "green"
    if percent >= _FULL_PERCENT:
        style = "red"
    elif percent >= _WARN_PERCENT:
        style = "yellow"
    return Text.assemble(
        ("█" * committed, style),
        ("▒" * (used - committed), style),
        ("·" * (BAR_CELLS - used), "dim"),
    )


def plain_table(title: str) -> Table:
    """Return an empty table in the one style that all have."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def counters_table(
    title: str,
    counters: Iterable[CounterStatus],
    width: int,
    remarks: Mapping[str, str] | None = None,
) -> Table:
    """Return a table of counters.

    Args:
        title: Above it.
        counters: One row each.
        width: Columns that it may take; below NARROW it has no bar and no time of reset.
        remarks: Added to the name of a budget's counter.
    """
    narrow = width < NARROW
    table = plain_table(title)
    table.add_column("budget", overflow="fold")
    if not narrow:
        table.add_column("used", min_width=BAR_CELLS, no_wrap=True)
    for name in ("%", "committed", "held", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    if not narrow:
        table.add_column("resets", no_wrap=True)
    for status in counters:
        cells = _counter_cells(status, (remarks or {}).get(status.budget, ""))
        table.add_row(*(cells[:1] + cells[2:-1] if narrow else cells))
    return table


def _counter_cells(status: CounterStatus, remark: str) -> list[Text | str]:
    limit = number_text(status.limit, status.meter)
    if status.credit:
        limit += f" + {number_text(status.credit, status.meter)}"
    end = status.window_end_time
    notes = [each for each in (unit_text(status.meter, status.custom_meter), remark) if each]
    return [
        Text.assemble(counter_name(status), (" " + ", ".join(notes) if notes else "", "dim")),
        bar(status),
        "" if status.unlimited else f"{used_percent(status)}",
        number_text(status.committed, status.meter),
        number_text(status.held, status.meter),
        "unlimited" if status.unlimited else limit,
        _reset_text(end) if end else "",
    ]


def _reset_text(end: datetime) -> str:
    """Return when a window ends: the time where that is today, else the date."""
    local = end.astimezone()
    today = datetime.now().astimezone().date()
    return local.strftime("%H:%M") if local.date() == today else local.strftime("%b %d")
