"""Generate the reference pages from the code that they describe.

Run it with `make gen`. `--check` writes nothing and fails where a page differs from
what the code says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from bursar.service.settings import Settings, variable

ROOT = Path(__file__).resolve().parent.parent

SETTINGS_HEAD = """\
# Settings

Generated from `server/bursar/service/settings.py` by `make gen`; do not edit.

The server reads its settings from the environment. An empty variable counts as not set. A
variable that starts with `BURSAR_` and is not in this table stops the server at its start,
so that a misspelt setting is noticed.

| Variable | Default | Range | Meaning |
| --- | --- | --- | --- |
"""


def number(value: float) -> str:
    """Return a number with its thousands apart, as in the code."""
    return f"{value:_}"


def own_text(field: FieldInfo, name: str) -> str | None:
    """Return the text that a setting brings for a cell, or None where it brings none."""
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) and name in extra else None


def default_text(field: FieldInfo) -> str:
    """Return the default of a setting as a table's cell."""
    if text := own_text(field, "default_text"):
        return text
    default = field.default
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{number(default) if isinstance(default, int) else default}`"


def range_text(field: FieldInfo) -> str:
    """Return what values a setting takes as a table's cell."""
    if text := own_text(field, "range_text"):
        return text
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation is bool:
        return "`true`, `false`"
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "le", "pattern")
        if getattr(limit, name, None) is not None
    }
    if "pattern" in limits:
        return f"`{limits['pattern']}`"
    return f"{number(limits['ge'])} to {number(limits['le'])}"


def settings_page() -> str:
    """Return the page of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        cells = (
            f"`{variable(name)}`",
            default_text(field),
            range_text(field),
            field.description or "",
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return SETTINGS_HEAD + "".join(rows)


# Each generated file, relative to the root, and the function that returns its text.
PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings_page,
}


def main() -> int:
    """Generate, or check that nothing would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file would change")
    arguments = parser.parse_args()
    stale = []
    for name, render in PAGES.items():
        path, text = ROOT / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if not arguments.check:
        return 0
    for name in stale:
        sys.stderr.write(f"{name} is not what the code says; run `make gen`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
