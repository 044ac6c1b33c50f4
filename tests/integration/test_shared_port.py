"""A port that the workers of one server share, and nobody else.

Goal: two servers never both have it, at no moment. Method: real sockets on loopback.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from bursar.service.shared_port import SharedPort

RIVALS = 8


@pytest.fixture
def held() -> Iterator[tuple[SharedPort, str]]:
    """A port that is held, and its address."""
    port = SharedPort("127.0.0.1:0")
    address = port.take()
    yield port, address
    port.close()


def listening(address: str, *, shares: bool) -> socket.socket:
    """Listen as a worker does, or as a server that shares with nobody."""
    host, _, port = address.rpartition(":")
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        made.bind((host, int(port)))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def test_workers_share_it(held: tuple[SharedPort, str]) -> None:
    """Goal: connections reach whoever listens, never the holder. Method: two listeners."""
    _, address = held
    host, _, port = address.rpartition(":")
    with closing(listening(address, shares=True)), closing(listening(address, shares=True)):
        for _ in range(20):
            socket.create_connection((host, int(port)), timeout=5).close()


@pytest.mark.parametrize("workers", [0, 1], ids=["nobody listens yet", "a worker listens"])
def test_nobody_else_gets_it(held: tuple[SharedPort, str], workers: int) -> None:
    """Goal: neither a server with workers nor one without. Method: each, beside 0 or 1 worker."""
    _, address = held
    listeners = [listening(address, shares=True) for _ in range(workers)]
    try:
        with pytest.raises(OSError, match=f"cannot listen on {address}; is it in use"):
            SharedPort(address).take()
        with pytest.raises(OSError, match="in use"):
            listening(address, shares=False)
        with pytest.raises(OSError, match="in use"):
            SharedPort(f"0.0.0.0:{address.rpartition(':')[2]}").take()
    finally:
        for each in listeners:
            each.close()


def test_a_server_that_listens_keeps_it() -> None:
    """Goal: a server without workers is not joined. Method: a plain listener."""
    with closing(listening("127.0.0.1:0", shares=False)) as alone:
        address = f"127.0.0.1:{alone.getsockname()[1]}"
        with pytest.raises(OSError, match="is it in use"):
            SharedPort(address).take()


def takers(address: str, takes: object) -> int:
    """Let rivals take an address at the same moment, and return how many got it."""
    together = threading.Barrier(RIVALS)

    def take(_: int) -> socket.socket | SharedPort | None:
        together.wait(10)
        try:
            return takes(address)  # type: ignore[operator,no-any-return]
        except OSError:
            return None

    with ThreadPoolExecutor(RIVALS) as threads:
        got = [each for each in threads.map(take, range(RIVALS)) if each is not None]
    for each in got:
        each.close()
    return len(got)


def held_port(address: str) -> SharedPort:
    port = SharedPort(address)
    port.take()
    return port


def test_of_rivals_exactly_one_gets_it(held: tuple[SharedPort, str]) -> None:
    """Goal: no moment in which two have it. Method: eight at once; the control shares plainly."""
    port, address = held
    port.close()
    for _ in range(20):
        assert takers(address, held_port) == 1
    assert takers(address, lambda where: listening(where, shares=True)) == RIVALS


def test_it_is_free_again_at_once(held: tuple[SharedPort, str]) -> None:
    """Goal: a server can start again at once. Method: a connection that its end left behind."""
    port, address = held
    host, _, number = address.rpartition(":")
    with closing(listening(address, shares=True)) as worker:
        caller = socket.create_connection((host, int(number)), timeout=5)
        accepted, _ = worker.accept()
        # Whoever closes first keeps the address in TIME_WAIT.
        accepted.close()
        caller.close()
    port.close()
    again = SharedPort(address)
    assert again.take() == address
    again.close()


def test_every_address_of_a_name_is_taken() -> None:
    """Goal: a name means all its addresses, on one port. Method: localhost."""
    port = SharedPort("localhost:0")
    address = port.take()
    number = address.rpartition(":")[2]
    assert address == f"localhost:{number}"
    with pytest.raises(OSError, match="in use"):
        listening(f"127.0.0.1:{number}", shares=False)
    port.close()


@pytest.mark.parametrize("address", ["203.0.113.1:0", "no..host:0", "\N{SNOWMAN}..:0"])
def test_an_address_of_nobody_here_is_said(address: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on {address}; .") as error:
        SharedPort(address).take()
    assert "in use" not in str(error.value)
