"""Requests that nobody thought of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_requests import SERVICES, is_map, unary_methods
from service_server import BUDGET_AUTHORITY, Service, failure, reserve_request, serving

from bursar.authority.identity import hold_name
from bursar.domain.subject import OrgId
from bursar.pb import budget_authority_service_pb2 as pb

POLICY = """
org: acme
meters: [pages, seconds]
unpriced: {fallback: {input: 100000, output: 100000}}
models:
  - {match: "m*", provider: p, price: {input: 1, output: 10, cache_read: 0.1, input_audio: 40}}
  - {match: "x*", provider: p, max_output_tokens: 4096, price: {input: 100000, output: 100000}}
budgets:
  - {name: month, limit: {usd: 9000000}, window: month, overdraft: {usd: 5}}
  - name: day
    per: [user]
    limit: {tokens: 9007199254740991}
    window: day
    alerts: [1, 50, 100]
    priority_headroom: {low: 50, normal: 90, high: 100}
    ladder:
      - {at: 10, switch_model: {from: "x*", to: m1}}
      - {at: 20, cap_output: 100}
      - {at: 30, finish: true}
      - {at: 100, queue: {max_wait: 15m}, message: "wait {resets_in} for {remaining}"}
  - {name: pages, limit: {pages: 1000000}, window: week, on_expiry: charge}
  - {name: rate, per: [user], limit: {requests: 1000}, window: {rolling: 1m}}
  - {name: task, per: [task], limit: {usd: 100}, window: task}
  - {name: at-once, per: [agent], limit: {concurrency: 2}}
  - {name: request-output, limit: {output_tokens: 1000000}, window: request}
  - {name: request-input, limit: {input_tokens: 1000000}, window: request}
  - {name: watched, scope: {feature: "*"}, limit: {tokens: 1}, window: hour, mode: observe}
  - {name: warned, scope: {labels: {tier: free}}, limit: {tokens: 1}, window: hour, mode: warn}
