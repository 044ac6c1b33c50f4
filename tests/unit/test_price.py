"""Prices: agreement with genai-prices, tiers and dates, rounding, rules of a policy."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import genai_prices
import pytest
from genai_prices import types
from genai_prices.data import providers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bursar.domain import price as price_module
from bursar.domain.meter import Estimate, Usage
from bursar.domain.price import ModelRule, PriceBook, PriceOverride, Rates
from bursar.domain.subject import Target

BOOK = PriceBook([])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def rates_of(provider: str, model: str, input_tokens: int = 0, at: datetime = NOW) -> Rates:
    rates = BOOK.rates(Target(provider, model), input_tokens, ms(at))
    assert rates is not None
    return rates


def rule(match: str, **said: object) -> ModelRule:
    unsaid = ModelRule(match, None, None, None, None, None)
    return replace(unsaid, **said)  # type: ignore[arg-type]


def usd(text: str, output: str = "0", **others: str) -> PriceOverride:
    parts = {name: Decimal(value) for name, value in others.items()}
    return PriceOverride(Decimal(text), Decimal(output), **parts)


def prices_of(model: types.ModelInfo) -> list[types.ModelPrice]:
    if isinstance(model.prices, types.ModelPrice):
        return [model.prices]
    return [each.prices for each in model.prices]


def has(model: types.ModelInfo, name: str) -> bool:
    return any(getattr(price, name) is not None for price in prices_of(model))


def is_tiered(model: types.ModelInfo) -> bool:
    return any(
        isinstance(part, types.TieredPrices)
        for price in prices_of(model)
        for part in vars(price).values()
    )


Listed = tuple[str, str, types.ModelInfo]

LISTED: list[Listed] = [
    (provider.id, model.id, model)
    for provider in providers
    for model in provider.models
    # The id of some is no name that the list itself would find them by.
    if has(model, "input_mtok") and provider.find_model(model.id) is model
]
SAMPLES = {
    "any": LISTED,
    "tiered": [each for each in LISTED if is_tiered(each[2])],
    "audio": [each for each in LISTED if has(each[2], "input_audio_mtok")],
    "dated": [each for each in LISTED if not isinstance(each[2].prices, types.ModelPrice)],
    "by call": [each for each in LISTED if has(each[2], "requests_kcount")],
    "cache write": [each for each in LISTED if has(each[2], "cache_write_mtok")],
}


def rows(listed: list[Listed]) -> list[object]:
    return [pytest.param(*each, id=f"{each[0]}/{each[1]}") for each in listed]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    total = draw(st.integers(0, 1_000_000))
    read = draw(st.integers(0, total))
    write = draw(st.integers(0, total - read))
    audio = draw(st.integers(0, total - read - write))
    output = draw(st.integers(0, 200_000))
    return Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        input_audio_tokens=audio,
        reasoning_tokens=0,
        output_audio_tokens=draw(st.integers(0, output)),
    )


def library_usd(provider: str, model: str, usage: Usage, at: datetime) -> Decimal:
    given_usage = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        cache_audio_read_tokens=0,
        cache_audio_write_tokens=0,
    )
    return genai_prices.calc_price(
        given_usage, model, provider_id=provider, genai_request_timestamp=at
    ).total_price


@pytest.mark.parametrize("sample", SAMPLES)
@settings(deadline=None, max_examples=150)
@given(data=st.data(), usage=usages())
def test_cost_agrees_with_the_library(sample: str, data: st.DataObject, usage: Usage) -> None:
    """Goal: every class, tier and date costs what genai-prices says.

    Method: random models and usages; the cost is never below its sum, and above by less than a
    nano-USD and, where a price is not whole pico-USD, a pico-USD a token.
    """
    # case 82
    provider, model, info = data.draw(st.sampled_from(SAMPLES[sample]), label="model")
    at = data.draw(
        st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
    ).replace(microsecond=0)
    rates = BOOK.rates(Target(provider, model), usage.input_tokens, ms(at))
    assume(rates is not None)
    assert rates is not None
    expected = library_usd(provider, model, usage, at) * 10**9
    cost = rates.cost_nano_usd(usage, 1)
    tokens = usage.input_tokens + usage.output_tokens
    assert math.ceil(expected) <= cost <= math.ceil(expected + Decimal(tokens) / 1_000)
    if all(whole_pico(each) for each in prices_of(info)):
        assert cost == math.ceil(expected)


def whole_pico(price: types.ModelPrice) -> bool:
    parts = []
    for part in vars(price).values():
        tiers = isinstance(part, types.TieredPrices)
        parts += [part.base, *(tier.price for tier in part.tiers)] if tiers else [part]
    return all(part is None or part * 10**6 == int(part * 10**6) for part in parts)


@pytest.mark.parametrize("provider,model,info", rows(SAMPLES["tiered"][::9]))
def test_tier_edges(provider: str, model: str, info: types.ModelInfo) -> None:
    """Goal: a tier begins above its start and then prices all tokens.

    Method: the library's own price one below, at and one above each start.
    """
    for price in prices_of(info):
        for part in (each for each in vars(price).values() if isinstance(each, types.TieredPrices)):
            for tier in part.tiers:
                for size in (tier.start - 1, tier.start, tier.start + 1):
                    usage = Usage(input_tokens=size, output_tokens=10)
                    rates = BOOK.rates(Target(provider, model), size, ms(NOW))
                    assert rates is not None
                    expected = library_usd(provider, model, usage, NOW) * 10**9
                    assert rates.cost_nano_usd(usage, 1) == math.ceil(expected)


@pytest.mark.parametrize("provider,model,info", rows(SAMPLES["dated"][::12]))
def test_date_edges(provider: str, model: str, info: types.ModelInfo) -> None:
    """Goal: a dated price begins with its day in UTC, one of some hours at their edges.

    Method: the library's own price 1 ms before and at each edge.
    """
    assert isinstance(info.prices, list)
    usage = Usage(input_tokens=1_000, output_tokens=1_000)
    edges = []
    for constraint in (each.constraint for each in info.prices):
        if isinstance(constraint, types.StartDateConstraint):
            edges.append(datetime.combine(constraint.start_date, datetime.min.time(), UTC))
        elif isinstance(constraint, types.TimeOfDateConstraint):
            days = (constraint.start_time, constraint.end_time)
            edges += [datetime.combine(NOW, each, UTC) for each in days]
    for edge in edges:
        for at in (edge - timedelta(milliseconds=1), edge):
            rates = BOOK.rates(Target(provider, model), 1_000, ms(at))
            expected = library_usd(provider, model, usage, at) * 10**9
            # A period may list no price at all, which the library counts as nothing.
            assert expected == 0 if rates is None else rates.cost_nano_usd(usage, 1) >= expected


def test_a_time_of_day_has_its_own_price() -> None:
    """Goal: off-peak prices are found. Method: one model at two hours of one day."""
    day = datetime(2025, 8, 1, tzinfo=UTC)
    peak = rates_of("deepseek", "deepseek-chat", at=day.replace(hour=3))
    quiet = rates_of("deepseek", "deepseek-chat", at=day.replace(hour=20))
    assert peak.input_pico_usd > quiet.input_pico_usd


@pytest.mark.parametrize(
    "provider,model",
    [
        pytest.param("", "no-such-model", id="unknown model"),
        pytest.param("openai", "no-such-model", id="unknown model of a known provider"),
        pytest.param("no-such-provider", "gpt-5", id="unknown provider"),
        pytest.param("groq", "whisper-large-v3", id="listed without a price for tokens"),
        pytest.param("", "", id="empty"),
        pytest.param("litellm", "no-such/model", id="gateway without a model"),
    ],
)
def test_unpriced(provider: str, model: str) -> None:
    """Goal: no price is None, never zero, and nothing raises. Method: a table."""
    # case 85
    target = Target(provider, model)
    assert BOOK.rates(target, 1_000, ms(NOW)) is None
    assert BOOK.resolve(target).model == model


def test_an_empty_price_list_is_unpriced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a model listed without any entry is unpriced.

    Method: a list of our own, with one that is priced only later, and one whose price is 0.
    """
    none, free = types.ModelPrice(), types.ModelPrice(input_mtok=Decimal(0))
    later = types.StartDateConstraint(start_date=date(2026, 7, 1))
    models = [
        types.ModelInfo(id="empty", match=types.ClauseEquals("empty"), prices=[]),
        types.ModelInfo(id="none", match=types.ClauseEquals("none"), prices=none),
        types.ModelInfo(id="free", match=types.ClauseEquals("free"), prices=free),
        types.ModelInfo(
            id="later",
            match=types.ClauseEquals("later"),
            prices=[types.ConditionalPrice(later, prices=free)],
        ),
    ]
    own = types.Provider(id="own-cloud", name="Own", api_pattern="x", models=models)
    monkeypatch.setattr(price_module, "providers", [own])
    assert BOOK.rates(Target("own-cloud", "empty"), 1, ms(NOW)) is None
    assert BOOK.rates(Target("own-cloud", "none"), 1, ms(NOW)) is None
    for model in ("free", "later"):
        rates = BOOK.rates(Target("own-cloud", model), 1, ms(NOW))
        assert rates is not None
        assert rates.cost_nano_usd(Usage(input_tokens=10**6, output_tokens=10**6), 1) == 0


