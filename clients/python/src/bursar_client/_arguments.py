"""The keyword arguments that calls share, and the operations that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict, TypeVar

from bursar_client._encode import encode_usage
from bursar_client._operations import RecordOperation, ReserveOperation
from bursar_client._values import Degradation, Estimate, Outcome, Priority, Subject, Target, Usage

Value = TypeVar("Value", Subject, Target, Estimate, Usage)

# Required and optional keys are split by `total`: Required[] is not seen at run time in modules
# whose annotations are not evaluated.


class _Org(TypedDict):
    org: str


class SubjectArguments(_Org, total=False):
    """Who spends; see `Subject` for what each level means."""

    team: str
    feature: str
    agent: str
    user: str
    task: str
    labels: Mapping[str, str] | None


class _Model(TypedDict):
    model: str


class TargetArguments(_Model, total=False):
    """What is called; see `Target`."""

    provider: str


class QuestionArguments(SubjectArguments, TargetArguments):
    """Who would call what."""


class _Input(TypedDict):
    input_tokens: int


class CheckArguments(QuestionArguments, _Input, total=False):
    """What a check asks; see `Estimate` and `ReserveOperation`."""

    max_output_tokens: int | None
    min_output_tokens: int | None
    requests: int | None
    custom_meters: Mapping[str, int] | None
    cache_read_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    priority: Priority
    accepts: Iterable[Degradation]
    closing: bool


class ReserveArguments(CheckArguments, total=False):
    """What a reserve asks; see `ReserveOperation`. request_id: made here when not given."""

    ttl: timedelta | None
    request_id: str | None


class _UsageParts(TypedDict, total=False):
    cache_read_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    requests: int | None
    custom_meters: Mapping[str, int] | None


class _Tokens(_Input):
    output_tokens: int


class _Settling(_UsageParts, total=False):
    model: str | None
    provider: str | None
    outcome: Outcome
    estimated: bool


class CommitArguments(_Tokens, _Settling):
    """What was used in all, or since the last partial commit; see `Usage`.

    model and provider are those that really answered; without them the granted ones.
    """


class PartialArguments(_Settling, total=False):
    """What was used since the last partial commit; see `Usage`. Nothing given is nothing used."""

    input_tokens: int
    output_tokens: int


class RecordArguments(QuestionArguments, _Tokens, _UsageParts, total=False):
    """What a record books; see `RecordOperation`. request_id: made here when not given."""

    outcome: Outcome
    estimated: bool
    request_id: str | None


def subject_of(arguments: Mapping[str, Any]) -> Subject:
    """Return who spends.

    Raises:
        TypeError: An argument is missing or not known.
    """
    _check(SubjectArguments, arguments)
    return _picked(Subject, arguments)


def question_of(arguments: Mapping[str, Any]) -> tuple[Subject, Target]:
    """Return who would call what.

    Raises:
        TypeError: An argument is missing or not known.
    """
    _check(QuestionArguments, arguments)
    return _picked(Subject, arguments), _picked(Target, arguments)


def reserve_of(arguments: Mapping[str, Any], new_id: Callable[[], str]) -> ReserveOperation:
    """Return the operation that reserves; new_id makes its request_id where none is given.

    Raises:
        TypeError: An argument is missing or not known.
    """
    _check(ReserveArguments, arguments)
    return ReserveOperation(
        subject=_picked(Subject, arguments),
        target=_picked(Target, arguments),
        estimate=_picked(Estimate, arguments),
        ttl=arguments.get("ttl"),
        priority=Priority(arguments.get("priority", Priority.NORMAL)),
        accepts=tuple(Degradation(each) for each in arguments.get("accepts", ())),
        closing=arguments.get("closing", False),
        request_id=arguments.get("request_id") or new_id(),
    )


def record_of(arguments: Mapping[str, Any], new_id: Callable[[], str]) -> RecordOperation:
    """Return the operation that records; new_id makes its request_id where none is given.

    Raises:
        TypeError: An argument is missing or not known.
    """
    _check(RecordArguments, arguments)
    return RecordOperation(
        subject=_picked(Subject, arguments),
        target=_picked(Target, arguments),
        usage=_picked(Usage, arguments),
        outcome=Outcome(arguments.get("outcome", Outcome.SUCCEEDED)),
        estimated=arguments.get("estimated", False),
        request_id=arguments.get("request_id") or new_id(),
    )


def settling_of(
    kind: type, arguments: Mapping[str, Any], granted: Target
) -> tuple[Usage, Target, Outcome, bool]:
    """Return usage, target really used, outcome and whether it is estimated.

    Args:
        kind: CommitArguments or PartialArguments.
        arguments: As given by the caller.
        granted: Taken where the caller names no model.

    Raises:
        TypeError: An argument is missing or not known.
    """
    _check(kind, arguments)
    model = arguments.get("model") or granted.model
    provider = arguments.get("provider")
    if provider is None:
        # Another model may well be another provider's: the server then looks it up.
        provider = granted.provider if model == granted.model else ""
    outcome = Outcome(arguments.get("outcome", Outcome.SUCCEEDED))
    usage = _picked(Usage, arguments)
    # What cannot be sent must be found before the reservation counts as settled.
    encode_usage(usage)
    return usage, Target(model, provider), outcome, arguments.get("estimated", False)


def _picked(kind: type[Value], arguments: Mapping[str, Any]) -> Value:
    # What is None is as if it was not given.
    names = kind.__slots__
    return kind(
        **{name: value for name, value in arguments.items() if value is not None and name in names}
    )


def _check(kind: type[Any], arguments: Mapping[str, Any]) -> None:
    if unknown := arguments.keys() - kind.__required_keys__ - kind.__optional_keys__:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    if missing := kind.__required_keys__ - arguments.keys():
        raise TypeError(f"missing arguments: {', '.join(sorted(missing))}")
