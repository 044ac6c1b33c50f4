"""`bursar freeze`, `unfreeze` and `freezes`: let a subtree spend nothing, and again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import SUBJECT_LEVELS, subject_of
from bursar.cli.operator import CALL_TIMEOUT_S, message_json, operating
from bursar.cli.policy import Actor, AsPlainJson, Org, login_name, time_text
from bursar.cli.printing import console, print_json, print_plain
from bursar_client.pb import policy_service_pb2 as pb
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb.policy_service_pb2_grpc import PolicyServiceStub

FREEZES_SHOWN_MAX = 1_000

Subtree = Annotated[
    list[str],
    typer.Argument(
        metavar="SUBJECT",
        help="org=NAME, and as needed team=, feature=, agent=, "
        "user=, task=: every request with all of these.",
    ),
]


def freeze(
    subject: Subtree,
    reason: Annotated[str, typer.Option(help="Why; callers read it, and it is recorded.")],
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Let a subtree spend nothing more, on every server within a second.

    Calls that are under way still settle.
    """
    request = pb.FreezeRequest(
        subject=_subject(subject), actor=actor or login_name(), reason=reason
    )
    with operating(address, PolicyServiceStub) as policies:
        answer = policies.Freeze(request, timeout=CALL_TIMEOUT_S)
    out = console()
    print_plain(out, ("frozen", "cyan"), " ", _described(answer.freeze))
    print_plain(out, f"policy version {answer.policy_version}")


def unfreeze(subject: Subtree, actor: Actor = "", address: Address = DEFAULT_ADDRESS) -> None:
    """Lift the freeze of a subtree; SUBJECT is as it was for `bursar freeze`."""
    request = pb.UnfreezeRequest(subject=_subject(subject), actor=actor or login_name())
    with operating(address, PolicyServiceStub) as policies:
        answer = policies.Unfreeze(request, timeout=CALL_TIMEOUT_S)
    out = console()
    print_plain(out, ("lifted", "green"), " ", _described(answer.freeze))
    print_plain(out, f"policy version {answer.policy_version}")


def freezes(
    org: Org,
    lifted: Annotated[bool, typer.Option("--lifted", help="Also those that were lifted.")] = False,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsPlainJson = False,
) -> None:
    """Show what is frozen in an org, newest first; at most 1,000."""
    request = pb.ListFreezesRequest(org=org, include_lifted=lifted, page_size=FREEZES_SHOWN_MAX)
    with operating(address, PolicyServiceStub) as policies:
        found = policies.ListFreezes(request, timeout=CALL_TIMEOUT_S)
    if as_json:
        print_json([message_json(each) for each in found.freezes])
        return
    out = console()
    if not found.freezes:
        print_plain(out, "Nothing is frozen.")
    for each in found.freezes:
        _print(out, each)
    if found.next_page_token:
        print_plain(out, f"and more than these {FREEZES_SHOWN_MAX:,}", style="yellow")


def _subject(parts: list[str]) -> types_pb.Subject:
    given = subject_of(parts)
    if given.labels:
        raise typer.BadParameter("a freeze is of levels, not of labels")
    return types_pb.Subject(**{level: getattr(given, level) for level in SUBJECT_LEVELS})


def _levels(subject: types_pb.Subject) -> dict[str, str]:
    found = {level: str(getattr(subject, level)) for level in SUBJECT_LEVELS}
    return {level: value for level, value in found.items() if value}


def _described(each: pb.FreezeStatus) -> str:
    what = " ".join(f"{level}={value}" for level, value in _levels(each.subject).items())
    since = time_text(each.create_time)
    return f"{what}, by {each.actor} at {since}: {each.reason}"


def _print(out: Console, each: pb.FreezeStatus) -> None:
    if not each.HasField("lift_time"):
        print_plain(out, ("frozen", "cyan"), " ", _described(each))
        return
    until = time_text(each.lift_time)
    print_plain(out, ("lifted", "green"), " ", _described(each))
    print_plain(out, f"    by {each.lift_actor} at {until}")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(freeze)
    app.command()(unfreeze)
    app.command()(freezes)
