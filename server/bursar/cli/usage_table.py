"""A table of usage: the largest first, each with its share as a bar, and the sum below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from bursar.cli.operator import enum_name, time_of
from bursar.cli.render import BAR_CELLS, money_text, plain_table
from bursar_client.pb import usage_service_pb2 as pb

_TIME_FORMATS = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}

_Amount = Callable[[pb.UsageRow], int]
_COST = "cost"
_OF_CLASS: Mapping[str, _Amount] = {"tokens": lambda row: row.token_count}
_ALWAYS: Mapping[str, _Amount] = {
    _COST: lambda row: row.cost_nano_usd,
    "requests": lambda row: row.request_count,
    "input tokens": lambda row: row.tokens.input_tokens,
    "output tokens": lambda row: row.tokens.output_tokens,
}
_WHERE_THERE_ARE_ANY: Mapping[str, _Amount] = {
    "unpriced": lambda row: row.unpriced_count,
    "denied": lambda row: row.denial_count,
}


def usage_table(
    title: str, rows: Sequence[pb.UsageRow], names: Sequence[str], by: str, zone: str
) -> Table:
    """Return a table of rows, within each interval the largest first.

    Args:
        title: Above it.
        rows: One or more.
        names: What they are grouped by.
        by: How time is cut; `none` where it is not.
        zone: Whose time is shown.
    """
    columns = _columns(rows, by_class="token_class" in names)
    weigh = _weight(rows, columns)
    table = plain_table(title)
    labels = ([] if by == "none" else [by]) + [name.replace("_", " ") for name in names]
    for name in labels:
        table.add_column(name, overflow="fold")
    if len(rows) > 1:
        table.add_column("", min_width=BAR_CELLS, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    largest = max(map(weigh, rows))
    for row in sorted(rows, key=lambda row: (row.start_time.ToNanoseconds(), -weigh(row))):
        when = [] if by == "none" else [_when(row, by, zone)]
        cells = [Text(text) for text in (*when, *(_label(row, name) for name in names))]
        bar = [_bar(weigh(row), largest)] if len(rows) > 1 else []
        amounts = [_text(name, amount(row)) for name, amount in columns.items()]
        table.add_row(*cells, *bar, *amounts)
    # Classes are parts of each other, so that their sum says nothing.
    if len(rows) > 1 and columns is not _OF_CLASS:
        sums = [_text(name, sum(map(amount, rows))) for name, amount in columns.items()]
        table.add_section()
        table.add_row(*(["in all"] + [""] * len(labels))[: len(labels)], "", *sums)
    return table


def _columns(rows: Sequence[pb.UsageRow], *, by_class: bool) -> Mapping[str, _Amount]:
    if by_class:
        return _OF_CLASS
    used = {name: amount for name, amount in _WHERE_THERE_ARE_ANY.items() if any(map(amount, rows))}
    return {**_ALWAYS, **used}


def _weight(rows: Sequence[pb.UsageRow], columns: Mapping[str, _Amount]) -> _Amount:
    """Return what bars are of: cost, or the first column that has anything."""
    return next(
        (amount for amount in columns.values() if any(map(amount, rows))),
        next(iter(columns.values())),
    )


def _when(row: pb.UsageRow, by: str, zone: str) -> str:
    return time_of(row.start_time).astimezone(ZoneInfo(zone)).strftime(_TIME_FORMATS[by])


def _label(row: pb.UsageRow, name: str) -> str:
    if name == "token_class":
        return enum_name(pb.TokenClass.DESCRIPTOR, row.token_class).replace("_", " ")
    part = row.target if name in ("provider", "model") else row.subject
    text: str = getattr(part, name)
    return text or "(none)"


def _bar(amount: int, largest: int) -> Text:
    cells = max(amount, 0) * BAR_CELLS // largest if largest > 0 else 0
    return Text.assemble(("█" * cells, "cyan"), ("·" * (BAR_CELLS - cells), "dim"))


def _text(name: str, amount: int) -> str:
    return money_text(amount) if name == _COST else f"{amount:,}"
