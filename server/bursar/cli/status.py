"""`bursar status`: how shards, ledger and servers stand."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console
from rich.text import Text

from bursar.cli.address import DEFAULT_ADDRESS, Address
from bursar.cli.connection import AsJson
from bursar.cli.operator import CALL_TIMEOUT_S, enum_name, message_json, operating, time_of
from bursar.cli.printing import console, plural, print_json, print_plain
from bursar.cli.render import money_text, plain_table
from bursar.domain.window import format_duration
from bursar_client.pb import admin_service_pb2 as pb
from bursar_client.pb.admin_service_pb2_grpc import AdminServiceStub

SHARDS_NAMED_MAX = 10
_SLOW_MS = 10_000
_GONE_S = 15

_State = pb.ShardStatus.State


def status(address: Address = DEFAULT_ADDRESS, as_json: AsJson = False) -> None:
    """Show how the shards, the ledger and the servers stand, and what rebuilds had at stake.

    Exit code 1 if a shard cannot decide, or if counters differ from the ledger.
    """
    with operating(address, AdminServiceStub) as stub:
        answer = stub.GetStatus(pb.GetStatusRequest(), timeout=CALL_TIMEOUT_S)
    if as_json:
        print_json(message_json(answer))
    else:
        _print(console(), answer)
    if _unfit(answer.shards) or answer.verification.difference_count:
        raise typer.Exit(1)


def _unfit(shards: Sequence[pb.ShardStatus]) -> list[pb.ShardStatus]:
    """Return the shards that cannot decide; one that nobody has used yet is not looked at."""
    fit = (pb.ShardStatus.STATE_LIVE, pb.ShardStatus.STATE_UNSPECIFIED)
    return [each for each in shards if each.state not in fit]


def _print(out: Console, answer: pb.GetStatusResponse) -> None:
    _print_shards(out, answer.shards)
    _print_ledger(out, answer)
    _print_drift(out, answer)
    for policy in answer.policies:
        newest = policy.newest_version
        late = (f" (newest: {newest})", "yellow") if newest not in ("", policy.version) else ""
        number = f", number {policy.newest_number}" if policy.newest_number else ""
        print_plain(out, f"policy of {policy.org}: version {policy.version}{number}", late)
    for server in answer.servers:
        _print_server(out, server, answer)
    if answer.rebuilds:
        _print_rebuilds(out, answer.rebuilds)


def _print_shards(out: Console, shards: Sequence[pb.ShardStatus]) -> None:
    unfit = _unfit(shards)
    live = sum(each.state == pb.ShardStatus.STATE_LIVE for each in shards)
    print_plain(
        out, (f"{live:,} of {plural(len(shards), 'shard')} live", "yellow" if unfit else "green")
    )
    for shard in unfit[:SHARDS_NAMED_MAX]:
        state = enum_name(_State.DESCRIPTOR, shard.state)
        print_plain(out, f"    shard {shard.shard}: ", (state, "red"))
    if len(unfit) > SHARDS_NAMED_MAX:
        print_plain(out, f"    and {len(unfit) - SHARDS_NAMED_MAX:,} more")


def _print_ledger(out: Console, answer: pb.GetStatusResponse) -> None:
    waiting = sum(each.waiting_count for each in answer.shards)
    lag_ms = max((each.lag.ToMilliseconds() for each in answer.shards), default=0)
    if waiting:
        style = "red" if lag_ms > _SLOW_MS else "green"
        behind = f"{format_duration(lag_ms)} behind, {plural(waiting, 'entry', 'entries')} waiting"
    else:
        style, behind = "green", "up to date"
    print_plain(out, "ledger: ", (behind, style))
    alone = sum(each.waiting_count > 0 and not each.owner_server_id for each in answer.shards)
    if alone:
        print_plain(out, f"    nobody records {plural(alone, 'shard')}", style="red")
    if answer.reject_count:
        rejected = plural(answer.reject_count, "journal entry", "journal entries")
        print_plain(out, f"    {rejected} could not be read and are kept aside", style="red")
        for reject in answer.rejects:
            print_plain(out, f"        shard {reject.shard}, {reject.stream_id}: {reject.fault}")


def _print_drift(out: Console, answer: pb.GetStatusResponse) -> None:
    if not answer.HasField("verification"):
        print_plain(out, "drift: not compared yet")
        return
    found = answer.verification
    when = time_of(found.verify_time).astimezone()
    style = "red" if found.difference_count else "green"
    counters = plural(found.checked_counter_count, "counter")
    holds = plural(found.checked_hold_count, "hold")
    print_plain(
        out,
        "drift: ",
        (plural(found.difference_count, "difference"), style),
        f" in {counters} and {holds}, compared at {when:%H:%M:%S}",
    )
    if found.difference_count:
        print_plain(out, "    `bursar verify` names them, `bursar verify --repair` mends them")


def _print_server(out: Console, server: pb.ServerStatus, answer: pb.GetStatusResponse) -> None:
    unseen_s = answer.status_time.seconds - server.seen_time.seconds
    owned = sum(each.owner_server_id == server.server_id for each in answer.shards)
    gone = (f", not seen for {format_duration(unseen_s * 1_000)}", "yellow")
    print_plain(
        out,
        f"server {server.server_id} at {server.address or 'unknown address'}, since "
        f"{time_of(server.start_time).astimezone():%b %d %H:%M}, records {plural(owned, 'shard')}",
        gone if unseen_s > _GONE_S else "",
    )


def _print_rebuilds(out: Console, rebuilds: Sequence[pb.RebuildEvent]) -> None:
    table = plain_table("Rebuilds, newest first")
    table.add_column("began", no_wrap=True)
    table.add_column("why", overflow="fold")
    for name in ("took", "shards", "counters", "holds", "committed", "held", "sent again"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in rebuilds:
        began, ended = time_of(each.start_time), time_of(each.end_time)
        runs = not each.HasField("end_time")
        took_ms = int((ended - began).total_seconds() * 1_000)
        table.add_row(
            f"{began.astimezone():%b %d %H:%M:%S}",
            Text(each.cause),
            "runs" if runs else format_duration(took_ms),
            f"{len(each.shards):,}",
            f"{each.counter_count:,}",
            f"{each.hold_count:,}",
            money_text(each.committed_nano_usd),
            money_text(each.held_nano_usd),
            f"{each.resent_count:,}",
        )
    out.print(table)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)