@pytest.mark.parametrize("provider,model,info", rows(LISTED[::40]))
def test_no_class_is_free_by_omission(provider: str, model: str, info: types.ModelInfo) -> None:
    """Goal: a class without a price costs what its parent costs.

    Method: a sample of all models, each class that the list has no price for.
    """
    # case 83
    if len(prices_of(info)) > 1:
        return
    price, rates = prices_of(info)[0], rates_of(provider, model)
    for name, own, parent in (
        ("cache_read_mtok", rates.cache_read_pico_usd, rates.input_pico_usd),
        ("cache_write_mtok", rates.cache_write_pico_usd, rates.input_pico_usd),
        ("input_audio_mtok", rates.input_audio_pico_usd, rates.input_pico_usd),
        ("output_audio_mtok", rates.output_audio_pico_usd, rates.output_pico_usd),
    ):
        if getattr(price, name) is None:
            assert own == parent, name


@pytest.mark.parametrize(
    "given_price,expected",
    [
        pytest.param(usd("2", "10"), (2, 10, 2, 2, 2, 10), id="parents"),
        pytest.param(
            usd("2", "10", cache_read="0.5", cache_write="3", input_audio="4", output_audio="20"),
            (2, 10, Fraction(1, 2), 3, 4, 20),
            id="own",
        ),
        pytest.param(usd("2", "10", cache_read="0"), (2, 10, 0, 2, 2, 10), id="explicit zero"),
        pytest.param(PriceOverride(Decimal(3), None), (3, 0, 3, 3, 3, 0), id="no output"),
        pytest.param(PriceOverride(None, Decimal(3)), (0, 3, 0, 0, 0, 3), id="no input"),
        pytest.param(
            PriceOverride(None, None, request=Decimal("0.01")), (0, 0, 0, 0, 0, 0), id="by call"
        ),
    ],
)
def test_classes_of_an_override(
    given_price: PriceOverride, expected: tuple[int | Fraction, ...]
) -> None:
    """Goal: absent classes have their parent's price, given ones their own, 0 included.

    Method: a table in USD per million tokens.
    """
    # case 82, case 83
    rates = given_price.rates("policy")
    assert (
        rates.input_pico_usd,
        rates.output_pico_usd,
        rates.cache_read_pico_usd,
        rates.cache_write_pico_usd,
        rates.input_audio_pico_usd,
        rates.output_audio_pico_usd,
    ) == tuple(int(each * 10**6) for each in expected)
    assert rates.request_nano_usd == (10_000_000 if given_price.request else 0)
    assert rates.source == "policy"


