"""Policy documents back to text, and changes of one budget in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import yaml

from bursar.domain.errors import PolicyConflict, PolicyNotFound
from bursar.domain.policy_document import BudgetDocument, PolicyDocument
from bursar.domain.policy_validation import validate_policy

Content = dict[str, Any]
"""A budget or a policy as plain mappings, lists and scalars; money as Decimal or its text."""

_ETAG_CHARS = 16


class _Dumper(yaml.SafeDumper):
    """YAML that the reader of policies takes: no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def policy_content(document: PolicyDocument) -> Content:
    """Return what a document sets, without what it leaves to its defaults."""
    return _plain_mapping(document.model_dump(exclude_unset=True, by_alias=True))


def write_policy(content: Mapping[str, Any]) -> str:
    """Return a policy as YAML. Comments of the text that it was read from are lost."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def budget_etag(budget: BudgetDocument) -> str:
    """Return what changes with every change of a budget, and with no other."""
    text = repr(sorted(budget.model_dump(by_alias=True).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_ETAG_CHARS]


def add_budget(document: PolicyDocument, budget: Content) -> PolicyDocument:
    """Return a policy with one more budget.

    Raises:
        PolicyInvalid: The budget has faults, or its name is taken.
    """
    content = policy_content(document)
    content["budgets"] = [*content.get("budgets", []), budget]
    return validate_policy(content, "the request")


def change_budget(
    document: PolicyDocument, name: str, etag: str, change: Callable[[Content], Content]
) -> PolicyDocument:
    """Return a policy with one budget changed.

    Args:
        document: The policy.
        name: Of the budget.
        etag: What the budget must have, or empty.
        change: From what the budget sets to what it shall set.

    Raises:
        PolicyNotFound: The policy has no such budget.
        PolicyConflict: The budget was changed since its etag was read.
        PolicyInvalid: The changed policy has faults.
    """
    index = find_budget(document, name, etag)
    content = policy_content(document)
    content["budgets"][index] = change(content["budgets"][index])
    return validate_policy(content, "the request")


def remove_budget(document: PolicyDocument, name: str, etag: str) -> PolicyDocument:
    """Return a policy without one of its budgets; its arguments and errors as `change_budget`."""
    index = find_budget(document, name, etag)
    content = policy_content(document)
    del content["budgets"][index]
    return validate_policy(content, "the request")


def find_budget(document: PolicyDocument, name: str, etag: str = "") -> int:
    """Return where in a policy a budget is.

    Raises:
        PolicyNotFound: The policy has no such budget.
        PolicyConflict: The budget was changed since its etag was read.
    """
    for index, budget in enumerate(document.budgets):
        if budget.name != name:
            continue
        current = budget_etag(budget)
        if etag and etag != current:
            raise PolicyConflict(
                f"budget {name!r} of {document.org} was changed meanwhile; read it again",
                org=document.org,
                budget=name,
                etag=current,
            )
        return index
    raise PolicyNotFound(
        f"the policy of {document.org} has no budget {name!r}", org=document.org, budget=name
    )


def _plain_mapping(value: Mapping[str, Any]) -> Content:
    return {str(key): _plain(each) for key, each in value.items()}


def _plain(value: object) -> object:
    """Return what every writer and the validator of documents take, exactly."""
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value % 1 else int(value)
    return value.isoformat() if isinstance(value, datetime) else value
