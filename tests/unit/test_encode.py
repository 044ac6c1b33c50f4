"""From values to the wire: every attribute arrives, every closed set is known whole."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

from bursar.authority.authority import Answer
from bursar.authority.usage import (
    Balances,
    BudgetExplanation,
    Explanation,
    Holds,
    RungExplanation,
)
from bursar.domain import meter
from bursar.domain.answer import (
    Charge,
    CounterOffer,
    Decision,
    Denial,
    DenialKind,
    Directive,
    ExtendAnswer,
    HeldAmount,
    HoldState,
    Notice,
    NoticeKind,
    OpenHold,
    ReserveAnswer,
    SettleAnswer,
    Shorten,
    SwitchTo,
    Wait,
)
from bursar.domain.budget import Budget, Counter, CounterStatus, CounterValues, Mode
from bursar.domain.price import Rates
from bursar.domain.subject import OrgId, Subject, Target
from bursar.domain.window import Window, WindowInstance, WindowKind
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import types_pb2
from bursar.service import encode

START_MS, END_MS = 1_772_928_000_123, 1_773_014_400_456
ASKED, SMALL = Target("openai", "gpt-5"), Target("openai", "gpt-5-mini")
SUBJECT = Subject(OrgId("acme"), "t", "f", "a", "u", "k", {"tier": "free"})


def status(
    limit: int | None = 1_000,
    *,
    name: str = meter.TOTAL_TOKENS,
    mode: Mode = Mode.ENFORCE,
    kind: WindowKind = WindowKind.DAY,
    values: CounterValues | None = None,
    ceiling: int | None = 900,
    end_ms: int | None = END_MS,
) -> CounterStatus:
    """Return a counter of user u1: 300 of 1,000 spent, 200 held, 50 of credit, 20 of overdraft."""
    length_ms = 60_000 if kind in (WindowKind.ROLLING, WindowKind.TASK) else 0
    window = Window(kind, length_ms=length_ms)
    overdraft = 20 if limit else 0
    budget = Budget("b", name, limit, window, per=("user",), mode=mode, overdraft=overdraft)
    counter = Counter(OrgId("acme"), budget, ("u1",), WindowInstance(START_MS, end_ms))
    return CounterStatus(counter, values or CounterValues(300, 200, 50), ceiling, amount=7)


STATUS = status()
CUSTOM = status(name="pages")
DIRECTIVE = Directive(
    switch_model=SwitchTo(ASKED, SMALL, ("b1",)),
    shorten_output=Shorten(100, ("b2",)),
    truncate_input=Shorten(200, ("b3",)),
    finish=("b4",),
    serve_cached=("b5",),
    queue=Wait(90_500, ("b6",)),
    deny=("b7",),
    message="wait",
    notices=(Notice("b8", NoticeKind.RUNG, "nearly"),),
)
DENIAL = Denial(
    DenialKind.SPENT,
    STATUS,
    affordable_output_tokens=40,
    affordable_input_tokens=50,
    retry_after_ms=1_500,
    counter_offers=(CounterOffer(SMALL, 30, "b9", DenialKind.HELD, 2_000),),
    explanation="it is spent",
)
RESERVE = ReserveAnswer(
    decision=Decision.GRANTED_DEGRADED,
    policy_version="v1",
    reservation_id="acme.x",
    target=SMALL,
    max_output_tokens=100,
    max_input_tokens=200,
    directive=DIRECTIVE,
    expire_ms=END_MS,
    ttl_ms=60_001,
    counters=(STATUS,),
    denial=DENIAL,
    unbudgeted=True,
    unpriced=True,
    not_enforced="STORE_FULL",
)
SETTLE = SettleAnswer(
    "acme.x",
    HoldState.COMMITTED,
    charges=(Charge("pages", 5, 2, estimated=True),),
    counters=(CUSTOM,),
    directive=DIRECTIVE,
    late=True,
    expire_ms=END_MS,
    unpriced=True,
    unbudgeted=True,
)
EXPLANATION = Explanation(
    budgets=(
        BudgetExplanation(
            "b", True, "it matches", STATUS, (RungExplanation(80, "finish", True),), 86_400_000
        ),
    ),
    target=ASKED,
    rates=Rates(1_250_000, 10_000_000, 0, 0, 0, 0, 0, "policy"),
    policy_version="v1",
)
HOLD = OpenHold(
    "acme.x", "r", SUBJECT, SMALL, START_MS, END_MS,
    (HeldAmount("b", (("user", "u1"),), "pages", 7),),
)  # fmt: skip

WHOLE: dict[str, Message] = {
    "reserve": encode.encode_reserve(RESERVE),
    "commit": encode.encode_commit(SETTLE),
    "release": encode.encode_release(SETTLE),
    "record": encode.encode_record(SETTLE),
    "extend": encode.encode_extend(
        ExtendAnswer("acme.x", Decision.DENIED, 5, END_MS, (STATUS,), DENIAL)
    ),
    "balances": encode.encode_balances(Balances((STATUS,), "v1.1", "v1")),
    "explanation": encode.encode_explanation(EXPLANATION),
    "holds": encode.encode_holds(Holds((HOLD,), "5 x")),
}
ELSEWHERE = {"custom_meter", "unlimited"}
"""Set only on counters of a custom meter, and without a limit: see the tests of these."""


def unset_fields(message: Message, path: str = "") -> list[str]:
    """Return every field of a message and of its parts that is as if it were not set."""
    given = {field.name: value for field, value in message.ListFields()}
    found = []
    for field in message.DESCRIPTOR.fields:
        if field.name not in given:
            if field.name not in ELSEWHERE:
                found.append(path + field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            value = given[field.name]
            for part in value if field.is_repeated else [value]:
                found += unset_fields(part, f"{path}{field.name}.")
    return found


@pytest.mark.parametrize("answer", WHOLE)
def test_nothing_is_lost(answer: str) -> None:
    """Goal: every field of every answer is filled. Method: answers with all attributes set.

    A field that is new in the contract and not encoded fails here.
    """
    # Whole seconds have no nanos.
    unset = [path for path in unset_fields(WHOLE[answer]) if not path.endswith(".nanos")]
    assert unset == []


def test_a_decision_in_full() -> None:
    """Goal: each attribute arrives as itself, in its unit. Method: compare them one by one."""
    message = encode.encode_reserve(RESERVE)
    assert message.reservation_id == "acme.x"
    assert message.decision == types_pb2.DECISION_GRANTED_DEGRADED
    assert (message.target.provider, message.target.model) == ("openai", "gpt-5-mini")
    assert (message.max_output_tokens, message.max_input_tokens) == (100, 200)
    assert message.expire_time.ToMilliseconds() == END_MS
    assert message.ttl.ToMilliseconds() == 60_001
    assert (message.unbudgeted, message.unpriced, message.policy_version) == (True, True, "v1")
    assert message.not_enforced
    directive = message.directive
    switch = directive.switch_model
    assert getattr(switch, "from").model == "gpt-5"
    assert (switch.to.model, list(switch.budgets)) == ("gpt-5-mini", ["b1"])
    assert directive.shorten_output.max_output_tokens == 100
    assert directive.truncate_input.max_input_tokens == 200
    assert directive.queue.max_wait.ToMilliseconds() == 90_500
    assert [
        list(getattr(directive, name).budgets)
        for name in ("shorten_output", "truncate_input", "finish", "serve_cached", "queue", "deny")
    ] == [["b2"], ["b3"], ["b4"], ["b5"], ["b6"], ["b7"]]
    [notice] = directive.notices
    assert (notice.budget, notice.kind, notice.message) == ("b8", 1, "nearly")
    denial = message.denial
    assert denial.kind == types_pb2.DENIAL_KIND_SPENT
    assert (denial.affordable_output_tokens, denial.affordable_input_tokens) == (40, 50)
    assert denial.retry_after.ToMilliseconds() == 1_500
    [offer] = denial.counter_offers
    assert (offer.affordable_output_tokens, offer.binding_budget) == (30, "b9")
    assert offer.kind == types_pb2.DENIAL_KIND_HELD
    assert offer.retry_after.ToMilliseconds() == 2_000


def test_what_is_absent() -> None:
    """Goal: what is not there is not said. Method: a denial and a grant with nothing more."""
    denied = encode.encode_reserve(
        ReserveAnswer(
            Decision.DENIED,
            "v1",
            denial=Denial(DenialKind.UNBUDGETED, None, 0, None, None, (), "no budget"),
        )
    )
    for name in ("target", "max_input_tokens", "expire_time", "ttl"):
        assert not denied.HasField(name)
    for name in ("binding", "affordable_input_tokens", "retry_after"):
        assert not denied.denial.HasField(name)
    assert not denied.directive.ListFields()
    granted = encode.encode_reserve(ReserveAnswer(Decision.GRANTED, "v1", max_input_tokens=0))
    assert not granted.HasField("denial")
    # A cap of 0 is a cap.
    assert granted.HasField("max_input_tokens")
    settled = encode.encode_commit(SettleAnswer("x", HoldState.COMMITTED))
    assert not settled.HasField("expire_time")


COUNTERS: dict[str, tuple[CounterStatus, dict[str, object]]] = {
    "limited": (
        STATUS,
        {"limit": 1_000, "remaining": 570, "ceiling": 950, "credit": 50, "unlimited": False},
    ),
    "unlimited": (
        status(None, ceiling=None),
        {"limit": 0, "remaining": 0, "ceiling": 0, "unlimited": True},
    ),
    "nothing-may-be-spent": (
        status(0, values=CounterValues(0, 0), ceiling=0),
        {"limit": 0, "remaining": 0, "ceiling": 0, "unlimited": False},
    ),
    "overspent": (
        status(values=CounterValues(1_500, 0)),
        {"committed": 1_500, "remaining": -480},
    ),
    "watched": (
        status(mode=Mode.OBSERVE, ceiling=None),
        {"ceiling": 0, "remaining": 570, "mode": types_pb2.BUDGET_MODE_OBSERVE},
    ),
    "custom": (CUSTOM, {"meter": types_pb2.METER_CUSTOM, "custom_meter": "pages"}),
    "largest": (
        status(2**53 - 1, values=CounterValues(2**62, 2**61, 0), ceiling=2**53 - 1),
        {"limit": 2**53 - 1, "committed": 2**62, "held": 2**61},
    ),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_counters(name: str) -> None:
    """Goal: absent, zero and unlimited are three things. Method: a counter of each kind."""
    counter, expected = COUNTERS[name]
    [message] = encode.encode_balances(Balances((counter,), "", "v1")).counters
    assert {field: getattr(message, field) for field in expected} == expected
    assert dict(message.partition) == {"user": "u1"}
    assert message.amount == 7


@pytest.mark.parametrize(
    ("kind", "end_ms", "given"),
    [
        (WindowKind.DAY, END_MS, (True, True)),
        (WindowKind.ROLLING, None, (True, False)),
        (WindowKind.TASK, None, (False, False)),
        (WindowKind.REQUEST, None, (False, False)),
        (WindowKind.NONE, None, (False, False)),
    ],
)
def test_windows(kind: WindowKind, end_ms: int | None, given: tuple[bool, bool]) -> None:
    """Goal: an end is only told where it is known. Method: a counter of each kind of window."""
    counter = status(kind=kind, end_ms=end_ms)
    [message] = encode.encode_balances(Balances((counter,), "", "v1")).counters
    assert (message.HasField("window_start_time"), message.HasField("window_end_time")) == given
    if all(given):
        assert message.window_start_time.ToMilliseconds() == START_MS
        assert message.window_end_time.ToMilliseconds() == END_MS


def decision_of(value: Decision) -> int:
    return encode.encode_reserve(ReserveAnswer(value, "v1")).decision


def kind_of(value: DenialKind) -> int:
    denial = Denial(value, None, 0, None, None, (), "")
    return encode.encode_reserve(ReserveAnswer(Decision.DENIED, "v1", denial=denial)).denial.kind


def notice_of(value: NoticeKind) -> int:
    directive = Directive(notices=(Notice("b", value, ""),))
    answer = ReserveAnswer(Decision.GRANTED, "v1", directive=directive)
    return encode.encode_reserve(answer).directive.notices[0].kind


def mode_of(value: Mode) -> int:
    balances = encode.encode_balances(Balances((status(mode=value),), "", "v1"))
    return balances.counters[0].mode


def state_of(value: HoldState) -> int:
    return encode.encode_release(SettleAnswer("x", value)).state


@pytest.mark.parametrize(
    ("values", "of", "contract"),
    [
        (Decision, decision_of, types_pb2.Decision),
        (DenialKind, kind_of, types_pb2.DenialKind),
        (NoticeKind, notice_of, types_pb2.NoticeKind),
        (Mode, mode_of, types_pb2.BudgetMode),
        (HoldState, state_of, types_pb2.HoldState),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_every_value_has_its_number(
    values: Iterable[Enum], of: object, contract: EnumTypeWrapper
) -> None:
    """Goal: a closed set is known whole, on both sides, by the same names. Method: encode all."""
    names = {contract.Name(of(value)): value.name for value in values}  # type: ignore[operator]
    assert set(names) == set(contract.keys()[1:])
    assert all(name.endswith(f"_{value}") for name, value in names.items())


def test_meters() -> None:
    """Goal: each meter has its number, and any other is custom. Method: charges of all."""
    charges = tuple(Charge(name, 1, 0, False) for name in (*meter.STANDARD_METERS, "pages"))
    message = encode.encode_commit(SettleAnswer("x", HoldState.COMMITTED, charges=charges))
    names = [types_pb2.Meter.Name(each.meter) for each in message.charges]
    assert names == [f"METER_{name.upper()}" for name in (*meter.STANDARD_METERS, "custom")]
    assert [each.custom_meter for each in message.charges] == [""] * 6 + ["pages"]
    assert {f"METER_{name}" for name in ("UNSPECIFIED",)} | set(names) == set(
        types_pb2.Meter.keys()
    )


def test_prices_and_holds() -> None:
    """Goal: prices are in nano-USD a million tokens, and absent ones are said to be so.

    Method: $1.25 and $10, and a model without a price.
    """
    price = encode.encode_explanation(EXPLANATION).price
    assert price.input_nano_usd_per_million_tokens == 1_250_000_000
    assert price.output_nano_usd_per_million_tokens == 10_000_000_000
    assert (price.priced, price.source) == (True, "policy")
    unpriced = Explanation((), ASKED, None, "v1")
    price = encode.encode_explanation(unpriced).price
    assert (price.priced, price.source, price.target.model) == (False, "", "gpt-5")
    [hold] = encode.encode_holds(Holds((HOLD,), "")).holds
    assert (hold.create_time.ToMilliseconds(), hold.expire_time.ToMilliseconds()) == (
        START_MS,
        END_MS,
    )
    assert dict(hold.subject.labels) == {"tier": "free"}
    assert [dict(each.partition) for each in hold.amounts] == [{"user": "u1"}]


def test_a_time_that_is_over_is_no_negative_wait() -> None:
    """Goal: a wait is never below 0. Method: a window whose end has passed meanwhile."""
    late = BudgetExplanation("b", True, "it matches", STATUS, (), -5)
    message = encode.encode_explanation(Explanation((late,), ASKED, None, "v1"))
    assert message.budgets[0].resets_in.ToMilliseconds() == 0


def put(answer: Answer, kind: str) -> pb.OperationResult:
    result = pb.OperationResult()
    encode.put_result(result, answer, kind)
    return result


@pytest.mark.parametrize("kind", ["commit", "release", "record"])
def test_results_of_a_batch(kind: str) -> None:
    """Goal: an operation is answered as its own kind. Method: one settlement as each of three."""
    result = put(SETTLE, kind)
    assert result.WhichOneof("result") == kind
    assert getattr(result, kind) == WHOLE[kind]
    assert put(RESERVE, "reserve").reserve == WHOLE["reserve"]
    extended = ExtendAnswer("acme.x", Decision.GRANTED, 5, END_MS)
    assert put(extended, "extend").extend == encode.encode_extend(extended)
