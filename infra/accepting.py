"""Accepts connections: surplus ones are closed at once, unread, and a process without free files does not spin.

asyncio logs each failed accept, thousands of times a second, and accepts until the process has no files left.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import Counter, Gauge

from infra.connection_limits import QUIET_S, ConnectionLimits, Guest
from infra.log_limit import LogLimit
from infra.open_files import ADVICE, NONE_LEFT
from infra.telemetry import REGISTRY

AT_ONCE = 64
"""At most this many are accepted in a row before connected clients get their turn."""

PAUSE_S = 1.0
"""Pause after an accept that failed because files or memory ran out."""

OPEN = Gauge("sarvis_connections", "Connections that were accepted and are open, of any kind", registry=REGISTRY)
REFUSED = Counter(
    "sarvis_connections_refused_total",
    "Connections closed for lack of places: at once, or because they sent nothing while others waited",
    registry=REGISTRY,
)


class Tell(Protocol):
    """Writes a log line: an event word and fields."""

    def __call__(self, event: str, /, **fields: object) -> object:
        """Write it."""


class Accepted(socket.socket):
    """An accepted socket that frees its place when it is closed, by any caller.

    asyncio closes the socket; uvloop detaches it and closes the descriptor itself.
    """

    guest: Guest | None = None

    def close(self) -> None:
        """Close as `socket.close` does, and free the place."""
        self._leave()
        super().close()

    def detach(self) -> int:
        """Detach as `socket.detach` does, and free the place."""
        self._leave()
        return super().detach()

    def _leave(self) -> None:
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.left()
            OPEN.dec()


class Acceptor:
    """Serves listening sockets from `start` to `close`, which closes them; uvicorn uses it as an asyncio.Server.

    Args:
        sockets: bound and non-blocking; `start` makes them listen.
        protocol: creates the protocol of one connection.
        tls: speak TLS from the first byte on; the handshake counts as a connection.
        tell: writes the log; at most one line a minute for each subject.
    """

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        protocol: Callable[[Guest], asyncio.BaseProtocol],
        room: ConnectionLimits,
        *,
        backlog: int,
        tell: Tell,
        tls: ssl.SSLContext | None = None,
        handshake_s: float | None = None,
    ) -> None:
        self.sockets = list(sockets)
        self._protocol = protocol
        self._room = room
        self._backlog = backlog
        self._tell = tell
        self._tls = tls
        self._handshake_s = handshake_s if tls else None
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._unserved: set[Accepted] = set()
        self._timers: dict[object, asyncio.TimerHandle] = {}
        self._rarely = LogLimit()

    def start(self) -> None:
        """Listen and accept; raises OSError if another program listens there."""
        for sock in self.sockets:
            sock.listen(self._backlog)
        for sock in self.sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Stop accepting. Served connections stay open; those within a TLS handshake are cancelled."""
        for timer in self._timers.values():
            timer.cancel()
        for sock in self.sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self.sockets.clear()
        for task in self._beginning:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until what `close` cancelled has ended."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                plain, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in NONE_LEFT:
                    self._pause(listening, error)
                    break
                continue  # the client left before it was accepted
            self._let_in(plain, peer[0])
        self._report()

    def _let_in(self, plain: socket.socket, address: str) -> None:
        sock = Accepted(plain.family, plain.type, plain.proto, fileno=plain.detach())
        sock.setblocking(False)

        def end() -> None:
            REFUSED.inc()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # its protocol reads the end and closes it

        guest = self._room.enter(address, end, self._loop.time(), is_local=_is_local(sock, address))
        if guest is None:
            REFUSED.inc()
            sock.close()
            return
        sock.guest = guest
        OPEN.inc()
        self._unserved.add(sock)
        task = self._loop.create_task(self._begin(sock, guest), name="accepted")
        self._beginning.add(task)
        task.add_done_callback(lambda _: self._begun(task, sock))

    async def _begin(self, sock: Accepted, guest: Guest) -> None:
        protocol = self._protocol(guest)
        self._unserved.discard(sock)  # from here on its transport closes it
        with contextlib.suppress(OSError):  # no TLS, or the client left
            await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
            )

    def _begun(self, task: asyncio.Task[None], sock: Accepted) -> None:
        self._beginning.discard(task)
        if sock in self._unserved:
            self._unserved.discard(sock)
            sock.close()

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        self._loop.remove_reader(listening)
        self._timers[listening] = self._loop.call_later(PAUSE_S, self._resume, listening)
        if self._rarely.is_due(error.errno, self._loop.time()):
            self._tell("no_open_files_left", error=error.strerror, open=len(self._room), advice=ADVICE)

    def _resume(self, listening: socket.socket) -> None:
        del self._timers[listening]
        self._loop.add_reader(listening, self._accept, listening)

    def _report(self) -> None:
        """Log refused connections: the first at once, then one sum per minute."""
        count = self._room.report(self._loop.time())
        if count:
            advice = (
                ADVICE
                if self._room.is_full
                else "too many connections from one address send nothing; find out which program there opens them"
            )
            self._tell("connections_refused", count=count, open=len(self._room), most=self._room.most, advice=advice)
        elif self._room.unreported and self not in self._timers:
            self._timers[self] = self._loop.call_later(QUIET_S, self._report_late)

    def _report_late(self) -> None:
        del self._timers[self]
        self._report()


def _is_local(sock: socket.socket, address: str) -> bool:
    """Whether the connection comes from this machine."""
    return address.startswith("127.") or address == "::1" or address == sock.getsockname()[0]
