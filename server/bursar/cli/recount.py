"""An independent recount of what callers committed.

It shares nothing with the server: it reads the policy as plain YAML, matches budgets its own way
and prices calls with the price library's own function. So it can tell when the server is wrong.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import yaml

from bursar.cli.render import counter_name
from bursar_client import CounterStatus, Hold, Meter, Subject, Target

CounterKey = tuple[str, tuple[tuple[str, str], ...]]
"""What names a counter within its window: budget and partition."""

_UNIT_METERS = {
    "usd": Meter.COST,
    "tokens": Meter.TOTAL_TOKENS,
    "input_tokens": Meter.INPUT_TOKENS,
    "output_tokens": Meter.OUTPUT_TOKENS,
    "requests": Meter.REQUESTS,
}


@dataclass(frozen=True, slots=True)
class Committed:
    """What one caller committed.

    Attributes:
        subject: Who spent.
        target: What was called.
        input_tokens: What it used.
        output_tokens: What it used.
        reserve_time: When it had reserved.
        certain: False where the caller never learned whether it was booked.
        request_id: The request's own.
    """

    subject: Subject
    target: Target
    input_tokens: int
    output_tokens: int
    reserve_time: datetime
    certain: bool = True
    request_id: str = ""


class PolicyUnusable(Exception):
    """The policy file cannot be read, or is not the one that the server enforces."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A counter that does not hold what the callers committed."""

    counter: CounterStatus
    least: int
    most: int

    def __str__(self) -> str:
        expected = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        return (
            f"{counter_name(self.counter)}: committed {self.counter.committed}, callers say "
            f"{expected}"
        )


class Recount:
    """Adds up what callers committed, budget by budget."""

    def __init__(self, policy_file: Path) -> None:
        """Reads the policy.

        Raises:
            PolicyUnusable: The file cannot be read or is no policy.
        """
        self._file = policy_file
        try:
            document: dict[str, Any] = yaml.safe_load(policy_file.read_text(encoding="utf-8"))
            self._budgets = {str(budget["name"]): budget for budget in document["budgets"]}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyUnusable(f"{policy_file} cannot be read: {error}") from None
        except (KeyError, TypeError):
            raise PolicyUnusable(f"{policy_file} is no policy") from None

    def judges(self, counter: CounterStatus) -> bool:
        """Say whether a counter can be recounted.

        What is in a rolling window depends on when one looks, and callers of a replay use no
        meters of the policy's own.

        Raises:
            PolicyUnusable: The policy has no such budget.
        """
        window = self._budget(counter).get("window")
        rolling = isinstance(window, dict) and "rolling" in window
        return not rolling and counter.meter not in (Meter.CUSTOM, Meter.UNKNOWN)

    def mismatches(
        self,
        commits: Iterable[Committed],
        before: Mapping[CounterKey, int],
        counters: Iterable[CounterStatus],
    ) -> list[Mismatch]:
        """Return the counters that differ from what the callers committed.

        Args:
            commits: Everything they committed.
            before: What each counter held before, by `counter_key`.
            counters: What they hold now; those that it cannot judge are left out.

        Raises:
            PolicyUnusable: The policy has no such budget.
        """
        listed = list(commits)
        found = []
        for counter in filter(self.judges, counters):
            least = most = before.get(counter_key(counter), 0)
            for commit in listed:
                if not _belongs(self._budget(counter), counter, commit):
                    continue
                amount = _amount(counter.meter, commit)
                least += amount if commit.certain else 0
                most += amount
            if not least <= counter.committed <= most:
                found.append(Mismatch(counter, least, most))
        return found

    def _budget(self, counter: CounterStatus) -> Mapping[str, Any]:
        budget: Mapping[str, Any] | None = self._budgets.get(counter.budget)
        if budget is None:
            raise PolicyUnusable(
                f"{self._file} has no budget {counter.budget!r}: it is not the server's policy"
            )
        return budget


def held_differences(counters: Iterable[CounterStatus], holds: Iterable[Hold]) -> list[str]:
    """Return where what is held is not the sum of the open holds, in words."""
    sums: Counter[CounterKey] = Counter()
    for hold in holds:
        for each in hold.amounts:
            sums[each.budget, tuple(sorted(each.partition.items()))] += each.amount
    return [
        f"{counter_name(counter)}: held {counter.held}, its holds say {sums[counter_key(counter)]}"
        for counter in counters
        if counter.held != sums[counter_key(counter)]
    ]


def counter_key(counter: CounterStatus) -> CounterKey:
    """Return what names a counter within its window."""
    return counter.budget, tuple(sorted(counter.partition.items()))


def _belongs(budget: Mapping[str, Any], counter: CounterStatus, commit: Committed) -> bool:
    known = _attributes(commit)
    for name, wanted in _conditions(budget).items():
        patterns = wanted if isinstance(wanted, list) else [wanted]
        if not any(fnmatch.fnmatchcase(known.get(name, ""), str(each)) for each in patterns):
            return False
    if any(known.get(name) != value for name, value in counter.partition.items()):
        return False
    if any(not known.get(name) for name in budget.get("per", [])):
        return False
    start, end = counter.window_start_time, counter.window_end_time
    return (start is None or start <= commit.reserve_time) and (
        end is None or commit.reserve_time < end
    )


def _conditions(budget: Mapping[str, Any]) -> dict[str, Any]:
    scope = dict(budget.get("scope", {}))
    labels = scope.pop("labels", {})
    return {**scope, **{f"labels.{key}": value for key, value in labels.items()}}


def _attributes(commit: Committed) -> dict[str, str]:
    subject = commit.subject
    known = {
        "team": subject.team,
        "feature": subject.feature,
        "agent": subject.agent,
        "user": subject.user,
        "task": subject.task,
        "provider": commit.target.provider,
        "model": commit.target.model,
    }
    known.update({f"labels.{key}": value for key, value in subject.labels.items()})
    return known


def _amount(meter: Meter, commit: Committed) -> int:
    match meter:
        case Meter.COST:
            return cost_nano_usd(commit)
        case Meter.TOTAL_TOKENS:
            return commit.input_tokens + commit.output_tokens
        case Meter.INPUT_TOKENS:
            return commit.input_tokens
        case Meter.OUTPUT_TOKENS:
            return commit.output_tokens
        case Meter.REQUESTS:
            return 1
        case _:
            return 0


def cost_nano_usd(commit: Committed) -> int:
    """Return what a call costs by the price library's own arithmetic, rounded up."""
    import genai_prices  # Takes a moment, and most commands need no prices.

    price = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=commit.input_tokens, output_tokens=commit.output_tokens),
        model_ref=commit.target.model,
        provider_id=commit.target.provider or None,
        genai_request_timestamp=commit.reserve_time,
    )
    nano = Decimal(price.total_price) * 1_000_000_000
    return int(nano.to_integral_value(rounding=ROUND_CEILING))
