"""`bursar rebuild`: load shards anew from the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.operator import CALL_TIMEOUT_S, enum_name, operating, patiently
from bursar.cli.printing import console, plural, print_error, print_plain
from bursar_client.pb import admin_service_pb2 as pb
from bursar_client.pb.admin_service_pb2_grpc import AdminServiceStub

EXIT_UNFINISHED = 1
EXIT_USAGE = 2

_POLL_S = 0.25


def rebuild(
    org: Annotated[
        str, typer.Option(metavar="NAME", help="The shard of this org, with all its other orgs.")
    ] = "",
    shard: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="The shard of this number.")
    ] = None,
    all_shards: Annotated[bool, typer.Option("--all", help="Every shard.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_s: Annotated[
        int, typer.Option(min=1, max=86_400, help="How long to wait for the end, in seconds.")
    ] = 600,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Load counters and holds anew from the ledger. What they count is kept.

    Until a shard is loaded its calls are answered with SHARD_COLD. Exit code 1 if that takes
    longer than it may.
    """
    if sum((bool(org), shard is not None, all_shards)) != 1:
        print_error("give exactly one of --org, --shard and --all")
        raise typer.Exit(EXIT_USAGE)
    request = pb.RebuildRequest(org=org or None, shard=shard, all=all_shards or None)
    what = f"the shard of {org}" if org else f"shard {shard}" if shard is not None else "all shards"
    if not yes:
        question = f"Calls of {what} will wait until it is loaded. Rebuild now?"
        typer.confirm(question, abort=True, err=True)
    out = console()
    with operating(address, AdminServiceStub) as stub:
        begun = stub.Rebuild(request, timeout=CALL_TIMEOUT_S)
        ended = {each.shard: each.epoch for each in begun.shards}
        done = _wait(stub, ended, time.monotonic() + wait_s)
        status = stub.GetStatus(pb.GetStatusRequest(), timeout=CALL_TIMEOUT_S)
    _print(out, status, ended)
    if not done:
        print_error(f"not all is loaded after {wait_s} s; `bursar status` shows how far it is")
        raise typer.Exit(EXIT_UNFINISHED)


def _wait(stub: AdminServiceStub, ended: Mapping[int, str], deadline_s: float) -> bool:
    """Wait until every shard is live in another epoch, and say whether it is in time."""
    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("shards", total=len(ended))
        while True:
            status = patiently(
                stub.GetStatus,
                pb.GetStatusRequest(),
                timeout_s=CALL_TIMEOUT_S,
                patience_s=deadline_s - time.monotonic(),
            )
            live = [each for each in status.shards if _is_done(each, ended)]
            counters = sum(each.counter_count for each in _of(status, ended))
            progress.update(
                task, completed=len(live), description=f"{plural(counters, 'counter')} loaded"
            )
            if len(live) == len(ended):
                return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)


def _is_done(shard: pb.ShardStatus, ended: Mapping[int, str]) -> bool:
    return (
        shard.shard in ended
        and shard.state == pb.ShardStatus.STATE_LIVE
        and shard.epoch != ended[shard.shard]
    )


def _of(status: pb.GetStatusResponse, ended: Mapping[int, str]) -> list[pb.RebuildStatus]:
    """Return the rebuilds that ended the epochs of before, as far as they have begun."""
    return [
        each.rebuild
        for each in status.shards
        if each.shard in ended
        and each.HasField("rebuild")
        and each.rebuild.epoch != ended[each.shard]
    ]


def _print(out: Console, status: pb.GetStatusResponse, ended: Mapping[int, str]) -> None:
    for shard in status.shards:
        if shard.shard in ended and not _is_done(shard, ended):
            state = enum_name(pb.ShardStatus.State.DESCRIPTOR, shard.state)
            print_plain(out, f"shard {shard.shard}: ", (state, "yellow"))
    done = sum(_is_done(each, ended) for each in status.shards)
    rebuilds = _of(status, ended)
    counters = plural(sum(each.counter_count for each in rebuilds), "counter")
    holds = plural(sum(each.hold_count for each in rebuilds), "hold")
    print_plain(out, (plural(done, "shard"), "green"), f" loaded, with {counters} and {holds}")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rebuild)
