"""What a caller should do, said from the offer that was granted or from how budgets stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

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
from bursar.domain.ladder import AppliedRung, Variant, climb
from bursar.domain.meter import NANO_PER_USD
from bursar.domain.offer import Offer, Plan
from bursar.domain.subject import Target
from bursar.domain.window import format_duration

NANO_PER_CENT = NANO_PER_USD // 100


def format_amount(amount: int, unit: str) -> str:
    """Return an amount for people, exactly: `$12.34`, `$0.000015`, `12,345 tokens`.

    Nothing is rounded: what is not quite spent never looks spent.
    """
    if unit == meter.COST:
        dollars, nano = divmod(abs(amount), NANO_PER_USD)
        decimals = f"{nano:09d}".rstrip("0").ljust(2, "0")
        return f"{'-' if amount < 0 else ''}${dollars:,}.{decimals}"
    name = "tokens" if unit == meter.TOTAL_TOKENS else unit.replace("_", " ")
    return f"{amount:,} {name}"


def _left(status: CounterStatus) -> str:
    """Return what is left, money in whole cents where there are any."""
    remaining, unit = max(status.remaining or 0, 0), status.counter.budget.meter
    if unit == meter.COST and remaining >= NANO_PER_CENT:
        remaining -= remaining % NANO_PER_CENT
    return format_amount(remaining, unit)


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
        remaining=_left(status),
        resets_in="in " + format_duration(end_ms - now_ms) if end_ms is not None else "later",
        affordable_output_tokens=affordable,
        model=model,
    )


def grant_directive(
    plan: Plan, offer: Offer, output_tokens: int, statuses: Sequence[CounterStatus]
) -> Directive:
    """Say what a granted offer changes, and who wanted it.

    Args:
        plan: What was asked and how it could be granted.
        offer: What was granted.
        output_tokens: How much of it.
        statuses: The counters after the grant, in the policy's order.
    """
    asked, now_ms = plan.request.target, plan.now_ms
    behind = _behind(plan, offer, output_tokens, statuses)
    switch = shorten = truncate = None
    if offer.target != asked:
        switch = SwitchTo(asked, offer.target, _budgets(behind, SwitchModel))
    if output_tokens < offer.output_wanted:
        budgets = _shortening(offer, output_tokens, statuses, _budgets(behind, CapOutput))
        shorten = Shorten(output_tokens, budgets)
    if offer.input_budgets and offer.input_cap is not None:
        truncate = Shorten(offer.input_cap, offer.input_budgets)
    message = _message(behind, statuses, now_ms, output_tokens, offer.target.model)
    return Directive(
        switch_model=switch,
        shorten_output=shorten,
        truncate_input=truncate,
        finish=_budgets(behind, Finish),
        message=message,
        notices=(*_notices(statuses, now_ms), *_flags(offer, unbudgeted=plan.unbudgeted)),
    )


def _message(
    behind: Sequence[AppliedRung],
    statuses: Sequence[CounterStatus],
    now_ms: int,
    output_tokens: int,
    model: str,
) -> str:
    """Return what the highest rung behind a change says, or nothing."""
    if not behind:
        return ""
    by_budget = {status.counter.budget.name: status for status in statuses}
    return next(
        (
            fill_message(each.rung.message, by_budget[each.budget], now_ms, output_tokens, model)
            for each in sorted(behind, key=lambda each: -each.rung.at_percent)
            if each.rung.message and each.budget in by_budget
        ),
        "",
    )


def _behind(
    plan: Plan, offer: Offer, output_tokens: int, statuses: Sequence[CounterStatus]
) -> list[AppliedRung]:
    """Return the rungs that are behind what an offer changes: those that refused one before it.

    A budget whose rung is merely satisfied is not named. Where none of those that are known
    refused, as when its budget does not apply to the other model, the rungs applied are.
    """
    if not offer.applied:
        return []

    def effective(rungs: Iterable[AppliedRung]) -> list[AppliedRung]:
        # A cap that is not the tightest, or asks for no less than is wanted, shortens nothing.
        return [
            each
            for each in rungs
            if not isinstance(each.rung.action, CapOutput)
            or each.rung.action.tokens == output_tokens < offer.output_wanted
        ]

    applied = effective(offer.applied)
    kinds = {type(each.rung.action) for each in applied}
    refusing = [
        each
        for each in effective(_refusing(plan, offer, statuses))
        if type(each.rung.action) in kinds
    ]
    known = {type(each.rung.action) for each in refusing}
    return refusing + [each for each in applied if type(each.rung.action) not in known]


def _refusing(plan: Plan, offer: Offer, statuses: Sequence[CounterStatus]) -> list[AppliedRung]:
    """Return the restricting rungs that refused an offer before this one, in the policy's order."""
    before = {
        status.counter.id: status.values.credit
        - status.values.committed
        - status.values.held
        + status.amount
        for status in statuses
    }
    refusing = {
        (use.counter.budget.name, use.rung)
        for earlier in takewhile(lambda each: each is not offer, plan.offers)
        for use in earlier.uses
        if use.rung is not None
        and use.rung.restricts
        and use.ceiling is not None
        and use.counter.id in before
        and use.ceiling + before[use.counter.id] < use.amount(earlier.output_min)
    }
    return [
        AppliedRung(status.counter.budget.name, rung)
        for status in statuses
        for rung in status.counter.budget.ladder
        if (status.counter.budget.name, rung) in refusing
    ]


def _budgets(rungs: Iterable[AppliedRung], kind: type) -> tuple[str, ...]:
    """Return whose the rungs of a kind are, each once."""
    return tuple(dict.fromkeys(each.budget for each in rungs if isinstance(each.rung.action, kind)))


def _shortening(
    offer: Offer,
    output_tokens: int,
    statuses: Sequence[CounterStatus],
    capping: tuple[str, ...],
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
    return (*offer.output_budgets, *capping)


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
    if not reached:
        return Directive(notices=tuple(_notices(statuses, now_ms)))
    restricting = [
        AppliedRung(status.counter.budget.name, rung) for status, rung in reached if rung.restricts
    ]
    variant = climb(
        Variant(target),
        sorted(restricting, key=lambda each: each.rung.at_percent),
    )
    switch = None
    if variant.target != target:
        budgets = tuple(
            dict.fromkeys(
                each.budget
                for each in restricting
                if isinstance(each.rung.action, SwitchModel)
                and (each in variant.applied or each.rung.action.to == variant.target)
            )
        )
        switch = SwitchTo(target, variant.target, budgets)
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
    ending = terminal_directive(reached, now_ms, 0, variant.target.model)
    message = ending.message or next(
        (
            fill_message(rung.message, status, now_ms, model=variant.target.model)
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


def terminal_directive(
    reached: Sequence[tuple[CounterStatus, Rung]], now_ms: int, affordable: int, model: str
) -> Directive:
    """Say what is left when nothing can be granted: of each budget its highest terminal rung.

    Args:
        reached: Rungs that the budgets have reached, with the counters they stand at.
        now_ms: Since the epoch.
        affordable: Output tokens that would fit.
        model: What was to be called.
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
    queue = None
    if waits:
        shortest = min(waits)[0]
        queue = Wait(shortest, tuple(name for wait_ms, name in waits if wait_ms == shortest))
    message = next(
        (
            fill_message(rung.message, status, now_ms, affordable, model)
            for status, rung in reversed(last.values())
            if rung.message
        ),
        "",
    )
    return Directive(serve_cached=cached, queue=queue, deny=denying, message=message)
