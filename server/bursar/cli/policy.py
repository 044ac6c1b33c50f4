"""`bursar plan`, `apply`, `policy` and `policies`: what decides, and what it was before."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.operator import CALL_TIMEOUT_S, message_json, operating, time_of
from bursar.cli.printing import console, plural, print_error, print_json, print_plain
from bursar.cli.render import plain_table
from bursar_client.pb import policy_pb2 as policy_pb
from bursar_client.pb import policy_service_pb2 as pb
from bursar_client.pb.policy_service_pb2_grpc import PolicyServiceStub

EXIT_USAGE = 2
EXIT_CHANGES = 4
"""`bursar plan` found something to change."""

VERSIONS_PAGE = 200

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Policy documents.")]
Org = Annotated[str, typer.Argument(metavar="ORG", help="The org.")]
AsPlainJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
Actor = Annotated[
    str,
    typer.Option("--who", help="Who wants it; it is recorded. Your login name if not given."),
]

_ADDED, _REMOVED = policy_pb.PolicyChange.KIND_ADDED, policy_pb.PolicyChange.KIND_REMOVED
_SIGNS = {_ADDED: ("+", "green"), _REMOVED: ("-", "red")}


def plan(files: Files, address: Address = DEFAULT_ADDRESS, as_json: AsPlainJson = False) -> None:
    """Show what applying policy documents would change.

    Exit code 0 if nothing would change, 4 if something would, 1 if a document is refused.
    """
    documents = _read(files)
    with operating(address, PolicyServiceStub) as policies:
        plans = [_apply(policies, each, validate_only=True) for each in documents]
    if as_json:
        print_json([message_json(each) for each in plans])
    else:
        _print_plans(console(), plans)
    if any(map(_changes_something, plans)):
        raise typer.Exit(EXIT_CHANGES)


def apply(
    files: Files,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Make policy documents the policies of their orgs, on every server within a second.

    It shows what changes and asks. Who changed a policy in between is told, and nothing is
    overwritten.
    """
    documents = _read(files)
    out = console()
    with operating(address, PolicyServiceStub) as policies:
        plans = [_apply(policies, each, validate_only=True) for each in documents]
        _print_plans(out, plans)
        wanted = [
            (document, planned)
            for document, planned in zip(documents, plans, strict=True)
            if _changes_something(planned)
        ]
        if not wanted:
            return
        if not yes:
            _ask()
        for document, planned in wanted:
            etag = planned.version.etag if planned.HasField("version") else "0"
            applied = _apply(
                policies, document, etag=etag, actor=actor or login_name(), reason=reason
            )
            version = applied.version
            text = f" {applied.org}: version {version.number} ({version.policy_version})"
            print_plain(out, ("applied", "green"), text)


