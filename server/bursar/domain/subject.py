"""Who spends and what is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

OrgId = NewType("OrgId", str)

LEVELS = ("team", "feature", "agent", "user", "task")
"""The levels below the org, from wide to narrow."""

CASELESS = ("provider", "model")
"""Attributes that are compared without regard to case, as prices are: another spelling of a model
must not leave a budget."""

LABEL_PREFIX = "labels."
"""How a label is named where attributes are listed: `labels.tier`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who spends. An empty level is absent: budgets that name it do not match."""

    org: OrgId
    team: str = ""
    feature: str = ""
    agent: str = ""
    user: str = ""
    task: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What is called."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.provider else self.model


def attributes(subject: Subject, target: Target) -> dict[str, str]:
    """Return every attribute that a budget can match or partition by; absent ones are left out."""
    values = {level: getattr(subject, level) for level in LEVELS}
    values["provider"] = target.provider.lower()
    values["model"] = target.model.lower()
    values.update({LABEL_PREFIX + key: value for key, value in subject.labels.items()})
    return {name: value for name, value in values.items() if value}


_SEPARATOR = "\x1f"


def target_key(target: Target) -> str:
    """Return a target as one text that `parse_target_key` reads back."""
    return f"{target.provider}{_SEPARATOR}{target.model}"


def parse_target_key(key: str) -> Target:
    """Read what `target_key` wrote."""
    provider, _, model = key.partition(_SEPARATOR)
    return Target(provider, model)
