"""`docs/reference/settings.md`: every setting of the server."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from bursar.service.settings import Settings
from bursar.service.variables import variable
from reference.tables import generated_head, number, table

HEAD = """
The server reads its settings from the environment. An empty variable counts as not set. A
variable that starts with `BURSAR_` and is not in this table stops the server at its start,
so that a misspelt setting is noticed.

"""


def settings_page() -> str:
    """Return the page of settings."""
    rows = [
        (
            f"`{variable(name)}`",
            _default_text(field),
            _range_text(field),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    head = generated_head("Settings", "server/bursar/service/settings.py")
    return head + HEAD + table(("Variable", "Default", "Range", "Meaning"), rows)


def _own_text(field: FieldInfo, name: str) -> str | None:
    """Return the text that a setting brings for a cell, or None where it brings none."""
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) and name in extra else None


def _default_text(field: FieldInfo) -> str:
    if text := _own_text(field, "default_text"):
        return text
    default = field.default
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{number(default) if isinstance(default, int) else default}`"


def _range_text(field: FieldInfo) -> str:
    if text := _own_text(field, "range_text"):
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
