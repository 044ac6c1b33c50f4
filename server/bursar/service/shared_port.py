"""A port that several processes of one server share, and no other server."""

from __future__ import annotations

import errno
import os
import socket

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_FREE_PORT_TRIES = 16


class SharedPort:
    """Holds an address for the processes that are to listen on it with SO_REUSEPORT.

    At no moment can two servers both have it. The socket that is held never listens, so no
    connection reaches it, and it keeps the port while no process listens.
    """

    def __init__(self, address: str) -> None:
        """Take nothing yet.

        Args:
            address: host:port or [IPv6]:port; port 0 takes a free one.
        """
        self._address = address
        self._sockets: list[socket.socket] = []

    def take(self) -> str:
        """Take the address.

        Returns:
            It, with the port that was taken where 0 was asked for.

        Raises:
            OSError: Somebody else has it, or it is no address of this machine.
        """
        host, _, port = self._address.rpartition(":")
        for tries_left in reversed(range(_FREE_PORT_TRIES)):
            try:
                return f"{host}:{self._take(host.strip('[]'), int(port))}"
            except OSError as error:
                self.close()
                # A free port of one of a name's addresses may be taken on another.
                if port == "0" and error.errno == errno.EADDRINUSE and tries_left:
                    continue
                why = "is it in use?" if error.errno == errno.EADDRINUSE else _reason(error)
                raise OSError(f"cannot listen on {self._address}; {why}") from error
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Let go of it."""
        while self._sockets:
            self._sockets.pop().close()

    def _take(self, host: str, port: int) -> int:
        """Bind every address of host that this machine has, and return the port."""
        # As bytes: a text that is no host name would raise what is no OSError.
        found = socket.getaddrinfo(
            host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        missing: OSError | None = None
        for family, _, _, _, where in found:
            try:
                bound = _hold(family, (where[0], port, *where[2:]))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                self._sockets.append(bound)
                port = bound.getsockname()[1]
        if missing is not None and not self._sockets:
            raise missing
        return port


def _hold(family: int, where: tuple[object, ...]) -> socket.socket:
    """Return a socket that holds an address for those who set SO_REUSEPORT.

    To listen is what the system lets only one do who does not set that option: who wins is settled
    there. What is bound to stay joins the winner before the winner lets go.
    """
    with socket.socket(family, socket.SOCK_STREAM) as winner:
        # Without this, connections of an earlier run that are not forgotten yet are in the way.
        winner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        winner.bind(where)
        winner.listen(1)
        winner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held = socket.socket(family, socket.SOCK_STREAM)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Rivals that lost and have not let go yet are bound like this, too.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(winner.getsockname())
            # Else a socket that does not listen would be in nobody's way.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            held.close()
            raise
        return held


def _reason(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or 0)
