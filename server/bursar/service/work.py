"""Whose work a request is, and how many operations, found before anything is checked."""

from __future__ import annotations

from google.protobuf.message import Message

from bursar.pb import budget_authority_service_pb2 as pb

NO_ORG = ""
"""Whose a request is that names no org, or none that there could be."""

_ORG_LETTERS_MAX = 63
_ORG_FIELDS = ("subject", "org", "reservation_id")


def loads_of(request: Message, operations_max: int) -> dict[str, int]:
    """Return how many operations a request is, by the org that asks for them.

    Args:
        request: Of any call; nothing in it is valid for sure.
        operations_max: Operations of a batch at the most; a longer one is one that fails.
    """
    if not isinstance(request, pb.BatchRequest):
        return {org_of(request): 1}
    if not 1 <= len(request.operations) <= operations_max:
        return {NO_ORG: 1}
    loads: dict[str, int] = {}
    for operation in request.operations:
        org = org_of_operation(operation)
        loads[org] = loads.get(org, 0) + 1
    return loads


def org_of_operation(operation: pb.Operation) -> str:
    """Return whose an operation of a batch or session is."""
    kind = operation.WhichOneof("operation")
    return NO_ORG if kind is None else org_of(getattr(operation, kind))


def org_of(request: Message) -> str:
    """Return whose a request is: its subject's org, its org, or that in its reservation's name."""
    kind = type(request)
    field = _fields.get(kind)
    if field is None:
        names = request.DESCRIPTOR.fields_by_name
        field = _fields[kind] = next((name for name in _ORG_FIELDS if name in names), NO_ORG)
    if field == "subject":
        org: str = request.subject.org  # type: ignore[attr-defined]
    elif field == "org":
        org = request.org  # type: ignore[attr-defined]
    elif field == "reservation_id":
        # One more is enough to see that it is too long.
        org = request.reservation_id[: _ORG_LETTERS_MAX + 1].partition(".")[0]  # type: ignore[attr-defined]
    else:
        return NO_ORG
    return org if len(org) <= _ORG_LETTERS_MAX else NO_ORG


_fields: dict[type[Message], str] = {}
"""Name of the field that says whose a request is, by the request's type: found once each."""
