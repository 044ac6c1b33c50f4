"""Options that every command of a client shares, and how its failures end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from bursar_client import BursarError, Client, Subject

DEFAULT_ADDRESS = "127.0.0.1:4500"
SUBJECT_LEVELS = ("org", "team", "feature", "agent", "user", "task")

Address = Annotated[
    str,
    typer.Option("--address", envvar="BURSAR_ADDRESS", help="Server to talk to."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Who = Annotated[
    list[str],
    typer.Argument(
        metavar="SUBJECT...",
        help="org=NAME, and as needed team=, feature=, agent=, user=, task=, labels.KEY=.",
    ),
]

_LABEL = "labels."


def subject_of(parts: list[str]) -> Subject:
    """Return a subject from `level=value` arguments.

    Raises:
        typer.BadParameter: A part is not of that form, or the org is missing.
    """
    levels: dict[str, str] = {}
    labels: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and name in SUBJECT_LEVELS:
            levels[name] = value
        elif equals and name.startswith(_LABEL):
            labels[name.removeprefix(_LABEL)] = value
        else:
            known = ", ".join((*SUBJECT_LEVELS, "labels.KEY"))
            raise typer.BadParameter(f"{part!r} is not NAME=VALUE with a NAME of {known}")
    if not levels.get("org"):
        raise typer.BadParameter("org=NAME is required")
    return Subject(**levels, labels=labels)


def levels(subject: Subject) -> dict[str, Any]:
    """Return a subject as the keyword arguments of the client's calls."""
    return {
        "org": subject.org,
        "team": subject.team,
        "feature": subject.feature,
        "agent": subject.agent,
        "user": subject.user,
        "task": subject.task,
        "labels": subject.labels,
    }


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Yield a client; an error of the server ends the command with its message and exit code 1."""
    try:
        with Client(address) as client:
            yield client
    except BursarError as error:
        Console(stderr=True).print(f"{error.reason}: {error.message}", style="red", markup=False)
        raise typer.Exit(1) from None