def policy(
    org: Org,
    number: Annotated[
        int, typer.Option("--version", min=0, help="Number of the version; 0 for the newest.")
    ] = 0,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Print an org's policy document as it was applied."""
    with operating(address, PolicyServiceStub) as policies:
        request = pb.GetPolicyRequest(org=org, number=number)
        found = policies.GetPolicy(request, timeout=CALL_TIMEOUT_S)
    sys.stdout.write(found.document if found.document.endswith("\n") else found.document + "\n")


def policies(
    org: Org,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Versions at the most.")] = 20,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsPlainJson = False,
) -> None:
    """Show the versions of an org's policy, newest first: who, when, why, and what changed."""
    found: list[pb.PolicyVersionEntry] = []
    token = ""
    with operating(address, PolicyServiceStub) as service:
        while len(found) < limit:
            size = min(limit - len(found), VERSIONS_PAGE)
            request = pb.ListPolicyVersionsRequest(org=org, page_size=size, page_token=token)
            page = service.ListPolicyVersions(request, timeout=CALL_TIMEOUT_S)
            found += page.versions
            token = page.next_page_token
            if not token:
                break
    if as_json:
        print_json([message_json(each) for each in found])
        return
    out = console()
    table = plain_table(f"Versions of {org}")
    for name in ("version", "when", "who", "changes", "why"):
        table.add_column(name, overflow="fold", no_wrap=name in ("version", "when"))
    for entry in found:
        version = entry.version
        table.add_row(
            f"{version.number} ({version.policy_version})",
            minute_text(version.apply_time),
            Text(version.actor),
            Text(_changed(entry.changes)),
            Text(version.reason),
        )
    out.print(table)
    if token:
        print_plain(out, f"and older ones than these {len(found):,}", style="yellow")


def login_name() -> str:
    """Return who is logged in, for what is recorded; a user without a name is asked for one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        print_error("nobody knows your login name: say who you are with --who NAME")
        raise typer.Exit(EXIT_USAGE) from None


def time_text(time: Timestamp) -> str:
    """Return an instant for people, in UTC, to the second."""
    return f"{time_of(time):%Y-%m-%d %H:%M:%SZ}"


def minute_text(time: Timestamp) -> str:
    """Return an instant for a table, in UTC, to the minute."""
    return f"{time_of(time):%Y-%m-%d %H:%MZ}"


def _read(files: Iterable[Path]) -> list[str]:
    """Return the texts; whatever a document's faults are, all of them are printed."""
    from bursar.domain.errors import PolicyInvalid
    from bursar.domain.policy_text import parse_policy

    texts = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            parse_policy(text, str(file))
        except PolicyInvalid as error:
            print_error(error.message)
            raise typer.Exit(1) from None
        except (OSError, UnicodeDecodeError) as error:
            print_error(f"{file} cannot be read: {error}")
            raise typer.Exit(1) from None
        texts.append(text)
    return texts


def _apply(
    policies: PolicyServiceStub,
    document: str,
    *,
    validate_only: bool = False,
    etag: str = "",
    actor: str = "",
    reason: str = "",
) -> pb.ApplyPolicyResponse:
    request = pb.ApplyPolicyRequest(
        document=document, validate_only=validate_only, etag=etag, actor=actor, reason=reason
    )
    answer: pb.ApplyPolicyResponse = policies.ApplyPolicy(request, timeout=CALL_TIMEOUT_S)
    return answer


def _changes_something(planned: pb.ApplyPolicyResponse) -> bool:
    return bool(planned.changes) or not planned.HasField("version")


def _ask() -> None:
    """Ask whether to go on; without a terminal nobody could answer."""
    if not sys.stdin.isatty():
        print_error("nothing is applied: there is no terminal to ask on; add --yes to apply")
        raise typer.Exit(EXIT_USAGE)
    if not typer.confirm("Apply?"):
        print_error("nothing is applied")
        raise typer.Exit(1)


def _print_plans(out: Console, plans: Iterable[pb.ApplyPolicyResponse]) -> None:
    for planned in plans:
        if not _changes_something(planned):
            print_plain(out, f"{planned.org}: nothing changes")
        else:
            since = f"version {planned.version.number}" if planned.version.number else "no policy"
            print_plain(out, (planned.org, "bold"), f": changes from {since}")
        for change in planned.changes:
            _print_change(out, change)
        for warning in planned.warnings:
            print_plain(out, "  ", ("warning", "yellow"), f" {warning.path}: {warning.description}")


def _print_change(out: Console, change: policy_pb.PolicyChange) -> None:
    sign, style = _SIGNS.get(change.kind, ("~", "yellow"))
    what = " ".join(each for each in (change.budget or "policy", change.setting) if each)
    if change.kind == _ADDED:
        said = change.after
    elif change.kind == _REMOVED:
        said = change.before
    else:
        said = f"{change.before} -> {change.after}"
    print_plain(out, "  ", (f"{sign} {what}", style), f": {said}")
    if change.warning:
        print_plain(out, "      ", ("warning", "yellow"), f" {change.warning}")


def _changed(changes: Iterable[policy_pb.PolicyChange]) -> str:
    """Return in few words what a version changed."""
    listed = list(changes)
    names = list(dict.fromkeys(each.budget or each.setting for each in listed))
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")  # noqa: PLR2004 - a few
    return f"{plural(len(listed), 'change')}: {shown}" if listed else "nothing"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plan)
    app.command()(apply)
    app.command()(policy)
    app.command()(policies)
