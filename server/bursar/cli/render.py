"""How the command line shows things: tables and bars for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

from rich import box
from rich.table import Table
from rich.text import Text

from bursar_client import CounterStatus, Meter

BAR_CELLS = 10
_UNITS = {
    Meter.TOTAL_TOKENS: "tokens",
    Meter.INPUT_TOKENS: "input",
    Meter.OUTPUT_TOKENS: "output",
    Meter.REQUESTS: "calls",
    Meter.CONCURRENCY: "open",
}
_WARN_PERCENT, _FULL_PERCENT = 80, 100


def to_json(value: object) -> object:
    """Return a client's answer as plain JSON values; amounts stay whole numbers.

    Args:
        value: A dataclass, a collection or a scalar.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(each) for each in value]
    return value


def print_json(value: object) -> None:
    """Print a client's answer as JSON."""
    sys.stdout.write(json.dumps(to_json(value), indent=2) + "\n")


def amount_text(amount: int, meter: Meter, custom_meter: str = "") -> str:
    """Return an amount in its unit: `$12.34`, `12,345 tokens`."""
    if meter is Meter.COST:
        dollars = Decimal(amount) / 1_000_000_000
        return f"${dollars:,.2f}" if abs(dollars) >= 1 or amount == 0 else f"${dollars:.4f}"
    unit = _UNITS.get(meter, custom_meter)
    return f"{amount:,} {unit}"


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
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def counters_table(title: str, counters: Iterable[CounterStatus]) -> Table:
    """Return a table of counters with bars."""
    table = plain_table(title)
    table.add_column("budget", overflow="fold", min_width=19)
    table.add_column("used", min_width=BAR_CELLS, no_wrap=True)
    for name in ("%", "committed", "held", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("resets", no_wrap=True)
    for status in counters:
        table.add_row(*_counter_cells(status))
    return table


def _counter_cells(status: CounterStatus) -> list[Text | str]:
    def text(amount: int) -> str:
        return amount_text(amount, status.meter, status.custom_meter)

    end = status.window_end_time
    return [
        Text(counter_name(status)),
        bar(status),
        "" if status.unlimited else f"{used_percent(status)}",
        text(status.committed),
        text(status.held),
        "" if status.unlimited else text(status.limit),
        _reset_text(end) if end else "",
    ]


def _reset_text(end: datetime) -> str:
    """Return when a window ends: the time where that is today, else the date."""
    local = end.astimezone()
    today = datetime.now().astimezone().date()
    return local.strftime("%H:%M") if local.date() == today else local.strftime("%b %d")
