"""What is asked for: policies, and calls as bytes that only lack their ids.

Six budgets on five levels, two meters, 1,000 users, 5,000 tasks; how large each call is comes from
the trace of real requests in `examples/`. Messages are made once, before anything is measured: a
generator that serialized while it measures would be measured as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from bursar.authority.identity import hold_name
from bursar.cli.workload import CALLS_MAX, load_trace
from bursar.domain.subject import OrgId
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2

TRACE = Path(__file__).resolve().parent.parent / "examples" / "azure_llm_2023_conv.csv"
SERVICE = "bursar.v1.BudgetAuthorityService"

USERS, TASKS = 1_000, 5_000
CALLS = 20_000
"""Different ones; then they are made again, under other ids."""

TEAMS, FEATURES = 8, 5
MAX_OUTPUT_TOKENS = 1_000
TTL_S = 600
"""What is reserved alone must not expire while something else is measured."""

PROVIDER, MODEL = "openai", "gpt-5"

# What a rate's window is, in place of RATE_WINDOW.
ROLLING_MINUTE, CALENDAR_MINUTE = "{rolling: 1m}", "minute"

_BUDGETS = """
  - {name: org, limit: {usd: 1000000}, window: month}
  - {name: team, per: [team], limit: {usd: 1000000}, window: month}
  - {name: feature, per: [feature], limit: {tokens: 1_000_000_000_000}, window: day}
  - {name: user, per: [user], limit: {usd: 1000000}, window: month}
  - {name: task, per: [task], limit: {tokens: 1_000_000_000}, window: task}
  - {name: rate, per: [user], limit: {tokens: 1_000_000_000}, window: RATE_WINDOW}
"""

# Budget number n of the depth sweep; the first ones are those of the workload.
_DEPTHS = (
    "{name: org, limit: {usd: 1000000}, window: month}",
    "{name: user, per: [user], limit: {usd: 1000000}, window: month}",
    "{name: team, per: [team], limit: {usd: 1000000}, window: month}",
    "{name: task, per: [task], limit: {tokens: 1_000_000_000}, window: task}",
    "{name: feature, per: [feature], limit: {tokens: 1_000_000_000_000}, window: day}",
    "{name: team-day, per: [team], limit: {usd: 1000000}, window: day}",
    "{name: user-day, per: [user], limit: {tokens: 1_000_000_000}, window: day}",
    "{name: org-day, limit: {tokens: 1_000_000_000_000}, window: day}",
)
DEPTH_MAX = len(_DEPTHS)


def workload_policy(org: str, rate_window: str = ROLLING_MINUTE) -> str:
    """Return the policy of the workload for an org."""
    return f"org: {org}\nbudgets:{_BUDGETS.replace('RATE_WINDOW', rate_window)}"


def depth_policy(org: str, depth: int) -> str:
    """Return a policy in which every request has so many counters, 1 to DEPTH_MAX."""
    return f"org: {org}\nbudgets:\n" + "".join(f"  - {each}\n" for each in _DEPTHS[:depth])


def scarce_policy(org: str) -> str:
    """Return the policy of the workload with limits that refuse about half of the requests."""
    scarce = workload_policy(org).replace("limit: {tokens: 1_000_000_000}", "limit: {tokens: 4000}")
    assert "4000" in scarce
    return scarce


@dataclass(frozen=True, slots=True)
class Call:
    """A reserve and the commit after it, without their ids.

    Attributes:
        org: Whose.
        reserve: A ReserveRequest without its request id.
        commit: A CommitRequest without its reservation id.
        input_tokens, output_tokens: What was used.
        user, task, team, feature: Who.
    """

    org: OrgId
    reserve: bytes
    commit: bytes
    input_tokens: int
    output_tokens: int
    user: str
    task: str
    team: str
    feature: str

    def reserve_as(self, request_id: str) -> bytes:
        """Return the whole ReserveRequest."""
        return field(_RESERVE_ID, request_id.encode()) + self.reserve

    def commit_of(self, request_id: str) -> bytes:
        """Return the whole CommitRequest for what was reserved under a request id."""
        name = hold_name(self.org, request_id).reservation_id
        return field(_COMMIT_ID, name.encode()) + self.commit


def calls(orgs: Sequence[str], users: int = USERS, tasks: int = TASKS) -> list[Call]:
    """Return CALLS calls, as large as those of the trace, which the orgs make in turn.

    Args:
        orgs: At least one.
        users: How many users each org has; each belongs to one team.
        tasks: How many tasks; each is of one user, where there are no more users than tasks.
    """
    made = []
    sizes = islice(cycle(load_trace(TRACE, CALLS_MAX)), CALLS)
    for number, (input_tokens, output_tokens) in enumerate(sizes):
        # Spread over all tasks, and the same in each run.
        scattered = number * 2_654_435_761
        task = scattered % tasks
        user = (task if users <= tasks else scattered) % users
        org = orgs[number % len(orgs)]
        made.append(_call(org, task, user, input_tokens, output_tokens))
    return made


def _call(org: str, task: int, user: int, input_tokens: int, output_tokens: int) -> Call:
    subject = types_pb2.Subject(
        org=org,
        team=f"team-{user % TEAMS}",
        feature=f"feature-{task % FEATURES}",
        user=f"user-{user:07}",
        task=f"task-{task:07}",
    )
    target = types_pb2.Target(provider=PROVIDER, model=MODEL)
    reserve = pb.ReserveRequest(
        subject=subject,
        target=target,
        estimate=types_pb2.Estimate(input_tokens=input_tokens, max_output_tokens=MAX_OUTPUT_TOKENS),
    )
    reserve.ttl.seconds = TTL_S
    usage = types_pb2.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    commit = pb.CommitRequest(usage=usage, target=target, outcome=types_pb2.OUTCOME_SUCCEEDED)
    return Call(
        OrgId(org),
        reserve.SerializeToString(),
        commit.SerializeToString(),
        input_tokens,
        output_tokens,
        subject.user,
        subject.task,
        subject.team,
        subject.feature,
    )


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a Protobuf message, with a number up to 15."""
    size = len(content)
    head = bytes((number << 3 | 2,))
    while size > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        head += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return head + bytes((size,)) + content


def _number(message: type[pb.ReserveRequest | pb.CommitRequest], name: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[name].number)


_RESERVE_ID = _number(pb.ReserveRequest, "request_id")
_COMMIT_ID = _number(pb.CommitRequest, "reservation_id")
