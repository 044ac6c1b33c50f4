"""What a hold keeps of its request, so that any server can answer, settle and show it later."""

from __future__ import annotations

from typing import NamedTuple

from bursar.domain.budget import Degradation, Priority
from bursar.domain.meter import Estimate, Usage
from bursar.domain.request import CommitRequest, RecordRequest, ReserveRequest
from bursar.domain.subject import OrgId, Subject, Target, parse_target_key, target_key
from bursar.engine.wire import pack, unpack


class Payload(NamedTuple):
    """The request that a hold was made for, and the policy version that granted it."""

    request: ReserveRequest
    policy_version: str


def encode_payload(request: ReserveRequest, policy_version: str) -> bytes:
    """Return what a hold keeps."""
    subject, estimate = request.subject, request.estimate
    return pack(
        [
            policy_version,
            request.request_id,
            [subject.team, subject.feature, subject.agent, subject.user, subject.task],
            dict(subject.labels),
            target_key(request.target),
            [
                estimate.input_tokens,
                estimate.max_output_tokens,
                estimate.min_output_tokens,
                estimate.requests,
                dict(estimate.custom_meters),
                estimate.cache_read_tokens,
                estimate.cache_write_tokens,
                estimate.input_audio_tokens,
            ],
            [request.ttl_ms, int(request.priority), sorted(request.accepts), request.closing],
        ]
    )


def decode_payload(org: OrgId, data: bytes) -> Payload:
    """Read what a hold kept."""
    version, request_id, levels, labels, target, estimate, rest = unpack(data)
    team, feature, agent, user, task = (level.decode() for level in levels)
    input_tokens, max_output, min_output, requests, custom, read, write, audio = estimate
    ttl_ms, priority, accepts, closing = rest
    request = ReserveRequest(
        request_id=request_id.decode(),
        subject=Subject(
            org,
            team,
            feature,
            agent,
            user,
            task,
            labels={key.decode(): value.decode() for key, value in labels.items()},
        ),
        target=parse_target_key(target.decode()),
        estimate=Estimate(
            input_tokens=input_tokens,
            max_output_tokens=max_output,
            min_output_tokens=min_output,
            requests=requests,
            custom_meters={name.decode(): amount for name, amount in custom.items()},
            cache_read_tokens=read,
            cache_write_tokens=write,
            input_audio_tokens=audio,
        ),
        ttl_ms=ttl_ms,
        priority=Priority(priority),
        accepts=frozenset(Degradation(each.decode()) for each in accepts),
        closing=bool(closing),
    )
    return Payload(request, version.decode())


def record_payload(request: RecordRequest, policy_version: str) -> bytes:
    """Return what the tombstone of a record keeps, in the same form as a hold's."""
    reserve = ReserveRequest(
        request.request_id, request.subject, request.target, Estimate(), ttl_ms=0
    )
    return encode_payload(reserve, policy_version)


def usage_note(request: CommitRequest | RecordRequest, target: Target) -> bytes:
    """Return what the journal keeps of a settlement: usage by token class, target and outcome."""
    usage: Usage = request.usage
    return pack(
        [
            target_key(target),
            str(request.outcome),
            request.estimated,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.input_audio_tokens,
            usage.reasoning_tokens,
            usage.output_audio_tokens,
            dict(usage.custom_meters),
        ]
    )


class UsageNote(NamedTuple):
    """What the journal keeps of a settlement."""

    target: Target
    outcome: str
    estimated: bool
    usage: Usage


def decode_usage_note(data: bytes) -> UsageNote:
    """Read what `usage_note` wrote."""
    target, outcome, estimated, *tokens, custom = unpack(data)
    used, output, cache_read, cache_write, input_audio, reasoning, output_audio = tokens
    usage = Usage(
        input_tokens=used,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        input_audio_tokens=input_audio,
        reasoning_tokens=reasoning,
        output_audio_tokens=output_audio,
        custom_meters={name.decode(): amount for name, amount in custom.items()},
    )
    return UsageNote(parse_target_key(target.decode()), outcome.decode(), bool(estimated), usage)
