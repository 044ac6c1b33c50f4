"""Requests of PolicyService that nobody thought of."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from policy_world import POLICY, PolicyServer, open_policy_world
from service_requests import is_map
from service_server import failure

from bursar.pb import policy_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyService"]
METHODS = {method.name: method.input_type for method in SERVICE.methods}
TEXTS = ("", "x", "a\x00b", "e\u0301", "x" * 256, "x" * 1_001, "🙂" * 64, "{", "1e3", "*", "-1")
INTEGERS = (0, 1, 5, 50, -1, 101, 10**6, 2**31 - 1)
WIDE = (*INTEGERS, 2**53 - 1, 2**53, 2**63 - 1, -(2**63))
USUAL = {
    "org": ("acme", "acme", "acme", "nobody"),
    "budget": ("month", "user-day", "new"),
    "name": ("month", "user-day", "new"),
    "actor": ("ann",),
    "reason": ("why",),
    "request_id": ("r-1", "r-2"),
    "usd": ("5", "-0.5", "five", "0.0000000001"),
    "paths": ("limit", "window", "ladder", "*", "etag"),
    "document": (POLICY, POLICY.replace("day", "week"), "org: [", "org: acme", "\x00"),
    "etag": ("", "", "0", "1"),
    "timezone": ("UTC", "Asia/Kolkata", "Mars/Base"),
    "page_token": ("", "", "x"),
}
EXAMPLES = 60
SUBJECT = {"org": "acme", "team": "red"}
BUDGET = {
    "name": "month",
    "limit": {"meter": "METER_REQUESTS", "amount": 5},
    "window": {"kind": "KIND_DAY"},
    "overdraft": {"amount": 1},
    "carry_over": {"unused": True},
}
SOUND = {
    "CreateBudget": {"org": "acme", "actor": "ann", "budget": {**BUDGET, "name": "new"}},
    "UpdateBudget": {"org": "acme", "actor": "ann", "budget": BUDGET},
    "AdjustCredit": {
        "request_id": "r",
        "org": "acme",
        "budget": "month",
        "amount": 5,
        "actor": "ann",
        "reason": "why",
    },
    "Freeze": {"subject": SUBJECT, "actor": "ann", "reason": "why"},
    "Unfreeze": {"subject": SUBJECT, "actor": "ann"},
    "DeleteBudget": {"org": "acme", "budget": "user-day", "actor": "ann"},
}
"""What nobody refuses, where something random hardly ever is: little of it is changed."""
DOCUMENTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ABORTED,
}


@pytest.fixture
async def server(
    redis_url: str, database_url: str, key_namespace: str
) -> AsyncIterator[PolicyServer]:
    async with open_policy_world(redis_url, database_url, key_namespace) as (_, opened):
        await opened.apply(POLICY)
        frozen = pb.FreezeRequest(subject=SUBJECT, actor="ann", reason="why")
        await opened.policy.Freeze(frozen)
        yield opened


def fill(message: Message, dice: random.Random, skip: float = 0.2) -> None:
    """Fill fields, mostly as usual, some with anything that the wire can carry.

    Args:
        message: What is there already stays where a field is skipped.
        dice: Decides.
        skip: How often a field is left as it is.
    """
    descriptor: Descriptor = message.DESCRIPTOR
    for field in descriptor.fields:
        if message_field(field) and message.HasField(field.name):
            fill(getattr(message, field.name), dice, skip)
            continue
        if dice.random() < skip:
            continue
        if is_map(field):
            _, value = field.message_type.fields
            for _ in range(dice.randint(0, 2)):
                entry = getattr(message, field.name)
                name = dice.choice(("user", "team", "x", ""))
                if value.message_type is not None:
                    fill(entry[name], dice)
                else:
                    entry[name] = one(value, dice)
        elif field.is_repeated:
            for _ in range(dice.randint(0, 3)):
                if field.message_type is not None:
                    fill(getattr(message, field.name).add(), dice)
                else:
                    getattr(message, field.name).append(one(field, dice))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), dice)
        else:
            setattr(message, field.name, one(field, dice))


def message_field(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated


def one(field: FieldDescriptor, dice: random.Random) -> object:
    if field.type == field.TYPE_BOOL:
        return dice.random() < 0.5
    if field.type == field.TYPE_STRING:
        usual = USUAL.get(field.name)
        return dice.choice(usual if usual and dice.random() < 0.9 else TEXTS)
    if field.type == field.TYPE_ENUM:
        return dice.choice((*field.enum_type.values_by_number, 99))
    return dice.choice(INTEGERS if field.type == field.TYPE_INT32 else WIDE)


@pytest.mark.parametrize("method", METHODS)
async def test_any_message_is_answered(server: PolicyServer, method: str) -> None:
    """Goal: no message whatever makes the server fail, or changes what others decide by.

    Method: messages with broken and extreme values in all fields; each is answered, or refused
    with a documented code and its reason.
    """
    dice = random.Random(method)  # noqa: S311 - the same numbers in each run
    answered = 0
    for _ in range(EXAMPLES):
        request = METHODS[method]._concrete_class(**SOUND.get(method, {}))
        fill(request, dice, skip=0.93 if method in SOUND else 0.2)
        try:
            await getattr(server.policy, method)(request)
            answered += 1
        except grpc.aio.AioRpcError as error:
            found = failure(error)
            assert found.code in DOCUMENTED, (found, request)
            assert (found.domain, bool(found.reason)) == ("bursar", True)
    assert answered, "nothing got as far as an answer"
    assert server.inner.policies.knows("acme")  # type: ignore[arg-type]
    assert (await server.reserve(output=1)).policy_version
