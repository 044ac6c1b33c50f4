"""The workload: clients that reserve, and then settle, forget, prolong or come late.

Limits are tight, so that denials and exact exhaustion happen all the time; windows are minutes and
seconds, so that room comes back within a run.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaos_calls import DECISIONS, Caller, Result, Servers, counters_of, pb, usage_amounts
from chaos_history import History

from polling import eventually_async

ORGS = ("acme", "globex", "wayne")
"""On both of two shards."""

USERS = ("u1", "u2", "u3", "u4", "u5")
MODEL = "m1"

BUDGETS: tuple[tuple[str, str, int, str], ...] = (
    ("org-minute", "tokens", 40_000, "window: minute"),
    ("user-minute", "tokens", 9_000, "per: [user], window: minute"),
    ("org-money", "usd", 1, "window: day"),
    ("user-rate", "requests", 20, "per: [user], window: {rolling: 10s}"),
    ("at-once", "concurrency", 6, ""),
)
"""Name, unit, limit in that unit, and the rest of the document's entry."""

NANO_PER_USD = 1_000_000_000


def policy_text(org: str, room: int = 1) -> str:
    """Return the policy of an org, with so many times the usual limits."""
    budgets = "".join(
        f"  - {{name: {name}, limit: {{{unit}: {limit * room}}}{', ' * bool(rest)}{rest}}}\n"
        for name, unit, limit, rest in BUDGETS
    )
    models = f'models: [{{match: "{MODEL}", provider: p, price: {{input: 1, output: 10}}}}]\n'
    return f"org: {org}\n{models}budgets:\n{budgets}"


def limits(room: int = 1) -> list[dict[str, Any]]:
    """Return every limit as the history names it."""
    units = {"usd": NANO_PER_USD * room}
    return [
        {"org": org, "budget": name, "limit": limit * units.get(unit, room)}
        for org in ORGS
        for name, unit, limit, _ in BUDGETS
    ]


@dataclass(frozen=True)
class Pace:
    """How the workload is.

    Attributes:
        clients: How many work at the same time.
        pause_ms: How long each waits between two requests, on average.
        ttl_ms: How long its holds live at the most; at least half of it at the least.
        deadline_ms: How long most clients try one operation.
        impatient_ms: How long every third client does, so that some outcomes stay unknown.
        attempt_ms: How long it waits for one answer.
        room: How many times the usual limits there are; 1: so tight that many are denied.
    """

    clients: int = 10
    pause_ms: int = 60
    ttl_ms: int = 2_000
    deadline_ms: int = 6_000
    impatient_ms: int = 700
    attempt_ms: int = 1_000
    room: int = 1


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    request_id: str
    org: str
    user: str
    input_tokens: int
    output_tokens: int
    ttl_ms: int

    @property
    def subject(self) -> dict[str, str]:
        return {"org": self.org, "user": self.user}


class Gate:
    """What every call passes, so that all can be held back.

    Attributes:
        inside: Calls in progress.
    """

    def __init__(self) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()
        self.inside = 0

    async def wait(self) -> None:
        """Wait until it is open."""
        await self._is_open.wait()

    def close(self) -> None:
        """Let nothing in."""
        self._is_open.clear()

    def open(self) -> None:
        """Let everything in."""
        self._is_open.set()


