"""What models cost: a policy's own prices first, then the list that comes with genai-prices.

Only the list that the installed version brings is used, so a price never changes in a running
server. Prices are Decimals, amounts are integers; no binary float touches money.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, TypeVar

from genai_prices import types
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot

from bursar.domain.meter import NANO_PER_USD, Estimate, Usage
from bursar.domain.subject import Target

MODELS_CACHED_MAX = 4_096
"""Models that are remembered; callers choose the names, so it needs a bound."""

PICO_PER_TOKEN = 1_000_000
"""One USD per million tokens, in pico-USD per token."""

_PICO_PER_NANO = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Source = Literal["policy", "fallback", "genai-prices"]
_Constraint = types.StartDateConstraint | types.TimeOfDateConstraint
_T = TypeVar("_T")


def _divide_up(amount: int, divisor: int) -> int:
    return -(-amount // divisor)


def _scale_up(price: Decimal, units: int) -> int:
    numerator, denominator = price.as_integer_ratio()
    return _divide_up(numerator * units, denominator)


@dataclass(frozen=True, slots=True)
class Rates:
    """What tokens and calls of a model cost: pico-USD (1e-12 USD) a token, nano-USD a call.

    Cached and audio tokens are counted as parts of the input and may overlap, as a cached audio
    token is both. Such a token costs what its cache class costs plus what audio costs more than
    text. Reasoning tokens cost what output costs.

    Attributes:
        input_pico_usd: For input that is neither cached nor audio.
        output_pico_usd: For output that is not audio.
        cache_read_pico_usd: For input read from the provider's cache.
        cache_write_pico_usd: For input written to the provider's cache.
        input_audio_pico_usd: For audio in the input.
        output_audio_pico_usd: For audio in the output.
        request_nano_usd: For each call.
        source: Where the price comes from.
    """

    input_pico_usd: int
    output_pico_usd: int
    cache_read_pico_usd: int
    cache_write_pico_usd: int
    input_audio_pico_usd: int
    output_audio_pico_usd: int
    request_nano_usd: int
    source: Source

    def cost_nano_usd(self, usage: Usage, requests: int) -> int:
        """Return what a usage of that many calls costs: the exact sum, rounded up once."""
        audio = usage.output_audio_tokens
        text = max(usage.output_tokens - audio, 0)
        output = text * self.output_pico_usd + audio * self.output_audio_pico_usd
        tokens = _divide_up(self._input_pico_usd(usage) + output, _PICO_PER_NANO)
        return tokens + requests * self.request_nano_usd

    def hold_base_nano_usd(self, estimate: Estimate) -> int:
        """Return what an estimate costs before any output, rounded up."""
        tokens = _divide_up(self._input_pico_usd(estimate), _PICO_PER_NANO)
        return tokens + estimate.requests * self.request_nano_usd

    def hold_slope_nano_usd(self) -> int:
        """Return what one token of output costs, rounded up to whole nano-USD."""
        return _divide_up(self.output_pico_usd, _PICO_PER_NANO)

    def _input_pico_usd(self, tokens: Usage | Estimate) -> int:
        read, write = tokens.cache_read_tokens, tokens.cache_write_tokens
        fresh = max(tokens.input_tokens - read - write, 0)
        audio = tokens.input_audio_tokens
        surcharge = self.input_audio_pico_usd - self.input_pico_usd
        if surcharge < 0:
            # A discount against text is none on tokens that do not cost what text costs.
            audio = min(audio, fresh)
        cached = read * self.cache_read_pico_usd + write * self.cache_write_pico_usd
        return fresh * self.input_pico_usd + cached + audio * surcharge


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price that a policy gives: USD per million tokens, and USD per call; none below 0.

    Attributes:
        input: Input tokens; None where they cost nothing, as with a price per call.
        output: Output tokens; None where they cost nothing, as with embeddings.
        cache_read: Input read from the provider's cache, or None for the price of input.
        cache_write: Input written to the provider's cache, or None for the price of input.
        input_audio: Audio in the input, or None for the price of input.
        output_audio: Audio in the output, or None for the price of output.
        request: Each call, or None for nothing.
    """

    input: Decimal | None
    output: Decimal | None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None
    request: Decimal | None = None

    def __post_init__(self) -> None:
        given = (self.input, self.output, self.request)
        assert any(price is not None for price in given), "a price needs input, output or request"

    def rates(self, source: Source) -> Rates:
        """Return the price in integers; parts of a pico-USD are rounded up."""

        def per_token(own: Decimal | None, parent: Decimal | None) -> int:
            price = parent if own is None else own
            return 0 if price is None else _scale_up(price, PICO_PER_TOKEN)

        return Rates(
            input_pico_usd=per_token(self.input, None),
            output_pico_usd=per_token(self.output, None),
            cache_read_pico_usd=per_token(self.cache_read, self.input),
            cache_write_pico_usd=per_token(self.cache_write, self.input),
            input_audio_pico_usd=per_token(self.input_audio, self.input),
            output_audio_pico_usd=per_token(self.output_audio, self.output),
            request_nano_usd=_scale_up(self.request or Decimal(0), NANO_PER_USD),
            source=source,
        )


