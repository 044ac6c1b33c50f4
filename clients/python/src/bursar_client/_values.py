"""What callers say: who spends, what is called, how much is needed and how much was used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

NANO_USD_PER_USD = 1_000_000_000


def usd(amount_nano_usd: int) -> Decimal:
    """Return an amount of money in USD, exactly.

    Args:
        amount_nano_usd: Any integer; 1,000,000,000 is one USD.
    """
    return Decimal(amount_nano_usd) / NANO_USD_PER_USD


class Meter(StrEnum):
    """What is counted."""

    TOTAL_TOKENS = "total_tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    COST = "cost"
    """Money in nano-USD: 1 USD is 1,000,000,000."""
    REQUESTS = "requests"
    CONCURRENCY = "concurrency"
    CUSTOM = "custom"
    """A meter of the policy; its name is in `custom_meter`."""
    UNKNOWN = "unknown"
    """A meter that this version of the client does not know."""


class Priority(StrEnum):
    """How important a request is where a budget keeps headroom."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Degradation(StrEnum):
    """A way to do with less that a caller can carry out."""

    SWITCH_MODEL = "switch_model"
    SHORTER_OUTPUT = "shorter_output"
    TRUNCATE_INPUT = "truncate_input"
    FINISH = "finish"
    SERVE_CACHED = "serve_cached"
    QUEUE = "queue"


class Outcome(StrEnum):
    """How the call of the model went."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who spends. All given levels apply at once; an empty one is absent.

    Attributes:
        org: The organization, required: 1 to 63 of a-z, 0-9 and -.
        team: The team; as all further levels at most 256 bytes.
        feature: The product feature that makes the call.
        agent: The agent, for calls made by an agent.
        user: The end user, or the person on whose behalf the call is made.
        task: The task (run, session, conversation) that the call belongs to.
        labels: Further attributes, at most 32.
    """

    org: str
    team: str = ""
    feature: str = ""
    agent: str = ""
    user: str = ""
    task: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What is called.

    Attributes:
        model: The model, for example `gpt-5-mini`; at most 256 bytes.
        provider: The provider, for example `openai`; empty: found from the model's name.
    """

    model: str
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a call is expected to need at the most.

    Attributes:
        input_tokens: Cached ones included; 0 to 1,000,000,000.
        max_output_tokens: Wanted at the most, reasoning included; 1 to 1,000,000,000. None: the
            policy's or the model's default.
        min_output_tokens: The fewest that still make a useful answer; 1 to max_output_tokens.
            Given, a shorter output down to it is accepted.
        requests: Calls of the model; 1 to 1,000,000. None: 1.
        custom_meters: Amounts by name of the policy's own meters, 0 to 2^53 - 1 each.
        cache_read_tokens: Part of the input expected from the provider's cache.
        cache_write_tokens: Part of the input expected to be written to that cache.
        input_audio_tokens: Part of the input that is audio.
    """

    input_tokens: int = 0
    max_output_tokens: int | None = None
    min_output_tokens: int | None = None
    requests: int | None = None
    custom_meters: Mapping[str, int] = field(default_factory=dict)
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call really used, from the provider's answer.

    Attributes:
        input_tokens: All, cached and audio ones included; 0 to 1,000,000,000.
        output_tokens: All, reasoning and audio included; 0 to 1,000,000,000.
        cache_read_tokens: Part of the input read from the provider's cache.
        cache_write_tokens: Part of the input written to the provider's cache.
        input_audio_tokens: Part of the input that is audio.
        reasoning_tokens: Part of the output spent on reasoning.
        output_audio_tokens: Part of the output that is audio.
        requests: Calls of the model; 0 to 1,000,000. None: 1 in a final commit or a record, 0 in
            a partial commit.
        custom_meters: Amounts by name of the policy's own meters, 0 to 2^53 - 1 each.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    requests: int | None = None
    custom_meters: Mapping[str, int] = field(default_factory=dict)