class Client:
    """One client: it does one thing after another."""

    def __init__(
        self,
        caller: Caller,
        history: History,
        chance: random.Random,
        pace: Pace,
        gate: Gate | None = None,
    ) -> None:
        self._caller = caller
        self._gate = gate or Gate()
        self._history = history
        self._chance = chance
        self._pace = pace

    async def work(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; what was begun is ended."""
        while not stopping.is_set():
            await self._one_request()
            # The pace of the load, not a wait for something to happen.
            await self._pause(self._chance.expovariate(1_000 / self._pace.pause_ms) * 1_000)

    async def _one_request(self) -> None:
        request = self._new_request()
        if self._chance.random() < 0.1:
            await self._record(request)
            return
        reserved = await self.reserve(request)
        if reserved is None:
            return
        name = reserved.reservation_id
        endings = (self.commit, self._parts, self._release, self._extend, self._late)
        # The last share is of those that are never heard of again.
        [ending] = self._chance.choices((*endings, None), (55, 10, 10, 8, 7, 10))
        if ending is not None:
            await ending(request, name)

    def _new_request(self) -> Request:
        chance = self._chance
        return Request(
            request_id=str(uuid.UUID(int=chance.getrandbits(128))),
            org=chance.choice(ORGS),
            user=chance.choice(USERS),
            input_tokens=chance.randrange(1, 200),
            output_tokens=chance.randrange(1, 300),
            ttl_ms=chance.randrange(max(1_000, self._pace.ttl_ms // 2), self._pace.ttl_ms + 1),
        )

    async def reserve(self, request: Request) -> Any:
        """Reserve, and return the answer where it is a grant."""
        message = pb.ReserveRequest(
            request_id=request.request_id,
            subject=request.subject,
            target={"model": MODEL},
            estimate={
                "input_tokens": request.input_tokens,
                "max_output_tokens": request.output_tokens,
            },
        )
        message.ttl.FromMilliseconds(request.ttl_ms)
        result = await self._call("Reserve", "reserve", request, message)
        answer: Any = result.answer
        return answer if result.outcome == "ok" and answer.reservation_id else None

    async def commit(self, request: Request, name: str) -> None:
        await self._pause(self._chance.uniform(0, 100))
        # Now and then more than was held, as providers do.
        factor = 1.2 if self._chance.random() < 0.05 else self._chance.random()
        usage = {
            "input_tokens": request.input_tokens,
            "output_tokens": int(request.output_tokens * factor),
        }
        await self._settle("commit", request, name, usage)

    async def _parts(self, request: Request, name: str) -> None:
        parts = self._chance.randrange(1, 4)
        for sequence in range(1, parts + 1):
            usage = {
                "input_tokens": request.input_tokens if sequence == 1 else 0,
                "output_tokens": request.output_tokens // (parts + 1),
                "requests": 0,
            }
            result = await self._settle("commit_partial", request, name, usage, sequence)
            if result.outcome != "ok":
                return
        usage = {"input_tokens": 0, "output_tokens": request.output_tokens // (parts + 1)}
        await self._settle("commit", request, name, usage)

    async def _release(self, request: Request, name: str) -> None:
        message = pb.ReleaseRequest(reservation_id=name)
        await self._call("Release", "release", request, message, reservation_id=name)

    async def _extend(self, request: Request, name: str) -> None:
        message = pb.ExtendRequest(
            reservation_id=name,
            max_output_tokens=max(1, request.output_tokens + self._chance.randrange(-50, 50)),
        )
        message.ttl.FromMilliseconds(self._pace.ttl_ms)
        await self._call("Extend", "extend", request, message, reservation_id=name)
        await self.commit(request, name)

    async def _late(self, request: Request, name: str) -> None:
        await self._pause(request.ttl_ms * self._chance.uniform(0.8, 1.5))
        await self.commit(request, name)

    async def _settle(
        self, kind: str, request: Request, name: str, usage: dict[str, int], sequence: int = 0
    ) -> Result:
        message = pb.CommitRequest(
            reservation_id=name,
            usage=usage,
            target={"model": MODEL},
            partial=kind == "commit_partial",
            sequence=sequence,
        )
        return await self._call(
            "Commit",
            kind,
            request,
            message,
            reservation_id=name,
            sequence=sequence,
            amounts=usage_amounts(usage),
        )

    async def _record(self, request: Request) -> None:
        usage = {"input_tokens": request.input_tokens, "output_tokens": request.output_tokens}
        message = pb.RecordRequest(
            request_id=request.request_id,
            subject=request.subject,
            target={"model": MODEL},
            usage=usage,
        )
        await self._call("Record", "record", request, message, amounts=usage_amounts(usage))

    async def _call(
        self,
        method: str,
        kind: str,
        request: Request,
        message: Any,
        **what: Any,
    ) -> Result:
        await self._gate.wait()
        self._gate.inside += 1
        try:
            return await self._call_now(method, kind, request, message, **what)
        finally:
            self._gate.inside -= 1

    async def _call_now(
        self, method: str, kind: str, request: Request, message: Any, **what: Any
    ) -> Result:
        number = self._history.invoke(
            kind,
            org=request.org,
            request_id=request.request_id,
            deadline_ms=self._caller.deadline_ms,
            **what,
        )
        result = await self._caller.call(method, message)
        self._history.end(number, result.outcome, **_told(kind, result))
        return result

    async def _pause(self, time_ms: float) -> None:
        await asyncio.sleep(time_ms / 1_000)


def _told(kind: str, result: Result) -> dict[str, Any]:
    told: dict[str, Any] = {
        "attempts": result.attempts,
        "unknown": result.unknown,
        "reason": result.reason,
        "replayed": result.replayed,
        "servers": result.servers,
    }
    answer: Any = result.answer
    if answer is None:
        return told
    told["reservation_id"] = answer.reservation_id
    told["counters"] = counters_of(answer)
    if kind in ("reserve", "extend"):
        told["decision"] = DECISIONS[answer.decision]
    if kind in ("reserve", "commit_partial", "extend"):
        told["expire_ms"] = answer.expire_time.ToMilliseconds()
    if kind == "commit":
        told["late"] = answer.late
    return told


class Load:
    """All clients together, from `start` to `stop`."""

    def __init__(self, ports: Sequence[int], history: History, seed: int, pace: Pace) -> None:
        self._servers = Servers(ports)
        self._stopping = asyncio.Event()
        self._gate = Gate()
        self._callers: list[Caller] = []
        self._clients = []
        for number in range(pace.clients):
            chance = random.Random(f"{seed} client {number}")
            caller = Caller(self._servers, chance, deadline_ms=0, attempt_ms=0)
            self._callers.append(caller)
            self._clients.append(Client(caller, history, chance, pace, self._gate))
        self.wait_as(pace)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let all clients work."""
        self._tasks = [asyncio.create_task(each.work(self._stopping)) for each in self._clients]

    def wait_as(self, pace: Pace) -> None:
        """Let clients wait for their answers as a pace says, from their next requests on."""
        for number, caller in enumerate(self._callers):
            caller.deadline_ms = pace.deadline_ms if number % 3 else pace.impatient_ms
            caller.attempt_ms = pace.attempt_ms

    async def pause(self) -> None:
        """Begin no call any more, and wait for those that have begun."""
        self._gate.close()

        async def all_ended() -> bool:
            return self._gate.inside == 0

        await eventually_async(all_ended, 30)

    def resume(self) -> None:
        """Go on."""
        self._gate.open()

    async def stop(self) -> None:
        """Let each end what it has begun, and close the connections; once is enough."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._gate.open()
        await asyncio.gather(*self._tasks)
        await self._servers.close()
