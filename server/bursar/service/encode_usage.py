"""From values to the wire: usage, ledger entries and comparisons."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from bursar.authority.records import Verified
from bursar.domain.meter import Usage
from bursar.domain.request import Outcome
from bursar.domain.usage_report import TokenClass
from bursar.ledger.differences import Difference, DifferenceKind
from bursar.ledger.entry_query import CounterChange, EntryPage, LedgerEntry
from bursar.ledger.usage_query import UsagePage, UsageRow
from bursar.pb import types_pb2 as types_pb
from bursar.pb import usage_service_pb2 as pb
from bursar.service.decode_usage import VERBS
from bursar.service.parts import (
    custom_meter,
    encode_meter,
    encode_subject,
    encode_target,
    encode_time,
)

_CLASSES = {
    TokenClass.INPUT: pb.TOKEN_CLASS_INPUT,
    TokenClass.OUTPUT: pb.TOKEN_CLASS_OUTPUT,
    TokenClass.CACHE_READ: pb.TOKEN_CLASS_CACHE_READ,
    TokenClass.CACHE_WRITE: pb.TOKEN_CLASS_CACHE_WRITE,
    TokenClass.INPUT_AUDIO: pb.TOKEN_CLASS_INPUT_AUDIO,
    TokenClass.REASONING: pb.TOKEN_CLASS_REASONING,
    TokenClass.OUTPUT_AUDIO: pb.TOKEN_CLASS_OUTPUT_AUDIO,
}
_VERBS = {verb: number for number, verb in VERBS.items()}
_OUTCOMES = {
    str(Outcome.SUCCEEDED): types_pb.OUTCOME_SUCCEEDED,
    str(Outcome.FAILED): types_pb.OUTCOME_FAILED,
    str(Outcome.CANCELLED): types_pb.OUTCOME_CANCELLED,
}
_KINDS = {
    DifferenceKind.COUNTER: pb.Difference.KIND_COUNTER,
    DifferenceKind.HOLD: pb.Difference.KIND_HOLD,
    DifferenceKind.HELD_SUM: pb.Difference.KIND_HELD_SUM,
    DifferenceKind.BALANCE: pb.Difference.KIND_BALANCE,
}


def encode_usage(page: UsagePage) -> pb.QueryUsageResponse:
    """Encode a page of what was used."""
    return pb.QueryUsageResponse(
        rows=[_row(each) for each in page.rows],
        next_page_token=page.next_page_token,
        record_time=_time_if_known(page.recorded_at_ms),
    )


def encode_entries(page: EntryPage) -> pb.ListLedgerEntriesResponse:
    """Encode a page of what was booked."""
    return pb.ListLedgerEntriesResponse(
        entries=[_entry(each) for each in page.entries],
        next_page_token=page.next_page_token,
        record_time=_time_if_known(page.recorded_at_ms),
    )


def encode_verified(verified: Verified) -> pb.VerifyResponse:
    """Encode a page of what was compared."""
    report = verified.report
    return pb.VerifyResponse(
        shards=verified.shards,
        checked_counter_count=report.checked_counters,
        checked_hold_count=report.checked_holds,
        differences=[_difference(each) for each in report.differences],
        difference_count=report.difference_count,
        repaired_count=report.repaired_count,
        next_page_token=verified.next_page_token,
        shard_count=verified.shard_count,
    )


def _row(row: UsageRow) -> pb.UsageRow:
    message = pb.UsageRow(
        start_time=encode_time(row.start_ms),
        end_time=encode_time(row.end_ms),
        subject=encode_subject(row.subject),
        target=encode_target(row.target) if row.target.provider or row.target.model else None,
        request_count=row.requests,
        cost_nano_usd=row.cost_nano_usd,
        unpriced_count=row.unpriced,
        denial_count=row.denials,
    )
    if row.token_class is not None:
        message.token_class = _CLASSES[row.token_class]
        message.token_count = row.tokens[row.token_class]
    else:
        message.tokens.CopyFrom(
            pb.TokenCounts(**{str(each): count for each, count in row.tokens.items()})
        )
    return message


def _entry(entry: LedgerEntry) -> pb.LedgerEntry:
    target = entry.target
    return pb.LedgerEntry(
        create_time=encode_time(entry.at_ms),
        verb=_VERBS[entry.verb],
        reservation_id=entry.reservation_id,
        request_id=entry.request_id,
        subject=encode_subject(entry.subject),
        target=encode_target(target) if target.provider or target.model else None,
        outcome=_OUTCOMES.get(entry.outcome, types_pb.OUTCOME_UNSPECIFIED),
        late=entry.late,
        estimated=entry.estimated,
        usage=_usage(entry.usage) if entry.usage is not None else None,
        cost_nano_usd=entry.cost_nano_usd,
        policy_version=entry.policy_version,
        detail=entry.detail,
        changes=[_change(each) for each in entry.changes],
        shard=entry.shard,
        epoch=entry.epoch,
        sequence=entry.sequence,
        ordinal=entry.ordinal,
    )


def _usage(usage: Usage) -> types_pb.Usage:
    return types_pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        requests=usage.requests,
        custom_meters=dict(usage.custom_meters),
    )


def _change(change: CounterChange) -> pb.CounterChange:
    counter = change.counter
    begins = counter.window_start_ms
    return pb.CounterChange(
        budget=counter.budget,
        partition=dict(counter.partition),
        meter=encode_meter(counter.meter),
        custom_meter=custom_meter(counter.meter),
        window_start_time=encode_time(begins) if begins else None,
        held=change.held,
        committed=change.committed,
        credit=change.credit,
    )


def _difference(difference: Difference) -> pb.Difference:
    return pb.Difference(
        shard=difference.shard,
        kind=_KINDS[difference.kind],
        name=difference.name,
        field=difference.field,
        ledger=difference.ledger,
        found=difference.found,
        repaired=difference.repaired,
    )


def _time_if_known(ms: int | None) -> Timestamp | None:
    return encode_time(ms) if ms is not None else None
