"""From values to the wire: how an installation stands."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.authority.records import Status
from bursar.ledger.status import (
    AppliedPolicy,
    Position,
    Rebuild,
    RebuildEvent,
    Reject,
    Server,
    ShardState,
    ShardStatus,
)
from bursar.ledger.status_query import POLICIES_MAX
from bursar.pb import admin_service_pb2 as pb
from bursar.service.parts import encode_duration, encode_time

_STATES = {
    ShardState.UNKNOWN: pb.ShardStatus.STATE_UNSPECIFIED,
    ShardState.LIVE: pb.ShardStatus.STATE_LIVE,
    ShardState.COLD: pb.ShardStatus.STATE_COLD,
    ShardState.REBUILDING: pb.ShardStatus.STATE_REBUILDING,
    ShardState.REPLAYING: pb.ShardStatus.STATE_REPLAYING,
}


def encode_status(status: Status) -> pb.GetStatusResponse:
    """Encode how the installation stands."""
    ledger, verification = status.ledger, status.verification
    positions = {each.shard: each for each in ledger.positions}
    loaded = {each.shard: each for each in ledger.newest_rebuilds}
    newest = {each.org: each for each in ledger.policies}
    message = pb.GetStatusResponse(
        server_id=status.server_id,
        status_time=encode_time(status.at_ms),
        shards=[
            _shard(each, positions.get(each.shard), loaded.get(each.shard))
            for each in status.shards
        ],
        rebuilds=[_event(each) for each in ledger.rebuilds],
        servers=[_server(each) for each in ledger.servers],
        policies=[
            _policy(org, version, newest.get(org))
            for org, version in status.policies[:POLICIES_MAX]
        ],
        reject_count=ledger.reject_count,
        rejects=[_reject(each) for each in ledger.rejects],
    )
    if verification is not None:
        message.verification.CopyFrom(
            pb.VerificationStatus(
                verify_time=encode_time(verification.verified_at_ms),
                checked_counter_count=verification.checked_counters,
                checked_hold_count=verification.checked_holds,
                difference_count=verification.differences,
            )
        )
    return message


def encode_rebuilding(shards: Sequence[ShardStatus]) -> pb.RebuildResponse:
    """Encode which shards are loaded anew, as they stood before."""
    return pb.RebuildResponse(
        shards=[pb.RebuildingShard(shard=each.shard, epoch=each.epoch) for each in shards]
    )


def _shard(
    shard: ShardStatus, position: Position | None, rebuild: Rebuild | None
) -> pb.ShardStatus:
    return pb.ShardStatus(
        shard=shard.shard,
        epoch=shard.epoch,
        state=_STATES[shard.state],
        waiting_count=shard.waiting_entries,
        lag=encode_duration(shard.lag_ms),
        owner_server_id=shard.owner_server_id,
        recorded_sequence=position.sequence if position else 0,
        record_time=encode_time(position.recorded_at_ms) if position else None,
        rebuild=_rebuild(rebuild) if rebuild else None,
    )


def _rebuild(rebuild: Rebuild) -> pb.RebuildStatus:
    return pb.RebuildStatus(
        epoch=rebuild.epoch,
        cause=rebuild.cause,
        start_time=encode_time(rebuild.start_ms),
        end_time=encode_time(rebuild.end_ms) if rebuild.end_ms is not None else None,
        counter_count=rebuild.counters,
        hold_count=rebuild.holds,
    )


def _event(event: RebuildEvent) -> pb.RebuildEvent:
    return pb.RebuildEvent(
        shards=event.shards,
        cause=event.cause,
        server_id=event.server_id,
        start_time=encode_time(event.start_ms),
        end_time=encode_time(event.end_ms) if event.end_ms is not None else None,
        counter_count=event.counters,
        hold_count=event.holds,
        committed_nano_usd=event.committed_nano_usd,
        held_nano_usd=event.held_nano_usd,
        resent_count=event.resent,
    )


def _server(server: Server) -> pb.ServerStatus:
    return pb.ServerStatus(
        server_id=server.server_id,
        address=server.address,
        start_time=encode_time(server.started_at_ms),
        seen_time=encode_time(server.seen_at_ms),
    )


def _policy(org: str, version: str, newest: AppliedPolicy | None) -> pb.PolicyStatus:
    return pb.PolicyStatus(
        org=org,
        version=version,
        newest_version=newest.version if newest else "",
        newest_number=newest.number if newest else 0,
        apply_time=encode_time(newest.applied_at_ms) if newest else None,
    )


def _reject(reject: Reject) -> pb.RejectStatus:
    return pb.RejectStatus(
        shard=reject.shard,
        epoch=reject.epoch,
        stream_id=reject.stream_id,
        fault=reject.fault,
        reject_time=encode_time(reject.rejected_at_ms),
    )
