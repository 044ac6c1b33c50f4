"""From a request to the ways in which it could be granted, mildest first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from model.rules import TERMINAL, Key, Rules, attributes, cost, nano

DEFAULT_OUTPUT_TOKENS = 4_096


@dataclass(frozen=True)
class Use:
    """What an offer does to one counter; without a key it is a cap on the request alone."""

    budget: str
    key: Key | None
    base: int
    slope: int
    ceiling: float
    """Whole, or infinite where nothing binds."""


@dataclass(frozen=True)
class Variant:
    """The request with some rungs applied."""

    model: str
    provider: str
    cap: float = math.inf
    finishing: bool = False
    finish_applied: bool = False
    applied: int = 0


@dataclass(frozen=True)
class Offer:
    """One way to grant a request."""

    variant: Variant
    output_min: int
    output_max: int
    output_wanted: int
    input_cap: int | None
    input_cut: bool
    uses: tuple[Use, ...]
    unpriced: bool


def offers_of(rules: Rules, request: dict[str, Any], now_ms: int) -> list[Offer]:
    found = [offer(rules, request, each, now_ms) for each in variants(rules, request, now_ms)]
    return [offer for offer in found if offer and offer.output_min <= offer.output_max]


def variants(rules: Rules, request: dict[str, Any], now_ms: int) -> Iterator[Variant]:
    """Yield every combination of how far each ladder is climbed, mildest first, each once."""
    provider, model = rules.resolved(request.get("provider", ""), request["model"])
    who = attributes(request, provider, model)
    asked = Variant(model, provider, finishing=request.get("closing", False))
    plain = offer(rules, request, asked, now_ms)
    ladders = [
        climbable(rules, budget, request, model, plain.output_max if plain else math.inf)
        for budget in rules.matching(who, now_ms)
        if rules.enforced(budget)
    ]
    climbs = [
        [rung for ladder, level in zip(ladders, levels, strict=True) for rung in ladder[:level]]
        for levels in itertools.product(*(range(len(ladder) + 1) for ladder in ladders))
    ]
    # By the highest threshold, then by the number of rungs; of equals the later ladders first.
    climbs.sort(key=lambda rungs: (max((rung["at"] for rung in rungs), default=0), len(rungs)))
    combinations = [sorted(rungs, key=lambda rung: rung["at"]) for rungs in climbs]
    seen = set()
    for rungs in combinations:
        variant = applied(rules, asked, rungs)
        result = (variant.provider, variant.model, variant.cap, variant.finishing)
        if result not in seen:
            seen.add(result)
            yield variant


def climbable(
    rules: Rules, budget: str, request: dict[str, Any], model: str, output: float
) -> list[dict[str, Any]]:
    """Return the restricting rungs up to the first that ends, or that the caller cannot do."""
    accepts = request.get("accepts", [])
    rungs = []
    for rung in rules.ladder(budget):
        if any(name in rung for name in TERMINAL):
            break
        if "switch_model" in rung:
            possible = not is_like(model, rung) or "switch_model" in accepts
        elif "cap_output" in rung:
            possible = (
                "shorter_output" in accepts
                or "min_output_tokens" in request
                or output <= rung["cap_output"]
            )
        elif "finish" in rung:
            possible = request.get("closing", False) or "finish" in accepts
        else:
            continue
        if not possible:
            break
        rungs.append(rung)
    return rungs


def is_like(model: str, rung: dict[str, Any]) -> bool:
    """Return whether a model is one of those that a rung switches from."""
    return fnmatchcase(model.lower(), rung["switch_model"]["from"].lower())


def switched_to(rules: Rules, rung: dict[str, Any]) -> tuple[str, str]:
    switch = rung["switch_model"]
    return rules.resolved(switch.get("to_provider", ""), switch["to"])


def applied(rules: Rules, asked: Variant, rungs: list[dict[str, Any]]) -> Variant:
    """Return the request as asked with rungs applied; those that change nothing do not count."""
    variant = asked
    for rung in rungs:
        count = variant.applied + 1
        if "switch_model" in rung and is_like(variant.model, rung):
            provider, model = switched_to(rules, rung)
            if (provider, model) != (variant.provider, variant.model):
                variant = replace(variant, provider=provider, model=model, applied=count)
        if "cap_output" in rung:
            variant = replace(variant, cap=min(variant.cap, rung["cap_output"]), applied=count)
        if "finish" in rung and not variant.finishing:
            variant = replace(variant, finishing=True, finish_applied=True, applied=count)
    return variant


def offer(rules: Rules, request: dict[str, Any], variant: Variant, now_ms: int) -> Offer | None:
    who = attributes(request, variant.provider, variant.model)
    budgets = rules.matching(who, now_ms)
    unpriced = False
    modes = [rules.mode(budget) for budget in budgets if rules.meter(budget) == "cost"]
    if modes:
        unpriced = rules.of_model(variant.model, "price") is None
        strict = rules.document.get("unpriced", "deny") == "deny" and "enforce" in modes
        if strict and rules.price(variant.model) is None:
            return None
    once = [b for b in budgets if rules.window_kind(b) == "request" and rules.enforced(b)]
    request, cap, cut = cut_input(rules, request, once)
    wanted, most = output_range(rules, request, variant, budgets)
    amounts = {b: affine(rules, b, request, variant.model) for b in budgets}
    least = request.get("min_output_tokens")
    limits = [
        (rules.share(b, headroom(rules, b, request)) - amounts[b][0]) // amounts[b][1]
        for b in once
        if amounts[b][1] > 0
    ]
    tightest = min([*limits, most])
    if tightest < most and tightest >= (least or 1):
        most = tightest
        if "max_output_tokens" not in request:
            wanted = min(wanted, most)
    uses = tuple(
        Use(
            budget,
            None if rules.window_kind(budget) == "request" else rules.key(budget, who, now_ms),
            *amounts[budget],
            ceiling(rules, budget, request, variant, most),
        )
        for budget in budgets
    )
    least = most if least is None else least
    return Offer(variant, least, most, wanted, cap, cut, uses, unpriced)


def cut_input(
    rules: Rules, request: dict[str, Any], once: list[str]
) -> tuple[dict[str, Any], int | None, bool]:
    caps = [
        rules.share(budget, headroom(rules, budget, request))
        for budget in once
        if rules.meter(budget) == "input_tokens"
    ]
    if not caps:
        return request, None, False
    cap = min(caps)
    if request.get("input_tokens", 0) <= cap or "truncate_input" not in request.get("accepts", []):
        return request, cap, False
    write = min(request.get("cache_write_tokens", 0), cap)
    cut = {"input_tokens": cap, "cache_read_tokens": 0, "cache_write_tokens": write}
    return request | cut, cap, True


def output_range(
    rules: Rules, request: dict[str, Any], variant: Variant, budgets: list[str]
) -> tuple[int, int]:
    wanted = request.get("max_output_tokens")
    if wanted is None:
        defaults = [rules.budgets[b].get("default_output_tokens") for b in budgets]
        wanted = min(
            (each for each in defaults if each is not None),
            default=rules.of_model(variant.model, "default_output_tokens")
            or rules.document.get("default_output_tokens", DEFAULT_OUTPUT_TOKENS),
        )
        wanted = max(wanted, request.get("min_output_tokens", 1))
    wanted = min(wanted, rules.of_model(variant.model, "max_output_tokens") or wanted)
    return wanted, int(min(wanted, variant.cap))


def affine(rules: Rules, budget: str, request: dict[str, Any], model: str) -> tuple[int, int]:
    tokens, meter = request.get("input_tokens", 0), rules.meter(budget)
    if meter == "cost":
        price = rules.price(model)
        if price is None:
            return 0, 0
        return cost(price, request, request.get("requests", 1)), nano(price["output"])
    return {
        "total_tokens": (tokens, 1),
        "input_tokens": (tokens, 0),
        "output_tokens": (0, 1),
        "requests": (request.get("requests", 1), 0),
        "concurrency": (1, 0),
    }.get(meter) or (request.get("meters", {}).get(meter, 0), 0)


def headroom(rules: Rules, budget: str, request: dict[str, Any]) -> int:
    given = rules.budgets[budget].get("priority_headroom", {})
    return given.get(request.get("priority", "normal"), 100)


def ceiling(
    rules: Rules, budget: str, request: dict[str, Any], variant: Variant, most: int
) -> float:
    if not rules.enforced(budget):
        return math.inf
    percent = headroom(rules, budget, request)
    for rung in rules.ladder(budget):
        if not satisfied(rules, rung, variant, most):
            percent = min(percent, rung["at"])
            break
    return rules.share(budget, percent)


def satisfied(rules: Rules, rung: dict[str, Any], variant: Variant, most: int) -> bool:
    """Return whether a variant, with that output at the most, does what a rung asks."""
    if "switch_model" in rung:
        same = (variant.provider, variant.model) == switched_to(rules, rung)
        return not is_like(variant.model, rung) or same
    if "cap_output" in rung:
        return most <= rung["cap_output"]
    if "finish" in rung:
        return variant.finishing
    return not any(name in rung for name in TERMINAL)
