"""What callers ask, as values. The service decodes into these; nothing below knows the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bursar.domain.budget import Degradation, Priority
from bursar.domain.meter import Estimate, Usage
from bursar.domain.subject import Subject, Target


class Outcome(StrEnum):
    """How the call of the model went."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """May this call be made? Hold its amounts.

    Attributes:
        request_id: Idempotency key within the org; empty for a check.
        subject: Who spends.
        target: What is to be called.
        estimate: What it needs at the most.
        ttl_ms: How long the hold lasts.
        priority: How important it is.
        accepts: What the caller can carry out.
        validate_only: Decide, but hold nothing.
        closing: An agent's closing answer.
    """

    request_id: str
    subject: Subject
    target: Target
    estimate: Estimate
    ttl_ms: int
    priority: Priority = Priority.NORMAL
    accepts: frozenset[Degradation] = frozenset()
    validate_only: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """Book what a call used.

    Attributes:
        reservation_id: Which hold.
        usage: Since the last partial commit.
        target: What really answered.
        outcome: How the call went.
        partial: More commits follow.
        sequence: Number of this partial commit, from 1; 0 in a final one.
        estimated: The usage is a guess.
    """

    reservation_id: str
    usage: Usage
    target: Target
    outcome: Outcome = Outcome.SUCCEEDED
    partial: bool = False
    sequence: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Give a hold back."""

    reservation_id: str


@dataclass(frozen=True, slots=True)
class ExtendRequest:
    """Change an open hold.

    Attributes:
        reservation_id: Which hold.
        ttl_ms: New time to live from now on, or None.
        max_output_tokens: New output for the whole reservation, or None.
    """

    reservation_id: str
    ttl_ms: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """Book usage that had no reservation.

    Attributes:
        request_id: Idempotency key within the org.
        subject: Who spent.
        target: What was called.
        usage: What was used.
        outcome: How the call went.
        estimated: The usage is a guess.
    """

    request_id: str
    subject: Subject
    target: Target
    usage: Usage
    outcome: Outcome = Outcome.SUCCEEDED
    estimated: bool = False


Operation = ReserveRequest | CommitRequest | ReleaseRequest | ExtendRequest | RecordRequest
"""What a batch is made of."""