@dataclass(frozen=True, slots=True)
class ModelRule:
    """What a policy says of the models that a pattern matches; what is None it does not say.

    Attributes:
        match: Pattern for the model's name, such as `gpt-5*`; case does not matter.
        provider: Whose models they are: a target of another provider does not match, and one
            that names none gets this one.
        alias_of: The model as which they count in every way. Limits and price are then looked up
            under that name, so the rule's own apply only if the pattern matches it too.
        max_output_tokens: How many output tokens they can produce.
        default_output_tokens: For requests that do not say how many they want.
        price: What they cost.
    """

    match: str
    provider: str | None
    alias_of: str | None
    max_output_tokens: int | None
    default_output_tokens: int | None
    price: PriceOverride | None

    def matches(self, target: Target) -> bool:
        """Tell whether the rule is about a target."""
        own, other = self.provider, target.provider
        if own and other and own.lower() != other.lower():
            return False
        return fnmatchcase(target.model.lower(), self.match.lower())


@dataclass(frozen=True, slots=True)
class _Period:
    """A price, its tiers by size of input, and what must be true of the time; None is always."""

    tier_starts: tuple[int, ...]
    rates: tuple[Rates, ...]
    """One more than tier_starts, or none where the model is listed without a price."""
    constraint: _Constraint | None

    def holds(self, now_ms: int) -> bool:
        if self.constraint is None:
            return True
        return self.constraint.active(_EPOCH + timedelta(milliseconds=now_ms))

    def pick(self, input_tokens: int) -> Rates | None:
        """Return the rates of the highest tier that begins below this input, for all tokens."""
        return self.rates[bisect_left(self.tier_starts, input_tokens)] if self.rates else None


@dataclass(frozen=True, slots=True)
class _Entry:
    target: Target
    periods: tuple[_Period, ...]
    """The first that holds has the price, the last one if none does."""
    context_window: int | None
    max_output_tokens: int | None
    default_output_tokens: int | None


