"""What the reservations of both clients have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bursar_client import _calls
from bursar_client._answers import CounterStatus, Decision, Extension, Grant, Settlement
from bursar_client._arguments import CommitArguments, PartialArguments, settling_of
from bursar_client._directive import Directive
from bursar_client._errors import InvalidRequest, RequestIdReused
from bursar_client._lifecycle import Lifecycle
from bursar_client._operations import CommitOperation, ExtendOperation, ReleaseOperation
from bursar_client._settings import Settings
from bursar_client._settling import Settler
from bursar_client._steps import Steps


class GrantedCall:
    """What was granted for one call of a model."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    @property
    def grant(self) -> Grant:
        """The whole answer."""
        return self._lifecycle.grant

    @property
    def reservation_id(self) -> str:
        """Names the hold."""
        return self.grant.reservation_id

    @property
    def request_id(self) -> str:
        """The idempotency key that it was reserved with."""
        return self._lifecycle.asked.request_id

    @property
    def model(self) -> str:
        """The model to call; not always the one asked for."""
        return self.grant.target.model

    @property
    def provider(self) -> str:
        """The provider to call."""
        return self.grant.target.provider

    @property
    def max_output_tokens(self) -> int:
        """Output tokens to ask the model for at the most."""
        return self.grant.max_output_tokens

    @property
    def max_input_tokens(self) -> int | None:
        """Input tokens to send at the most, or None where no cap binds."""
        return self.grant.max_input_tokens

    @property
    def directive(self) -> Directive:
        """What to do differently."""
        return self.grant.directive

    @property
    def decision(self) -> Decision:
        """GRANTED, or GRANTED_DEGRADED where the directive changes the request."""
        return self.grant.decision

    @property
    def degraded(self) -> bool:
        """True where the directive changes the request."""
        return self.grant.degraded

    @property
    def counters(self) -> tuple[CounterStatus, ...]:
        """Every counter that applied, tightest first, as of the reserve."""
        return self.grant.counters

    @property
    def expire_time(self) -> datetime | None:
        """When the hold ends if nobody settles it."""
        return self.grant.expire_time

    def call_started(self) -> None:
        """Note that the model is being called: from here on it may cost something.

        Call it again before each further attempt of the same reservation.
        """
        self._lifecycle.call_started()

    def saw_output(self, tokens: int) -> None:
        """Add to what the model has answered since call_started, for the case that it breaks off.

        Args:
            tokens: Output tokens of this part of the answer, 0 or more.

        Raises:
            ValueError: tokens is below 0.
        """
        self._lifecycle.saw_output(tokens)


class HoldSteps:
    """What can be done with one reservation, as steps."""

    def __init__(self, lifecycle: Lifecycle, settler: Settler, settings: Settings) -> None:
        self._lifecycle = lifecycle
        self._settler = settler
        self._settings = settings

    def commit(self, arguments: Mapping[str, Any]) -> Steps[Settlement]:
        """Claim the end of the reservation at once, and return the steps that settle it."""
        settling = settling_of(CommitArguments, arguments, self._lifecycle.grant.target)
        return self._settle(self._lifecycle.commit(*settling))

    def release(self) -> Steps[Settlement]:
        """Claim the end of the reservation at once, and return the steps that settle it."""
        return self._settle(self._lifecycle.release())

    def commit_partial(self, arguments: Mapping[str, Any]) -> Steps[Settlement]:
        """Return the steps of a partial commit, numbered when they start."""
        settling = settling_of(PartialArguments, arguments, self._lifecycle.grant.target)
        self._lifecycle.require_open()

        def steps() -> Steps[Settlement]:
            # Numbered here, where calls of one reservation are in order already.
            return (yield from self._settle(self._lifecycle.commit_partial(*settling)))

        return steps()

    def extend(self, operation: ExtendOperation) -> Steps[Extension]:
        """Change the hold."""
        self._lifecycle.require_open()
        extension = yield from _calls.extend(operation, self._settings)
        self._lifecycle.extended(extension)
        return extension

    def at_exit(self, error: BaseException | None) -> Steps[Settlement | None]:
        """Settle what the block has left unsettled."""
        operation = self._lifecycle.at_exit(error)
        if operation is None:
            return None
        pending = self._settler.pending(operation, self._lifecycle.asked.subject)
        try:
            return (yield from self._settler.settle(pending))
        except InvalidRequest as refused:
            # Nobody is left to correct it.
            self._settler.fail(pending, refused)
            raise

    def _settle(self, operation: CommitOperation | ReleaseOperation) -> Steps[Settlement]:
        pending = self._settler.pending(operation, self._lifecycle.asked.subject)
        try:
            return (yield from self._settler.settle(pending))
        except RequestIdReused as refused:
            # It was booked before, by a record under the reservation's own id.
            self._settler.fail(pending, refused)
            raise
        except InvalidRequest:
            # The caller may correct it; until then the reservation is as it was.
            self._lifecycle.refused(operation)
            raise
