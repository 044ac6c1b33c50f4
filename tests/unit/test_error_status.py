"""Errors as they travel: every class of error has its code, its reason and its details."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2, status_pb2
from structlog.testing import capture_logs

import bursar
from bursar.domain.errors import (
    BursarError,
    Fault,
    FieldInvalid,
    InternalError,
    LimitExceeded,
    PolicyInvalid,
    StoreUnavailable,
)
from bursar.pb import error_reason_pb2
from bursar.service.errors import (
    DOMAIN,
    FAULTS_BYTES_MAX,
    known_error,
    to_operation_error,
    to_status,
)

SERVER = Path(bursar.__file__).parent
CONTRACT = SERVER.parents[1] / "protos/bursar/v1/error_reason.proto"
TRAILERS_BYTES_MAX = 8_192
"""What callers of gRPC accept in trailers, if they do not say otherwise."""

CODE_NAMES = {
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


def subclasses(of: type[BursarError]) -> Iterator[type[BursarError]]:
    for each in of.__subclasses__():
        if each.__module__.startswith("bursar."):
            yield each
        yield from subclasses(each)


CLASSES = sorted(subclasses(BursarError), key=lambda each: each.__name__)

# Only an operator who starts a server or checks a document meets PolicyInvalid.
SENT = [each for each in CLASSES if each is not PolicyInvalid]


def example(kind: type[BursarError]) -> BursarError:
    if issubclass(kind, LimitExceeded):
        return LimitExceeded("operations", "entries", 1_001, 1_000)
    if issubclass(kind, FieldInvalid):
        return FieldInvalid(Fault("subject.org", "is required"), Fault("ttl", "is too long"))
    return kind("something is so", someNumber=5)


def unpacked(error: BursarError) -> tuple[status_pb2.Status, dict[str, object]]:
    """Return the status that an error travels as, and its details by kind."""
    trailers = dict(to_status(error).trailing_metadata)
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    details: dict[str, object] = {}
    for packed in status.details:
        [kind] = [kind for kind in kinds if packed.Is(kind.DESCRIPTOR)]
        assert kind.__name__ not in details
        detail = kind()
        packed.Unpack(detail)
        details[kind.__name__] = detail
    return status, details


def documented() -> dict[str, str]:
    """Return the comment of each reason in the contract."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in CONTRACT.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("//"):
            comment.append(line.strip().lstrip("/ "))
        elif value := re.match(r"\s*ERROR_REASON_(\w+) = \d+;", line):
            found[value[1]] = " ".join(comment)
        if not line.strip().startswith("//"):
            comment = []
    return found


REASONS = documented()


def test_reasons_and_classes_are_the_same() -> None:
    """Goal: no reason without an error, no error without a reason. Method: compare both lists."""
    names = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    assert {f"ERROR_REASON_{reason}" for reason in REASONS} == set(names)
    assert {each.reason for each in CLASSES} | {"UNSPECIFIED"} == set(REASONS)


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Yield every place in the server where an error is made, with the name of its class."""
    names = {each.__name__ for each in CLASSES}
    for file in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in names:
                    yield file, node, node.func.id
            elif isinstance(node, ast.IfExp):
                # `error = One if ... else Other`, made in the next line.
                for each in (node.body, node.orelse):
                    if isinstance(each, ast.Name) and each.id in names:
                        yield file, ast.Call(each, [], []), each.id


MADE = list(calls())


def test_every_error_is_made_somewhere() -> None:
    """Goal: no error is only on paper. Method: look for its construction in the server's code."""
    assert {name for _, _, name in MADE} == {each.__name__ for each in CLASSES}


@pytest.mark.parametrize(
    ("file", "call"),
    [(file, call) for file, call, _ in MADE if call.args],
    ids=[f"{file.stem}-{name}-{call.lineno}" for file, call, name in MADE if call.args],
)
def test_the_style_of_messages(file: Path, call: ast.Call) -> None:
    """Goal: messages read alike: no capital first but a name's, no full stop at the end.

    Method: the literal parts of every message in the code.
    """
    message = call.args[0]
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    first, last = parts[0], parts[-1]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        assert first.value[0].islower() or first.value.startswith(("Redis", "PostgreSQL")), (
            ast.unparse(call)
        )
    if isinstance(last, ast.Constant) and isinstance(last.value, str):
        assert not last.value.endswith((".", "!", "\n", " ")), ast.unparse(call)


@pytest.mark.parametrize(
    "call",
    [call for file, call, _ in MADE if file.parent.name == "service" and call.args],
    ids=lambda call: ast.unparse(call.func),
)
def test_what_varies_in_a_message_is_in_its_metadata(call: ast.Call) -> None:
    """Goal: nobody needs to parse a message of the service. Method: compare in the code.

    FieldInvalid and LimitExceeded say everything in their violations.
    """
    message = call.args[0]
    if not isinstance(message, ast.JoinedStr):
        return
    given = {ast.unparse(keyword.value) for keyword in call.keywords}
    varying = [part for part in message.values if isinstance(part, ast.FormattedValue)]
    assert {ast.unparse(part.value) for part in varying} <= given


