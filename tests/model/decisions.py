"""What the reference model decides: the first offer that fits, why none does, and what to do."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from typing import Any

from model.books import Books, Hold, name
from model.offers import Offer, Use
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


def deny(books: Books, request: dict[str, Any], offers: list[Offer], now_ms: int) -> dict[str, Any]:
    """Name what binds: of each offer the longest block, of all offers the shortest of these."""
    refusals = [binding(books, offer, now_ms) for offer in offers]
    best = min(reversed(range(len(offers))), key=lambda at: refusals[at][0])
    (order, _), use, retry_ms = refusals[best]
    offer = offers[best]
    status = books.status(use, 0, now_ms)
    rooms = [(room(books, each, now_ms), each.slope) for each in offer.uses]
    fits = [int(left // slope) for left, slope in rooms if slope > 0 and left < math.inf]
    if any(left < 0 for left, _ in rooms):
        fits.append(0)
    cut = offer.input_cap is not None and request.get("input_tokens", 0) > offer.input_cap
    return {
        "decision": "DENIED",
        "kind": KINDS[order],
        "binding": name(use),
        "limit": status["limit"],
        "committed": status["committed"],
        "held": status["held"],
        "affordable_output_tokens": max(0, min([*fits, offer.output_max])),
        "affordable_input_tokens": offer.input_cap if cut and not offer.input_cut else None,
        "retry_after_ms": retry_ms,
        "directive": terminal(books, request, use, status, offer, KINDS[order]),
    }


def binding(books: Books, offer: Offer, now_ms: int) -> tuple[tuple[int, int], Use, int | None]:
    blocks = []
    for use in offer.uses:
        needed = use.base + use.slope * offer.output_min
        if room(books, use, now_ms) + use.base >= needed:
            continue
        committed = 0 if use.key is None else books.committed(use.key, now_ms)
        if needed > use.ceiling:
            kind, retry_ms = 2, None
        elif committed + needed > use.ceiling:
            kind, retry_ms = 1, frees_in_ms(books, use, committed + needed, now_ms)
        else:
            kind, retry_ms = 0, HELD_RETRY_MS
        blocks.append(((kind, retry_ms or 0), use, retry_ms))
    return max(blocks, key=lambda block: block[0])


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
    books: Books, request: dict[str, Any], use: Use, status: dict[str, Any], offer: Offer, kind: str
) -> dict[str, Any]:
    """Return the highest terminal rung that was reached and that the caller can carry out."""
    used = status["committed"] + status["held"] + use.base + use.slope * offer.output_min
    found: dict[str, Any] = {"deny": {}}
    if kind == "NEVER":
        return found
    for rung in books.rules.ladder(use.budget):
        if used * 100 <= status["limit"] * rung["at"]:
            continue
        if "deny" in rung:
            found = {"deny": {}}
        for action in ("serve_cached", "queue"):
            if action in rung and action in request.get("accepts", []):
                wait = rung[action]
                found = {action: {} if wait is True else {"to": duration_ms(wait["max_wait"])}}
    return found


def grant_directive(
    books: Books, request: dict[str, Any], offer: Offer, output: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if books.rules.resolved(request.get("provider", ""), request["model"])[1] != offer.model:
        found["switch_model"] = {"to": offer.model}
    if output < offer.output_wanted:
        found["shorten_output"] = {"to": output}
    if offer.input_cut:
        found["truncate_input"] = {"to": offer.input_cap}
    if offer.finish_applied:
        found["finish"] = {}
    return found


def next_directive(
    books: Books, hold: Hold, provider: str, model: str, now_ms: int
) -> dict[str, Any]:
    """Return what the next call should do: what the rungs say that are reached by now."""
    found: dict[str, Any] = {}
    for entry in hold.entries:
        budget, status = entry.use.budget, books.status(entry.use, 0, now_ms)
        if not books.rules.enforced(budget):
            continue
        used, last = status["committed"] + status["held"], {}
        for rung in books.rules.ladder(budget):
            if used * 100 < status["limit"] * rung["at"]:
                break
            if "switch_model" in rung and fnmatchcase(model, rung["switch_model"]["from"]):
                switch = rung["switch_model"]
                to = books.rules.resolved(switch.get("to_provider", ""), switch["to"])
                if to != (provider, model):
                    found["switch_model"] = {"to": to[1]}
            if "cap_output" in rung:
                before = found.get("shorten_output", {"to": math.inf})["to"]
                found["shorten_output"] = {"to": min(before, rung["cap_output"])}
            if "finish" in rung:
                found["finish"] = {}
            if any(name in rung for name in TERMINAL):
                last = rung
        if "queue" in last:
            wait_ms = duration_ms(last["queue"]["max_wait"])
            found["queue"] = {"to": min(wait_ms, found.get("queue", {"to": wait_ms})["to"])}
        found |= {name: {} for name in ("serve_cached", "deny") if name in last}
    return found
