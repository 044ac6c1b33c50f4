"""The policy document as people write it: names, types and ranges of everything in it.

The document is YAML or JSON. `policy_text.parse_policy` reads it, `policy_validation` refuses it
whole where it has faults, and `policy.compile_policy` turns these models into what decides.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bursar.domain.policy_values import (
    MATCHABLE,
    Amount,
    Duration,
    Flag,
    Identifier,
    Instant,
    LabelKey,
    Message,
    OnlyTrue,
    Patterns,
    Percent,
    Price,
    Text,
    Timezone,
    Tokens,
    Usd,
    as_list,
)
from bursar.domain.subject import LABEL_PREFIX
from bursar.domain.window import WindowKind

BUDGETS_MAX = 10_000
RUNGS_MAX = 8
PARTITIONS_MAX = 4


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceDocument(_Model):
    """Prices in USD for a million tokens of each class, and for a call."""

    input: Price
    output: Price
    cache_read: Price | None = None
    cache_write: Price | None = None
    input_audio: Price | None = None
    output_audio: Price | None = None
    request: Price | None = None


class ModelDocument(_Model):
    """What is known of the models that a pattern matches; the first match of each field wins."""

    match: Text
    provider: Text | None = None
    alias_of: Text | None = None
    max_output_tokens: Tokens | None = None
    default_output_tokens: Tokens | None = None
    price: PriceDocument | None = None


class FallbackDocument(_Model):
    """Price of models whose price is not known."""

    fallback: PriceDocument


class LimitDocument(BaseModel):
    """One meter and how much of it; a custom meter by the name that the policy declares."""

    model_config = ConfigDict(extra="allow", frozen=True)

    usd: Usd | Literal["unlimited"] | None = None
    tokens: Amount | Literal["unlimited"] | None = None
    input_tokens: Amount | Literal["unlimited"] | None = None
    output_tokens: Amount | Literal["unlimited"] | None = None
    requests: Amount | Literal["unlimited"] | None = None
    concurrency: Amount | Literal["unlimited"] | None = None
    __pydantic_extra__: dict[str, Amount | Literal["unlimited"]]

    @model_validator(mode="after")
    def _one_meter(self) -> LimitDocument:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(
                "must name exactly one meter: usd, tokens, input_tokens, output_tokens, requests, "
                "concurrency or a custom one; use one budget for each"
            )
        return self

    @property
    def unit(self) -> str:
        """The key that was given: `usd`, `tokens`, ... or a custom meter's name."""
        return next(iter(self.model_dump(exclude_none=True)))

    @property
    def value(self) -> Decimal | int | Literal["unlimited"]:
        """How much of it."""
        value: Decimal | int | Literal["unlimited"] = self.model_dump(exclude_none=True)[self.unit]
        return value


