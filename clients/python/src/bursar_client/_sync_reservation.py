"""A reservation for threads."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self, Unpack

from bursar_client._answers import Extension, Settlement
from bursar_client._arguments import CommitArguments, PartialArguments
from bursar_client._errors import BursarError
from bursar_client._hold import GrantedCall, HoldSteps
from bursar_client._lifecycle import Lifecycle
from bursar_client._operations import ExtendOperation
from bursar_client._steps import Effect, Result, Steps, abandon, run_sync


class Reservation(GrantedCall):
    """A hold for one call of a model, settled exactly once.

    What is not settled inside its `with` block is settled at the end of it:

    | The block ends    | call_started() | told by commit_partial() | What is sent               |
    |-------------------|----------------|--------------------------|----------------------------|
    | normally          | no             | -                        | release                    |
    | normally          | yes            | no                       | commit: the whole estimate |
    | normally          | yes            | yes                      | commit: nothing more       |
    | by an exception   | no             | -                        | release                    |
    | by an exception   | yes            | either                   | commit: FAILED             |
    | by an interrupt   | yes            | either                   | commit: CANCELLED          |

    The whole estimate is the estimated input and the granted output; it is flagged as estimated
    and warned about in the log. FAILED and CANCELLED book the estimated input and the output told
    by `saw_output()`, less what partial commits have booked, flagged as estimated. GeneratorExit,
    KeyboardInterrupt and the CancelledErrors count as interrupts. Usage told by commit_partial()
    stands for call_started(), and a further call_started() begins a further attempt.

    A settlement that fails because of the server or the network is never lost: it is retried,
    then left to the background, and its answer says `queued`. Where the server does not know the
    reservation any more, the usage is booked by Record under an id derived from the reservation.
    An error of the settlement at the end of the block is raised, unless the block already raises:
    it is then only logged, counted and given to `on_settle_failed`.
    """

    def __init__(
        self, lifecycle: Lifecycle, steps: HoldSteps, perform: Callable[[Effect], object]
    ) -> None:
        super().__init__(lifecycle)
        self._steps = steps
        self._perform = perform
        self._order = threading.Lock()

    def commit(self, **usage: Unpack[CommitArguments]) -> Settlement:
        """Book what the call used, at once; the reservation is then settled.

        Args:
            **usage: input_tokens and output_tokens are required; see `Usage`. model and provider
                that really answered, where not the granted ones. outcome, estimated.

        Raises:
            AlreadySettled: It was settled before.
            InvalidRequest: Something is out of range; correct it and commit again.
            SettleBacklogFull: It could not be sent and no more may wait.
        """
        return self._in_order(self._steps.commit(usage))

    def commit_partial(self, **usage: Unpack[PartialArguments]) -> Settlement:
        """Book what was used since the last partial commit; the rest stays held.

        For streams and for each of several attempts. The expiry moves on by the hold's TTL.

        Args:
            **usage: As for commit; nothing is required. requests counts only if given.

        Raises:
            AlreadySettled: The reservation was settled before.
            InvalidRequest: Something is out of range; correct it and commit again.
            SettleBacklogFull: It could not be sent and no more may wait.
        """
        return self._in_order(self._steps.commit_partial(usage))

    def extend(
        self, *, ttl: timedelta | None = None, max_output_tokens: int | None = None
    ) -> Extension:
        """Make the hold last longer, or larger or smaller.

        Args:
            ttl: New time to live from now on, 1 s to 24 h. None: the expiry stays.
            max_output_tokens: New output tokens for the whole reservation. None: they stay.

        Raises:
            BudgetDenied: A budget has no room for it to grow; the hold is as it was.
            ReservationExpired: It is too late.
        """
        operation = ExtendOperation(
            reservation_id=self.reservation_id, ttl=ttl, max_output_tokens=max_output_tokens
        )
        return run_sync(self._steps.extend(operation), self._perform)

    def release(self) -> Settlement:
        """Give the hold back, at once: the model was not called.

        Raises:
            AlreadySettled: It was settled before.
        """
        return self._in_order(self._steps.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._in_order(self._steps.at_exit(error))
        except BursarError:
            # What ended the block is what its caller has to see; the settlement was logged.
            if error is None:
                raise

    def _in_order(self, steps: Steps[Result]) -> Result:
        """Carry out steps after those before them, and lose nothing where that is interrupted."""
        try:
            with self._order:
                return run_sync(steps, self._perform)
        except BaseException as error:
            if inspect.getgeneratorstate(steps) == inspect.GEN_CREATED:
                # Interrupted while it waited for its turn: the background settles it.
                with contextlib.suppress(BursarError):
                    abandon(steps, error)
            raise
