"""Credits: room that is added to one counter for a time, or taken away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bursar.authority.clock import Clock
from bursar.authority.identity import hold_name
from bursar.authority.policies import Policies
from bursar.authority.policy_admin import PAGE_DEFAULT, PAGE_MAX, By
from bursar.domain import meter
from bursar.domain.budget import (
    Budget,
    Counter,
    CounterStatus,
    CounterValues,
    Mode,
    parse_counter_id,
)
from bursar.domain.errors import BursarError, Fault, FieldInvalid, RequestIdReused
from bursar.domain.meter import Estimate
from bursar.domain.policy import Policy
from bursar.domain.request import ReserveRequest
from bursar.domain.subject import (
    CASELESS,
    LABEL_PREFIX,
    LEVELS,
    OrgId,
    Subject,
    Target,
)
from bursar.domain.window import WindowKind, format_duration
from bursar.engine.keys import counter_spec
from bursar.engine.operations import AdjustCode, Adjustment, AdjustOperation, Engine
from bursar.engine.payload import encode_payload
from bursar.engine.wire import pack
from bursar.ledger.credit_store import Credit, CreditStore
from bursar.ledger.page_token import read_page_token, write_page_token

_FINGERPRINT_BYTES = 12
# No request id has a control character, so no reservation is ever kept under a credit's name.
CREDIT_ID_PREFIX = "credit\0"


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """What to add to which counter.

    Attributes:
        request_id: Idempotency key within the org.
        org: Whose.
        budget: The budget's name.
        partition: The value of each attribute that it partitions by.
        amount: In the meter's unit, of either sign; not 0.
        is_usd: The amount is nano-USD whatever the meter, and is refused where it is not money.
        expire_ms: When it ends, or None for the end of the window.
        by: Who and why.
    """

    request_id: str
    org: OrgId
    budget: str
    partition: Mapping[str, str]
    amount: int
    is_usd: bool
    expire_ms: int | None
    by: By


@dataclass(frozen=True, slots=True)
class Granted:
    """What became of a request for credit.

    Attributes:
        credit: As it is written down.
        status: Of its counter, or None where the policy counts something else by now.
        replayed: Whether it had been given before.
    """

    credit: Credit
    status: CounterStatus | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class CreditPage:
    """Credits, newest first, and where the next page begins ("" at the end)."""

    credits: tuple[Credit, ...]
    next_page_token: str


class Credits:
    """Gives credit. All methods raise the errors of `domain.errors`.

    The counter is adjusted first, under an id made of the request's, and the credit is written
    down after. Where it ends in between, the same request adjusts nothing more, for as long as the
    credit lasts, and is then written down.
    """

    def __init__(
        self, engine: Engine, policies: Policies, store: CreditStore, clock: Clock
    ) -> None:
        self._engine = engine
        self._policies = policies
        self._store = store
        self._clock = clock

    async def adjust(self, request: CreditRequest) -> Granted:
        """Add to a counter's credit, once for each request id.

        Raises:
            OrgAccessDenied: The org is unknown.
            FieldInvalid: There is no such counter, or it cannot have this credit.
            RequestIdReused: The request id was used before with other content.
        """
        now_ms = self._clock.now_ms()
        policy = self._policies.of(request.org)
        known = await self._store.find(request.org, request.request_id)
        if known is not None:
            return await self._again(policy, request, known, now_ms)
        budget = _budget(policy, request)
        counter = _counter(policy, budget, request.partition, now_ms)
        expire_ms = _expire_ms(counter, request.expire_ms, now_ms)
        operation = AdjustOperation(
            org=request.org,
            hold_id=hold_name(request.org, CREDIT_ID_PREFIX + request.request_id).hold_id,
            fingerprint=_fingerprint(request),
            adjustments=(Adjustment(counter, credit=request.amount),),
            expire_ms=expire_ms,
            payload=_payload(request, policy),
            note=f"credit by {request.by.actor}: {request.by.reason}".encode(),
        )
        [outcome] = await self._engine.adjust([operation], now_ms)
        if isinstance(outcome, BursarError):
            raise outcome
        if outcome.code is AdjustCode.REUSED:
            raise _reused(request)
        if outcome.code is AdjustCode.OVERFLOW:
            raise _fault("amount", f"takes the credit of the counter past {meter.COUNTER_MAX}")
        credit = Credit(
            org=request.org,
            credit_id=request.request_id,
            budget=budget.name,
            counter_id=counter.id,
            amount=request.amount,
            expire_ms=expire_ms,
            reason=request.by.reason,
            granted_by=request.by.actor,
            granted_ms=now_ms,
        )
        if outcome.code is AdjustCode.REPEATED:
            credit = await self._as_adjusted(credit, operation.hold_id)
            return await self._again(policy, request, await self._store.add(credit), now_ms)
        return Granted(
            await self._store.add(credit), _status(counter, outcome.values[0]), replayed=False
        )

    async def _as_adjusted(self, credit: Credit, hold_id: str) -> Credit:
        """Return a credit as it was given when it could not be written down, maybe a window ago."""
        hold = await self._engine.find_hold(OrgId(credit.org), hold_id)
        if hold is None:
            return credit
        return replace(
            credit,
            counter_id=hold.entries[0].counter_id,
            expire_ms=hold.expire_ms,
            granted_ms=hold.create_ms,
        )

    async def list(
        self, org: OrgId, budget: str, include_ended: bool, page_size: int, page_token: str
    ) -> CreditPage:
        """Return a page of an org's credits, newest first.

        Raises:
            OrgAccessDenied: The org is unknown.
            FieldInvalid: The page token is of another question.
        """
        self._policies.of(org)
        question = ("credits", org, budget, include_ended)
        after = None
        if page_token:
            at_ms, credit_id = read_page_token(question, page_token, (int, str))
            after = int(at_ms), str(credit_id)
        size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
        ended_ms = None if include_ended else self._clock.now_ms()
        found = await self._store.list(org, budget, ended_ms, after, size + 1)
        token = ""
        if len(found) > size:
            found = found[:size]
            token = write_page_token(question, [found[-1].granted_ms, found[-1].credit_id])
        return CreditPage(tuple(found), token)

    async def _again(
        self, policy: Policy, request: CreditRequest, known: Credit, now_ms: int
    ) -> Granted:
        """Answer a repeated request from what was written down."""
        name = parse_counter_id(known.counter_id)
        given = (request.budget, _lowered(request.partition), request.amount)
        same = given == (known.budget, dict(name.partition), known.amount)
        same &= (request.by.actor, request.by.reason) == (known.granted_by, known.reason)
        if not same or request.expire_ms not in (None, known.expire_ms):
            raise _reused(request)
        counter = _counter_of(policy, known)
        if counter is None:
            return Granted(known, None, replayed=True)
        [values] = await self._engine.read([counter], now_ms)
        return Granted(known, _status(counter, values), replayed=True)


def _budget(policy: Policy, request: CreditRequest) -> Budget:
    """Return the budget, if a credit on it means anything."""
    budget = policy.budget(request.budget)
    if budget is None:
        raise _fault("budget", f"is no budget of the policy of {request.org}")
    if budget.window.kind is WindowKind.REQUEST:
        raise _fault("budget", "counts each request by itself; change its limit instead")
    if budget.limit is None:
        raise _fault("budget", "is unlimited: there is nothing to add to")
    if budget.mode is Mode.OFF:
        raise _fault("budget", "is switched off")
    if request.is_usd and budget.meter != meter.COST:
        raise _fault("usd", f"does not fit: the budget counts {budget.meter.replace('_', ' ')}")
    return budget


def _counter(policy: Policy, budget: Budget, partition: Mapping[str, str], now_ms: int) -> Counter:
    """Return the counter of the current window."""
    given = _lowered(partition)
    missing = [name for name in budget.per if name not in given]
    extra = [name for name in given if name not in budget.per]
    if missing or extra:
        wanted = ", ".join(budget.per) or "nothing"
        raise _fault("partition", f"must name what the budget partitions by: {wanted}")
    counter = policy.counter(budget, given, now_ms)
    if counter is None:
        raise _fault("budget", "has a fixed window that does not run now")
    return counter


def _counter_of(policy: Policy, known: Credit) -> Counter | None:
    """Return the counter that a credit was given on, or None where the policy has it no more."""
    name = parse_counter_id(known.counter_id)
    budget = policy.budget(known.budget)
    if budget is None or budget.per != name.per:
        return None
    counter = policy.counter(budget, dict(name.partition), known.granted_ms)
    return counter if counter is not None and counter.id == known.counter_id else None


def _expire_ms(counter: Counter, wanted_ms: int | None, now_ms: int) -> int:
    """Return when a credit ends."""
    end_ms = counter.instance.end_ms
    if wanted_ms is None:
        if end_ms is None:
            raise _fault("expire_time", "is required: the end of the window is not known")
        return end_ms
    if wanted_ms <= now_ms:
        raise _fault("expire_time", "must be in the future")
    if end_ms is not None:
        # With its window the counter is over, and its credit too.
        return min(wanted_ms, end_ms)
    _, ttl_ms, _, _ = counter_spec(counter, now_ms)
    if wanted_ms > now_ms + ttl_ms:
        # A counter that nobody uses is forgotten then, and what it was given with it.
        raise _fault("expire_time", f"must be within {format_duration(ttl_ms)} for this budget")
    return wanted_ms


def _status(counter: Counter, values: CounterValues) -> CounterStatus:
    ceiling = counter.budget.share(100) if counter.budget.enforced else None
    return CounterStatus(counter, values, ceiling)


def _lowered(partition: Mapping[str, str]) -> dict[str, str]:
    return {name: value.lower() if name in CASELESS else value for name, value in partition.items()}


def _payload(request: CreditRequest, policy: Policy) -> bytes:
    """Return what the ledger says of the credit: its id, and whose counter it is on."""
    given = request.partition
    levels = {name: given[name] for name in LEVELS if name in given}
    labels = {
        name.removeprefix(LABEL_PREFIX): value
        for name, value in given.items()
        if name.startswith(LABEL_PREFIX)
    }
    subject = Subject(request.org, **levels, labels=labels)
    target = Target(given.get("provider", ""), given.get("model", ""))
    asked = ReserveRequest(request.request_id, subject, target, Estimate(requests=0), ttl_ms=0)
    return encode_payload(asked, policy.version)


def _fingerprint(request: CreditRequest) -> bytes:
    content = [
        request.budget,
        sorted(_lowered(request.partition).items()),
        request.amount,
        request.expire_ms,
        request.by.actor,
        request.by.reason,
    ]
    return hashlib.blake2b(pack(content), digest_size=_FINGERPRINT_BYTES).digest()


def _reused(request: CreditRequest) -> RequestIdReused:
    return RequestIdReused(
        f"request_id {request.request_id!r} was used before with other content; use a new id for "
        "a new credit",
        requestId=request.request_id,
    )


def _fault(path: str, description: str) -> FieldInvalid:
    return FieldInvalid(Fault(path, description))
