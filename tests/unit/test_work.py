"""Whose work a request is, as load is counted: for every request that there is."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from bursar.pb import (
    admin_service_pb2,
    policy_service_pb2,
    usage_service_pb2,
)
from bursar.pb import budget_authority_service_pb2 as pb
from bursar.service.work import loads_of, org_of, org_of_operation

MOST = 5
ACME: dict[str, Any] = {"subject": {"org": "acme"}}
OF_NO_ORG = {"ApplyPolicyRequest", "GetStatusRequest", "BatchRequest", "SessionRequest"}
"""ApplyPolicy brings documents of several orgs; the others are for the whole server, or lists."""


def requests() -> list[type[Any]]:
    return [
        GetMessageClass(method.input_type)
        for module in (pb, usage_service_pb2, policy_service_pb2, admin_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


@pytest.mark.parametrize("kind", requests(), ids=lambda each: each.DESCRIPTOR.name)
def test_every_request(kind: type[Any]) -> None:
    """Goal: no call escapes its org's share. Method: name the org wherever a request can."""
    names = kind.DESCRIPTOR.fields_by_name
    known = {**ACME, "org": "acme", "reservation_id": "acme.abc"}
    given = {name: value for name, value in known.items() if name in names}
    expected = "" if kind.DESCRIPTOR.name in OF_NO_ORG else "acme"
    if given:
        assert loads_of(kind(**given), MOST) == {expected: 1}
    assert bool(given) == bool(expected)
    assert loads_of(kind(), MOST) == {"": 1}


@pytest.mark.parametrize(
    ("reservation_id", "org"),
    [
        ("acme.abcdef", "acme"),
        ("acme", "acme"),
        ("", ""),
        (".abcdef", ""),
        ("a" * 63 + ".x", "a" * 63),
        ("a" * 64 + ".x", ""),
        ("a" * 1_000_000, ""),
    ],
    ids=["usual", "no-dot", "empty", "no-org", "longest", "too-long", "huge"],
)
def test_names_of_reservations(reservation_id: str, org: str) -> None:
    """Goal: any text is somebody's, and short. Method: names that are none, too."""
    assert org_of(pb.ReleaseRequest(reservation_id=reservation_id)) == org


def test_an_org_that_there_cannot_be() -> None:
    """Goal: nobody makes the server keep long names. Method: at the bound and above."""
    for length, org in ((63, "a" * 63), (64, ""), (1_000_000, "")):
        assert org_of(pb.ReserveRequest(subject={"org": "a" * length})) == org


def test_batches() -> None:
    """Goal: each operation counts for its org. Method: all kinds, and lengths around the bound."""
    operations: list[Any] = [
        {"reserve": ACME},
        {"commit": {"reservation_id": "acme.x"}},
        {"release": {"reservation_id": "umbrella.x"}},
        {"record": {"subject": {"org": "umbrella"}}},
        {},
    ]
    batch = pb.BatchRequest(operations=operations)
    assert loads_of(batch, MOST) == {"acme": 2, "umbrella": 2, "": 1}
    assert org_of_operation(pb.Operation(extend={"reservation_id": "acme.x"})) == "acme"
    # One that is refused for its length is a single failing call, and not too much load.
    assert loads_of(batch, MOST - 1) == {"": 1}
