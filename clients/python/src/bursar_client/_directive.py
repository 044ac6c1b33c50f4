"""What a budget asks a caller to do differently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from bursar_client._values import Target


class NoticeKind(StrEnum):
    """Why a budget speaks."""

    RUNG = "rung"
    EXCEEDED = "exceeded"
    UNPRICED = "unpriced"
    UNBUDGETED = "unbudgeted"
    NOT_ENFORCED = "not_enforced"
    UNKNOWN = "unknown"
    """A kind that this version of the client does not know."""


@dataclass(frozen=True, slots=True)
class SwitchModel:
    """Call another model; `source` is the one asked for, `target` the one to call."""

    source: Target
    target: Target
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShortenOutput:
    """Ask for at most this many output tokens, 1 or more."""

    max_output_tokens: int
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TruncateInput:
    """Cut the input to this many tokens, 0 or more."""

    max_input_tokens: int
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Wrap up and return what there is."""

    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServeCached:
    """Denied: answer from a cache."""

    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """Denied: try again later, waiting at most `max_wait`."""

    max_wait: timedelta
    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deny:
    """Denied: tell the user."""

    budgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a budget wants said; `message` may be shown to an end user."""

    budget: str
    kind: NoticeKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """What to do differently, with the budgets that ask for it. Every given field applies.

    Attributes:
        switch_model: Call this model instead.
        shorten_output: Ask for fewer output tokens.
        truncate_input: Cut the input.
        finish: Wrap up and return what there is.
        serve_cached: Denied: answer from a cache.
        queue: Denied: queue the request.
        deny: Denied: tell the user.
        message: What an end user may read; empty where nothing needs to be said.
        notices: What budgets want said without changing the request.
    """

    switch_model: SwitchModel | None = None
    shorten_output: ShortenOutput | None = None
    truncate_input: TruncateInput | None = None
    finish: Finish | None = None
    serve_cached: ServeCached | None = None
    queue: Queue | None = None
    deny: Deny | None = None
    message: str = ""
    notices: tuple[Notice, ...] = ()
