"""Goal: what the server says arrives typed and whole, and what callers say is sent as they said it.

Method: answers with every field set are read through both clients and compared as values.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from flavours import ASK, AnyClient, MakeClient
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from scripted_server import Failure, ScriptedServer, granted

from bursar_client import (
    BudgetDenied,
    BudgetMode,
    CounterOffer,
    Decision,
    Degradation,
    Denial,
    DenialKind,
    Deny,
    Finish,
    Meter,
    Notice,
    NoticeKind,
    Priority,
    Queue,
    ServeCached,
    ShortenOutput,
    SwitchModel,
    Target,
    TruncateInput,
)
from bursar_client.pb import budget_authority_service_pb2 as authority_pb
from bursar_client.pb import types_pb2 as types_pb
from bursar_client.pb import usage_service_pb2 as usage_pb

COUNTER = types_pb.CounterStatus(
    budget="chatbot",
    partition={"user": "u1"},
    meter="METER_COST",
    limit=10_000_000_000,
    committed=9_500_000_001,
    held=400_000_000,
    credit=1,
    remaining=99_999_999,
    ceiling=10_000_000_000,
    window_start_time=Timestamp(seconds=1_700_000_000),
    window_end_time=Timestamp(seconds=1_700_086_400, nanos=5_000),
    mode="BUDGET_MODE_ENFORCE",
    amount=7,
)


def deny(request: authority_pb.ReserveRequest) -> authority_pb.ReserveResponse:
    return authority_pb.ReserveResponse(
        decision="DECISION_DENIED",
        policy_version="v7",
        counters=[COUNTER],
        directive=types_pb.Directive(
            deny=types_pb.Deny(budgets=["chatbot"]),
            serve_cached=types_pb.ServeCached(budgets=["chatbot"]),
            queue=types_pb.Queue(max_wait=Duration(seconds=900), budgets=["chatbot"]),
            message="The assistant is busy; try again in 5 minutes.",
        ),
        denial=types_pb.Denial(
            kind="DENIAL_KIND_SPENT",
            binding=COUNTER,
            affordable_output_tokens=29_891,
            affordable_input_tokens=0,
            retry_after=Duration(seconds=300, nanos=500_000_000),
            counter_offers=[
                types_pb.CounterOffer(
                    target=types_pb.Target(provider="openai", model="gpt-5-mini"),
                    affordable_output_tokens=12,
                    binding_budget="chatbot",
                    kind="DENIAL_KIND_HELD",
                    retry_after=Duration(seconds=1),
                )
            ],
            explanation="budget chatbot has 0.1 USD of 10 USD left",
        ),
    )


async def test_a_denial_is_raised_whole(client: AnyClient, server: ScriptedServer) -> None:  # 35
    server.decide = deny
    with pytest.raises(BudgetDenied) as raised:
        async with client.reserve(**ASK):
            pytest.fail("the block must not be entered")
    error = raised.value
    assert str(error) == error.message == "The assistant is busy; try again in 5 minutes."
    assert error.__notes__ == ["budget chatbot has 0.1 USD of 10 USD left"]
    assert error.retry_after == timedelta(minutes=5, milliseconds=500)
    assert error.affordable_output_tokens == 29_891
    assert error.directive.deny == Deny(("chatbot",))
    assert error.directive.serve_cached == ServeCached(("chatbot",))
    assert error.directive.queue == Queue(timedelta(minutes=15), ("chatbot",))
    denial = error.denial
    assert denial.kind is DenialKind.SPENT and denial.decision is Decision.DENIED
    assert not denial.granted and denial.policy_version == "v7"
    assert denial.affordable_input_tokens == 0, "zero is not absent"
    assert denial.counter_offers == (
        CounterOffer(
            target=Target("gpt-5-mini", "openai"),
            affordable_output_tokens=12,
            binding_budget="chatbot",
            kind=DenialKind.HELD,
            retry_after=timedelta(seconds=1),
        ),
    )
    assert server.names() == ["Reserve"], "a denial holds nothing"


async def test_a_counter_arrives_whole(client: AnyClient, server: ScriptedServer) -> None:
    server.decide = deny
    denial = await client.try_reserve(**ASK)
    assert isinstance(denial, Denial) and denial.counters == (denial.binding,)
    counter = denial.counters[0]
    assert counter.partition == {"user": "u1"} and counter.meter is Meter.COST
    assert counter.committed == 9_500_000_001
    assert counter.committed_usd == Decimal("9.500000001")
    assert (counter.limit_usd, counter.held_usd) == (Decimal(10), Decimal("0.4"))
    assert counter.remaining_usd == Decimal("0.099999999")
    assert counter.window_start_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert counter.window_end_time == datetime(2023, 11, 15, 22, 13, 20, 5, tzinfo=UTC)
    assert counter.mode is BudgetMode.ENFORCE and counter.amount == 7


@pytest.mark.parametrize("kind", list(DenialKind))
async def test_every_denial_has_words_for_an_end_user(
    client: AnyClient, server: ScriptedServer, kind: DenialKind
) -> None:
    number = (
        99 if kind is DenialKind.UNKNOWN else types_pb.DenialKind.Value(f"DENIAL_KIND_{kind.name}")
    )
    server.decide = lambda request: authority_pb.ReserveResponse(
        decision="DECISION_DENIED",
        denial=types_pb.Denial(kind=number),  # type: ignore[arg-type]
    )
    denial = await client.check(**ASK)
    assert isinstance(denial, Denial) and denial.kind is kind
    assert denial.message.endswith(".")
    assert denial.binding is None and denial.retry_after is None
    assert denial.affordable_input_tokens is None


async def test_a_degraded_grant_arrives_whole(client: AnyClient, server: ScriptedServer) -> None:
    def degrade(request: authority_pb.ReserveRequest) -> authority_pb.ReserveResponse:
        answer = granted(request)
        answer.MergeFrom(
            authority_pb.ReserveResponse(
                decision="DECISION_GRANTED_DEGRADED",
                target=types_pb.Target(model="gpt-5-mini"),
                max_input_tokens=800,
                expire_time=Timestamp(seconds=1_700_000_000),
                ttl=Duration(seconds=120),
                counters=[COUNTER],
                unpriced=True,
                not_enforced=True,
                directive=types_pb.Directive(
                    switch_model={
                        "from": types_pb.Target(model="gpt-5"),
                        "to": types_pb.Target(model="gpt-5-mini"),
                        "budgets": ["a", "b"],
                    },
                    shorten_output=types_pb.ShortenOutput(max_output_tokens=500, budgets=["c"]),
                    truncate_input=types_pb.TruncateInput(max_input_tokens=800, budgets=["d"]),
                    finish=types_pb.Finish(budgets=["e"]),
                    notices=[
                        types_pb.Notice(budget="f", kind="NOTICE_KIND_RUNG", message="80 %"),
                        types_pb.Notice(budget="g", kind=99),  # type: ignore[arg-type]
                        types_pb.Notice(budget="h", kind="NOTICE_KIND_NOT_ENFORCED"),
                    ],
                ),
            )
        )
        return answer

    server.decide = degrade
    async with client.reserve(**ASK) as r:
        assert r.degraded and r.decision is Decision.GRANTED_DEGRADED
        assert (r.model, r.provider) == ("gpt-5-mini", "openai")
        assert (r.max_output_tokens, r.max_input_tokens) == (500, 800)
        assert r.expire_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        assert r.grant.ttl == timedelta(minutes=2) and r.grant.unpriced
        assert r.grant.not_enforced
        assert [each.budget for each in r.counters] == ["chatbot"]
        directive = r.directive
        assert directive.switch_model == SwitchModel(
            Target("gpt-5"), Target("gpt-5-mini"), ("a", "b")
        )
        assert directive.shorten_output == ShortenOutput(500, ("c",))
        assert directive.truncate_input == TruncateInput(800, ("d",))
        assert directive.finish == Finish(("e",))
        assert directive.notices == (
            Notice("f", NoticeKind.RUNG, "80 %"),
            Notice("g", NoticeKind.UNKNOWN, ""),
            Notice("h", NoticeKind.NOT_ENFORCED, ""),
        )
        assert directive.deny is None and directive.queue is None
        r.call_started()
    assert server.only().tokens() == (800, 500), "the estimate is of the cut input"


async def test_a_reserve_is_sent_whole(client: AnyClient, server: ScriptedServer) -> None:
    async with client.reserve(
        org="acme",
        team="t",
        feature="f",
        agent="a",
        user="u",
        task="k",
        labels={"tier": "free"},
        model="gpt-5",
        provider="azure",
        input_tokens=1_200,
        max_output_tokens=500,
        min_output_tokens=100,
        requests=2,
        custom_meters={"image": 3},
        cache_read_tokens=10,
        cache_write_tokens=20,
        input_audio_tokens=30,
        ttl=timedelta(seconds=90),
        priority=Priority.HIGH,
        accepts=(Degradation.SWITCH_MODEL, Degradation.QUEUE),
        closing=True,
        request_id="r1",
    ):
        pass
    assert server.requests("Reserve") == [
        authority_pb.ReserveRequest(
            request_id="r1",
            subject=types_pb.Subject(
                org="acme",
                team="t",
                feature="f",
                agent="a",
                user="u",
                task="k",
                labels={"tier": "free"},
            ),
            target=types_pb.Target(provider="azure", model="gpt-5"),
            estimate=types_pb.Estimate(
                input_tokens=1_200,
                max_output_tokens=500,
                min_output_tokens=100,
                requests=2,
                custom_meters={"image": 3},
                cache_read_tokens=10,
                cache_write_tokens=20,
                input_audio_tokens=30,
            ),
            ttl=Duration(seconds=90),
            priority="PRIORITY_HIGH",
            accepts=["DEGRADATION_SWITCH_MODEL", "DEGRADATION_QUEUE"],
            closing=True,
        )
    ]


async def test_what_is_absent_is_not_sent(client: AnyClient, server: ScriptedServer) -> None:
    async with client.reserve(org="acme", model="gpt-5", input_tokens=0, labels=None) as r:
        await r.commit(input_tokens=0, output_tokens=0)
    (reserve,) = server.requests("Reserve")
    assert not reserve.HasField("ttl") and not reserve.estimate.HasField("max_output_tokens")
    (commit,) = server.requests("Commit")
    assert commit.HasField("usage") and not commit.usage.HasField("requests")


async def test_faulty_arguments_are_found_before_anything_is_sent(
    client: AnyClient, server: ScriptedServer
) -> None:
    with pytest.raises(TypeError, match="missing arguments: input_tokens"):
        client.reserve(org="acme", model="gpt-5")
    with pytest.raises(TypeError, match="unexpected arguments: tenant"):
        client.reserve(**ASK, tenant="x")
    with pytest.raises(ValueError, match="urgent"):
        client.reserve(**ASK, priority="urgent")
    assert server.names() == []


async def test_explain_arrives_whole(make: MakeClient, server: ScriptedServer) -> None:
    server.explanation = usage_pb.ExplainResponse(
        policy_version="v1",
        budgets=[
            usage_pb.BudgetExplanation(
                budget="chatbot",
                applies=True,
                reason="team is engineering",
                status=COUNTER,
                rungs=[usage_pb.RungExplanation(at_percent=80, action="finish", reached=True)],
                resets_in=Duration(seconds=3_600),
            ),
            usage_pb.BudgetExplanation(budget="other", reason="team is not sales"),
        ],
        price=usage_pb.PriceExplanation(
            target=types_pb.Target(provider="openai", model="gpt-5"),
            priced=True,
            source="genai-prices",
            input_nano_usd_per_million_tokens=1_250_000_000,
            output_nano_usd_per_million_tokens=10_000_000_000,
        ),
    )
    explanation = await make().explain(org="acme", team="engineering", model="gpt-5")
    first, second = explanation.budgets
    assert first.applies and first.resets_in == timedelta(hours=1)
    assert first.status is not None and first.status.budget == "chatbot"
    assert first.rungs[0].at_percent == 80 and first.rungs[0].reached
    assert not second.applies and second.status is None and second.resets_in is None
    assert explanation.price.input_usd_per_million_tokens == Decimal("1.25")
    assert explanation.price.output_usd_per_million_tokens == 10
    assert explanation.price.target == Target("gpt-5", "openai")


async def test_denied_extension_is_raised_and_changes_nothing(
    client: AnyClient, server: ScriptedServer
) -> None:
    async with client.reserve(**ASK) as r:
        server._extend = lambda request: authority_pb.ExtendResponse(  # type: ignore[method-assign]
            decision="DECISION_DENIED", denial=types_pb.Denial(kind="DENIAL_KIND_HELD")
        )
        with pytest.raises(BudgetDenied) as raised:
            await r.extend(max_output_tokens=9_000)
        assert raised.value.denial.kind is DenialKind.HELD
        assert r.max_output_tokens == 500


def test_the_scripted_server_refuses_reused_ids(server: ScriptedServer) -> None:
    request = authority_pb.ReserveRequest(request_id="x", subject=types_pb.Subject(org="acme"))
    server._reserve(request)
    request.closing = True
    with pytest.raises(Failure):
        server._reserve(request)
