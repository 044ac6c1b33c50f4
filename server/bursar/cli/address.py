"""The server that a command talks to, as an option and a variable."""

from __future__ import annotations

import re
from typing import Annotated

import typer

DEFAULT_ADDRESS = "127.0.0.1:4500"
ADDRESS_VARIABLE = "BURSAR_ADDRESS"

_ADDRESS = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"(?:dns|ipv4|ipv6|unix|xds):")


def _known_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or (not _SCHEME.match(value) and ":" not in value):
        raise typer.BadParameter(f"{value!r} is not HOST:PORT")
    return value


Address = Annotated[
    str,
    typer.Option(
        "--address",
        envvar=ADDRESS_VARIABLE,
        metavar="HOST:PORT",
        callback=_known_address,
        help="Server to talk to.",
    ),
]
