"""The policy document as people write it, with the exact path of everything that is wrong in it.

The document is YAML or JSON. `parse_policy` reads it, refuses it whole where it has faults, and
returns models that `policy.compile_policy` turns into what decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from bursar.domain import meter
from bursar.domain.errors import Fault, PolicyInvalid
from bursar.domain.subject import LABEL_PREFIX, LEVELS
from bursar.domain.window import WindowKind, is_timezone, parse_duration_ms

BUDGETS_MAX = 10_000
RUNGS_MAX = 8
PARTITIONS_MAX = 4
SCOPE_VALUES_MAX = 100
TEXT_BYTES_MAX = 256
MESSAGE_CHARS_MAX = 500
USD_MAX = Decimal(meter.AMOUNT_MAX) / meter.NANO_PER_USD
PLACEHOLDERS = frozenset(
    {"budget", "percent", "limit", "remaining", "resets_in", "affordable_output_tokens", "model"}
)
MATCHABLE = (*LEVELS, "provider", "model")

_IDENTIFIER = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_METER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(
            "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -"
        )
    return value


def _timezone(value: str) -> str:
    if not is_timezone(value):
        raise ValueError("is not an IANA time zone such as America/New_York")
    return value


def _duration(value: str) -> str:
    parse_duration_ms(value)
    return value


def _text(value: str) -> str:
    if not value or len(value.encode()) > TEXT_BYTES_MAX or not value.isprintable():
        raise ValueError(f"must be 1 to {TEXT_BYTES_MAX} bytes without control characters")
    return value


def _message(value: str) -> str:
    if len(value) > MESSAGE_CHARS_MAX:
        raise ValueError(f"must be at most {MESSAGE_CHARS_MAX} characters, is {len(value)}")
    try:
        parts = list(Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"has broken placeholders: {error}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            known = ", ".join("{" + each + "}" for each in sorted(PLACEHOLDERS))
            raise ValueError(f"{{{name}}} is not a placeholder; known are {known}")
    return value


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("is a binary float; write it as a decimal or in quotes")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Identifier = Annotated[str, AfterValidator(_identifier)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Duration = Annotated[str, AfterValidator(_duration)]
Text = Annotated[str, AfterValidator(_text)]
Message = Annotated[str, AfterValidator(_message)]
Usd = Annotated[Decimal, BeforeValidator(_no_float), Field(ge=0, le=USD_MAX)]
Price = Annotated[Decimal, BeforeValidator(_no_float), Field(ge=0, le=100_000)]
Amount = Annotated[int, Field(ge=0, le=meter.AMOUNT_MAX, strict=True)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
Percent = Annotated[int, Field(ge=1, le=100, strict=True)]
Patterns = Annotated[
    list[Text], BeforeValidator(_as_list), Field(min_length=1, max_length=SCOPE_VALUES_MAX)
]


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
    labels: dict[str, Patterns] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _label_keys(self) -> ScopeDocument:
        for key in self.labels:
            if not _LABEL_KEY.fullmatch(key):
                raise ValueError(f"labels: {key!r} is not a label's key")
        return self

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

    from_time: datetime = Field(alias="from")
    until: datetime

    @model_validator(mode="after")
    def _ends(self) -> FixedDocument:
        if self.from_time.tzinfo is None or self.until.tzinfo is None:
            raise ValueError("from and until need a UTC offset, such as 2026-01-01T00:00:00Z")
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
    finish: Literal[True] | None = None
    serve_cached: Literal[True] | None = None
    queue: QueueDocument | None = None
    deny: Literal[True] | None = None
    notify: Literal[True] | None = None
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
    per: Annotated[list[str], BeforeValidator(_as_list), Field(max_length=PARTITIONS_MAX)] = []
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
    alerts: Annotated[list[Percent], Field(max_length=10)] = []
    default_output_tokens: Tokens | None = None
    ladder: Annotated[list[RungDocument], Field(max_length=RUNGS_MAX)] = []

    @model_validator(mode="after")
    def _consistent(self) -> BudgetDocument:
        for problem in _budget_problems(self):
            raise ValueError(problem)
        return self

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


def _budget_problems(budget: BudgetDocument) -> list[str]:
    """Return what contradicts itself in a budget: a setting is never accepted and then ignored."""
    kind, unit = budget.window_kind, budget.limit.unit
    problems = [
        f"per: {name!r} is not one of {', '.join(MATCHABLE)} or labels.KEY"
        for name in budget.per
        if name not in MATCHABLE and not _is_label(name)
    ]
    if len(set(budget.per)) != len(budget.per):
        problems.append("per: names an attribute twice")
    if unit == "concurrency" and kind is not WindowKind.NONE:
        problems.append("window: a concurrency limit counts what is open now; leave the window out")
    if unit != "concurrency" and kind is WindowKind.NONE:
        problems.append("window: required, such as month, day, {rolling: 24h}, task or request")
    if kind is WindowKind.TASK and "task" not in budget.per:
        problems.append("window: a task window needs per: [task]")
    if kind is WindowKind.REQUEST and budget.per:
        problems.append("per: a request window counts nothing over time; leave per out")
    if budget.anchor_day is not None and kind not in _MONTHLY:
        problems.append("anchor_day: only month, quarter and year windows have one")
    if budget.week_start is not None and kind is not WindowKind.WEEK:
        problems.append("week_start: only week windows have one")
    if budget.timezone is not None and kind not in _CALENDAR:
        problems.append("timezone: only calendar windows have one")
    if budget.limit.value == "unlimited" and (budget.ladder or budget.overdraft or budget.alerts):
        problems.append("limit: unlimited has no percentages: leave ladder, overdraft, alerts out")
    if kind is WindowKind.REQUEST and budget.ladder:
        problems.append("ladder: a request window does not fill up over time; leave the ladder out")
    if kind is WindowKind.REQUEST and budget.alerts:
        problems.append("alerts: a request window does not fill up over time")
    if budget.overdraft is not None:
        given = next(iter(budget.overdraft.model_dump(exclude_none=True)))
        if given not in ("percent", unit):
            problems.append(f"overdraft: must be percent or {unit}, is {given}")
        elif budget.limit.value != "unlimited":
            problems += _overdraft_problems(budget.limit, budget.overdraft)
    return problems


def _overdraft_problems(limit: LimitDocument, overdraft: OverdraftDocument) -> list[str]:
    """Refuse what together passes what can be counted exactly."""
    size = Decimal(limit.value)
    if overdraft.percent is not None:
        extra = size * overdraft.percent / 100
    else:
        extra = Decimal(next(iter(overdraft.model_dump(exclude_none=True).values())))
    most = USD_MAX if limit.unit == "usd" else Decimal(meter.AMOUNT_MAX)
    if size + extra <= most:
        return []
    return [f"overdraft: limit and overdraft are {size + extra} together, more than {most}"]


_MONTHLY = (WindowKind.MONTH, WindowKind.QUARTER, WindowKind.YEAR)
_CALENDAR = (WindowKind.MINUTE, WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, *_MONTHLY)


def _is_label(name: str) -> bool:
    return name.startswith(LABEL_PREFIX) and bool(
        _LABEL_KEY.fullmatch(name.removeprefix(LABEL_PREFIX))
    )


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


def validate_policy(content: Mapping[str, Any], source: str) -> PolicyDocument:
    """Check a parsed document.

    Args:
        content: The document as plain mappings, lists and scalars; decimals as Decimal.
        source: What to call it in an error, such as a file's name.

    Raises:
        PolicyInvalid: The document has faults; every one is listed with its path.
    """
    try:
        document = PolicyDocument.model_validate(content)
    except ValidationError as error:
        raise PolicyInvalid(source, tuple(_faults(error, content))) from None
    faults = tuple(_document_faults(document))
    if faults:
        raise PolicyInvalid(source, faults)
    return document


def _faults(error: ValidationError, content: Mapping[str, Any]) -> list[Fault]:
    faults: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], content)
        description = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            description = "is not a known setting"
        # A union reports each of its alternatives; the first says enough.
        faults.setdefault(path, Fault(path, description[0].lower() + description[1:]))
    return list(faults.values())


def _path(location: tuple[int | str, ...], content: object) -> str:
    """Return where a fault is: `budgets[2].ladder[0].at`, without pydantic's names of choices."""
    path = ""
    here: object = content
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
        elif isinstance(here, Mapping) or part in _FIELD_NAMES:
            path += f".{part}" if path else part
            here = here.get(part) if isinstance(here, Mapping) else None
    return path or "(document)"


