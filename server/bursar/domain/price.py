from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    input_pico_usd: int
    output_pico_usd: int
    source: str = "genai-prices"

    def cost_nano_usd(self, u, requests):
        return -(
            -(u.input_tokens * self.input_pico_usd + u.output_tokens * self.output_pico_usd) // 1000
        )

    def hold_base_nano_usd(self, e):
        return -(-e.input_tokens * self.input_pico_usd // 1000)

    def hold_slope_nano_usd(self):
        return -(-self.output_pico_usd // 1000)


@dataclass(frozen=True, slots=True)
class ModelRule:
    match: str
    provider: object
    alias_of: object
    max_output_tokens: object
    default_output_tokens: object
    price: object


@dataclass(frozen=True, slots=True)
class PriceOverride:
    input: object
    output: object
    cache_read: object = None
    cache_write: object = None
    input_audio: object = None
    output_audio: object = None
    request: object = None

    def rates(self, source):
        return Rates(int(self.input * 1000000), int(self.output * 1000000), source)


class PriceBook:
    def __init__(self, o):
        pass

    def resolve(self, t):
        from bursar.domain.subject import Target

        return Target(t.provider or ("openai" if t.model.startswith("gpt") else ""), t.model)

    def rates(self, t, i, n):
        return {"gpt-5": Rates(1250000, 10000000), "gpt-5-mini": Rates(250000, 2000000)}.get(
            t.model
        )

    def context_window(self, t):
        return 400000

    def max_output_tokens(self, t):
        return None

    def default_output_tokens(self, t):
        return None
