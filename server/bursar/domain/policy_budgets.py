"""From a budget as people write it to a budget as it decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from bursar.domain import meter
from bursar.domain.budget import (
    Action,
    Budget,
    CapOutput,
    CarryOver,
    Deny,
    Finish,
    Mode,
    Priority,
    Queue,
    Rung,
    ServeCached,
    SwitchModel,
)
from bursar.domain.policy_document import (
    BudgetDocument,
    CarryOverDocument,
    FixedDocument,
    OverdraftDocument,
    PolicyDocument,
    PriceDocument,
    RollingDocument,
    RungDocument,
    TaskWindowDocument,
)
from bursar.domain.price import PriceBook, PriceOverride
from bursar.domain.subject import Target
from bursar.domain.window import Window, WindowKind, parse_duration_ms

TASK_IDLE_MS = 24 * 3_600_000
"""How long a task lives without use where its budget does not say."""

_METER_OF_UNIT = {"usd": meter.COST, "tokens": meter.TOTAL_TOKENS}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def compile_budget(
    document: BudgetDocument, policy: PolicyDocument, price_book: PriceBook
) -> Budget:
    """Return the budget that a document describes.

    Args:
        document: The budget.
        policy: The document that it is part of.
        price_book: Finds the models that its rungs switch to.
    """
    unit = document.limit.unit
    limit = _amount(document.limit.value)
    headroom = document.priority_headroom
    return Budget(
        name=document.name,
        meter=_METER_OF_UNIT.get(unit, unit),
        limit=limit,
        window=window_of(document, policy),
        per=tuple(document.per),
        conditions=tuple(document.scope.conditions().items()),
        mode=Mode(document.mode),
        ladder=tuple(
            sorted(
                (_rung(rung, price_book) for rung in document.ladder),
                key=lambda rung: rung.at_percent,
            )
        ),
        overdraft=_part(document.overdraft, limit) if document.overdraft else 0,
        headroom_percent={
            Priority.LOW: headroom.low,
            Priority.NORMAL: headroom.normal,
            Priority.HIGH: headroom.high,
        },
        charge_on_expiry=document.on_expiry == "charge",
        alerts_percent=tuple(sorted(set(document.alerts))),
        default_output_tokens=document.default_output_tokens,
        open_when_unavailable=document.on_unavailable == "open",
        carry_over=_carry_over(document.carry_over, limit) if document.carry_over else None,
        backfill=document.backfill,
    )


def _amount(value: Decimal | int | str) -> int | None:
    """Return an amount in its meter's unit; money has no more decimals than nano-USD do."""
    if value == "unlimited":
        return None
    return int(value * meter.NANO_PER_USD) if isinstance(value, Decimal) else int(value)


def _part(document: OverdraftDocument, limit: int | None) -> int:
    """Return a part of a limit, or an amount beside it, in the meter's unit."""
    if limit is None:
        return 0
    if document.percent is not None:
        return limit * document.percent // 100
    amount = next(iter(document.model_dump(exclude_none=True).values()))
    return _amount(amount) or 0


def _carry_over(document: CarryOverDocument, limit: int | None) -> CarryOver:
    # Without a bound of its own, what nobody uses would add up from window to window.
    most = (limit or 0) if document.max is None else _part(document.max, limit)
    return CarryOver(document.unused, document.debt, most)


def window_of(document: BudgetDocument, policy: PolicyDocument) -> Window:
    """Return over what time a budget counts.

    Args:
        document: The budget.
        policy: The document that it is part of.
    """
    kind, window = document.window_kind, document.window
    if isinstance(window, RollingDocument):
        return Window(kind, length_ms=parse_duration_ms(window.rolling))
    if isinstance(window, TaskWindowDocument):
        return Window(kind, length_ms=parse_duration_ms(window.task))
    if isinstance(window, FixedDocument):
        from_ms, until_ms = (
            (instant - _EPOCH) // _MILLISECOND for instant in (window.from_time, window.until)
        )
        return Window(kind, from_ms=from_ms, until_ms=until_ms)
    if kind is WindowKind.TASK:
        return Window(kind, length_ms=TASK_IDLE_MS)
    if kind in (WindowKind.NONE, WindowKind.REQUEST):
        return Window(kind)
    return Window(
        kind,
        timezone=document.timezone or policy.timezone,
        anchor_day=document.anchor_day or 1,
        week_start=_WEEKDAYS.index(document.week_start or "monday"),
    )


def _rung(document: RungDocument, price_book: PriceBook) -> Rung:
    action: Action | None = None
    if document.switch_model is not None:
        switch = document.switch_model
        to = price_book.resolve(Target(switch.to_provider or "", switch.to))
        action = SwitchModel(switch.from_model, to)
    elif document.cap_output is not None:
        action = CapOutput(document.cap_output)
    elif document.finish:
        action = Finish()
    elif document.serve_cached:
        action = ServeCached()
    elif document.queue is not None:
        action = Queue(parse_duration_ms(document.queue.max_wait))
    elif document.deny:
        action = Deny()
    return Rung(document.at, action, document.message, bool(document.notify))


def compile_price(document: PriceDocument) -> PriceOverride:
    """Return the price that a document describes."""
    return PriceOverride(**document.model_dump())
