"""Any sequence of calls, clock steps and expiries, on the reference model and the engine.

Goal: no sequence of calls breaks a promise. Method: hypothesis makes up calls; the model and two
servers on one Redis carry out the same ones, and every answer and every counter must agree. Calls
made at once must agree with the model in some order: those of one server go to Redis in one turn,
as one script call, those of two servers in a call each. A failure prints its calls as a scenario.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from model.policies import POLICIES, START_MS, SUBJECTS
from scenarios.compare import difference
from scenarios.stages import ContractStage, Direct, ModelStage

STEPS_MS = (0, 1, 400, 1_000, 5_000, 61_000, 600_000, 3_600_000, 86_400_000)
TOGETHER_MAX = 3
ACCEPTS = (
    "switch_model",
    "shorter_output",
    "truncate_input",
    "finish",
    "serve_cached",
    "queue",
)
OUTRIGHT = ("UNPRICED", "UNBUDGETED")
"""Denials that need no counter, so that nobody looks at the clock."""

ids = st.sampled_from([f"r{number}" for number in range(8)])
servers = st.sampled_from("ab")
tokens = st.sampled_from((0, 1, 10, 50, 99, 100, 300, 1_000))
models = st.sampled_from(("big", "small", "unknown"))


@st.composite
def reserves(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A reserve or a check of a random subject."""
    arguments: dict[str, Any] = {
        "id": draw(ids),
        "model": draw(models),
        "input_tokens": draw(tokens),
        **draw(st.sampled_from(SUBJECTS)),
    }
    optional = {
        "max_output_tokens": st.sampled_from((1, 20, 100, 400)),
        "requests": st.sampled_from((1, 2)),
        "ttl": st.sampled_from(("1s", "30s", "10m")),
        "priority": st.sampled_from(("low", "normal", "high")),
        "closing": st.just(True),
        "accepts": st.lists(
            st.sampled_from(ACCEPTS),
            unique=True,
        ).map(sorted),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            arguments[name] = draw(values)
    if "max_output_tokens" in arguments and draw(st.booleans()):
        arguments["min_output_tokens"] = draw(
            st.sampled_from([n for n in (1, 15, 80) if n <= arguments["max_output_tokens"]])
        )
    if draw(st.integers(0, 9)) == 0:
        del arguments["id"]
        arguments.pop("ttl", None)
        return "check", arguments
    return "reserve", arguments


@st.composite
def settlements(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A commit, a release, an extend or a record."""
    verb = draw(st.sampled_from(("commit", "commit", "commit", "release", "extend", "record")))
    arguments: dict[str, Any] = {"id": draw(ids)}
    if verb == "extend":
        arguments |= draw(
            st.sampled_from(
                (
                    {"ttl": "30s"},
                    {"max_output_tokens": 50},
                    {"max_output_tokens": 200, "ttl": "10m"},
                )
            )
        )
    if verb in ("commit", "record"):
        arguments |= {
            "model": draw(models),
            "input_tokens": draw(tokens),
            "output_tokens": draw(tokens),
        }
    if verb == "commit" and draw(st.booleans()):
        arguments["part"] = draw(st.integers(1, 3))
    if verb == "record":
        arguments |= draw(st.sampled_from(SUBJECTS))
    return verb, arguments


calls = st.one_of(reserves(), settlements())


class Machine(RuleBasedStateMachine):
    """The model beside two servers on one Redis."""

    redis_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now_ms = START_MS
        self.history: list[tuple[str, dict[str, Any]]] = []
        self.script: list[dict[str, Any]] = []

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        self.model = ModelStage(policy)
        self.engine = ContractStage(policy, self.redis_url, "m" + secrets.token_hex(6), Direct)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.runner.run(self.engine.close())
        self.runner.close()

    @rule(call=calls, server=servers)
    def one_call(self, call: tuple[str, dict[str, Any]], server: str) -> None:
        verb, arguments = call
        self.history.append(call)
        self.both(verb, arguments, server)

    @precondition(lambda self: self.history)
    @rule(data=st.data(), server=servers)
    def repeat(self, data: st.DataObject, server: str) -> None:
        verb, arguments = data.draw(st.sampled_from(self.history))
        self.both(verb, arguments, server)

    @rule(
        together=st.lists(calls, min_size=2, max_size=TOGETHER_MAX),
        asked=st.sampled_from(("a", "ab")),
    )
    def at_once(self, together: list[tuple[str, dict[str, Any]]], asked: str) -> None:
        async def run() -> list[dict[str, Any]]:
            return await asyncio.gather(
                *(
                    self.engine.call(verb, arguments, self.now_ms, server)
                    for (verb, arguments), server in zip(together, itertools.cycle(asked))
                )
            )

        answers = self.runner.run(run())
        differences = []
        for order in itertools.permutations(range(len(together))):
            trial = copy.deepcopy(self.model)
            found = None
            for number in order:
                verb, arguments = together[number]
                expected = self.runner.run(trial.call(verb, arguments, self.now_ms, "a"))
                found = found or difference(expected, answers[number])
            differences.append(found)
            if found is None:
                self.model = trial
                for number in order:
                    self.write(*together[number])
                return
        raise AssertionError(f"{together} agrees with no order: {differences}{self.told()}")

    @rule(step_ms=st.sampled_from(STEPS_MS))
    def time_passes(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule(call=calls, step_ms=st.sampled_from((300, 4_999)))
    def clock_lags(self, call: tuple[str, dict[str, Any]], step_ms: int) -> None:
        """A server whose clock is a little behind decides as of its own time."""
        self.now_ms -= step_ms
        self.both(*call, "b")
        self.now_ms += step_ms

    @rule(call=reserves())
    def clock_lags_too_far(self, call: tuple[str, dict[str, Any]]) -> None:
        """A server whose clock is far behind is refused, and changes nothing."""
        self.both(*call, "a")
        verb, arguments = call
        answer = self.runner.run(self.engine.call(verb, arguments, self.now_ms - 30_000, "b"))
        assert answer.get("error") == "CLOCK_BEHIND" or answer.get("kind") in OUTRIGHT, answer

    @rule()
    def sweep(self) -> None:
        for stage in (self.model, self.engine):
            self.runner.run(stage.sweep(self.now_ms))
        self.script.append({"swept": self.now_ms})

    @invariant()
    def counters_agree(self) -> None:
        if not hasattr(self, "engine"):
            return
        for subject in SUBJECTS:
            self.both("balance", subject, "a", written=False)
        self.both("list_holds", {}, "b", written=False)

    def both(
        self, verb: str, arguments: dict[str, Any], server: str, *, written: bool = True
    ) -> None:
        expected, actual = (
            self.runner.run(stage.call(verb, arguments, self.now_ms, server))
            for stage in (self.model, self.engine)
        )
        if written:
            self.write(verb, arguments)
        found = difference(expected, actual)
        assert found is None, f"{verb} {arguments}: {found}{self.told()}"

    def write(self, verb: str, arguments: dict[str, Any]) -> None:
        at = datetime.fromtimestamp(self.now_ms / 1000, UTC).isoformat(timespec="milliseconds")
        self.script.append({"at": at, "unswept": True, verb: arguments, "expect": {}})

    def told(self) -> str:
        start = datetime.fromtimestamp(START_MS / 1000, UTC).isoformat()
        scenario = {"goal": "", "policy": self.policy, "start": start, "steps": self.script}
        return "\nas a scenario:\n" + yaml.safe_dump(
            scenario, sort_keys=False, default_flow_style=None, width=100
        )


@pytest.mark.timeout(110)
def test_model_and_engine_agree(redis_url: str) -> None:
    """Goal and method: see above."""
    machine = type("BoundMachine", (Machine,), {"redis_url": redis_url})
    run = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=run)
