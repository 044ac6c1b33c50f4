"""A policy as it decides: compiled once for each version of an org's document."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bursar.domain.budget import Budget, Counter, Mode
from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.policy_budgets import compile_budget, compile_price
from bursar.domain.policy_document import FallbackDocument, PolicyDocument
from bursar.domain.price import ModelRule, PriceBook, Rates
from bursar.domain.subject import CASELESS, OrgId, Target
from bursar.domain.window import Window, WindowInstance, WindowKind

_WILDCARD = re.compile(r"[*?\[]")
_VERSION_CHARS = 12


@dataclass(frozen=True, slots=True)
class Condition:
    """What one attribute must be: one of some exact values, or like one of some patterns."""

    attribute: str
    exact: frozenset[str]
    pattern: re.Pattern[str] | None

    def holds(self, value: str | None) -> bool:
        """Whether a value, or its absence, satisfies it."""
        if value is None:
            return False
        return value in self.exact or (
            self.pattern is not None and self.pattern.match(value) is not None
        )


@dataclass(frozen=True, slots=True)
class CompiledBudget:
    """A budget with its conditions ready to test and its place in the policy."""

    position: int
    budget: Budget
    conditions: tuple[Condition, ...]

    def unmet(self, attributes: Mapping[str, str]) -> str | None:
        """Return the first attribute that keeps the budget from applying, or None."""
        for condition in self.conditions:
            if not condition.holds(attributes.get(condition.attribute)):
                return condition.attribute
        for name in self.budget.per:
            if name not in attributes:
                return name
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides an org's requests.

    Attributes:
        org: Whose it is.
        version: Changes with every change of the document that decides anything.
        budgets: In the document's order.
        price_book: Prices and model limits.
        unbudgeted_allowed: Whether a request that no budget applies to may pass.
        unpriced_allowed: Whether a model without a price may pass uncharged.
        fallback_rates: Price of models without one, or None.
        default_output_tokens: Where neither request, budget nor model says how much.
        custom_meters: Names of the custom meters.
        by_target: Whether any budget depends on provider or model.
        any_open: Whether any budget lets requests pass while nothing can be decided.
    """

    org: OrgId
    version: str
    budgets: tuple[CompiledBudget, ...]
    price_book: PriceBook
    unbudgeted_allowed: bool
    unpriced_allowed: bool
    fallback_rates: Rates | None
    default_output_tokens: int
    custom_meters: frozenset[str]
    by_target: bool
    any_open: bool
    _index: Mapping[tuple[str, str], tuple[CompiledBudget, ...]]
    _unindexed: tuple[CompiledBudget, ...]
    _by_name: Mapping[str, Budget]
    _instances: dict[Window, WindowInstance] = field(default_factory=dict)

    def counters(self, attributes: Mapping[str, str], now_ms: int) -> list[Counter]:
        """Return the counter of every budget that applies, in the policy's order.

        Args:
            attributes: From `subject.attributes`.
            now_ms: Since the epoch.
        """
        candidates = list(self._unindexed)
        for item in attributes.items():
            candidates.extend(self._index.get(item, ()))
        found = []
        for candidate in sorted(candidates, key=_position):
            if candidate.unmet(attributes) is None:
                counter = self.counter(candidate.budget, attributes, now_ms)
                if counter is not None:
                    found.append(counter)
        return found

    def counter(self, budget: Budget, attributes: Mapping[str, str], now_ms: int) -> Counter | None:
        """Return a budget's counter for a request, or None where its window does not run now."""
        if budget.mode is Mode.OFF:
            return None
        instance = self._instance(budget.window, now_ms)
        if instance is None:
            return None
        partition = tuple(attributes[name] for name in budget.per)
        return Counter(self.org, budget, partition, instance)

    def budget(self, name: str) -> Budget | None:
        """Return the budget of that name, or None where the policy has none (any more)."""
        return self._by_name.get(name)

    def with_budgets(self, added: Sequence[CompiledBudget], version: str) -> Policy:
        """Return the policy with more budgets that no document has, under another version."""
        budgets = (*self.budgets, *added)
        index, unindexed = _index(budgets)
        return replace(self, version=version, budgets=budgets, _index=index, _unindexed=unindexed)

    def check_meters(self, path: str, names: Iterable[str]) -> None:
        """Refuse custom meters that the policy does not declare: they would count nowhere.

        Raises:
            FieldInvalid: With the path of each.
        """
        unknown = [name for name in names if name not in self.custom_meters]
        if unknown:
            known = ", ".join(sorted(self.custom_meters)) or "none"
            fault = f"is no meter of the policy of {self.org}; declared are: {known}"
            raise FieldInvalid(*(Fault(f'{path}["{name}"]', fault) for name in unknown))

    def rates(self, target: Target, input_tokens: int, now_ms: int) -> Rates | None:
        """Return the price of a target, the fallback where it has none, or None."""
        return self.price_book.rates(target, input_tokens, now_ms) or self.fallback_rates

    def _instance(self, window: Window, now_ms: int) -> WindowInstance | None:
        """Remember a window until its next boundary: finding it is the dearest part of matching."""
        known = self._instances.get(window)
        if known and known.end_ms is not None and known.start_ms <= now_ms < known.end_ms:
            return known
        instance = window.instance(now_ms)
        if instance is not None:
            self._instances[window] = instance
        return instance


