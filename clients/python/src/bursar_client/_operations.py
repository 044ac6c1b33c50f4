"""The operations that can be asked for, as values: they make a batch and wait in the backlog."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from bursar_client._values import Degradation, Estimate, Outcome, Priority, Subject, Target, Usage


def new_request_id() -> str:
    """Return an id that nobody has used."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveOperation:
    """Ask whether a call may be made, and hold its amounts.

    Attributes:
        subject: Who spends.
        target: What is to be called.
        estimate: What it needs at the most.
        ttl: How long the hold lasts if nobody settles it; 1 s to 24 h. None: 2 min.
        priority: How important the request is.
        accepts: What the caller can carry out when the budget runs low.
        closing: True for an agent's closing answer.
        request_id: Idempotency key; 1 to 256 bytes. Sent again, the same operation finds its
            first grant.
    """

    subject: Subject
    target: Target
    estimate: Estimate = field(default_factory=Estimate)
    ttl: timedelta | None = None
    priority: Priority = Priority.NORMAL
    accepts: tuple[Degradation, ...] = ()
    closing: bool = False
    request_id: str = field(default_factory=new_request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOperation:
    """Book what a call used in place of what was held.

    Attributes:
        reservation_id: The reservation.
        usage: What was used since the last partial commit.
        target: What really answered: the charge is at its price.
        outcome: How the call went.
        sequence: Number of a partial commit, 1 to 1,000,000, each one more than the last; 0 in
            the final one.
        estimated: True where the usage is guessed.
    """

    reservation_id: str
    usage: Usage
    target: Target
    outcome: Outcome = Outcome.SUCCEEDED
    sequence: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOperation:
    """Give a hold back: the call was not made.

    Attributes:
        reservation_id: The reservation.
    """

    reservation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendOperation:
    """Make an open hold last longer, or larger or smaller. At least one must be given.

    Attributes:
        reservation_id: The reservation.
        ttl: New time to live from now on, 1 s to 24 h. None: the expiry stays.
        max_output_tokens: New output tokens at the most for the whole reservation. None: the
            amounts stay.
    """

    reservation_id: str
    ttl: timedelta | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOperation:
    """Book usage that had no reservation.

    Attributes:
        subject: Who spent.
        target: What was called.
        usage: What was used.
        outcome: How the call went.
        estimated: True where the usage is guessed.
        request_id: Idempotency key; 1 to 256 bytes.
    """

    subject: Subject
    target: Target
    usage: Usage
    outcome: Outcome = Outcome.SUCCEEDED
    estimated: bool = False
    request_id: str = field(default_factory=new_request_id)


Operation: TypeAlias = (
    ReserveOperation | CommitOperation | ReleaseOperation | ExtendOperation | RecordOperation
)
"""Anything that a batch can carry."""

SettleOperation: TypeAlias = CommitOperation | ReleaseOperation | RecordOperation
"""Anything that must not be lost once it was asked for."""
