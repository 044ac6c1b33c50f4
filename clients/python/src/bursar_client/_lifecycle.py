"""One reservation from its grant to its end, without input or output.

What the end of the block sends is in the documentation of `AsyncReservation`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from bursar_client._answers import Extension, Grant
from bursar_client._errors import AlreadySettled
from bursar_client._operations import CommitOperation, ReleaseOperation, ReserveOperation
from bursar_client._values import Outcome, Target, Usage

_log = logging.getLogger("bursar_client")

_CANCELLATIONS = (asyncio.CancelledError, CancelledError, GeneratorExit, KeyboardInterrupt)


@dataclass(slots=True)
class _Attempt:
    """What is known of the latest call of the model."""

    output_tokens_seen: int = 0
    partial_count: int = 0
    input_tokens_told: int = 0
    output_tokens_told: int = 0
    requests_told: int = 0


class Lifecycle:
    """What was asked and granted, what has happened since, and what has to be sent at the end."""

    def __init__(self, asked: ReserveOperation, grant: Grant) -> None:
        self.asked = asked
        self.grant = grant
        self._attempt: _Attempt | None = None
        self._sequence = 0
        self._ended: str | None = None
        # Two threads that end the same reservation must not both believe to be the one.
        self._lock = threading.Lock()

    def call_started(self) -> None:
        """Note that the model is being called."""
        self._attempt = _Attempt()

    def saw_output(self, tokens: int) -> None:
        """Add to what the model has answered in the latest attempt.

        Raises:
            ValueError: tokens is below 0.
        """
        if tokens < 0:
            raise ValueError(f"tokens must be 0 or more, is {tokens}")
        self._started().output_tokens_seen += tokens

    def commit(
        self, usage: Usage, target: Target, outcome: Outcome, estimated: bool
    ) -> CommitOperation:
        """Return the final commit; from here on the reservation counts as settled.

        Raises:
            AlreadySettled: It was before.
        """
        self._end("COMMITTED")
        return self._commit(usage, target, outcome, estimated)

    def release(self) -> ReleaseOperation:
        """Return the release; from here on the reservation counts as settled.

        Raises:
            AlreadySettled: It was before.
        """
        self._end("RELEASED")
        return ReleaseOperation(reservation_id=self.grant.reservation_id)

    def require_open(self) -> None:
        """Make sure that the reservation is not settled.

        Raises:
            AlreadySettled: It is.
        """
        if self._ended is not None:
            raise AlreadySettled(
                f"reservation {self.grant.reservation_id} was {self._ended.lower()} by this "
                "client; book further usage with record",
                reason=f"RESERVATION_{self._ended}",
                metadata={"reservationId": self.grant.reservation_id, "state": self._ended},
            )

    def commit_partial(
        self, usage: Usage, target: Target, outcome: Outcome, estimated: bool
    ) -> CommitOperation:
        """Return the next partial commit."""
        self._sequence += 1
        attempt = self._started()
        attempt.partial_count += 1
        attempt.input_tokens_told += usage.input_tokens
        attempt.output_tokens_told += usage.output_tokens
        attempt.requests_told += usage.requests or 0
        return replace(self._commit(usage, target, outcome, estimated), sequence=self._sequence)

    def refused(self, operation: CommitOperation | ReleaseOperation) -> None:
        """Take back an operation that the server found faulty: nothing was booked."""
        if isinstance(operation, CommitOperation) and operation.sequence > 0:
            self._sequence = operation.sequence - 1
            attempt = self._started()
            attempt.partial_count -= 1
            attempt.input_tokens_told -= operation.usage.input_tokens
            attempt.output_tokens_told -= operation.usage.output_tokens
            attempt.requests_told -= operation.usage.requests or 0
        else:
            self._ended = None

    def extended(self, extension: Extension) -> None:
        """Note what the hold is now."""
        self.grant = replace(
            self.grant,
            max_output_tokens=extension.max_output_tokens,
            expire_time=extension.expire_time,
        )

    def at_exit(self, error: BaseException | None) -> CommitOperation | ReleaseOperation | None:
        """Return what the end of the block has to send, or None where all is settled.

        Args:
            error: What ended the block, or None for its normal end.
        """
        try:
            self._end("RELEASED" if self._attempt is None else "COMMITTED")
        except AlreadySettled:
            return None
        if self._attempt is None:
            return ReleaseOperation(reservation_id=self.grant.reservation_id)
        if error is not None:
            outcome = Outcome.CANCELLED if isinstance(error, _CANCELLATIONS) else Outcome.FAILED
            return self._commit(self._seen(self._attempt), self.grant.target, outcome, True)
        if self._attempt.partial_count:
            usage = Usage(requests=max(self._requests() - self._attempt.requests_told, 0))
            return self._commit(usage, self.grant.target, Outcome.SUCCEEDED, False)
        _log.warning(
            "commit_missing reservation_id=%s: the model was called and its usage was not told; "
            "the whole estimate is booked",
            self.grant.reservation_id,
        )
        return self._commit(self._whole(), self.grant.target, Outcome.SUCCEEDED, True)

    def _end(self, state: str) -> None:
        with self._lock:
            self.require_open()
            self._ended = state

    def _started(self) -> _Attempt:
        # Who tells usage has called the model, said or not.
        if self._attempt is None:
            self._attempt = _Attempt()
        return self._attempt

    def _commit(
        self, usage: Usage, target: Target, outcome: Outcome, estimated: bool
    ) -> CommitOperation:
        return CommitOperation(
            reservation_id=self.grant.reservation_id,
            usage=usage,
            target=target,
            outcome=outcome,
            estimated=estimated,
        )

    def _input_tokens(self) -> int:
        asked = self.asked.estimate.input_tokens
        cap = self.grant.max_input_tokens
        return asked if cap is None else min(asked, cap)

    def _requests(self) -> int:
        asked = self.asked.estimate.requests
        return 1 if asked is None else asked

    def _seen(self, attempt: _Attempt) -> Usage:
        """Return what the latest attempt is believed to have used and was not yet booked."""
        return Usage(
            input_tokens=max(self._input_tokens() - attempt.input_tokens_told, 0),
            output_tokens=max(attempt.output_tokens_seen - attempt.output_tokens_told, 0),
            requests=max(1 - attempt.requests_told, 0),
        )

    def _whole(self) -> Usage:
        estimate = self.asked.estimate
        # Parts of an input that was cut are not known any more.
        uncut = self._input_tokens() == estimate.input_tokens
        return Usage(
            input_tokens=self._input_tokens(),
            output_tokens=self.grant.max_output_tokens,
            cache_read_tokens=estimate.cache_read_tokens if uncut else 0,
            cache_write_tokens=estimate.cache_write_tokens if uncut else 0,
            input_audio_tokens=estimate.input_audio_tokens if uncut else 0,
            requests=self._requests(),
            custom_meters=estimate.custom_meters,
        )
