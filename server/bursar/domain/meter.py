"""What is counted, and the amounts that a request or a usage comes to.

Every meter is affine in the output tokens `x`: `amount = base + slope * x`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOTAL_TOKENS = "total_tokens"
INPUT_TOKENS = "input_tokens"
OUTPUT_TOKENS = "output_tokens"
COST = "cost"
REQUESTS = "requests"
CONCURRENCY = "concurrency"

STANDARD_METERS = (TOTAL_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, COST, REQUESTS, CONCURRENCY)
"""Every other meter is a custom one, declared by the policy."""

NANO_PER_USD = 1_000_000_000

AMOUNT_MAX = 2**53 - 1
"""Largest amount and limit: Lua counts in doubles, exact up to here ($9,007,199 in nano-USD)."""


COUNTER_MAX = 2**62
"""Most that a counter may hold. Nothing real comes near; it keeps int64 from overflowing, and is
the ceiling where no limit binds."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is expected to need at the most.

    Attributes:
        input_tokens: All input tokens, cached and audio ones included.
        max_output_tokens: Output tokens wanted at the most, or None for the default.
        min_output_tokens: Fewest useful output tokens, or None for no shorter output.
        requests: Calls of the model.
        custom_meters: Amounts of custom meters by name.
        cache_read_tokens: Part of input_tokens read from the provider's cache.
        cache_write_tokens: Part of input_tokens written to the provider's cache.
        input_audio_tokens: Part of input_tokens that is audio.
    """

    input_tokens: int = 0
    max_output_tokens: int | None = None
    min_output_tokens: int | None = None
    requests: int = 1
    custom_meters: Mapping[str, int] = field(default_factory=dict)
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call really used, by billed token class.

    Attributes:
        input_tokens: All input tokens, cached and audio ones included.
        output_tokens: All output tokens, reasoning and audio included.
        cache_read_tokens: Part of input_tokens read from the provider's cache.
        cache_write_tokens: Part of input_tokens written to the provider's cache.
        input_audio_tokens: Part of input_tokens that is audio.
        reasoning_tokens: Part of output_tokens spent on reasoning, priced as output.
        output_audio_tokens: Part of output_tokens that is audio.
        requests: Calls of the model, or None for the default of the call that reports it.
        custom_meters: Amounts of custom meters by name.
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