"""

TEXTS = (
    "", "tier", "free", "pages", "a\x00b", "e\u0301", "²", "x" * 256, "x" * 257, "🙂" * 64, "{}",
    "%s", "a:b@c", "\u202e", "*", "1 x",
)  # fmt: skip
INTEGERS = (
    0, 1, 50, -1, 10**6, 10**6 + 1, 10**9, 10**9 + 1, 2**31 - 1, 2**53 - 1, 2**53, 2**62,
    2**63 - 1, -(2**63),
)  # fmt: skip
INT32_MAX = 2**31 - 1
REQUEST_IDS = [f"r{number}" for number in range(100)]
ORG = OrgId("acme")
RESERVATIONS = [hold_name(ORG, each).reservation_id for each in REQUEST_IDS]
LARGE = (20, 1_000, 50_000, 10**6, 10**9)
USUAL: dict[str, Sequence[object]] = {
    "org": ("acme",),
    "request_id": [*REQUEST_IDS, *(f"new-{number}" for number in range(2_000))],
    "reservation_id": RESERVATIONS,
    "model": ("m1", "x1", "gpt-4o", "unheard-of"),
    "provider": ("", "p", "openai"),
    "key": ("pages",),
    "page_token": ("", "", "", "0", "9"),
    "start_time": (Timestamp(seconds=1_790_000_000),),
    "end_time": (Timestamp(seconds=1_790_100_000),),
    "time_zone": ("", "UTC", "Asia/Kolkata", "Australia/Lord_Howe"),
    "input_tokens": LARGE,
    "output_tokens": LARGE,
    "max_output_tokens": LARGE,
    "partial": (False,),
    "sequence": (0,),
}
"""Values that get a request further."""

DOCUMENTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ABORTED,
}
NUMBERS = {code.value[0] for code in DOCUMENTED}
METHODS = {method.name: method for service in SERVICES for method in unary_methods(service)}


@pytest_asyncio.fixture
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url, policies=(POLICY,)) as service:
        operations = [{"reserve": reserve_request(request_id=each)} for each in REQUEST_IDS[:80]]
        await service.authority.Batch(pb.BatchRequest(operations=operations))
        yield service


@cache
def messages(descriptor: Descriptor) -> st.SearchStrategy[dict[str, object]]:
    """Return any content of a message, as keyword arguments."""
    names = [field.name for field in descriptor.fields]
    groups = [list(group.fields) for group in descriptor.oneofs if len(group.fields) > 1]
    if groups:
        [group] = groups
        return st.one_of(
            *(st.fixed_dictionaries({field.name: values(field)}) for field in group), st.just({})
        )
    required = {"subject", "target", "usage", "estimate", *USUAL} & set(names)
    fields = {field.name: values(field) for field in descriptor.fields}
    likely = {name: fields.pop(name) for name in names if name in required}
    return st.fixed_dictionaries(likely, optional=fields)


def values(field: FieldDescriptor) -> st.SearchStrategy[object]:
    """Return any value of a field, mostly a usual one."""
    if is_map(field):
        key, value = field.message_type.fields
        return st.dictionaries(values(key), values(value), max_size=2)
    usual, any_other = one_value(field)
    one = st.integers(0, 25).flatmap(lambda number: usual if number else any_other)
    return st.lists(one, max_size=6) if field.is_repeated else one


def one_value(field: FieldDescriptor) -> tuple[st.SearchStrategy[object], ...]:
    """Return usual values and any values."""
    if field.message_type is Duration.DESCRIPTOR:
        seconds = st.sampled_from((0, 1, 60, 86_400, 86_401, -1, 2**63 - 1, -(2**63)))
        nanos = st.sampled_from((0, 1, 999_999_999, 10**9, -1, INT32_MAX))
        return st.just(Duration(seconds=60)), st.builds(Duration, seconds=seconds, nanos=nanos)
    if field.message_type is Timestamp.DESCRIPTOR:
        seconds = st.sampled_from((0, 1, -1, 253_402_300_800, 2**63 - 1, -(2**63)))
        nanos = st.sampled_from((0, 1, 999_999_999, 10**9, -1, INT32_MAX))
        usual = st.sampled_from(USUAL[field.name])
        return usual, st.builds(Timestamp, seconds=seconds, nanos=nanos)
    if field.message_type is not None:
        return messages(field.message_type), st.just({})
    usual = st.sampled_from(USUAL.get(field.name, ()))
    if field.type == field.TYPE_BOOL:
        return usual if field.name in USUAL else st.booleans(), st.booleans()
    if field.type == field.TYPE_STRING:
        others = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=20)
        return usual if field.name in USUAL else st.sampled_from(("u1", "free")), others
    if field.type in (field.TYPE_ENUM, field.TYPE_INT32):
        return st.integers(1, 3), st.sampled_from((*range(8), -1, INT32_MAX, -INT32_MAX - 1))
    assert field.type == field.TYPE_INT64
    others = st.sampled_from(INTEGERS) | st.integers(0, 2_000)
    return usual if field.name in USUAL else st.integers(1, 5), others


async def answered(service: Service, method: str, request: Message) -> Message | None:
    """Call, and check that any error is a documented one that says everything."""
    try:
        return await service.call(method, request)
    except grpc.RpcError as error:
        found = failure(error)
        assert found.code in DOCUMENTED, (found, request)
        assert found.domain == "bursar"
        assert found.reason
        return None


@pytest.mark.parametrize("method", METHODS)
async def test_any_message_is_answered(service: Service, method: str) -> None:
    """Goal: no message whatever makes the server fail.

    Method: messages with extreme and broken values in all fields, on a policy with every kind of
    budget; each is answered, or refused with a documented code and its reason.
    """
    kind = METHODS[method].input_type

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=messages(kind))
    def collect(content: dict[str, object]) -> None:
        requests.append(kind._concrete_class(**content))

    requests: list[Message] = []
    collect()
    answers = [await answered(service, method, request) for request in requests]
    assert sum(answer is not None for answer in answers) >= 10
    for request, answer in zip(requests, answers, strict=True):
        for result in getattr(answer, "results", ()):
            assert not result.HasField("error") or result.error.code in NUMBERS, (result, request)
    state = await service.call("Check", valid())
    assert state.decision.counters


def valid() -> Message:
    return METHODS["Check"].input_type._concrete_class(
        subject={"org": "acme"}, target={"model": "m1"}
    )


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(method=st.sampled_from(sorted(METHODS)), data=st.binary(max_size=200))
async def test_any_bytes_are_answered(service: Service, method: str, data: bytes) -> None:
    """Goal: no bytes whatever make the server fail. Method: any bytes to any method."""
    of = BUDGET_AUTHORITY if method in SERVICES[0].methods_by_name else SERVICES[1].full_name
    try:
        await service.send_bytes(f"{of}/{method}", data)
    except grpc.RpcError as error:
        assert failure(error).code in DOCUMENTED
