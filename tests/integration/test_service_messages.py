"""Requests that are no requests: other bytes, far too large, or naming what does not exist."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio
from service_requests import (
    SERVICES,
    UNKNOWN_RESERVATION,
    fields_of,
    is_map,
    unary_methods,
    valid_request,
)
from service_server import (
    BUDGET_AUTHORITY,
    Service,
    commit_request,
    failure,
    reserve_request,
    serving,
)
from structlog.testing import capture_logs

from bursar.pb import budget_authority_service_pb2 as pb
from bursar.pb import usage_service_pb2 as usage_pb

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEBIBYTE = 1024 * 1024
MARK = "\x01MARK\x01"

GARBAGE = {
    "ones": b"\xff" * 40,
    "zeros": b"\x00" * 40,
    "json": b'{"request_id": "a"}',
    "end-group": b"\x0c",
    "length-beyond-the-end": b"\x0a\x7fabc",
    "endless-number": b"\x08" + b"\x80" * 11,
    "groups-500-deep": b"\x7b" * 500,
}
METHODS = [(service.full_name, method) for service in SERVICES for method in unary_methods(service)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_url: str) -> AsyncIterator[Service]:
    async with serving(redis_url) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wide_service(redis_url: str) -> AsyncIterator[Service]:
    """A server that takes messages of 16 MiB."""
    async with serving(redis_url, message_bytes_max=16 * MEBIBYTE) as service:
        yield service


def text_places() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """Yield every place of every request that takes text, once for each message type."""
    seen = set()
    for service in SERVICES:
        for method in unary_methods(service):
            for steps, field in fields_of(method.input_type):
                if field.full_name in seen or method.name == "Batch":
                    continue
                if is_map(field):
                    seen.add(field.full_name)
                    yield method.name, steps, field.name, "key"
                    if field.message_type.fields_by_name["value"].type == field.TYPE_STRING:
                        yield method.name, steps, field.name, "value"
                elif field.type == field.TYPE_STRING:
                    seen.add(field.full_name)
                    yield method.name, steps, field.name, "text"


PLACES = list(text_places())


def request_with(place: tuple[str, tuple[str, ...], str, str], text: str) -> pb.ReserveRequest:
    """Return a request with a text in one place."""
    method, steps, name, kind = place
    request = message = valid_request(method, UNKNOWN_RESERVATION)
    for step in steps:
        message = getattr(message, step)
    field = message.DESCRIPTOR.fields_by_name[name]
    if kind == "text":
        setattr(message, name, text)
    elif kind == "value":
        getattr(message, name)["key"] = text
    else:
        is_text = field.message_type.fields_by_name["value"].type == field.TYPE_STRING
        getattr(message, name)[text] = "value" if is_text else 1
    return request


async def test_every_place_is_found() -> None:
    """Goal: the two tables below are complete. Method: count the places by kind."""
    kinds = [kind for *_, kind in PLACES]
    assert {kind: kinds.count(kind) for kind in kinds} == {"text": 22, "key": 3, "value": 1}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize(("of", "method"), METHODS, ids=[method.name for _, method in METHODS])
async def test_garbage_is_a_bad_argument(
    service: Service, caplog: pytest.LogCaptureFixture, of: str, method: object, garbage: str
) -> None:
    """Goal: bytes that are no message are the caller's fault, and fill no log with tracebacks.

    Method: send them to every method; nothing above a debug line is logged, nothing is booked.
    """
    before = await service.dump()
    with (
        capture_logs() as logged,
        caplog.at_level(logging.DEBUG),
        pytest.raises(grpc.RpcError) as error,
    ):
        await service.send_bytes(f"{of}/{method.name}", GARBAGE[garbage])
    found = failure(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert list(found.violations) == ["(message)"]
    assert {line["log_level"] for line in logged} == {"debug"}
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert await service.dump() == before


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}-{place[2]}-{place[3]}")
async def test_text_that_is_not_utf_8(service: Service, place: tuple) -> None:
    """Goal: broken text is the caller's fault. Method: broken bytes in each place for text."""
    before = await service.dump()
    sent = request_with(place, MARK).SerializeToString()
    assert sent.count(MARK.encode()) == 1
    of = next(of for of, method in METHODS if method.name == place[0])
    for broken in (b"\xff\xfe\xff\xfe\xff\xfe", b"a\xed\xa0\x80bc", b"abcd\xc3\x28"):
        with pytest.raises(grpc.RpcError) as error:
            await service.send_bytes(f"{of}/{place[0]}", sent.replace(MARK.encode(), broken))
        found = failure(error.value)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert list(found.violations) == ["(message)"]
    assert await service.dump() == before


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}-{place[2]}-{place[3]}")
async def test_ten_megabytes_of_text(service: Service, wide_service: Service, place: tuple) -> None:
    """Goal: the field that is too large is named, and its content is not sent back.

    Method: 10 MB in each place, to a server that refuses the message and one that reads it.
    """
    request = request_with(place, "x" * 10_000_000)
    path = ".".join((*place[1], place[2]))
    for each, reason in ((service, "LIMIT_EXCEEDED"), (wide_service, "FIELD_INVALID")):
        before = await each.dump()
        with pytest.raises(grpc.RpcError) as error:
            await each.call(place[0], request)
        found = failure(error.value)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        [violated] = found.violations
        assert violated in (path, f'{path}["key"]')
        assert len(found.message) < 300
        assert await each.dump() == before