def test_an_override_has_some_price() -> None:
    """Goal: nothing said is not a price of 0. Method: one of classes that are parts alone."""
    with pytest.raises(AssertionError):
        PriceOverride(None, None, cache_read=Decimal(1))


@pytest.mark.parametrize(
    "given_price,usage,requests,expected",
    [
        pytest.param(usd("0.000001"), Usage(input_tokens=1), 1, 1, id="1 pico-USD is a nano-USD"),
        pytest.param(usd("0.0001"), Usage(input_tokens=1_001), 1, 101, id="rounded once"),
        pytest.param(usd("0.0000001"), Usage(input_tokens=1_000), 1, 1, id="below 1 pico-USD"),
        pytest.param(
            usd("0.0006", "0.0006"),
            Usage(input_tokens=1, output_tokens=1),
            1,
            2,
            id="sum before rounding",
        ),
        pytest.param(usd("1"), Usage(), 3, 0, id="nothing"),
        pytest.param(usd("1", request="0.012"), Usage(), 3, 36_000_000, id="calls"),
        pytest.param(
            usd("4", cache_read="1"),
            Usage(input_tokens=100, cache_read_tokens=100, input_audio_tokens=100),
            1,
            100_000,
            id="cached audio without an audio price",
        ),
        pytest.param(
            usd("4", cache_read="1", input_audio="6"),
            Usage(input_tokens=100, cache_read_tokens=100, input_audio_tokens=100),
            1,
            300_000,
            id="cached audio has a surcharge",
        ),
        pytest.param(
            usd("4", cache_read="1", input_audio="0"),
            Usage(input_tokens=100, cache_read_tokens=80, input_audio_tokens=100),
            1,
            80_000,
            id="no discount on what is cached",
        ),
        pytest.param(
            usd("4", "8", output_audio="16"),
            Usage(output_tokens=10, output_audio_tokens=4, reasoning_tokens=6),
            1,
            112_000,
            id="reasoning costs what output costs",
        ),
    ],
)
def test_cost(given_price: PriceOverride, usage: Usage, requests: int, expected: int) -> None:
    """Goal: exact sums, rounded up once, in nano-USD. Method: a table worked out by hand."""
    # case 91
    assert given_price.rates("policy").cost_nano_usd(usage, requests) == expected


