"""What is valid in a policy but probably not meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache, lru_cache

from genai_prices.data import providers

from bursar.domain.errors import Fault
from bursar.domain.policy import model_rules
from bursar.domain.policy_budgets import window_of
from bursar.domain.policy_document import BudgetDocument, PolicyDocument
from bursar.domain.price import PriceBook
from bursar.domain.subject import Target
from bursar.domain.window import WindowKind

_TERMINAL = ("serve_cached", "queue", "deny")
_NAMES_SHOWN_MAX = 5

PATTERNS_CACHED_MAX = 10_000
"""Patterns that are remembered: comparing one with all models takes a while."""


def lint(document: PolicyDocument) -> list[Fault]:
    """Return warnings: each with the path in the document, what is odd and what to do.

    Args:
        document: A valid document.
    """
    return [
        *_unreachable_rungs(document),
        *_never_matching(document),
        *_oversubscribed(document),
        *_never_open(document),
        *_carried_late(document),
    ]


def _unreachable_rungs(document: PolicyDocument) -> Iterator[Fault]:
    """Find rungs that nothing reaches, or that a budget does not act on."""
    for index, budget in enumerate(document.budgets):
        headroom = budget.priority_headroom
        highest = max(headroom.low, headroom.normal, headroom.high)
        ending: int | None = None
        for position, rung in sorted(enumerate(budget.ladder), key=lambda item: item[1].at):
            path = f"budgets[{index}].ladder[{position}]"
            ends = any(getattr(rung, name) for name in _TERMINAL)
            if rung.at > highest:
                yield Fault(path, "can never be reached: no priority may fill the budget so far")
            elif ending is not None and not ends:
                yield Fault(
                    path,
                    f"can never be reached: nothing is granted past the rung at {ending} %",
                )
            elif budget.mode == "warn" and not rung.notify:
                yield Fault(path, "does nothing while mode is warn: only notify rungs speak")
            if ending is None and ends:
                ending = rung.at


def _never_matching(document: PolicyDocument) -> Iterator[Fault]:
    """Find budgets that are off, or whose scope is like no provider or model that is known."""
    book = PriceBook(model_rules(document))
    own = {
        "provider": [model.provider.lower() for model in document.models if model.provider],
        "model": [model.match.lower() for model in document.models],
    }
    for index, budget in enumerate(document.budgets):
        if budget.mode == "off":
            yield Fault(f"budgets[{index}].mode", "is off: the budget neither counts nor refuses")
        for attribute in ("provider", "model"):
            path = f"budgets[{index}].scope.{attribute}"
            patterns = getattr(budget.scope, attribute) or []
            if patterns and not any(
                _is_like_a_known(attribute, pattern.lower())
                or any(fnmatchcase(pattern.lower(), name) for name in own[attribute])
                for pattern in patterns
            ):
                yield Fault(
                    path,
                    f"{', '.join(patterns)}: no {attribute} of the price data or of models is "
                    "like it; the budget may never match",
                )
        for pattern in budget.scope.model or []:
            counted = book.resolve(Target("", pattern)).model
            if counted.lower() != pattern.lower():
                yield Fault(
                    f"budgets[{index}].scope.model",
                    f"{pattern} counts as {counted}, so it never matches; name {counted} instead",
                )


@cache
def _known(attribute: str) -> frozenset[str]:
    if attribute == "provider":
        return frozenset(provider.id.lower() for provider in providers)
    return frozenset(model.id.lower() for provider in providers for model in provider.models)


@lru_cache(PATTERNS_CACHED_MAX)
def _is_like_a_known(attribute: str, pattern: str) -> bool:
    known = _known(attribute)
    return (
        pattern in known
        or any(fnmatchcase(name, pattern) for name in known)
        # A dated name is a known model too.
        or (attribute == "model" and any(pattern.startswith(name) for name in known))
    )


_Scope = frozenset[tuple[str, tuple[str, ...]]]


def _oversubscribed(document: PolicyDocument) -> Iterator[Fault]:
    """Find parents whose children may spend more than the parent in the same window.

    A child is a step below: its scope says one attribute more. Of several budgets with the same
    scope only the tightest counts.
    """
    tightest: dict[tuple[str, str, _Scope], int] = {}
    for index, budget in enumerate(document.budgets):
        if not _adds_up(budget):
            continue
        key = (budget.limit.unit, window_of(budget, document).code, _scope(budget))
        other = tightest.setdefault(key, index)
        if _size(budget) < _size(document.budgets[other]):
            tightest[key] = index
    families: dict[tuple[int, str], list[BudgetDocument]] = defaultdict(list)
    for (unit, window, scope), index in tightest.items():
        for attribute, values in scope:
            parent = tightest.get((unit, window, scope - {(attribute, values)}))
            if parent is not None:
                families[parent, attribute].append(document.budgets[index])
    for (index, attribute), children in sorted(families.items(), key=lambda family: family[0]):
        limit, unit = _size(document.budgets[index]), document.budgets[index].limit.unit
        total = sum((_size(child) for child in children), Decimal(0))
        if total > limit:
            names = ", ".join(child.name for child in children[:_NAMES_SHOWN_MAX])
            yield Fault(
                f"budgets[{index}].limit",
                f"is {limit} {unit}, less than its {attribute} budgets together ({total}: "
                f"{names}); the parent may refuse first",
            )


def _never_open(document: PolicyDocument) -> Iterator[Fault]:
    """Find budgets that let requests pass unchecked where another one never does."""
    closed = next(
        (
            budget.name
            for budget in document.budgets
            if _enforces(budget)
            and budget.on_unavailable == "closed"
            and budget.window_kind is not WindowKind.REQUEST
            and not budget.per
            and not budget.scope.conditions()
        ),
        None,
    )
    for index, budget in enumerate(document.budgets):
        if budget.on_unavailable != "open":
            continue
        path = f"budgets[{index}].on_unavailable"
        if not _enforces(budget):
            yield Fault(path, "does nothing: only a budget in mode enforce is ever in the way")
        elif closed is not None:
            yield Fault(
                path, f"does nothing: budget {closed} applies to every request and is closed"
            )


def _enforces(budget: BudgetDocument) -> bool:
    return budget.mode == "enforce" and budget.limit.value != "unlimited"


def _carried_late(document: PolicyDocument) -> Iterator[Fault]:
    """Find windows that are nearly over before anything is carried into them."""
    for index, budget in enumerate(document.budgets):
        if budget.carry_over is not None and budget.window == "minute":
            yield Fault(
                f"budgets[{index}].carry_over",
                "comes some seconds after the window has begun, which is late for a minute",
            )


def _adds_up(budget: BudgetDocument) -> bool:
    """Tell whether what other budgets count comes together in this one, or the other way round."""
    return (
        not budget.per
        and budget.mode != "off"
        and budget.limit.value != "unlimited"
        and budget.window_kind is not WindowKind.REQUEST
    )


def _scope(budget: BudgetDocument) -> _Scope:
    conditions = budget.scope.conditions()
    return frozenset((name, tuple(sorted(set(values)))) for name, values in conditions.items())


def _size(budget: BudgetDocument) -> Decimal:
    return Decimal(budget.limit.value)
