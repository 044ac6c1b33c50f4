"""Options that every command of a client shares, and how its failures end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from bursar.cli.address import ADDRESS_VARIABLE
from bursar.cli.printing import print_error
from bursar_client import BursarError, Client, DeadlineExceeded, Subject, Unavailable

SUBJECT_LEVELS = ("org", "team", "feature", "agent", "user", "task")
COUNT_MAX = 1_000_000_000
"""Most tokens that a call may name."""

_OPERATION = re.compile(r"\boperations\[0\]\.[a-z]+\.")
_LABEL = "labels."


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON. Amounts are whole numbers: tokens, requests, or nano-USD where the "
        "meter is cost.",
    ),
]
Who = Annotated[
    list[str],
    typer.Argument(
        metavar="SUBJECT",
        help="org=NAME, and as needed team=, feature=, agent=, user=, task=, labels.KEY=.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model to call.")]
Provider = Annotated[
    str, typer.Option(help="The model's provider; found by the model's name where not given.")
]


def subject_of(parts: list[str]) -> Subject:
    """Return a subject from `level=value` arguments.

    Raises:
        typer.BadParameter: A part is not of that form or comes twice, or the org is missing.
    """
    given: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not (name in SUBJECT_LEVELS or name.startswith(_LABEL)):
            known = ", ".join((*SUBJECT_LEVELS, "labels.KEY"))
            raise typer.BadParameter(f"{part!r} is not NAME=VALUE with a NAME of {known}")
        if name in given:
            raise typer.BadParameter(f"{name} is given twice")
        given[name] = value
    if not given.get("org"):
        raise typer.BadParameter("org=NAME is required")
    labels = {
        name.removeprefix(_LABEL): given.pop(name)
        for name in list(given)
        if name.startswith(_LABEL)
    }
    return Subject(**given, labels=labels)


def levels(subject: Subject) -> dict[str, Any]:
    """Return a subject as the keyword arguments of the client's calls."""
    return {name: getattr(subject, name) for name in (*SUBJECT_LEVELS, "labels")}


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Yield a client; an error of the server ends the command with its message and exit code 1."""
    try:
        with Client(address) as client:
            yield client
    except BursarError as error:
        raise_exit(error, address)


def raise_exit(error: BursarError, address: str) -> NoReturn:
    """Print an error as one line that says what to do, and end with exit code 1."""
    print_error(_line(error, address))
    raise typer.Exit(1) from None


def _line(error: BursarError, address: str) -> str:
    # Reasons that are gRPC's own did not come from a server of ours.
    if isinstance(error, Unavailable) and error.reason == "UNAVAILABLE":
        return (
            f"no server at {address}: start one with `bursar serve --policy FILE`, or name it with "
            f"--address or {ADDRESS_VARIABLE} ({error.message})"
        )
    if isinstance(error, DeadlineExceeded) and error.message == "Deadline Exceeded":
        return f"no answer from {address} in time; is it a Bursar server?"
    if error.reason == "UNIMPLEMENTED":
        return f"{address} does not serve this call; is it a Bursar server of this version?"
    # These commands send batches of one; where in the batch a field is does not matter.
    return f"{error.reason}: {_OPERATION.sub('', error.message)}"
