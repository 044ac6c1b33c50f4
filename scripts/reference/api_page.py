"""`docs/reference/api.md`: every call, message and enum of the contract."""

from __future__ import annotations

from collections.abc import Callable

from reference.contract import Element, elements
from reference.tables import generated_head, table

HEAD = """
The contract is gRPC, package `bursar.v1`, in [protos/bursar/v1](../../protos/bursar/v1). A server
also answers `grpc.health.v1.Health` and, unless `BURSAR_REFLECTION=false`, reflection, so that
`grpcurl` needs no files. How to make code of it for another language is in
[call from another language](../how-to/call-from-another-language.md); what a call ends with when
it fails is in [errors](errors.md). A denial is not a failure: it is an OK answer.

Three rules hold for every message. Amounts are in the meter's unit: tokens, calls, or nano-USD
(1 USD is 1,000,000,000 nano-USD). Times are UTC. In JSON, as with `grpcurl`, 64-bit numbers are
text (`"500"`) in answers and either in requests, a `Duration` is `"120s"`, a `Timestamp` is
`"2026-07-01T00:00:00Z"`.

A call without a deadline gets `BURSAR_DEFAULT_DEADLINE_MS`; a longer one than
`BURSAR_DEADLINE_MS_MAX` is cut to that. An answer that was given before carries
`bursar-replayed: true` in its trailing metadata (Reserve, Commit, Release, Record).
"""


def api_page() -> str:
    """Return the page of the contract."""
    found = elements()
    parts = [generated_head("API", "protos/bursar/v1"), HEAD]
    parts += [_service(each) for each in found if each.sort == "service"]
    parts.append("\n## Messages\n")
    linked = _linker({each.name for each in found if each.sort != "service"})
    parts += [_members(each, "Field", "Type", linked) for each in found if each.sort == "message"]
    parts.append("\n## Enums\n")
    parts += [_members(each, "Value", "Number", str) for each in found if each.sort == "enum"]
    return "".join(parts)


def _service(service: Element) -> str:
    rows = []
    for call in service.members:
        request, answer = call.kind.split()
        link = f"[{request}](#{request.lower()})"
        rows.append((f"`{call.name}`", link, f"[{answer}](#{answer.lower()})", call.comment))
    head = f"\n## {service.name}\n\n{service.comment}\n\n"
    return head + table(("Call", "Takes", "Answers", "What it does"), rows)


def _members(element: Element, name: str, kind: str, shown: Callable[[str], str]) -> str:
    head = f"\n### {element.name}\n\n{element.comment}\n\n"
    if element.name == "ErrorReason":
        return head + "The values are in [errors](errors.md).\n"
    rows = [(f"`{each.name}`", shown(each.kind), each.comment) for each in element.members]
    return head + table((name, kind, "Meaning"), rows)


def _linker(names: set[str]) -> Callable[[str], str]:
    """Return what turns the name of a type into a link to it."""

    def linked(kind: str) -> str:
        return " ".join(
            f"[{word}](#{word.lower()})" if word in names else word for word in kind.split()
        )

    return linked
