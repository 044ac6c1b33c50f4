"""Markdown as the reference pages write it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def generated_head(title: str, *sources: str) -> str:
    """Return a page's title and where the page comes from."""
    named = " and ".join(f"`{source}`" for source in sources)
    return f"# {title}\n\nGenerated from {named} by `make gen`; do not edit.\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def number(value: float) -> str:
    """Return a number with its thousands apart, as in the code."""
    return f"{value:_}"


def one_line(text: str) -> str:
    """Return a text of several lines as one."""
    return " ".join(text.split())


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
