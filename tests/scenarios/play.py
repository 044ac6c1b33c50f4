"""Plays a scenario on anything that answers its calls, and compares."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Protocol

from scenarios.compare import difference
from scenarios.scenario import MODEL, Scenario, Step


class Stage(Protocol):
    """What a scenario is played on: the model, the engine, a server."""

    silent_on: frozenset[str]
    """Parts of answers that it does not give, so that they are not compared."""

    async def call(
        self, verb: str, arguments: dict[str, Any], now_ms: int, server: str
    ) -> dict[str, Any]:
        """Carry out a call of the format and return the answer as a mapping."""
        ...

    async def sweep(self, now_ms: int) -> None:
        """End every hold that is over."""
        ...

    async def use_policy(self, policy: dict[str, Any]) -> None:
        """Put another version of the policy in force on every server."""
        ...

    async def restart(self) -> None:
        """Start every server anew."""
        ...


class Play:
    """One scenario on one stage."""

    def __init__(self, scenario: Scenario, stage: Stage) -> None:
        self._scenario = scenario
        self._stage = stage
        self._subjects: dict[str, dict[str, Any]] = {}
        self._targets: dict[str, dict[str, str]] = {}

    async def run(self) -> None:
        """Play every step; the first difference ends it."""
        for number, step in enumerate(self._scenario.steps, 1):
            try:
                await self._step(step)
            except AssertionError as error:
                raise AssertionError(
                    f"{self._scenario.name}, step {number} ({step.verb} {step.arguments}): {error}"
                ) from None

    async def _step(self, step: Step) -> None:
        if step.swept:
            await self._stage.sweep(step.now_ms)
        if step.verb == "policy":
            await self._stage.use_policy(step.arguments)
            return
        if step.verb == "restart":
            await self._stage.restart()
            return
        if step.parallel:
            answer = await self._parallel(step)
        else:
            answer = await self._call(step.verb, step.arguments, step)
        expect = dict(step.expect)
        balance, count = expect.pop("balance", None), expect.pop("holds", None)
        self._compare(expect, answer, "")
        subject = self._subject(step.arguments)
        if balance is not None:
            found = await self._stage.call("balance", subject, step.now_ms, step.server)
            self._compare(balance, found, "balance")
        if count is not None:
            found = await self._stage.call("list_holds", subject, step.now_ms, step.server)
            self._compare({"count": count}, found, "holds")

    async def _call(self, verb: str, arguments: dict[str, Any], step: Step) -> dict[str, Any]:
        if verb == "commit" and "model" not in arguments:
            unknown = {"model": MODEL, "provider": ""}
            arguments = arguments | self._targets.get(arguments["id"], unknown)
        answer = await self._stage.call(verb, arguments, step.now_ms, step.server)
        if verb in ("reserve", "record") and "error" not in answer:
            self._subjects.setdefault(arguments["id"], self._subject(arguments))
        if verb == "reserve" and answer.get("model"):
            self._targets[arguments["id"]] = {
                "model": answer["model"],
                "provider": answer["provider"],
            }
        return answer

    async def _parallel(self, step: Step) -> dict[str, Any]:
        """Make many calls at once, and count how they were answered."""
        calls = []
        for number in range(step.parallel):
            arguments = step.arguments
            if "id" in arguments and not step.same_id:
                arguments = arguments | {"id": f"{arguments['id']}-{number}"}
            calls.append(self._call(step.verb, arguments, step))
        answers = await asyncio.gather(*calls)
        return {
            "decisions": _counts(answers, "decision"),
            "states": _counts(answers, "state"),
            "errors": _counts(answers, "error"),
            "replayed": sum(answer.get("replayed", False) for answer in answers),
        }

    def _subject(self, arguments: dict[str, Any]) -> dict[str, Any]:
        known = self._subjects.get(arguments.get("id", ""))
        who = ("team", "feature", "agent", "user", "task", "labels")
        return known or {name: arguments[name] for name in who if name in arguments}

    def _compare(self, expected: Any, actual: Any, path: str) -> None:
        found = difference(expected, actual, self._stage.silent_on, path)
        assert found is None, found


def _counts(answers: list[dict[str, Any]], name: str) -> dict[str, int]:
    return dict(Counter(answer[name] for answer in answers if name in answer))