def _document_faults(document: PolicyDocument) -> list[Fault]:
    """Return what is wrong between the parts of a document."""
    faults: list[Fault] = []
    names: dict[str, int] = {}
    for name in document.meters:
        if not _METER_NAME.fullmatch(name) or name in _RESERVED_METERS:
            faults.append(Fault("meters", f"{name!r} cannot name a custom meter"))
    for index, budget in enumerate(document.budgets):
        path = f"budgets[{index}]"
        if budget.name in names:
            first = names[budget.name]
            faults.append(Fault(f"{path}.name", f"{budget.name!r} is also budgets[{first}].name"))
        names.setdefault(budget.name, index)
        unit = budget.limit.unit
        if unit not in _LIMIT_UNITS and unit not in document.meters:
            known = ", ".join((*_LIMIT_UNITS, *document.meters))
            faults.append(
                Fault(f"{path}.limit", f"{unit!r} is not a meter; known are {known} (see meters)")
            )
    return faults


_LIMIT_UNITS = tuple(LimitDocument.model_fields)
_RESERVED_METERS = frozenset({*_LIMIT_UNITS, *meter.STANDARD_METERS, "percent"})
_FIELD_NAMES = frozenset(
    name
    for model in (PolicyDocument, BudgetDocument, RungDocument, LimitDocument, ScopeDocument)
    for name in model.model_fields
)
