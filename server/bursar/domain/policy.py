"""A policy as it decides: compiled once for each version of an org's document."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from math import prod

from bursar.domain.budget import Budget, Counter, Mode, parse_counter_id
from bursar.domain.errors import Fault, FieldInvalid
from bursar.domain.policy_budgets import compile_budget, compile_price
from bursar.domain.policy_document import FallbackDocument, PolicyDocument
from bursar.domain.price import ModelRule, PriceBook, Rates
from bursar.domain.subject import CASELESS, OrgId, Subject, Target, attributes
from bursar.domain.window import Window, WindowInstance, WindowKind

REMEMBERED_MAX = 32_768
"""Subjects, and counters, that are remembered for all policies together: what is asked about
again, as an agent's task is, need not be matched again."""

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


_Index = Mapping[tuple[str, ...], Mapping[tuple[str | None, ...], tuple[CompiledBudget, ...]]]
"""Budgets by the attributes that they name exactly, and by the values of these."""

_PLACES_MAX = 64
"""Most places that one budget is filed in, where its conditions list several values."""


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Everything that decides an org's requests. Two are the same only where they are one object.

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
    _index: _Index
    _by_name: Mapping[str, Budget]
    _instances: dict[Budget, WindowInstance] = field(default_factory=dict)

    def counters(self, subject: Subject, target: Target, now_ms: int) -> list[Counter]:
        """Return the counter of every budget that applies, in the policy's order.

        Args:
            subject: Who spends.
            target: What is called, resolved.
            now_ms: Since the epoch.
        """
        labels = tuple(sorted(subject.labels.items())) if subject.labels else ()
        levels = (subject.team, subject.feature, subject.agent, subject.user, subject.task)
        found = []
        for budget, partition in _matches(self, levels, labels, target.provider, target.model):
            counter = self._counter(budget, partition, now_ms)
            if counter is not None:
                found.append(counter)
        return found

    def matching(self, attributes: Mapping[str, str]) -> list[CompiledBudget]:
        """Return every budget that applies, in the policy's order.

        Args:
            attributes: From `subject.attributes`.
        """
        candidates: list[CompiledBudget] = []
        for names, places in self._index.items():
            candidates += places.get(tuple(map(attributes.get, names)), ())
        return [each for each in sorted(candidates, key=_position) if not each.unmet(attributes)]

    def counter(self, budget: Budget, attributes: Mapping[str, str], now_ms: int) -> Counter | None:
        """Return a budget's counter for a request, or None where its window does not run now."""
        return self._counter(budget, tuple(attributes[name] for name in budget.per), now_ms)

    def named_counter(self, counter_id: str, now_ms: int) -> Counter:
        """Return the counter of a name, as it is now.

        A budget that the policy no longer has, or has with another meter, window or partition, is
        shown without a limit and as switched off.

        Args:
            counter_id: From `Counter.id`.
            now_ms: Since the epoch.
        """
        counter = _named_counter(self, counter_id)
        window = counter.budget.window
        if window.kind is WindowKind.ROLLING:
            return counter.at(now_ms - window.length_ms)
        return counter

    def _counter(self, budget: Budget, partition: tuple[str, ...], now_ms: int) -> Counter | None:
        window = budget.window
        if budget.mode is Mode.OFF:
            return None
        if window.kind is WindowKind.ROLLING:
            return _counter_of(self.org, budget, partition, 0, None).at(now_ms - window.length_ms)
        # Finding a window is dear, so it is remembered until its next boundary.
        instance = self._instances.get(budget)
        if instance is None or not (
            instance.end_ms is None or instance.start_ms <= now_ms < instance.end_ms
        ):
            instance = window.instance(now_ms)
            if instance is None:
                return None
            self._instances[budget] = instance
        return _counter_of(self.org, budget, partition, instance.start_ms, instance.end_ms)

    def budget(self, name: str) -> Budget | None:
        """Return the budget of that name, or None where the policy has none (any more)."""
        return self._by_name.get(name)

    def with_budgets(self, added: Sequence[CompiledBudget], version: str) -> Policy:
        """Return the policy with more budgets that no document has, under another version."""
        budgets = (*self.budgets, *added)
        return replace(self, version=version, budgets=budgets, _index=_index(budgets))

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


@lru_cache(REMEMBERED_MAX)
def _matches(
    policy: Policy,
    levels: tuple[str, str, str, str, str],
    labels: tuple[tuple[str, str], ...],
    provider: str,
    model: str,
) -> list[tuple[Budget, tuple[str, ...]]]:
    """Return which budgets apply to a subject and target, and the values they partition by."""
    subject = Subject(policy.org, *levels, labels=dict(labels))
    given = attributes(subject, Target(provider, model))
    return [
        (each.budget, tuple(given[name] for name in each.budget.per))
        for each in policy.matching(given)
    ]


@lru_cache(REMEMBERED_MAX)
def _counter_of(
    org: OrgId, budget: Budget, partition: tuple[str, ...], start_ms: int, end_ms: int | None
) -> Counter:
    return Counter(org, budget, partition, WindowInstance(start_ms, end_ms))


@lru_cache(REMEMBERED_MAX)
def _named_counter(policy: Policy, counter_id: str) -> Counter:
    name = parse_counter_id(counter_id)
    partition = tuple(value for _, value in name.partition)
    budget = policy.budget(name.budget)
    if (
        budget is None
        or budget.meter != name.meter
        or budget.window.code != name.window_code
        or budget.per != name.per
    ):
        gone = Budget(name.budget, name.meter, None, _ANY_WINDOW, per=name.per, mode=Mode.OFF)
        return Counter(OrgId(name.org), gone, partition, WindowInstance(0, None))
    at_ms = name.window_start_ms
    instance = budget.window.instance(at_ms) or WindowInstance(at_ms, None)
    return Counter(OrgId(name.org), budget, partition, instance)


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
        _index=_index(budgets),
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


def _index(budgets: Sequence[CompiledBudget]) -> _Index:
    """File each budget under all of its exact conditions, so that a request looks at few others.

    A request looks once for each combination of attributes that budgets name, however many budgets
    name them.
    """
    index: dict[tuple[str, ...], dict[tuple[str | None, ...], list[CompiledBudget]]] = {}
    for budget in budgets:
        exact = [each for each in budget.conditions if each.pattern is None]
        if prod(len(each.exact) for each in exact) > _PLACES_MAX:
            exact = [min(exact, key=lambda each: len(each.exact))]
        places = index.setdefault(tuple(each.attribute for each in exact), {})
        for values in product(*(each.exact for each in exact)):
            places.setdefault(values, []).append(budget)
    return {
        names: {values: tuple(filed) for values, filed in places.items()}
        for names, places in index.items()
    }
