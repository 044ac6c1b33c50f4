"""`bursar verify`: compare the ledger with the counters and holds that decide."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import AsJson
from bursar.cli.operator import enum_name, message_json, operating, patiently
from bursar.cli.printing import console, plural, print_json, print_plain
from bursar_client.pb import usage_service_pb2 as pb
from bursar_client.pb.usage_service_pb2_grpc import UsageServiceStub

EXIT_DIFFERS = 1

_SHARD_TIMEOUT_S = 60.0
"""The longest deadline that a server takes as it comes: a shard may have many counters."""

_PATIENCE_S = 15.0
"""How long a shard may be rebuilt, or too busy to be compared, before the command gives up."""


def verify(
    org: Annotated[
        str, typer.Option(metavar="NAME", help="Only the counters and holds of this org.")
    ] = "",
    deep: Annotated[
        bool, typer.Option("--deep", help="Add up every ledger entry as well; it takes longer.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set what differs to what the ledger says.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    as_json: AsJson = False,
) -> None:
    """Compare the ledger with the counters and holds that decide, while they are in use.

    Exit code 1 if anything differs and was not repaired.
    """
    request = pb.VerifyRequest(org=org, deep=deep, repair=repair)
    pages = _read(request, address, console(stderr=True))
    different = sum(page.difference_count for page in pages)
    repaired = sum(page.repaired_count for page in pages)
    if as_json:
        print_json(
            {
                "checked_counter_count": sum(page.checked_counter_count for page in pages),
                "checked_hold_count": sum(page.checked_hold_count for page in pages),
                "difference_count": different,
                "repaired_count": repaired,
                "differences": [message_json(each) for page in pages for each in page.differences],
            }
        )
    else:
        _print(console(), pages, different, repaired)
    if different > repaired:
        raise typer.Exit(EXIT_DIFFERS)


def _read(request: pb.VerifyRequest, address: str, out: Console) -> list[pb.VerifyResponse]:
    """Return every page, showing on a terminal how far it is."""
    pages: list[pb.VerifyResponse] = []
    with (
        operating(address, UsageServiceStub) as stub,
        Progress(console=out, transient=True, disable=not out.is_terminal) as progress,
    ):
        task = progress.add_task("comparing", total=None)
        while True:
            page = patiently(
                stub.Verify, request, timeout_s=_SHARD_TIMEOUT_S, patience_s=_PATIENCE_S
            )
            pages.append(page)
            progress.update(task, total=page.shard_count, advance=len(page.shards))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return pages


def _print(out: Console, pages: list[pb.VerifyResponse], different: int, repaired: int) -> None:
    listed = [each for page in pages for each in page.differences]
    for each in listed:
        _print_difference(out, each)
    if different > len(listed):
        print_plain(out, f"and {different - len(listed):,} more", style="yellow")
    counters = plural(sum(page.checked_counter_count for page in pages), "counter")
    holds = plural(sum(page.checked_hold_count for page in pages), "hold")
    compared = f"{counters} and {holds} compared with the ledger: "
    if not different:
        print_plain(out, compared, ("no difference", "green"))
        return
    style = "yellow" if repaired == different else "red"
    ended = f", {repaired:,} repaired" if repaired else ""
    print_plain(out, compared, (plural(different, "difference") + ended, style))


def _print_difference(out: Console, difference: pb.Difference) -> None:
    kind = enum_name(pb.Difference.Kind.DESCRIPTOR, difference.kind).replace("_", " ")
    ledger = f"{difference.ledger:,}" if difference.HasField("ledger") else "nothing"
    found = f"{difference.found:,}" if difference.HasField("found") else "nothing"
    done = (", repaired", "green") if difference.repaired else ""
    print_plain(out, (f"{kind} ", "bold"), f"{difference.name} (shard {difference.shard})")
    print_plain(out, f"    {difference.field}: the ledger says {ledger}, there is {found}", done)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)