async def test_a_batch_that_is_too_large(service: Service) -> None:
    """Goal: a large batch is refused by its size. Method: 100 operations of 11 kB."""
    labels = {f"k{number}": "v" * 250 for number in range(32)}
    large = reserve_request(subject={"org": "acme", "labels": labels}, target={"model": "m" * 256})
    operations = [pb.Operation(reserve=large) for _ in range(130)]
    request = pb.BatchRequest(operations=operations)
    assert request.ByteSize() > MEBIBYTE
    with pytest.raises(grpc.RpcError) as error:
        await service.authority.Batch(request)
    found = failure(error.value)
    assert (found.reason, list(found.violations)) == ("LIMIT_EXCEEDED", ["operations"])
    assert found.metadata == {"given": str(request.ByteSize()), "limit": str(MEBIBYTE)}


async def test_the_largest_message(redis_url: str) -> None:
    """Goal: the bound on bytes is exact. Method: a message of the bound, and one byte more."""
    async with serving(redis_url, message_bytes_max=4_096) as service:
        request = reserve_request()
        spare = 4_096 - request.ByteSize()
        # A field that nobody knows: 2 bytes of tag, 2 of length.
        unknown = b"\xfa\x7f" + bytes([(spare - 4) & 0x7F | 0x80, (spare - 4) >> 7])
        sent = request.SerializeToString() + unknown + b"x" * (spare - 4)
        assert len(sent) == 4_096
        answer = await service.send_bytes(f"{BUDGET_AUTHORITY}/Reserve", sent)
        assert pb.ReserveResponse.FromString(answer).reservation_id
        with pytest.raises(grpc.RpcError) as error:
            await service.send_bytes(f"{BUDGET_AUTHORITY}/Reserve", sent + b"x")
        # The last byte begins a field that never comes.
        assert failure(error.value).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_more_faults_than_an_error_can_carry(service: Service) -> None:
    """Goal: an error with very many faults still arrives as what it is.

    Method: every label is wrong, in letters that trailers escape. gRPC refuses trailers of more
    than 8 KiB, and its callers then saw neither code nor reason.
    """
    labels = {f"k{number:02d}" + "x" * 60: "a\x00" for number in range(32)}
    request = reserve_request(
        subject={"org": "Ö", "user": "e\u0301", "labels": labels},
        estimate={"input_tokens": -1, "custom_meters": {"é" * 90: 1}},
    )
    with pytest.raises(grpc.RpcError) as error:
        await service.authority.Reserve(request)
    found = failure(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    omitted = int(found.metadata["faultsOmitted"])
    assert len(found.violations) + omitted == 36
    assert found.message.endswith(f"; and {omitted} more")
    answer = await service.authority.Batch(pb.BatchRequest(operations=[{"reserve": request}]))
    assert 0 < len(answer.results[0].error.field_violations) <= len(found.violations)


RESERVATIONS = {
    "never-made": UNKNOWN_RESERVATION,
    "of-another-org": "umbrella." + "a" * 24,
    "of-no-org": "nobody." + "a" * 24,
    "no-dot": "acme",
    "too-short": "acme." + "a" * 23,
    "too-long": "acme." + "a" * 25,
    "capitals": "acme." + "A" * 24,
    "letter-beyond-base32": "acme." + "1" * 24,
    "key-of-redis": "acme:" + "a" * 24,
    "glob": "acme.*",
    "beyond-ascii": "é" * 128,
    "emoji": "🙂",
}


@pytest.mark.parametrize("name", RESERVATIONS)
async def test_reservations_that_do_not_exist(service: Service, name: str) -> None:
    """Goal: whatever a reservation id names, if it is not there, the answer is the same.

    Method: each kind of id in each call of one, also one that exists in another org, whose own
    answer differs in nothing but the id.
    """
    reservation_id = RESERVATIONS[name]
    hold_keys = [key for key in await service.dump() if b":h:" in key]
    for method, request in {
        "Commit": commit_request(reservation_id),
        "Release": pb.ReleaseRequest(reservation_id=reservation_id),
        "Extend": pb.ExtendRequest(reservation_id=reservation_id, ttl={"seconds": 9}),
    }.items():
        with pytest.raises(grpc.RpcError) as error:
            await service.call(method, request)
        found = failure(error.value)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "RESERVATION_NOT_FOUND")
        assert found.metadata == {"reservationId": reservation_id}
        assert found.message == (
            f"there is no reservation {reservation_id}, or it ended too long ago; book its usage "
            "with Record"
        )
    assert [key for key in await service.dump() if b":h:" in key] == hold_keys


async def test_page_tokens_that_were_changed(service: Service) -> None:
    """Goal: a token that was tampered with is refused or answered, never a fault of the server.

    Method: take real tokens, change each in many ways, and ask again.
    """
    for number in range(3):
        await service.authority.Reserve(
            reserve_request(subject={"org": "acme", "user": f"page-{number}"})
        )
    subject = {"org": "acme", "user": "page-1"}
    balances = await service.usage.GetBalances(
        usage_pb.GetBalancesRequest(subject=subject, page_size=1)
    )
    holds = await service.usage.ListHolds(
        usage_pb.ListHoldsRequest(subject={"org": "acme"}, page_size=1)
    )
    assert balances.next_page_token
    assert holds.next_page_token
    for method, kind, token in (
        ("GetBalances", usage_pb.GetBalancesRequest, balances.next_page_token),
        ("ListHolds", usage_pb.ListHoldsRequest, holds.next_page_token),
    ):
        changed = [
            token[:at] + piece + token[at + 1 :] for at in range(len(token)) for piece in "0x "
        ]
        changed += [token[:at] for at in range(len(token))]
        changed += [token + "9" * 400, token + " 1", "9" * 512, token * 2, f"{token}²", "0", "-1 a"]
        codes = set()
        for each in changed:
            try:
                await service.call(method, kind(subject=subject, page_token=each))
                codes.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.add(failure(error).code)
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
