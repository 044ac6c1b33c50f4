"""Who makes the calls of a replay: a trace says how large they are, a workload says whose."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bursar.cli.connection import COUNT_MAX
from bursar_client import Degradation, Subject, Target

CALLS_MAX = 1_000_000


class WorkloadError(Exception):
    """A trace or a workload file cannot be used; the message says where and why."""


class Profile(BaseModel):
    """One kind of caller.

    Attributes:
        weight: Its share of the calls, in parts of all weights.
        users: How many users it serves; heavy_users of them make half of its calls.
        calls_per_task: How many calls follow each other in one task; 0 for no tasks.
        accepts: What it can carry out.
        max_output_tokens: What it asks for.
        dies: Out of so many calls one is never settled; 0 for none.
        fails: Out of so many calls one fails before the model is called; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: int = Field(ge=1, le=1_000)
    model: str
    provider: str = ""
    team: str = ""
    feature: str = ""
    agent: str = ""
    users: int = Field(0, ge=0, le=100_000)
    heavy_users: int = Field(0, ge=0)
    labels: dict[str, str] = {}
    calls_per_task: int = Field(0, ge=0)
    accepts: tuple[Degradation, ...] = ()
    max_output_tokens: int | None = Field(None, ge=1)
    dies: int = Field(0, ge=0)
    fails: int = Field(0, ge=0)


class Workload(BaseModel):
    """Everyone who calls on behalf of one org."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    org: str
    profiles: list[Profile] = Field(min_length=1, max_length=100)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model to replay.

    Attributes:
        number: Its place in the trace, from 0.
        subject: Who spends.
        target: What it wants to call.
        accepts: What it can carry out.
        input_tokens: What it sends.
        output_tokens: What the model would answer, if it may.
        max_output_tokens: What it asks for, or None.
        dies: It is never settled.
        fails: It fails before the model is called.
    """

    number: int
    subject: Subject
    target: Target
    accepts: tuple[Degradation, ...]
    input_tokens: int
    output_tokens: int
    max_output_tokens: int | None
    dies: bool
    fails: bool


def load_workload(file: Path) -> Workload:
    """Read a workload file.

    Raises:
        WorkloadError: It cannot be read or has faults.
    """
    try:
        return Workload.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise WorkloadError(f"{file}: {error}") from None


def load_trace(file: Path, most: int) -> list[tuple[int, int]]:
    """Read input and output tokens of each call from a CSV with ContextTokens and GeneratedTokens.

    Args:
        file: The trace.
        most: How many calls at the most, 1 to CALLS_MAX.

    Raises:
        WorkloadError: It cannot be read, or a line is not of that form.
    """
    sizes: list[tuple[int, int]] = []
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            for line, row in enumerate(csv.DictReader(stream), 2):
                if len(sizes) == min(most, CALLS_MAX):
                    break
                sizes.append(_size(row, f"{file}, line {line}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{file}: {error}") from None
    if not sizes:
        raise WorkloadError(f"{file}: has no calls")
    return sizes


def _size(row: Mapping[str, str | None], place: str) -> tuple[int, int]:
    size = []
    for name in ("ContextTokens", "GeneratedTokens"):
        text = row.get(name)
        if text is None or not text.isascii() or not text.isdecimal() or int(text) > COUNT_MAX:
            raise WorkloadError(f"{place}: {name} must be a whole number, 0 to {COUNT_MAX:,}")
        size.append(int(text))
    return size[0], size[1]


def calls(workload: Workload, sizes: list[tuple[int, int]], seed: int) -> Iterator[Call]:
    """Yield each call of a trace with its caller, the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - a workload, not a secret
    weights = [profile.weight for profile in workload.profiles]
    counts = [0] * len(weights)
    for number, (input_tokens, output_tokens) in enumerate(sizes):
        [index] = dice.choices(range(len(weights)), weights)
        profile = workload.profiles[index]
        counts[index] += 1
        count = counts[index]
        yield Call(
            number=number,
            subject=_subject(workload.org, profile, index, count, dice),
            target=Target(provider=profile.provider, model=profile.model),
            accepts=profile.accepts,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            max_output_tokens=profile.max_output_tokens,
            dies=bool(profile.dies) and count % profile.dies == 0,
            fails=bool(profile.fails) and count % profile.fails == 0,
        )


def _subject(org: str, profile: Profile, index: int, count: int, dice: random.Random) -> Subject:
    user = task = ""
    if profile.users:
        heavy = profile.heavy_users and dice.random() < 0.5  # noqa: PLR2004 - half of its calls
        number = dice.randrange(profile.heavy_users if heavy else profile.users)
        user = f"{profile.feature or profile.team}-user-{number}"
    if profile.calls_per_task:
        task = f"task-{index}-{(count - 1) // profile.calls_per_task}"
    return Subject(
        org=org,
        team=profile.team,
        feature=profile.feature,
        agent=profile.agent,
        user=user,
        task=task,
        labels=profile.labels,
    )