@pytest.mark.parametrize("kind", SENT, ids=lambda each: each.__name__)
def test_the_status_of_each_error(kind: type[BursarError]) -> None:
    """Goal: code and reason are those that the contract's comment names. Method: compare."""
    error = example(kind)
    status, details = unpacked(error)
    assert to_status(error).code.value[0] == status.code
    assert CODE_NAMES[status.code] in REASONS[error.reason]
    info = details["ErrorInfo"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason, dict(info.metadata)) == (
        DOMAIN,
        error.reason,
        error.metadata,
    )
    assert status.message == to_status(error).details == error.message
    assert ("BadRequest" in details) == isinstance(error, FieldInvalid)
    # What is worth a retry says when; what changes nothing by being repeated does not.
    can_wait = CODE_NAMES[status.code] in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
    assert ("RetryInfo" in details) == can_wait
    assert ("RetryInfo" in REASONS[error.reason]) <= can_wait


@pytest.mark.parametrize("kind", SENT, ids=lambda each: each.__name__)
def test_an_operation_fails_like_a_call(kind: type[BursarError]) -> None:
    """Goal: a batch says of an operation what its unary call says. Method: both forms."""
    error = example(kind)
    status, details = unpacked(error)
    operation = to_operation_error(error)
    assert (operation.code, operation.message) == (status.code, status.message)
    name = error_reason_pb2.ErrorReason.Name(operation.reason)
    assert name == f"ERROR_REASON_{error.reason}"
    assert dict(operation.metadata) == error.metadata
    request = details.get("BadRequest", error_details_pb2.BadRequest())
    assert [(each.field, each.description) for each in operation.field_violations] == [
        (each.field, each.description) for each in request.field_violations
    ]
    retry = details.get("RetryInfo")
    assert operation.HasField("retry_after") == (retry is not None)
    if retry is not None:
        assert operation.retry_after == retry.retry_delay


FULL = Fault("a" * 24, "b" * 1_000)
CUTS = {
    "fits-exactly": ([FULL], 0),
    "one-byte-too-many": ([FULL, Fault("c", "")], 1),
    "alone-too-large": ([Fault("a", "b" * 2_000)], 0),
    "first-too-large": ([Fault("a", "b" * 2_000), Fault("c", "d")], 1),
    "many": ([Fault("a" * 10, "b" * 90)] * 50, 40),
    "letters-of-two-bytes": ([Fault("é" * 12, "é" * 500), Fault("c", "")], 1),
}


@pytest.mark.parametrize(("faults", "omitted"), CUTS.values(), ids=CUTS)
def test_faults_that_do_not_fit(faults: list[Fault], omitted: int) -> None:
    """Goal: an error is cut at its bound, never to nothing, and says so. Method: around it."""
    assert len(f"{FULL.path}{FULL.description}") == FAULTS_BYTES_MAX
    status, details = unpacked(FieldInvalid(*faults))
    request, info = details["BadRequest"], details["ErrorInfo"]
    assert isinstance(request, error_details_pb2.BadRequest)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert len(request.field_violations) == len(faults) - omitted
    assert dict(info.metadata) == ({"faultsOmitted": str(omitted)} if omitted else {})
    assert status.message.endswith(f"; and {omitted} more") == bool(omitted)
    operation = to_operation_error(FieldInvalid(*faults))
    assert len(operation.field_violations) == len(faults) - omitted


def test_the_largest_error_fits_into_trailers() -> None:
    """Goal: gRPC delivers any error. Method: the longest faults, in letters that it escapes."""
    longest = Fault(f'subject.labels["{"x" * 63}"]', "\U0001f642" * 230)
    status = to_status(FieldInvalid(*[longest] * 100))
    size = len(quote(status.details))
    # Binary trailers travel in base 64.
    size += sum(len(name) + len(value) * 4 // 3 for name, value in status.trailing_metadata)
    assert size < TRAILERS_BYTES_MAX - 200


def test_what_is_not_ours_stays_inside() -> None:
    """Goal: callers get a number, operators the rest. Method: exceptions of Python's."""
    for error in (KeyError("secret"), InternalError("a script failed in Redis")):
        with capture_logs() as logged:
            known = known_error(error, "/bursar.v1.X/Y")
        [line] = logged
        assert isinstance(known, InternalError)
        assert known.metadata == {"callId": line["call_id"]}
        assert known.message == (
            f"the server failed; its log has the details under call id {line['call_id']}"
        )
        assert (line["method"], line["exc_info"]) == ("/bursar.v1.X/Y", error)


def test_what_is_ours_passes() -> None:
    """Goal: known errors are answered as they are, and fill no log. Method: two of them."""
    with capture_logs() as logged:
        error = StoreUnavailable("Redis cannot be reached")
        assert known_error(error, "m") is error
        assert isinstance(known_error(TimeoutError(), "m"), StoreUnavailable)
    assert logged == []