class ScopeDocument(_Model):
    """Which requests a budget counts: all given attributes must match."""

    team: Patterns | None = None
    feature: Patterns | None = None
    agent: Patterns | None = None
    user: Patterns | None = None
    task: Patterns | None = None
    provider: Patterns | None = None
    model: Patterns | None = None
    labels: dict[LabelKey, Patterns] = Field(default_factory=dict, max_length=16)

    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Return the patterns by attribute."""
        found = {name: getattr(self, name) for name in MATCHABLE}
        found.update({LABEL_PREFIX + key: value for key, value in self.labels.items()})
        return {name: tuple(value) for name, value in found.items() if value}


class RollingDocument(_Model):
    """A window that ends now and moves on by itself."""

    rolling: Duration


class TaskWindowDocument(_Model):
    """A window for each task, until the task was idle for this long."""

    task: Duration


class FixedDocument(_Model):
    """A window with fixed ends; the budget applies only within it."""

    from_time: Instant = Field(alias="from")
    until: Instant

    @model_validator(mode="after")
    def _ends(self) -> FixedDocument:
        if self.from_time >= self.until:
            raise ValueError("from must be before until")
        return self


class SwitchModelDocument(_Model):
    """Call another model."""

    from_model: Text = Field(alias="from")
    to: Text
    to_provider: Text | None = None


class QueueDocument(_Model):
    """Try again later."""

    max_wait: Duration


class RungDocument(_Model):
    """At `at` percent of the limit, one action, a message, or a notice."""

    at: Percent
    switch_model: SwitchModelDocument | None = None
    cap_output: Tokens | None = None
    finish: OnlyTrue | None = None
    serve_cached: OnlyTrue | None = None
    queue: QueueDocument | None = None
    deny: OnlyTrue | None = None
    notify: OnlyTrue | None = None
    message: Message = ""

    @model_validator(mode="after")
    def _one_action(self) -> RungDocument:
        actions = ("switch_model", "cap_output", "finish", "serve_cached", "queue", "deny")
        given = [name for name in actions if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"has several actions ({', '.join(given)}); use one rung for each")
        if not given and not self.notify:
            raise ValueError(f"needs an action: {', '.join(actions)}, or notify: true")
        if not given and not self.message:
            raise ValueError("notify: true needs a message to say")
        return self


class OverdraftDocument(BaseModel):
    """How far past its limit a budget may go: percent of it, or an amount in its unit."""

    model_config = ConfigDict(extra="allow", frozen=True)

    percent: Annotated[int, Field(ge=0, le=1_000, strict=True)] | None = None
    usd: Usd | None = None
    __pydantic_extra__: dict[str, Amount]

    @model_validator(mode="after")
    def _one(self) -> OverdraftDocument:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("must be either percent or an amount in the limit's unit")
        return self


class CarryMostDocument(OverdraftDocument):
    """How much is carried at the most: percent of the limit, or an amount in its unit."""


class CarryOverDocument(_Model):
    """What of a window goes into the next one."""

    unused: Flag = False
    debt: Flag = False
    max: CarryMostDocument | None = None

    @model_validator(mode="after")
    def _something(self) -> CarryOverDocument:
        if not self.unused and not self.debt:
            raise ValueError("carries nothing; say unused: true, debt: true or both")
        return self


class HeadroomDocument(_Model):
    """Up to which percent of the limit each priority may fill the budget."""

    low: Annotated[int, Field(ge=0, le=100, strict=True)] = 100
    normal: Annotated[int, Field(ge=0, le=100, strict=True)] = 100
    high: Annotated[int, Field(ge=0, le=100, strict=True)] = 100


CalendarWindow = Literal["minute", "hour", "day", "week", "month", "quarter", "year"]
WeekDay = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class BudgetDocument(_Model):
    """A limit on one meter, for the requests that its scope matches, per window."""

    name: Identifier
    description: str = Field(default="", max_length=1_000)
    scope: ScopeDocument = ScopeDocument()
    per: Annotated[list[str], BeforeValidator(as_list), Field(max_length=PARTITIONS_MAX)] = []
    limit: LimitDocument
    window: (
        CalendarWindow
        | Literal["request", "task"]
        | RollingDocument
        | TaskWindowDocument
        | FixedDocument
        | None
    ) = None
    timezone: Timezone | None = None
    anchor_day: Annotated[int, Field(ge=1, le=31, strict=True)] | None = None
    week_start: WeekDay | None = None
    mode: Literal["enforce", "warn", "observe", "off"] = "enforce"
    overdraft: OverdraftDocument | None = None
    priority_headroom: HeadroomDocument = HeadroomDocument()
    on_expiry: Literal["release", "charge"] = "release"
    on_unavailable: Literal["closed", "open"] = "closed"
    carry_over: CarryOverDocument | None = None
    backfill: Flag = True
    alerts: Annotated[list[Percent], Field(max_length=10)] = []
    default_output_tokens: Tokens | None = None
    ladder: Annotated[list[RungDocument], Field(max_length=RUNGS_MAX)] = []

    @property
    def window_kind(self) -> WindowKind:
        """Which kind of window it has."""
        if self.window is None:
            return WindowKind.NONE
        if isinstance(self.window, RollingDocument):
            return WindowKind.ROLLING
        if isinstance(self.window, TaskWindowDocument):
            return WindowKind.TASK
        if isinstance(self.window, FixedDocument):
            return WindowKind.FIXED
        return WindowKind(self.window)


class PolicyDocument(_Model):
    """Everything that one org's requests are decided by."""

    org: Identifier
    description: str = Field(default="", max_length=1_000)
    timezone: Timezone = "UTC"
    unbudgeted: Literal["allow", "deny"] = "allow"
    unpriced: Literal["deny", "allow"] | FallbackDocument = "deny"
    default_output_tokens: Tokens = 4_096
    meters: Annotated[list[str], Field(max_length=16)] = []
    models: Annotated[list[ModelDocument], Field(max_length=1_000)] = []
    budgets: Annotated[list[BudgetDocument], Field(max_length=BUDGETS_MAX)] = []