amounts = st.decimals(0, 1_000, places=9)


@given(
    st.tuples(amounts, amounts),
    st.tuples(*[st.none() | amounts] * 5),
    usages(),
    st.integers(1, 5),
)
def test_a_hold_covers_what_was_estimated(
    text: tuple[Decimal, Decimal],
    parts: tuple[Decimal | None, ...],
    usage: Usage,
    requests: int,
) -> None:
    """Goal: a usage within its estimate never costs more than was held, and never less than 0.

    Method: random prices and usages without audio output, which nobody estimates.
    """
    # case 91
    rates = PriceOverride(*text, *parts).rates("policy")
    usage = replace(usage, output_audio_tokens=0)
    estimate = Estimate(
        input_tokens=usage.input_tokens,
        requests=requests,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        input_audio_tokens=usage.input_audio_tokens,
    )
    held = rates.hold_base_nano_usd(estimate) + rates.hold_slope_nano_usd() * usage.output_tokens
    cost = rates.cost_nano_usd(usage, requests)
    assert 0 <= cost <= held
    # Rounding: one for the base, one for each token, and one for the sum.
    assert held - cost <= usage.output_tokens + 1


@pytest.mark.parametrize(
    "target,expected",
    [
        pytest.param(Target("", "gpt-5"), "openai/gpt-5", id="known model"),
        pytest.param(Target("", "Claude-Sonnet-4-5"), "anthropic/Claude-Sonnet-4-5", id="case"),
        pytest.param(Target("azure", "gpt-5"), "azure/gpt-5", id="provider given"),
        pytest.param(Target("", "mystery"), "mystery", id="unknown"),
        pytest.param(Target("", "house-llama"), "on-premises/house-llama", id="rule's provider"),
        pytest.param(Target("", "chat"), "openai/gpt-5", id="alias"),
        pytest.param(Target("azure", "chat"), "azure/gpt-5", id="alias keeps the provider"),
        pytest.param(Target("", "old-chat"), "openai/gpt-5", id="alias of an alias"),
        pytest.param(Target("", "gpt-4o-2024-08-06"), "openai/gpt-4o", id="alias of a pattern"),
        pytest.param(Target("", "ping"), "ping", id="circle"),
        pytest.param(Target("aws", "prod"), "aws/claude-sonnet-4-5", id="alias of one provider"),
        pytest.param(Target("google", "prod"), "google/prod", id="alias of another provider"),
        pytest.param(Target("", "prod"), "aws/claude-sonnet-4-5", id="alias with its provider"),
    ],
)
def test_resolve(target: Target, expected: str) -> None:
    """Goal: providers filled in and aliases followed, with a fixed point.

    Method: a table; each result resolves to itself.
    """
    book = PriceBook(
        [
            rule("house-*", provider="on-premises"),
            rule("chat", alias_of="gpt-5"),
            rule("old-chat", alias_of="chat"),
            rule("gpt-4o*", alias_of="gpt-4o"),
            rule("ping", alias_of="pong"),
            rule("pong", alias_of="ping", provider="nowhere"),
            rule("PROD", alias_of="claude-sonnet-4-5", provider="AWS".lower()),
        ]
    )
    resolved = book.resolve(target)
    assert str(resolved) == expected
    assert book.resolve(resolved) == resolved


