"""Options that every command of a client shares, and how its failures end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from bursar_client import BursarError, Client, Subject

DEFAULT_ADDRESS = "127.0.0.1:4500"

Address = Annotated[
    str,
    typer.Option("--address", envvar="BURSAR_ADDRESS", help="Server to talk to."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Org = Annotated[str, typer.Option(help="Organization.")]
Level = Annotated[str, typer.Option(help="Level of the subject; empty where absent.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="key=value; may be given several times.")
]


def subject_of(  # noqa: PLR0917 - the levels, in the order of every command
    org: str, team: str, feature: str, agent: str, user: str, task: str, labels: list[str] | None
) -> Subject:
    """Return a subject from options.

    Raises:
        typer.BadParameter: A label is not key=value.
    """
    pairs = {}
    for label in labels or []:
        key, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"{label!r} is not key=value", param_hint="--label")
        pairs[key] = value
    return Subject(
        org=org, team=team, feature=feature, agent=agent, user=user, task=task, labels=pairs
    )


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Yield a client; an error of the server ends the command with its message and exit code 1."""
    try:
        with Client(address) as client:
            yield client
    except BursarError as error:
        Console(stderr=True).print(f"{error.reason}: {error.message}", style="red", markup=False)
        raise typer.Exit(1) from None