class PriceBook:
    """Prices and limits of models; of the rules, the first that says an attribute decides it."""

    def __init__(self, overrides: Sequence[ModelRule]) -> None:
        self._rules = tuple(overrides)
        self._entry = lru_cache(MODELS_CACHED_MAX)(self._look_up)

    def resolve(self, target: Target) -> Target:
        """Return the target as it counts: with its provider, where one is known, and unaliased.

        What is not known stays as it is. Resolving twice changes nothing more.
        """
        return self._entry(target.provider, target.model).target

    def rates(self, target: Target, input_tokens: int, now_ms: int) -> Rates | None:
        """Return the price of a target, or None where it is not known; 0 is a price.

        A class of tokens that genai-prices lists no price for costs what the class costs that it
        is part of. A model listed with neither a price for input nor for output has none.

        Args:
            target: Resolved or not.
            input_tokens: Of one call; picks the tier where the price depends on it.
            now_ms: Since the epoch; picks the price where it depends on date or time of day.
        """
        period = None
        for period in self._entry(target.provider, target.model).periods:
            if period.holds(now_ms):
                break
        return period.pick(input_tokens) if period else None

    def context_window(self, target: Target) -> int | None:
        """Return how many tokens fit into the model's context, or None where it is not known."""
        return self._entry(target.provider, target.model).context_window

    def max_output_tokens(self, target: Target) -> int | None:
        """Return how many tokens the model can produce, or None where no rule says it."""
        return self._entry(target.provider, target.model).max_output_tokens

    def default_output_tokens(self, target: Target) -> int | None:
        """Return the output of requests that do not say how much, or None where no rule does."""
        return self._entry(target.provider, target.model).default_output_tokens

    def _look_up(self, provider: str, model: str) -> _Entry:
        target = self._unalias(provider, model)
        rules = self._matching(target)
        price = _first_said(rule.price for rule in rules)
        listed, context_window = _listed(target.provider, target.model)
        return _Entry(
            target,
            periods=listed if price is None else (_Period((), (price.rates("policy"),), None),),
            context_window=context_window,
            max_output_tokens=_first_said(rule.max_output_tokens for rule in rules),
            default_output_tokens=_first_said(rule.default_output_tokens for rule in rules),
        )

    def _unalias(self, provider: str, model: str) -> Target:
        own = target = self._with_provider(provider, model)
        seen = {model}
        while alias := self._alias(target):
            if alias in seen:
                target = own  # Aliases in a circle lead nowhere.
                break
            seen.add(alias)
            target = self._with_provider(target.provider, alias)
        return Target(target.provider or _listed_provider(target.model), target.model)

    def _with_provider(self, provider: str, model: str) -> Target:
        rules = self._matching(Target(provider, model))
        return Target(provider or _first_said(rule.provider for rule in rules) or "", model)

    def _alias(self, target: Target) -> str | None:
        alias = _first_said(rule.alias_of for rule in self._matching(target))
        return alias if alias != target.model else None

    def _matching(self, target: Target) -> list[ModelRule]:
        return [rule for rule in self._rules if rule.matches(target)]


def _first_said(values: Iterable[_T | None]) -> _T | None:
    return next((value for value in values if value is not None), None)


def _list() -> DataSnapshot:
    # A new one each time: it remembers every name that it is asked for, without a bound.
    return DataSnapshot(providers=providers, from_auto_update=False, timestamp=_EPOCH)


def _listed_provider(model: str) -> str:
    try:
        return _list().find_provider(model.lower(), None, None).id
    except LookupError:
        return ""


@lru_cache(MODELS_CACHED_MAX)
def _listed(provider: str, model: str) -> tuple[tuple[_Period, ...], int | None]:
    """Return prices and context window of a model; no prices where it is not listed."""
    try:
        _, info = _list().find_provider_model(model, None, provider or None, None)
    except LookupError:
        return (), None
    prices = info.prices
    if isinstance(prices, types.ModelPrice):
        prices = [types.ConditionalPrice(prices=prices)]
    periods = tuple(_period(each.prices, each.constraint) for each in reversed(prices))
    return periods, info.context_window


def _period(price: types.ModelPrice, constraint: _Constraint | None) -> _Period:
    if price.input_mtok is None and price.output_mtok is None:
        return _Period((), (), constraint)
    tiered = [each for each in vars(price).values() if isinstance(each, types.TieredPrices)]
    starts = sorted({tier.start for each in tiered for tier in each.tiers})
    # A tier holds for more tokens than its start.
    sizes = (0, *(start + 1 for start in starts))
    rates = tuple(_at_size(price, size).rates("genai-prices") for size in sizes)
    return _Period(tuple(starts), rates, constraint)


def _at_size(price: types.ModelPrice, input_tokens: int) -> PriceOverride:
    """Return a listed price for calls of that much input."""

    def of(name: str) -> Decimal | None:
        listed: Decimal | types.TieredPrices | None = getattr(price, name)
        if not isinstance(listed, types.TieredPrices):
            return listed
        reached = [tier.price for tier in listed.tiers if input_tokens > tier.start]
        return reached[-1] if reached else listed.base

    requests = of("requests_kcount")
    return PriceOverride(
        input=of("input_mtok"),
        output=of("output_mtok"),
        cache_read=of("cache_read_mtok"),
        cache_write=of("cache_write_mtok"),
        input_audio=of("input_audio_mtok"),
        output_audio=of("output_audio_mtok"),
        request=None if requests is None else requests / 1_000,
    )
