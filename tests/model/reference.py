"""The reference model: what Bursar promises, in plain integers and lists.

It keeps every booking and adds them up whenever a number is wanted, so what is committed is the sum
of what was booked and what is held is the sum of what open holds hold, by construction. The engine
and the server are held against it (`tests/scenarios`, `test_state_machine.py`).

Calls and answers are the plain mappings of `scenarios/scenario.py` and `scenarios/answers.py`. What
it does not say: texts, notices, and which budgets asked for a rung.
"""

from __future__ import annotations

import math
from typing import Any

from model.books import Books, Entry, Hold, name
from model.decisions import deny, grant_directive, largest_output, next_directive
from model.offers import Offer, Use, offers_of
from model.rules import Key, Rules, attributes, duration_ms

DEFAULT_TTL_MS = 120_000
NEVER_PASSES = {"retry_after_ms": None, "affordable_input_tokens": None}


class Refused(Exception):
    """An error in place of an answer: the reason."""


class Reference:
    """One org."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.rules = Rules(policy)
        self.books = Books(self.rules)

    # Calls.

    def call(self, verb: str, arguments: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """Carry out one call at a time and return its answer, or its error."""
        try:
            return getattr(self, verb)(arguments, now_ms)  # type: ignore[no-any-return]
        except Refused as error:
            return {"error": str(error)}

    def reserve(self, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
        booking = not request.get("validate_only", False)
        first = self.books.holds.get(request["id"])
        if booking and first is not None:
            if first.request != request:
                raise Refused("REQUEST_ID_REUSED")
            return first.answer | {"replayed": True}
        self.refuse_unknown_meters(request)
        offers = offers_of(self.rules, request, now_ms)
        if not offers and self.money_applies(request, now_ms):
            return {"decision": "DENIED", "kind": "UNPRICED", **NEVER_PASSES}
        strict = self.rules.document.get("unbudgeted", "allow") == "deny"
        if strict and not any(offer.uses for offer in offers):
            return {"decision": "DENIED", "kind": "UNBUDGETED", **NEVER_PASSES}
        for offer in offers:
            output = largest_output(self.books, offer, now_ms)
            if output is not None and output >= offer.output_min:
                return self.grant(request, offer, output, now_ms, booking=booking)
        return deny(self.books, request, offers, now_ms)

    def refuse_unknown_meters(self, arguments: dict[str, Any]) -> None:
        known = self.rules.document.get("meters", [])
        if any(meter not in known for meter in arguments.get("meters", {})):
            raise Refused("FIELD_INVALID")

    def check(self, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
        return self.reserve(request | {"id": "", "validate_only": True}, now_ms)

    def money_applies(self, request: dict[str, Any], now_ms: int) -> bool:
        provider, model = self.rules.resolved(request.get("provider", ""), request["model"])
        budgets = self.rules.matching(attributes(request, provider, model), now_ms)
        return any(self.rules.meter(budget) == "cost" for budget in budgets)

    def grant(
        self, request: dict[str, Any], offer: Offer, output: int, now_ms: int, *, booking: bool
    ) -> dict[str, Any]:
        ttl_ms = duration_ms(request["ttl"]) if "ttl" in request else DEFAULT_TTL_MS
        hold = Hold(
            request,
            {},
            offer.variant.model,
            offer.variant.provider,
            now_ms,
            now_ms + ttl_ms,
            ttl_ms,
            output,
        )
        counters = {}
        for use in offer.uses:
            amount = use.base + use.slope * output
            before = self.books.status(use, 0, now_ms)
            left = None if before["remaining"] is None else before["remaining"] - amount
            after = {"held": before["held"] + amount, "remaining": left, "amount": amount}
            counters[name(use)] = before | after
            if use.key is not None:
                hold.entries.append(Entry(use, self.books.slot(use.key, now_ms), amount))
        if booking:
            for entry in hold.entries:
                self.books.touch(entry.use.key, now_ms, begins=True)
            self.books.holds[request["id"]] = hold
        directive = grant_directive(self.books, request, offer, output)
        hold.answer = {
            "decision": "GRANTED_DEGRADED" if directive else "GRANTED",
            "model": offer.variant.model,
            "provider": offer.variant.provider,
            "max_output_tokens": output,
            "max_input_tokens": offer.input_cap,
            "directive": directive,
            "unbudgeted": not offer.uses,
            "unpriced": offer.unpriced,
            "expire_ms": now_ms + ttl_ms if booking else None,
            "counters": counters,
            "replayed": False,
        }
        return hold.answer

    # Settling.

    def find(self, arguments: dict[str, Any]) -> Hold:
        hold = self.books.holds.get(arguments["id"])
        if hold is None:
            raise Refused("RESERVATION_NOT_FOUND")
        return hold

    def commit(self, commit: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self.refuse_unknown_meters(commit)
        hold = self.find(commit)
        part = commit.get("part", 0)
        provider, model = hold.provider, hold.model
        if "model" in commit:
            provider, model = self.rules.resolved(commit.get("provider", ""), commit["model"])
        if hold.settled_by == commit:
            return hold.settled_with | {"replayed": True}
        if hold.state not in ("OPEN", "EXPIRED"):
            raise Refused(f"RESERVATION_{hold.state}")
        if part and hold.state == "EXPIRED":
            raise Refused("RESERVATION_EXPIRED")
        if part and part != hold.parts + 1:
            raise Refused("SEQUENCE_MISMATCH")
        dropped = self.retarget(hold, provider, model)
        requests = commit.get("requests", 0 if part else 1)
        amounts = self.rules.amounts(commit, model, requests)
        late = hold.state == "EXPIRED" or now_ms >= hold.expire_ms
        charges: dict[str, tuple[int, int]] = {}
        booked = []
        for entry in hold.entries:
            meter = self.rules.meter(entry.use.budget)
            amount = 0 if entry.use.key in dropped else amounts.get(meter, 0)
            if amount is None:
                amount = entry.at_expiry if hold.state == "EXPIRED" else entry.held
            overage = max(0, amount - entry.held - entry.charged_at_expiry)
            self.book(entry, amount - entry.charged_at_expiry, now_ms)
            entry.charged_at_expiry = 0
            entry.held = max(0, entry.held - amount) if part else 0
            booked.append(amount)
            if meter not in charges or amount > charges[meter][0]:
                charges[meter] = (amount, overage)
        if part:
            hold.parts, hold.expire_ms = part, now_ms + hold.ttl_ms
        else:
            hold.state = "COMMITTED"
        hold.settled_by = commit
        hold.settled_with = {
            "state": hold.state,
            "charges": {
                meter: {"amount": amount, "overage": overage}
                for meter, (amount, overage) in charges.items()
                if meter != "concurrency"
            },
            "late": late,
            "expire_ms": hold.expire_ms if part else None,
            "unpriced": self.rules.of_model(model, "price") is None,
            "counters": self.books.statuses(hold, booked, now_ms),
            "directive": next_directive(self.books, hold, provider, model, now_ms),
            "replayed": False,
        }
        return hold.settled_with

    def retarget(self, hold: Hold, provider: str, model: str) -> set[Key]:
        """Let a hold count where what was really called counts; return keys that count it not."""

        def keys(provider: str, model: str) -> list[Key]:
            who = attributes(hold.request, provider, model)
            return [
                self.rules.key(budget, who, hold.create_ms)
                for budget in self.rules.matching(who, hold.create_ms)
                if self.rules.window_kind(budget) != "request"
            ]

        granted, used = keys(hold.provider, hold.model), keys(provider, model)
        have = {entry.use.key for entry in hold.entries}
        for key in used:
            if key not in have and key not in granted:
                use = Use(key.budget, key, 0, 0, math.inf)
                slot = self.books.slot(key, hold.create_ms)
                hold.entries.append(Entry(use, slot, 0, added=True))
        return {
            entry.use.key
            for entry in hold.entries
            if (entry.added or entry.use.key in granted) and entry.use.key not in used
        }

    def book(self, entry: Entry, amount: int, now_ms: int, *, begins: bool = False) -> None:
        key = entry.use.key
        self.books.touch(key, now_ms, begins=begins)
        self.books.counters[key].booked.append((entry.slot, amount))

    def release(self, release: dict[str, Any], now_ms: int) -> dict[str, Any]:
        hold = self.find(release)
        if hold.settled_by == "release":
            return hold.settled_with | {"replayed": True}
        if hold.state not in ("OPEN", "EXPIRED"):
            raise Refused(f"RESERVATION_{hold.state}")
        for entry in hold.entries:
            self.book(entry, -entry.charged_at_expiry, now_ms)
            entry.held = entry.charged_at_expiry = 0
        hold.state = "COMMITTED" if hold.parts else "RELEASED"
        hold.settled_by = "release"
        hold.settled_with = {
            "state": hold.state,
            "counters": self.books.statuses(hold, [0] * len(hold.entries), now_ms),
            "replayed": False,
        }
        return hold.settled_with

    def record(self, record: dict[str, Any], now_ms: int) -> dict[str, Any]:
        self.refuse_unknown_meters(record)
        first = self.books.holds.get(record["id"])
        if first is not None:
            if first.request != record:
                raise Refused("REQUEST_ID_REUSED")
            return first.answer | {"replayed": True}
        provider, model = self.rules.resolved(record.get("provider", ""), record["model"])
        amounts = self.rules.amounts(record, model, record.get("requests", 1))
        who = attributes(record, provider, model)
        hold = Hold(record, {}, model, provider, now_ms, now_ms, 0, 0, state="COMMITTED")
        charges, booked = {}, []
        for budget in self.rules.matching(who, now_ms):
            if self.rules.window_kind(budget) == "request":
                continue
            key = self.rules.key(budget, who, now_ms)
            amount = amounts.get(self.rules.meter(budget), 0) or 0
            hold.entries.append(
                Entry(Use(budget, key, 0, 0, math.inf), self.books.slot(key, now_ms), 0)
            )
            self.book(hold.entries[-1], amount, now_ms, begins=True)
            booked.append(amount)
            charges[self.rules.meter(budget)] = {"amount": amount, "overage": 0}
        self.books.holds[record["id"]] = hold
        charges.pop("concurrency", None)
        hold.answer = {
            "charges": charges,
            "unpriced": self.rules.of_model(model, "price") is None,
            "unbudgeted": not hold.entries,
            "counters": self.books.statuses(hold, booked, now_ms),
            "directive": next_directive(self.books, hold, provider, model, now_ms),
            "replayed": False,
        }
        return hold.answer

    def extend(self, extend: dict[str, Any], now_ms: int) -> dict[str, Any]:
        hold = self.find(extend)
        if hold.state != "OPEN":
            raise Refused(f"RESERVATION_{hold.state}")
        output = extend.get("max_output_tokens")
        answer = {"decision": "GRANTED"}
        if output is not None:
            estimate = hold.request | {"max_output_tokens": output}
            estimate.pop("min_output_tokens", None)
            offers = [
                each
                for each in offers_of(self.rules, estimate, hold.create_ms)
                if (each.variant.provider, each.variant.model) == (hold.provider, hold.model)
            ]
            offer = max(offers, key=lambda each: (each.output_max, each.variant.applied))
            uses = {entry.use.key: entry.use for entry in hold.entries}
            uses |= {use.key: use for use in offer.uses if use.key}
            totals = [uses[e.use.key].base + uses[e.use.key].slope * output for e in hold.entries]
            reserved = [e.use.base + e.use.slope * hold.output_tokens for e in hold.entries]
            growth = [
                max(total - before, -entry.held)
                for total, before, entry in zip(totals, reserved, hold.entries, strict=True)
            ]
            fits = all(
                more <= 0
                or self.books.committed(e.use.key, now_ms) + self.books.held(e.use.key) + more
                <= uses[e.use.key].ceiling
                for more, e in zip(growth, hold.entries, strict=True)
            )
            if offer.output_max < output:
                answer = {"decision": "DENIED", "kind": "NEVER", **NEVER_PASSES}
                answer["affordable_output_tokens"] = offer.output_max
            elif not fits:
                answer = self.deny_growth(hold, estimate, offer, now_ms)
            else:
                hold.output_tokens = output
                for more, entry in zip(growth, hold.entries, strict=True):
                    entry.held += more
        if answer["decision"] == "GRANTED":
            if "ttl" in extend:
                hold.ttl_ms = duration_ms(extend["ttl"])
                hold.expire_ms = now_ms + hold.ttl_ms
            for entry in hold.entries:
                self.books.touch(entry.use.key, now_ms, begins=False)
        return answer | {"max_output_tokens": hold.output_tokens, "expire_ms": hold.expire_ms}

    def deny_growth(
        self, hold: Hold, estimate: dict[str, Any], offer: Offer, now_ms: int
    ) -> dict[str, Any]:
        """Say why a hold cannot grow: as if it were not there and asked for all of it."""
        held = [entry.held for entry in hold.entries]
        for entry in hold.entries:
            entry.held = 0
        answer = deny(self.books, estimate, [offer], now_ms)
        for entry, amount in zip(hold.entries, held, strict=True):
            entry.held = amount
        return {key: value for key, value in answer.items() if key != "directive"}

    def sweep(self, arguments: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """End holds whose time is over: given back, or charged where the budget says so."""
        due = [
            hold
            for hold in self.books.holds.values()
            if hold.state == "OPEN" and hold.expire_ms <= now_ms
        ]
        for hold in sorted(due, key=lambda each: each.expire_ms):
            hold.state = "EXPIRED"
            for entry in hold.entries:
                budget = self.rules.budgets[entry.use.budget]
                if budget.get("on_expiry") == "charge" and "concurrency" not in budget["limit"]:
                    entry.charged_at_expiry = entry.held
                self.book(entry, entry.charged_at_expiry, now_ms)
                entry.at_expiry, entry.held = entry.held, 0
        return {"expired": len(due)}

    def balance(self, subject: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """Return the counters of a subject, of budgets that its attributes match."""
        found = {}
        for budget in self.rules.budgets:
            given = self.rules.budgets[budget].get("scope", {})
            known = attributes(subject, "", "")
            named = {k: v for k, v in given.items() if isinstance(v, str)}
            who = named | {f"labels.{k}": v for k, v in given.get("labels", {}).items()
                           if isinstance(v, str)} | known  # fmt: skip
            if self.rules.window_kind(budget) == "request" or not self.rules.matches(budget, who):
                continue
            key = self.rules.key(budget, who, now_ms)
            if key is not None:
                use = Use(budget, key, 0, 0, math.inf)
                found[name(use)] = self.books.status(use, 0, now_ms)
        return found

    def explain(self, question: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """Return for every budget whether it applies and how it stands."""
        provider, model = self.rules.resolved(question.get("provider", ""), question["model"])
        who = attributes(question, provider, model)
        found: dict[str, Any] = {}
        for budget in self.rules.budgets:
            found[budget] = {"applies": budget in self.rules.matching(who, now_ms)}
            if found[budget]["applies"]:
                use = Use(budget, self.rules.key(budget, who, now_ms), 0, 0, math.inf)
                status = self.books.status(use, 0, now_ms)
                used = status["committed"] + status["held"]
                reached = [
                    rung["at"]
                    for rung in self.rules.ladder(budget)
                    if used * 100 >= status["limit"] * rung["at"]
                ]
                found[budget] |= status | {"reached": reached}
        return found

    def holds_open(self, subject: dict[str, Any]) -> int:
        """Return how many open holds are of a subject: every level that is given matches."""
        wanted = attributes(subject, "", "").items()
        return sum(
            hold.state == "OPEN" and wanted <= attributes(hold.request, "", "").items()
            for hold in self.books.holds.values()
        )

    def use_policy(self, policy: dict[str, Any]) -> None:
        """Decide by another version from now on."""
        self.rules = self.books.rules = Rules(policy)
