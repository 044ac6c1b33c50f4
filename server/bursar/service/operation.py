"""One operation of a batch or a session: from its message, and from its answer to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.authority.authority import Answer
from bursar.domain.answer import ReserveAnswer, SettleAnswer
from bursar.domain.errors import BursarError, Fault, FieldInvalid
from bursar.domain.request import Operation
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.service.alerts import Alerts
from bursar.service.decode import Decoder
from bursar.service.encode import put_result
from bursar.service.errors import known_error, to_operation_error
from bursar.service.metrics import count_decision, count_error, count_replay


class Operations:
    """Decodes operations and encodes what became of them, for one method."""

    def __init__(self, decoder: Decoder, alerts: Alerts, method: str) -> None:
        """Holds what it needs.

        Args:
            decoder: Knows the bounds.
            alerts: Told of every settlement.
            method: Full name of the call that they come with, for logs and metrics.
        """
        self._alerts = alerts
        self._method = method
        self._decoders: dict[str, Callable[[Any], Operation]] = {
            "reserve": decoder.reserve,
            "commit": decoder.commit,
            "release": decoder.release,
            "extend": decoder.extend,
            "record": decoder.record,
        }

    def decode(self, message: pb.Operation) -> Operation | BursarError:
        """Return what is asked, or what is wrong with it: never another operation's error."""
        kind = message.WhichOneof("operation")
        if kind is None:
            return FieldInvalid(Fault("operation", "is required"))
        try:
            return self._decoders[kind](getattr(message, kind))
        except Exception as error:
            return known_error(error, self._method)

    def put(
        self, result: pb.OperationResult, answer: Answer | BaseException, message: pb.Operation
    ) -> None:
        """Count what an operation answered, or the error that it ended with, and encode it.

        Args:
            result: Where it goes; empty.
            answer: What it answered.
            message: The operation.
        """
        try:
            if not isinstance(answer, BaseException):
                self._put_answer(result, answer, message)
                return
        except Exception as error:
            result.Clear()
            answer = error
        known = known_error(answer, self._method)
        count_error(self._method, known.reason)
        result.error.CopyFrom(to_operation_error(known))

    def refuse(
        self,
        response: pb.SessionResponse,
        asked: Sequence[pb.SessionOperation],
        error: BursarError,
    ) -> None:
        """Count and encode one error for many operations: a refusal must cost next to nothing.

        Args:
            response: Where the results go.
            asked: The operations.
            error: Why none of them is carried out.
        """
        count_error(self._method, error.reason, len(asked))
        encoded = to_operation_error(error)
        for each in asked:
            added = response.results.add(correlation_id=each.correlation_id)
            added.result.error.CopyFrom(encoded)

    def _put_answer(
        self, result: pb.OperationResult, answer: Answer, message: pb.Operation
    ) -> None:
        kind = message.WhichOneof("operation") or ""
        if isinstance(answer, SettleAnswer):
            self._alerts.tell(answer)
            count_replay(kind.capitalize(), answer.replayed)
        elif isinstance(answer, ReserveAnswer):
            if not message.reserve.validate_only:
                count_decision(answer)
            count_replay("Reserve", answer.replayed)
        put_result(result, answer, kind)
