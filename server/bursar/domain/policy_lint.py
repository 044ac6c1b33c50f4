"""What is valid in a policy but probably not meant."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from decimal import Decimal

from genai_prices.data import providers

from bursar.domain.errors import Fault
from bursar.domain.policy_document import BudgetDocument, PolicyDocument

_TERMINAL = ("serve_cached", "queue", "deny")


def lint(document: PolicyDocument) -> list[Fault]:
    """Return warnings: each with the path in the document, what is odd and what to do.

    Args:
        document: A valid document.
    """
    return [
        *_unreachable_rungs(document),
        *_never_matching(document),
        *_oversubscribed(document),
    ]


def _unreachable_rungs(document: PolicyDocument) -> Iterator[Fault]:
    """Find rungs behind one that ends everything."""
    for index, budget in enumerate(document.budgets):
        ending: int | None = None
        ladder = sorted(enumerate(budget.ladder), key=lambda item: item[1].at)
        for position, rung in ladder:
            if ending is not None and rung.at > ending:
                yield Fault(
                    f"budgets[{index}].ladder[{position}]",
                    f"can never be reached: nothing is granted past the rung at {ending} %",
                )
            if ending is None and any(getattr(rung, name) for name in _TERMINAL):
                ending = rung.at
        least = min(
            budget.priority_headroom.low,
            budget.priority_headroom.normal,
            budget.priority_headroom.high,
        )
        for position, rung in ladder:
            if least and rung.at > max(
                budget.priority_headroom.low,
                budget.priority_headroom.normal,
                budget.priority_headroom.high,
            ):
                yield Fault(
                    f"budgets[{index}].ladder[{position}]",
                    "can never be reached: no priority may fill the budget so far",
                )


def _never_matching(document: PolicyDocument) -> Iterator[Fault]:
    """Find budgets that are off, or whose scope is like no provider or model that is known."""
    known = {
        "provider": {provider.id for provider in providers}
        | {model.provider for model in document.models if model.provider},
        "model": {model.id for provider in providers for model in provider.models},
    }
    own_models = [model.match for model in document.models]
    for index, budget in enumerate(document.budgets):
        if budget.mode == "off":
            yield Fault(f"budgets[{index}].mode", "is off: the budget neither counts nor refuses")
        for attribute in ("provider", "model"):
            patterns = getattr(budget.scope, attribute) or []
            if patterns and not any(
                _is_like_a_known(pattern, known[attribute], own_models) for pattern in patterns
            ):
                yield Fault(
                    f"budgets[{index}].scope.{attribute}",
                    f"{', '.join(patterns)}: no {attribute} of the price data or of models is "
                    "like it; the budget may never match",
                )


def _is_like_a_known(pattern: str, known: set[str], own_models: list[str]) -> bool:
    return (
        any(fnmatch.fnmatchcase(name, pattern) for name in known)
        # A dated name is a known model too, and so is what the policy says of models.
        or any(pattern.startswith(name) for name in known)
        or any(fnmatch.fnmatchcase(pattern, own) or pattern == own for own in own_models)
    )


def _oversubscribed(document: PolicyDocument) -> Iterator[Fault]:
    """Find parents whose children may spend more than the parent in the same window."""
    for index, parent in enumerate(document.budgets):
        families: dict[str, list[BudgetDocument]] = {}
        for child in document.budgets:
            attribute = _narrowed_by(child, parent)
            if attribute is not None:
                families.setdefault(attribute, []).append(child)
        for attribute, children in families.items():
            total = sum((_size(child) for child in children), Decimal(0))
            if total > _size(parent):
                names = ", ".join(child.name for child in children[:5])
                yield Fault(
                    f"budgets[{index}].limit",
                    f"is {_size(parent)} {parent.limit.unit}, less than its {attribute} budgets "
                    f"together ({total}: {names}); the parent may refuse first",
                )


def _narrowed_by(child: BudgetDocument, parent: BudgetDocument) -> str | None:
    """Return the one attribute by which a budget is a step below another, or None.

    Both must count the same over the same window, or their limits do not compare.
    """
    if child.per or parent.per or "unlimited" in (child.limit.value, parent.limit.value):
        return None
    if (child.limit.unit, child.window, child.timezone) != (
        parent.limit.unit,
        parent.window,
        parent.timezone,
    ):
        return None
    narrow, wide = child.scope.conditions(), parent.scope.conditions()
    added = [name for name in narrow if name not in wide]
    if len(added) != 1 or any(narrow.get(name) != value for name, value in wide.items()):
        return None
    return added[0]


def _size(budget: BudgetDocument) -> Decimal:
    value = budget.limit.value
    return Decimal(0) if value == "unlimited" else Decimal(value)
