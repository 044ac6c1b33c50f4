"""The subcommands of `bursar`, each in a module that is imported where its command is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

# What gRPC's core has to say of a server that is away is said better by whoever called it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import typer

from bursar import __version__

COMMANDS_OF_MODULE = {
    "serve": ("serve", "check-policy"),
    "migrate": ("migrate",),
    "operate": ("reserve", "commit", "release"),
    "show": ("balances", "explain", "holds"),
    "usage": ("usage",),
    "ledger": ("ledger",),
    "policy": ("plan", "apply", "policy", "policies"),
    "credit": ("credit", "credits"),
    "freeze": ("freeze", "unfreeze", "freezes"),
    "status": ("status",),
    "verify": ("verify",),
    "rebuild": ("rebuild",),
    "replay": ("replay",),
    "demo": ("demo",),
}
"""In the order in which the help names them."""


def program(*, only_for: str = "") -> typer.Typer:
    """Return the command line.

    Args:
        only_for: A command that will do: of the others only those of its module are there. All
            are where it is the name of none.
    """
    made = typer.Typer(
        name="bursar",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    made.callback()(_main)
    modules = [module for module, names in COMMANDS_OF_MODULE.items() if only_for in names]
    for module in modules or COMMANDS_OF_MODULE:
        import_module(f"bursar.cli.{module}").add_to(made)
    return made


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"bursar {__version__}\n")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The budget authority for LLM spend."""