def _position(budget: CompiledBudget) -> int:
    return budget.position


def compile_policy(document: PolicyDocument) -> Policy:
    """Turn a document into what decides.

    Args:
        document: From `policy_validation.validate_policy`.
    """
    rules = model_rules(document)
    price_book = PriceBook(rules)
    fallback = None
    if isinstance(document.unpriced, FallbackDocument):
        fallback = compile_price(document.unpriced.fallback).rates("fallback")
    budgets = tuple(
        _compile_budget(position, compile_budget(each, document, price_book))
        for position, each in enumerate(document.budgets)
    )
    index, unindexed = _index(budgets)
    return Policy(
        org=OrgId(document.org),
        version=_version(document, rules, fallback, [each.budget for each in budgets]),
        budgets=budgets,
        price_book=price_book,
        unbudgeted_allowed=document.unbudgeted == "allow",
        unpriced_allowed=document.unpriced == "allow",
        fallback_rates=fallback,
        default_output_tokens=document.default_output_tokens,
        custom_meters=frozenset(document.meters),
        by_target=any(_depends_on_target(each.budget) for each in budgets),
        any_open=any(
            each.budget.open_when_unavailable and each.budget.enforced for each in budgets
        ),
        _index=index,
        _unindexed=unindexed,
        _by_name={each.budget.name: each.budget for each in budgets},
    )


def model_rules(document: PolicyDocument) -> list[ModelRule]:
    """Return what a document says of models, in its order."""
    return [
        ModelRule(
            match=model.match,
            provider=model.provider,
            alias_of=model.alias_of,
            max_output_tokens=model.max_output_tokens,
            default_output_tokens=model.default_output_tokens,
            price=compile_price(model.price) if model.price else None,
        )
        for model in document.models
    ]


def _version(
    document: PolicyDocument,
    rules: Sequence[ModelRule],
    fallback: Rates | None,
    budgets: Sequence[Budget],
) -> str:
    """Return what tells policies apart that decide differently, however they are written."""
    decides = [
        (document.org, document.unbudgeted, document.unpriced == "allow", fallback),
        (document.default_output_tokens, sorted(document.meters)),
        [
            (
                replace(rule, match=rule.match.lower(), price=None),
                rule.price.rates("policy") if rule.price else None,
            )
            for rule in rules
        ],
        [
            (
                replace(budget, window=_ANY_WINDOW, conditions=()),
                (budget.window.code, budget.window.length_ms),
                sorted((name, sorted(set(patterns))) for name, patterns in budget.conditions),
            )
            for budget in budgets
        ],
    ]
    return hashlib.sha256(repr(decides).encode()).hexdigest()[:_VERSION_CHARS]


_ANY_WINDOW = Window(WindowKind.NONE)


def _depends_on_target(budget: Budget) -> bool:
    named = {attribute for attribute, _ in budget.conditions} | set(budget.per)
    return bool(named & {"provider", "model"})


def _compile_budget(position: int, budget: Budget) -> CompiledBudget:
    conditions = []
    for attribute, written in budget.conditions:
        patterns = [each.lower() for each in written] if attribute in CASELESS else written
        globs = [pattern for pattern in patterns if _WILDCARD.search(pattern)]
        exact = frozenset(pattern for pattern in patterns if not _WILDCARD.search(pattern))
        joined = "|".join(fnmatch.translate(glob) for glob in globs)
        conditions.append(Condition(attribute, exact, re.compile(joined) if globs else None))
    return CompiledBudget(position, budget, tuple(conditions))


def _index(
    budgets: tuple[CompiledBudget, ...],
) -> tuple[dict[tuple[str, str], tuple[CompiledBudget, ...]], tuple[CompiledBudget, ...]]:
    """File each budget under its rarest exact condition, so that a request looks at few."""
    frequency: dict[tuple[str, str], int] = {}
    for budget in budgets:
        for condition in budget.conditions:
            for value in condition.exact:
                item = (condition.attribute, value)
                frequency[item] = frequency.get(item, 0) + 1
    index: dict[tuple[str, str], list[CompiledBudget]] = {}
    unindexed: list[CompiledBudget] = []
    for budget in budgets:
        usable = [each for each in budget.conditions if each.exact and each.pattern is None]
        if not usable:
            unindexed.append(budget)
            continue
        rarest = min(usable, key=lambda each: max(frequency[each.attribute, v] for v in each.exact))
        for value in rarest.exact:
            index.setdefault((rarest.attribute, value), []).append(budget)
    return {item: tuple(filed) for item, filed in index.items()}, tuple(unindexed)
