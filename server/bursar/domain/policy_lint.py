"""What is valid in a policy but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

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
    """Find budgets that are off, or have a fixed window without length."""
    for index, budget in enumerate(document.budgets):
        if budget.mode == "off":
            yield Fault(f"budgets[{index}].mode", "is off: the budget neither counts nor refuses")


def _oversubscribed(document: PolicyDocument) -> Iterator[Fault]:
    """Find parents whose children may spend more than the parent in the same window."""
    for index, parent in enumerate(document.budgets):
        children = [
            child for child in document.budgets if child is not parent and _is_child(child, parent)
        ]
        total = sum((_size(child) for child in children), Decimal(0))
        if children and total > _size(parent):
            names = ", ".join(child.name for child in children[:5])
            yield Fault(
                f"budgets[{index}].limit",
                f"is {_size(parent)} {parent.limit.unit}, less than its children together "
                f"({total}: {names}); the parent then refuses first",
            )


def _is_child(child: BudgetDocument, parent: BudgetDocument) -> bool:
    """Say whether a budget is one step below another: same meter and window, one condition more."""
    if child.per or parent.per or "unlimited" in (child.limit.value, parent.limit.value):
        return False
    same = (
        child.limit.unit == parent.limit.unit
        and child.window == parent.window
        and child.timezone == parent.timezone
    )
    narrow, wide = child.scope.conditions(), parent.scope.conditions()
    return (
        same
        and len(narrow) == len(wide) + 1
        and all(narrow.get(name) == value for name, value in wide.items())
    )


def _size(budget: BudgetDocument) -> Decimal:
    value = budget.limit.value
    return Decimal(0) if value == "unlimited" else Decimal(value)
