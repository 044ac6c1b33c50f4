"""`docs/reference/cli.md`: every command of `bursar`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from bursar.cli.commands import program
from reference.tables import generated_head, number, table

KINDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}

HEAD = """
`bursar COMMAND --help` says the same. Commands that talk to a server take `--address`, or the
variable `BURSAR_ADDRESS`; they speak plain gRPC. With `--json` they print JSON in which amounts
are whole numbers in the meter's unit (tokens, requests, nano-USD), durations are whole
milliseconds in fields that end in `_ms`, and times are ISO 8601.

| Exit code | Meaning |
| --- | --- |
| 0 | done |
| 1 | the server answered with an error, a policy was refused, a check failed, or the server could \
not start |
| 2 | the command line or a setting is wrong |
| 3 | `reserve` was denied |
| 4 | `plan` found something to change |
"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument or option of a command.

    Attributes:
        name: As it is typed.
        kind: The type of its value; bool is a flag.
        many: Whether it may be given several times.
        default: inspect.Parameter.empty where it is required.
        info: What typer was told of it; None for an argument or option without more.
        is_argument: Whether it is given by its place.
    """

    name: str
    kind: Any
    many: bool
    default: Any
    info: ArgumentInfo | OptionInfo | None
    is_argument: bool

    @property
    def required(self) -> bool:
        """Whether the command does not run without it."""
        return self.default is inspect.Parameter.empty

    @property
    def shown(self) -> str:
        """How it is written on the command line."""
        metavar = self.info.metavar if self.info else None
        if self.is_argument:
            shown = (metavar or self.name.upper()).removesuffix("...")
            return f"{shown}..." if self.many else shown
        kind = metavar or KINDS.get(self.kind, "WORD")
        return self.name if self.kind is bool else f"{self.name} {kind}"


def cli_page() -> str:
    """Return the page of commands."""
    parts = [generated_head("Command line", "server/bursar/cli"), HEAD]
    for command in program().registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        parts.append(_command(name, command.callback))
    return "".join(parts)


def _command(name: str, callback: Callable[..., Any]) -> str:
    parameters = sorted(_parameters(callback), key=lambda each: not each.is_argument)
    arguments = [each.shown for each in parameters if each.is_argument]
    usage = " ".join(["bursar", name, *arguments, "[OPTIONS]"])
    rows = [(f"`{each.shown}`", _default_text(each), _meaning(each)) for each in parameters]
    head = f"\n## {name}\n\n{inspect.getdoc(callback)}\n\n`{usage}`\n\n"
    return head + table(("Argument or option", "Default", "Meaning"), rows)


def _parameters(callback: Callable[..., Any]) -> Iterator[Parameter]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        hint, info = hints[name], None
        if get_origin(hint) is Annotated:
            hint, info = get_args(hint)
        if get_origin(hint) is UnionType:
            [hint] = [each for each in get_args(hint) if each is not type(None)]
        many = get_origin(hint) is list
        kind = get_args(hint)[0] if many else hint
        required = parameter.default is inspect.Parameter.empty
        is_argument = isinstance(info, ArgumentInfo) or (info is None and required)
        typed = name if is_argument else f"--{name.replace('_', '-')}"
        # The first thing that an annotation tells typer is the option's name.
        declared = info.default if info is not None else None
        typed = declared if isinstance(declared, str) else typed
        yield Parameter(typed, kind, many, parameter.default, info, is_argument)


def _default_text(parameter: Parameter) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default is None or default is False or default == "":
        return "none"
    return f"`{number(default)}`" if isinstance(default, int | float) else f"`{default}`"


def _meaning(parameter: Parameter) -> str:
    info, parts = parameter.info, []
    if info is not None:
        parts.append(info.help or "")
        if info.min is not None and info.max is not None:
            parts.append(f"{number(info.min)} to {number(info.max)}.")
        elif info.min is not None:
            parts.append(f"{number(info.min)} or more.")
        if info.envvar:
            parts.append(f"Also the variable `{info.envvar}`.")
    return " ".join(part for part in parts if part)
