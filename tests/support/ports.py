"""Ports for servers that have to be told one, and for servers that are to be absent."""

import os
import secrets
import socket
from collections.abc import Iterator
from itertools import cycle, islice

HOST = "127.0.0.1"
FIRST, BEYOND = 20_000, 32_768
"""Linux takes the ports of outgoing connections, and those of whoever binds port 0, from 32768 on."""
SHARES = 8


class Ports:
    """The ports of one of the processes that run tests beside each other."""

    def __init__(self, worker: str) -> None:
        """`worker` is pytest-xdist's name of the process: gw0, gw1 ..."""
        share = int(worker.removeprefix("gw")) % SHARES
        size = (BEYOND - FIRST) // SHARES
        ports = range(FIRST + share * size, FIRST + (share + 1) * size)
        # Not always from the first on: programs that a test starts choose ports too.
        begin = secrets.randbelow(size)
        self._count = size
        self._turns: Iterator[int] = cycle([*ports[begin:], *ports[:begin]])

    def free(self) -> int:
        """A port of loopback where nobody listens. It comes again only when all others of the share had their turn."""
        return next(port for port in islice(self._turns, self._count) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


_ports = Ports(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))


def free_port() -> int:
    """A port of loopback where nobody listens, and that neither another test nor an outgoing connection takes soon.

    The kernel's own choice (port 0, closed again) would be anybody's between that moment and the server's start.
    """
    return _ports.free()
