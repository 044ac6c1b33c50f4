"""What the reference model decides: the first offer that fits, why none does, and what to do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from model.books import Books, Hold, name
from model.offers import Offer, Use, Variant, applied, ceiling
from model.rules import TERMINAL, duration_ms

HELD_RETRY_MS = 1_000
KINDS = ("HELD", "SPENT", "NEVER")


def room(books: Books, use: Use, now_ms: int) -> float:
    used = 0 if use.key is None else books.committed(use.key, now_ms) + books.held(use.key)
    return use.ceiling - used - use.base


def largest_output(books: Books, offer: Offer, now_ms: int) -> int | None:
    output = offer.output_max
    for use in offer.uses:
        left = room(books, use, now_ms)
        if left < 0:
            return None
        if use.slope > 0 and left < math.inf:
            output = min(output, int(left) // use.slope)
    return output


def affordable_output(books: Books, request: dict[str, Any], offer: Offer, now_ms: int) -> int:
    """Return the largest output that would be granted now: less output may satisfy more rungs."""
    caps = [
        rung["cap_output"]
        for use in offer.uses
        for rung in books.rules.ladder(use.budget)
        if "cap_output" in rung and rung["cap_output"] < offer.output_max
    ]
    found = [0]
    for most in [offer.output_max, *caps]:
        uses = [
            replace(use, ceiling=ceiling(books.rules, use.budget, request, offer.variant, most))
            for use in offer.uses
        ]
        largest = largest_output(books, replace(offer, uses=tuple(uses), output_max=most), now_ms)
        found.append(largest or 0)
    return max(found)


Block = tuple[tuple[int, bool, int], Use, int | None]
"""What keeps an offer from being granted: how long (for sorting), where, and when it ends."""


def deny(books: Books, request: dict[str, Any], offers: list[Offer], now_ms: int) -> dict[str, Any]:
    """Name what binds: of each offer the longest block, of all offers the shortest of these."""
    blocked = [blocks(books, offer, now_ms) for offer in offers]
    longest = [max(each, key=lambda block: block[0]) for each in blocked]
    best = min(reversed(range(len(offers))), key=lambda at: longest[at][0])
    (order, _, _), use, retry_ms = longest[best]
    offer, status = offers[best], books.status(use, 0, now_ms)
    cut = offer.input_cap is not None and request.get("input_tokens", 0) > offer.input_cap
    directive: dict[str, Any] = {"deny": {}}
    if KINDS[order] != "NEVER":
        binding = [block_use for _, block_use, _ in blocked[best]]
        directive = terminal(books, request, offer, binding, now_ms)
    return {
        "decision": "DENIED",
        "kind": KINDS[order],
        "binding": name(use),
        "limit": status["limit"],
        "committed": status["committed"],
        "held": status["held"],
        "affordable_output_tokens": affordable_output(books, request, offer, now_ms),
        "affordable_input_tokens": offer.input_cap if cut and not offer.input_cut else None,
        "retry_after_ms": retry_ms,
        "directive": directive,
    }


def blocks(books: Books, offer: Offer, now_ms: int) -> list[Block]:
    """Return everything that keeps an offer from being granted."""
    found: list[Block] = []
    for use in offer.uses:
        needed = use.base + use.slope * offer.output_min
        if room(books, use, now_ms) + use.base >= needed:
            continue
        committed = 0 if use.key is None else books.committed(use.key, now_ms)
        kind, retry_ms = 0, HELD_RETRY_MS
        if needed > use.ceiling:
            kind, retry_ms = 2, None
        elif committed + needed > use.ceiling:
            kind, retry_ms = 1, frees_in_ms(books, use, committed + needed, now_ms)
        found.append(((kind, retry_ms is None, retry_ms or 0), use, retry_ms))
    return found


def frees_in_ms(books: Books, use: Use, wanted: int, now_ms: int) -> int | None:
    """Return when so little is committed that what is wanted fits below the ceiling."""
    if use.key is None or books.rules.window_kind(use.budget) != "rolling":
        end_ms = use.key.end_ms if use.key else None
        return None if end_ms is None else end_ms - now_ms
    bucket_ms = books.rules.bucket_ms(use.budget)
    count = math.ceil(books.rules.length_ms(use.budget) / bucket_ms)
    for slot in range(books.oldest_bucket(use.key, now_ms), now_ms // bucket_ms + 1):
        gone = sum(
            amount
            for booked, amount in books.counters[use.key].booked
            if books.oldest_bucket(use.key, now_ms) <= booked <= slot
        )
        if wanted - gone <= use.ceiling:
            return (slot + count + 1) * bucket_ms - now_ms
    return books.rules.length_ms(use.budget)


def terminal(
    books: Books, request: dict[str, Any], offer: Offer, uses: list[Use], now_ms: int
) -> dict[str, Any]:
    """Return of each budget the highest terminal rung that is reached and can be carried out."""
    found: dict[str, Any] = {}
    for use in uses:
        status = books.status(use, 0, now_ms)
        used = status["committed"] + status["held"] + use.base + use.slope * offer.output_min
        last: dict[str, Any] = {}
        for rung in books.rules.ladder(use.budget):
            if used * 100 > status["limit"] * rung["at"] and (
                "deny" in rung
                or any(name in rung and name in request.get("accepts", []) for name in TERMINAL)
            ):
                last = rung
        merge_terminal(found, last)
    return found or {"deny": {}}


def merge_terminal(found: dict[str, Any], rung: dict[str, Any]) -> None:
    """Add what a budget's terminal rung asks; of several queues the shortest wait counts."""
    found |= {name: {} for name in ("serve_cached", "deny") if name in rung}
    if "queue" in rung:
        wait_ms = duration_ms(rung["queue"]["max_wait"])
        found["queue"] = {"to": min(wait_ms, found.get("queue", {"to": wait_ms})["to"])}


def grant_directive(
    books: Books, request: dict[str, Any], offer: Offer, output: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    asked = books.rules.resolved(request.get("provider", ""), request["model"])
    if asked != (offer.variant.provider, offer.variant.model):
        found["switch_model"] = {"to": offer.variant.model}
    if output < offer.output_wanted:
        found["shorten_output"] = {"to": output}
    if offer.input_cut:
        found["truncate_input"] = {"to": offer.input_cap}
    if offer.variant.finish_applied:
        found["finish"] = {}
    return found


def next_directive(
    books: Books, hold: Hold, provider: str, model: str, now_ms: int
) -> dict[str, Any]:
    """Return what the next call should do: what the rungs say that are reached by now."""
    rules, found, reached = books.rules, {}, []
    for entry in hold.entries:
        budget, status = entry.use.budget, books.status(entry.use, 0, now_ms)
        if not rules.enforced(budget):
            continue
        used = status["committed"] + status["held"]
        rungs = [
            rung for rung in rules.ladder(budget) if used * 100 >= status["limit"] * rung["at"]
        ]
        reached += rungs
        endings = [rung for rung in rungs if any(name in rung for name in TERMINAL)]
        merge_terminal(found, endings[-1] if endings else {})
    climbed = applied(rules, Variant(model, provider), sorted(reached, key=lambda rung: rung["at"]))
    if (climbed.provider, climbed.model) != (provider, model):
        found["switch_model"] = {"to": climbed.model}
    if climbed.cap < math.inf:
        found["shorten_output"] = {"to": climbed.cap}
    if climbed.finishing:
        found["finish"] = {}
    return found
