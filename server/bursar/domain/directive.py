"""What a caller should do, said from the offer that was granted or from how budgets stand."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from bursar.domain import meter
from bursar.domain.answer import Directive, Notice, NoticeKind, Shorten, SwitchTo, Wait
from bursar.domain.budget import (
    CapOutput,
    CounterStatus,
    Deny,
    Finish,
    Mode,
    Queue,
    Rung,
    ServeCached,
    SwitchModel,
)
from bursar.domain.ladder import AppliedRung
from bursar.domain.meter import NANO_PER_USD
from bursar.domain.offer import Offer
from bursar.domain.subject import Target
from bursar.domain.window import format_duration


def format_amount(amount: int, unit: str) -> str:
    """Return an amount for people: `$12.34`, `12,345 tokens`."""
    if unit == meter.COST:
        dollars = amount / NANO_PER_USD
        return f"${dollars:,.2f}" if abs(dollars) >= 1 or amount == 0 else f"${dollars:.6f}"
    return f"{amount:,} {unit.replace('total_', '').replace('_', ' ')}"


def fill_message(
    template: str, status: CounterStatus, now_ms: int, affordable: int = 0, model: str = ""
) -> str:
    """Fill a rung's message.

    Args:
        template: With the placeholders of `policy_document.PLACEHOLDERS`.
        status: The counter of the budget that speaks.
        now_ms: Since the epoch.
        affordable: Output tokens that would fit.
        model: What is to be called.
    """
    counter = status.counter
    end_ms = counter.instance.end_ms
    return template.format(
        budget=counter.budget.name,
        percent=status.used_percent,
        limit=format_amount(counter.budget.limit or 0, counter.budget.meter),
        remaining=format_amount(max(status.remaining or 0, 0), counter.budget.meter),
        resets_in="in " + format_duration(end_ms - now_ms) if end_ms is not None else "later",
        affordable_output_tokens=affordable,
        model=model,
    )


def grant_directive(
    asked: Target,
    offer: Offer,
    output_tokens: int,
    statuses: Sequence[CounterStatus],
    now_ms: int,
    *,
    unbudgeted: bool,
) -> Directive:
    """Say what a granted offer changes, and who wanted it.

    Args:
        asked: What the caller wanted to call.
        offer: What was granted.
        output_tokens: How much of it.
        statuses: The counters after the grant, in the policy's order.
        now_ms: Since the epoch.
        unbudgeted: No budget applied.
    """
    switch = shorten = truncate = None
    if offer.target != asked:
        switch = SwitchTo(asked, offer.target, _budgets(offer.applied, SwitchModel))
    if output_tokens < offer.output_wanted:
        shorten = Shorten(output_tokens, _shortening(offer, output_tokens, statuses))
    if offer.input_budgets and offer.input_cap is not None:
        truncate = Shorten(offer.input_cap, offer.input_budgets)
    by_budget = {status.counter.budget.name: status for status in statuses}
    message = ""
    for applied in offer.applied:
        if applied.rung.message and applied.budget in by_budget:
            message = fill_message(
                applied.rung.message,
                by_budget[applied.budget],
                now_ms,
                output_tokens,
                offer.target.model,
            )
    return Directive(
        switch_model=switch,
        shorten_output=shorten,
        truncate_input=truncate,
        finish=_budgets(offer.applied, Finish),
        message=message,
        notices=(*_notices(statuses, now_ms), *_flags(offer, unbudgeted=unbudgeted)),
    )


def _budgets(applied: Iterable[AppliedRung], kind: type) -> tuple[str, ...]:
    return tuple(each.budget for each in applied if isinstance(each.rung.action, kind))


def _shortening(
    offer: Offer, output_tokens: int, statuses: Sequence[CounterStatus]
) -> tuple[str, ...]:
    """Return whose doing a shorter output is."""
    if output_tokens < offer.output_max:
        # One more token would not have fitted there.
        slopes = {use.counter.budget.name: use.slope for use in offer.uses}
        found = []
        for status in statuses:
            if status.ceiling is not None and slopes[status.counter.budget.name] > 0:
                values = status.values
                room = status.ceiling + values.credit - values.committed - values.held
                if room < slopes[status.counter.budget.name]:
                    found.append(status.counter.budget.name)
        return tuple(found)
    return (*offer.output_budgets, *_budgets(offer.applied, CapOutput))


def _notices(statuses: Sequence[CounterStatus], now_ms: int) -> list[Notice]:
    """Return what the budgets say as they stand: reached notify rungs, and exceeded warnings."""
    notices = []
    for status in statuses:
        budget = status.counter.budget
        if budget.limit is None or budget.mode is Mode.OBSERVE:
            continue
        for rung in budget.ladder:
            if rung.notify and rung.message and status.used_percent >= rung.at_percent:
                text = fill_message(rung.message, status, now_ms)
                notices.append(Notice(budget.name, NoticeKind.RUNG, text))
        if budget.mode is Mode.WARN and (status.remaining or 0) < 0:
            text = f"{budget.name} is over its limit: {status.used_percent} % used"
            notices.append(Notice(budget.name, NoticeKind.EXCEEDED, text))
    return notices


def _flags(offer: Offer, *, unbudgeted: bool) -> list[Notice]:
    notices = []
    if offer.unpriced:
        text = f"no price is known for {offer.target}"
        notices.append(Notice("", NoticeKind.UNPRICED, text))
    if unbudgeted:
        notices.append(Notice("", NoticeKind.UNBUDGETED, "no budget applies to this request"))
    return notices


def next_directive(target: Target, statuses: Sequence[CounterStatus], now_ms: int) -> Directive:
    """Say what the next call should do differently, from how the budgets stand after a settlement.

    Args:
        target: What was called.
        statuses: The counters after the settlement.
        now_ms: Since the epoch.
    """
    reached = [
        (status, rung)
        for status in statuses
        if status.counter.budget.enforced
        for rung in status.counter.budget.ladder
        if status.used_percent >= rung.at_percent
    ]
    switch = next(
        (
            SwitchTo(target, rung.action.to, (status.counter.budget.name,))
            for status, rung in reversed(reached)
            if isinstance(rung.action, SwitchModel)
            and fnmatch.fnmatchcase(target.model, rung.action.from_pattern)
            and rung.action.to != target
        ),
        None,
    )
    caps = [
        (rung.action.tokens, status.counter.budget.name)
        for status, rung in reached
        if isinstance(rung.action, CapOutput)
    ]
    shorten = None
    if caps:
        least = min(caps)[0]
        shorten = Shorten(least, tuple(name for tokens, name in caps if tokens == least))
    finish = tuple(
        status.counter.budget.name for status, rung in reached if isinstance(rung.action, Finish)
    )
    ending = terminal_directive(reached, now_ms, 0) if _exhausted(reached) else Directive()
    message = ending.message or next(
        (
            fill_message(rung.message, status, now_ms, model=target.model)
            for status, rung in sorted(reached, key=lambda each: -each[1].at_percent)
            if rung.message and not rung.notify
        ),
        "",
    )
    return Directive(
        switch_model=switch,
        shorten_output=shorten,
        finish=finish,
        serve_cached=ending.serve_cached,
        queue=ending.queue,
        deny=ending.deny,
        message=message,
        notices=tuple(_notices(statuses, now_ms)),
    )


def _exhausted(reached: Sequence[tuple[CounterStatus, Rung]]) -> bool:
    return any(rung.ends for _, rung in reached)


def terminal_directive(
    reached: Sequence[tuple[CounterStatus, Rung]], now_ms: int, affordable: int
) -> Directive:
    """Say what is left when nothing can be granted: of each budget its highest terminal rung.

    Args:
        reached: Rungs that the budgets have reached, with the counters they stand at.
        now_ms: Since the epoch.
        affordable: Output tokens that would fit.
    """
    last: dict[str, tuple[CounterStatus, Rung]] = {}
    for status, rung in reached:
        if rung.ends:
            last[status.counter.budget.name] = (status, rung)
    cached = tuple(name for name, (_, rung) in last.items() if isinstance(rung.action, ServeCached))
    denying = tuple(name for name, (_, rung) in last.items() if isinstance(rung.action, Deny))
    waits = [
        (rung.action.max_wait_ms, name)
        for name, (_, rung) in last.items()
        if isinstance(rung.action, Queue)
    ]
    queue = Wait(min(waits)[0], tuple(name for _, name in waits)) if waits else None
    message = next(
        (
            fill_message(rung.message, status, now_ms, affordable)
            for status, rung in reversed(last.values())
            if rung.message
        ),
        "",
    )
    return Directive(serve_cached=cached, queue=queue, deny=denying, message=message)