def test_the_first_rule_that_says_something_decides_it() -> None:
    """Goal: attributes are decided one by one. Method: overlapping rules, each silent on some."""
    book = PriceBook(
        [
            rule("gpt-5-mini", max_output_tokens=1_000),
            rule("GPT-5*", max_output_tokens=2_000, default_output_tokens=300),
            rule("gpt-*", default_output_tokens=400, price=usd("7", "8")),
            rule("*", provider="anthropic", max_output_tokens=5),
        ]
    )
    mini, large = Target("openai", "gpt-5-mini"), Target("openai", "GPT-5")
    assert [book.max_output_tokens(each) for each in (mini, large)] == [1_000, 2_000]
    assert [book.default_output_tokens(each) for each in (mini, large)] == [300, 300]
    assert book.max_output_tokens(Target("openai", "o3")) is None
    assert book.max_output_tokens(Target("Anthropic", "any")) == 5
    rates = book.rates(mini, 10**9, ms(NOW))
    assert rates is not None
    assert (rates.input_pico_usd, rates.output_pico_usd) == (7_000_000, 8_000_000)
    assert rates.source == "policy"


def test_an_alias_is_priced_and_limited_as_what_it_stands_for() -> None:
    """Goal: asking with or without resolving first is the same. Method: both, on an alias."""
    book = PriceBook(
        [rule("chat", alias_of="gpt-5"), rule("gpt-5", max_output_tokens=9, price=usd("1"))]
    )
    for target in (Target("", "chat"), book.resolve(Target("", "chat"))):
        rates = book.rates(target, 1, ms(NOW))
        assert rates is not None
        assert rates.source == "policy"
        assert book.max_output_tokens(target) == 9
        assert book.context_window(target) == BOOK.context_window(Target("openai", "gpt-5"))


@pytest.mark.parametrize(
    "target,same_as",
    [
        pytest.param(Target("", "gpt-5"), Target("openai", "gpt-5"), id="provider from the model"),
        pytest.param(Target("OpenAI", "GPT-5"), Target("openai", "gpt-5"), id="case"),
        pytest.param(Target("litellm", "openai/gpt-5"), Target("openai", "gpt-5"), id="gateway"),
    ],
)
def test_spellings(target: Target, same_as: Target) -> None:
    """Goal: one model, one price. Method: other ways to name it."""
    assert BOOK.rates(target, 1, ms(NOW)) == BOOK.rates(same_as, 1, ms(NOW))
    assert BOOK.context_window(target) == 400_000


def test_context_window_of_an_unknown_model() -> None:
    """Goal: what is not known is None. Method: a model that nobody lists."""
    assert BOOK.context_window(Target("", "mystery")) is None
    assert BOOK.default_output_tokens(Target("", "mystery")) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: names that callers make up do not fill memory, also not inside the library.

    Method: more names than are remembered; the caches stay at their size, the library's stay as
    they are.
    """
    shared = genai_prices.data_snapshot.get_snapshot()
    before = len(shared._lookup_cache), len(shared._provider_misses)
    monkeypatch.setattr(price_module, "MODELS_CACHED_MAX", 10)
    book = PriceBook([])
    for number in range(50):
        assert book.rates(Target("", f"made-up-{number}"), 1, ms(NOW)) is None
    assert book._entry.cache_info().currsize == 10
    assert (len(shared._lookup_cache), len(shared._provider_misses)) == before
